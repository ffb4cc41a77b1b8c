//! Taking rows that break a rule out of a staged csv or jsonl file, into a file beside it.
//!
//! Both are written anew and packed as the original was; the staged file changes in one step, and only
//! once both are on disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use common::domain::{RuleOutcome, Severity};
use common::flow::rules::{FileFormat, Packing, RejectCap};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::bytes::Unread;
use super::decimal::Decimal;
use super::file::{Subject, read_rows};
use super::probe::{self, Answer, Bench, Judge};
use super::row::{Row, Rows};
use super::staged_rejects;

/// Whether so many rejected rows are allowed.
pub(crate) fn within(cap: &RejectCap, rejected: u64, rows: u64) -> bool {
    match cap {
        RejectCap::Rows(most) => rejected <= *most,
        RejectCap::Percent(share) => {
            let most = Decimal::parse(share.as_bytes())
                .and_then(|share| share.times(Decimal::whole(rows)));
            let rejected = Decimal::whole(rejected).times(Decimal::whole(100));
            matches!((rejected, most), (Some(rejected), Some(most)) if rejected <= most)
        }
    }
}

/// The cap as a rule.
pub(crate) fn outcome(cap: &RejectCap, rejected: u64, rows: u64) -> RuleOutcome {
    let answer = Answer::new(
        within(cap, rejected, rows),
        format!("{rejected} of {rows} rows break a rule of rows"),
    )
    .expecting(format!("at most {cap} rejected"));
    probe::outcome("rejects", Severity::Fail, answer)
}

/// Splits the staged file and answers the one with the rows that stay.
///
/// # Errors
/// [`Unread::Disk`] where one cannot be written.
pub(crate) fn split(
    file: &File,
    format: &FileFormat,
    subject: &Subject<'_>,
    judges: &mut [Judge],
) -> Result<File, Unread> {
    let rejects = staged_rejects(subject.path);
    let mut kept = subject.path.as_os_str().to_owned();
    kept.push(".kept");
    let kept = PathBuf::from(kept);
    let mut sink = Split {
        bench: Bench::new(judges),
        kept: Packed::create(&kept, format.packing)?,
        rejects: Packed::create(&rejects, format.packing)?,
    };
    let (read, _) = read_rows(file, format, &mut sink, subject.stop)?;
    read.map_err(Unread::Broken)?;
    sink.kept.finish()?;
    sink.rejects.finish()?;
    std::fs::rename(&kept, subject.path).map_err(Unread::Disk)?;
    File::open(subject.path).map_err(Unread::Disk)
}

struct Split<'j> {
    bench: Bench<'j>,
    kept: Packed,
    rejects: Packed,
}

impl Rows for Split<'_> {
    fn columns(&mut self, names: &[String], raw: &[u8]) -> Result<(), Unread> {
        self.kept.line(raw)?;
        self.rejects.line(raw)?;
        self.bench.columns(names, raw)
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), Unread> {
        if self.bench.keeps(row) {
            self.kept.line(row.raw)
        } else {
            self.rejects.line(row.raw)
        }
    }
}

/// A file that is packed while it is written.
enum Packed {
    Plain(BufWriter<File>),
    Gz(GzEncoder<BufWriter<File>>),
    Zst(zstd::stream::write::Encoder<'static, BufWriter<File>>),
}

impl Packed {
    fn create(path: &std::path::Path, packing: Packing) -> Result<Self, Unread> {
        let create = || -> io::Result<Self> {
            let file = BufWriter::with_capacity(1 << 18, File::create(path)?);
            Ok(match packing {
                Packing::Plain => Self::Plain(file),
                Packing::Gz => Self::Gz(GzEncoder::new(file, Compression::default())),
                Packing::Zst => {
                    let mut encoder = zstd::stream::write::Encoder::new(file, 3)?;
                    encoder.include_checksum(true)?;
                    Self::Zst(encoder)
                }
            })
        };
        create().map_err(Unread::Disk)
    }

    /// Writes a line with a line end of its own, which the last of a file may lack.
    fn line(&mut self, raw: &[u8]) -> Result<(), Unread> {
        let writer: &mut dyn Write = match self {
            Self::Plain(file) => file,
            Self::Gz(encoder) => encoder,
            Self::Zst(encoder) => encoder,
        };
        let end: &[u8] = if raw.is_empty() || raw.ends_with(b"\n") {
            b""
        } else {
            b"\n"
        };
        writer
            .write_all(raw)
            .and_then(|()| writer.write_all(end))
            .map_err(Unread::Disk)
    }

    fn finish(self) -> Result<(), Unread> {
        let finish = || -> io::Result<()> {
            let file = match self {
                Self::Plain(file) => file,
                Self::Gz(encoder) => encoder.finish()?,
                Self::Zst(encoder) => encoder.finish()?,
            };
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()
        };
        finish().map_err(Unread::Disk)
    }
}
