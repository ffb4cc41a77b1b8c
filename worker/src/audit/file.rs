//! The audit of one staged file: read to its end, counted, judged by its rules.

use std::fs::File;
use std::io::BufRead;
use std::path::Path;

use common::domain::{Bounds, RuleOutcome, Severity};
use common::flow::rules::{Checks, FileFormat, Packing, Shape};

use super::bytes::{Bytes, Unread, pass};
use super::probe::{Answer, Bench, Facts, InputRows, Judge, judges, outcome};
use super::probes::{BytesReported, ChecksumReported, InBounds, RowsReported};
use super::reported::Reported;
use super::row::{Rows, Seen};
use super::{csv, jsonl, parquet, rejects};
use crate::attempt::Failure;

/// What is audited, and what it is held against.
pub(crate) struct Subject<'a> {
    /// The staged file.
    pub(crate) path: &'a Path,
    /// Its rules.
    pub(crate) checks: &'a Checks,
    /// The chunk's bounds.
    pub(crate) bounds: &'a Bounds,
    /// What the job says.
    pub(crate) reported: &'a Reported,
    /// Rows of the inputs.
    pub(crate) inputs: &'a [InputRows],
    /// For what a probe cannot keep in memory.
    pub(crate) work_dir: &'a Path,
    /// Whether to give up.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// What a file turned out to be.
#[derive(Debug)]
pub(crate) struct Audited {
    /// The file as it will be published.
    pub(crate) file: File,
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// Its rows, where its format is known and it could be read.
    pub(crate) rows: Option<u64>,
    /// Their sum.
    pub(crate) row_sum: Option<String>,
    /// Rows in the reject file; `None` where none may be rejected.
    pub(crate) rejected: Option<u64>,
    /// Rows that broke a rule of rows and were not taken out.
    pub(crate) broken: u64,
    /// Every rule that was asked.
    pub(crate) rules: Vec<RuleOutcome>,
}

/// One reading of a file.
struct Scan {
    bytes: Bytes,
    read: Result<(Seen, usize), String>,
    row_sum: String,
    broken: u64,
}

/// Audits a staged file; `None` when told to stop meanwhile.
///
/// # Errors
/// A `host` failure where the disk cannot be read or written. What the content breaks is an outcome.
pub(crate) fn audit_file(file: File, subject: &Subject<'_>) -> Result<Option<Audited>, Failure> {
    match audit(file, subject) {
        Ok(audited) => Ok(Some(audited)),
        Err(Unread::Stopped) => Ok(None),
        Err(Unread::Disk(error)) => Err(Failure::io("audit the staged file", subject.path, &error)),
        Err(Unread::Broken(what)) => Err(Failure::invalid(what)),
    }
}

fn audit(file: File, subject: &Subject<'_>) -> Result<Audited, Unread> {
    let Some(format) = &subject.checks.format else {
        return unread(file, subject);
    };
    let mut judges = all_judges(subject);
    let scan = scan(&file, format, &mut judges, subject.stop)?;
    let staged = scan.bytes.clone();
    let rows = scan.read.as_ref().map_or(0, |(seen, _)| seen.rows);
    let cap = subject.checks.rejects.as_ref();
    let within = cap.map(|cap| rejects::within(&cap.max, scan.broken, rows));
    if scan.broken == 0 || scan.read.is_err() || within != Some(true) {
        let mut audited = conclude(file, format, scan, &staged, 0, judges, subject);
        if let Some(cap) = cap.filter(|_| audited.rows.is_some()) {
            audited.rejected = Some(0);
            audited
                .rules
                .push(rejects::outcome(&cap.max, audited.broken, rows));
        }
        return Ok(audited);
    }
    // The rows that stay are judged anew: figures and uniqueness are theirs alone.
    let split = rejects::split(&file, format, subject, &mut all_judges(subject))?;
    let mut judges = all_judges(subject);
    let again = self::scan(&split, format, &mut judges, subject.stop)?;
    let rejected = scan.broken;
    let mut audited = conclude(split, format, again, &staged, rejected, judges, subject);
    audited.rejected = Some(rejected);
    if let Some(cap) = cap {
        audited
            .rules
            .push(rejects::outcome(&cap.max, rejected, rows));
    }
    Ok(audited)
}

/// A file of which nothing but size and checksum is known.
fn unread(file: File, subject: &Subject<'_>) -> Result<Audited, Unread> {
    let ((), bytes) =
        pass(&file, Packing::Plain, subject.stop, |_| Ok(())).map_err(|(fault, _)| fault)?;
    let facts = Facts {
        rows: 0,
        rejected: 0,
        staged: &bytes,
        row_sum: "",
        reported: subject.reported,
        inputs: subject.inputs,
    };
    // They vouch for the bytes and not for the content: only a no is an outcome.
    let mut rules: Vec<RuleOutcome> = claims()
        .iter_mut()
        .map(|judge| judge.outcome(&facts))
        .collect();
    rules.retain(|rule| !rule.ok);
    Ok(Audited {
        file,
        bytes,
        rows: None,
        row_sum: None,
        rejected: None,
        broken: 0,
        rules,
    })
}

/// What a job reports about bytes, for every file.
fn claims() -> [Judge; 2] {
    [
        Judge::built_in("bytes_reported", BytesReported),
        Judge::built_in("checksum_reported", ChecksumReported),
    ]
}

/// The built-in rules of a format and the declared ones.
pub(crate) fn all_judges(subject: &Subject<'_>) -> Vec<Judge> {
    let mut all = vec![Judge::built_in("rows_reported", RowsReported::default())];
    all.extend(claims());
    if let Some((rule, probe)) = InBounds::new(subject.bounds) {
        all.push(Judge::built_in(rule, probe));
    }
    all.extend(judges(subject.checks, subject.work_dir));
    all
}

fn scan(
    file: &File,
    format: &FileFormat,
    judges: &mut [Judge],
    stop: &dyn Fn() -> bool,
) -> Result<Scan, Unread> {
    let mut bench = Bench::new(judges);
    let (read, bytes) = read_rows(file, format, &mut bench, stop)?;
    Ok(Scan {
        bytes,
        read: read.map(|seen| (seen, bench.columns.len())),
        row_sum: bench.sum.hex(),
        broken: bench.broken,
    })
}

/// Reads every row of a file; what is wrong with its content is a value.
pub(crate) fn read_rows(
    file: &File,
    format: &FileFormat,
    rows: &mut dyn Rows,
    stop: &dyn Fn() -> bool,
) -> Result<(Result<Seen, String>, Bytes), Unread> {
    let nothing = |_: &mut dyn BufRead| Ok(());
    let passed = match format.shape {
        Shape::Csv => pass(file, format.packing, stop, |input| {
            csv::read(input, &format.csv, rows)
        }),
        Shape::Jsonl => pass(file, format.packing, stop, |input| jsonl::read(input, rows)),
        // It is read from its end, so its bytes pass by themselves.
        Shape::Parquet => match pass(file, Packing::Plain, stop, nothing) {
            Ok(((), bytes)) => match parquet::read(file, stop, rows) {
                Ok(seen) => Ok((seen, bytes)),
                Err(fault) => Err((fault, Some(bytes))),
            },
            Err(fault) => Err(fault),
        },
    };
    match passed {
        Ok((seen, bytes)) => Ok((Ok(seen), bytes)),
        Err((Unread::Broken(what), Some(bytes))) => Ok((Err(what), bytes)),
        Err((fault, _)) => Err(fault),
    }
}

fn conclude(
    file: File,
    format: &FileFormat,
    scan: Scan,
    staged: &Bytes,
    rejected: u64,
    mut judges: Vec<Judge>,
    subject: &Subject<'_>,
) -> Audited {
    let parses = format!("parses({format})");
    let (parsed, rows) = match &scan.read {
        Ok((seen, columns)) => {
            let open = if seen.open_end {
                ", no line end after the last"
            } else {
                ""
            };
            let found = format!(
                "{} rows of {columns} columns in {} bytes{open}",
                seen.rows, scan.bytes.count
            );
            (Answer::new(true, found), Some(seen.rows))
        }
        Err(what) => (Answer::new(false, what.clone()), None),
    };
    let mut rules = vec![outcome(&parses, Severity::Fail, parsed)];
    let facts = Facts {
        rows: rows.unwrap_or(0),
        rejected,
        staged,
        row_sum: &scan.row_sum,
        reported: subject.reported,
        inputs: subject.inputs,
    };
    if rows.is_some() {
        rules.extend(judges.iter_mut().map(|judge| judge.outcome(&facts)));
    } else {
        // Half of a file answers no question about its rows, but its bytes may say why.
        rules.extend(claims().iter_mut().map(|judge| judge.outcome(&facts)));
    }
    Audited {
        file,
        bytes: scan.bytes,
        row_sum: rows.map(|_| scan.row_sum),
        rows,
        rejected: None,
        broken: scan.broken,
        rules,
    }
}
