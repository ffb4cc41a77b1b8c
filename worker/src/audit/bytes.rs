//! The bytes of a staged file on their way to a reader: counted, hashed, unpacked.
//!
//! Everything that a reader sees has passed here, so size and checksum are those of what was judged.
//! It never reads less than the whole file, whatever a reader makes of it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::rc::Rc;

use common::flow::rules::Packing;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Read at once.
const BLOCK: usize = 1 << 18;

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// The attempt was told to stop.
    #[error("told to stop")]
    Stopped,
    /// The disk, not the content.
    #[error(transparent)]
    Disk(io::Error),
    /// The content: what is wrong and where.
    #[error("{0}")]
    Broken(String),
}

impl Unread {
    /// A fault of the content.
    pub(crate) fn broken(what: impl Into<String>) -> Self {
        Self::Broken(what.into())
    }
}

/// What is known of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// How many.
    pub(crate) count: u64,
    /// SHA-256, hex.
    pub(crate) sha256: String,
}

/// What passed so far, and why it stopped, where that was not the content's fault.
#[derive(Default)]
struct Passed {
    count: u64,
    digest: Sha256,
    fault: Option<Unread>,
}

/// A file that counts and hashes what is read from it.
struct Counted<'a> {
    file: &'a File,
    stop: &'a dyn Fn() -> bool,
    passed: Rc<RefCell<Passed>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let mut passed = self.passed.borrow_mut();
        if (self.stop)() {
            passed.fault = Some(Unread::Stopped);
            return Err(io::ErrorKind::Other.into());
        }
        match self.file.read(block) {
            Ok(count) => {
                passed.digest.update(&block[..count]);
                passed.count += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                passed.fault = Some(Unread::Disk(error));
                Err(kind.into())
            }
        }
    }
}

/// Hands the unpacked content of a file to `read`, then goes through what is left of its bytes.
///
/// # Errors
/// What `read` answers; [`Unread::Broken`] for a packing that ends too early or has something after
/// its end; [`Unread::Stopped`] and [`Unread::Disk`] whatever `read` made of them.
pub(crate) fn pass<T>(
    file: &File,
    packing: Packing,
    stop: &dyn Fn() -> bool,
    read: impl FnOnce(&mut dyn BufRead) -> Result<T, Unread>,
) -> Result<(T, Bytes), (Unread, Option<Bytes>)> {
    let mut from_start = file;
    if let Err(error) = from_start.rewind() {
        return Err((Unread::Disk(error), None));
    }
    let passed = Rc::new(RefCell::new(Passed::default()));
    let counted = Counted {
        file,
        stop,
        passed: Rc::clone(&passed),
    };
    let mut raw = BufReader::with_capacity(BLOCK, counted);
    let answer = unpack(&mut raw, packing, read);
    // Size and checksum are of the whole file, also where its content could not be read on.
    let rest = io::copy(&mut raw, &mut io::sink());
    drop(raw);
    let passed = passed.take();
    if let Some(fault) = passed.fault {
        return Err((fault, None));
    }
    if let Err(error) = rest {
        return Err((Unread::Disk(error), None));
    }
    let bytes = Bytes {
        count: passed.count,
        sha256: hex::encode(passed.digest.finalize()),
    };
    match answer {
        Ok(answer) => Ok((answer, bytes)),
        Err(fault) => Err((fault, Some(bytes))),
    }
}

fn unpack<T>(
    raw: &mut impl BufRead,
    packing: Packing,
    read: impl FnOnce(&mut dyn BufRead) -> Result<T, Unread>,
) -> Result<T, Unread> {
    let what = match packing {
        Packing::Plain => return read(raw),
        Packing::Gz => "gzip",
        Packing::Zst => "zstd",
    };
    // A file of no bytes is no packed file, though a decoder may take it for one of no content.
    if raw
        .fill_buf()
        .map_err(|error| unpacking(what, &error))?
        .is_empty()
    {
        return Err(Unread::broken(format!(
            "the file is empty, which is no {what} file"
        )));
    }
    let answer = match packing {
        Packing::Gz => {
            let mut unpacked = BufReader::with_capacity(BLOCK, MultiGzDecoder::new(&mut *raw));
            read(&mut unpacked).and_then(|answer| to_the_end(&mut unpacked, what).map(|()| answer))
        }
        Packing::Zst | Packing::Plain => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut *raw)
                .map_err(|error| unpacking(what, &error))?;
            let mut unpacked = BufReader::with_capacity(BLOCK, decoder);
            read(&mut unpacked).and_then(|answer| to_the_end(&mut unpacked, what).map(|()| answer))
        }
    }?;
    match raw.fill_buf() {
        Ok([]) => Ok(answer),
        Ok(_) => Err(Unread::broken(format!(
            "something follows the end of the {what} data"
        ))),
        Err(error) => Err(unpacking(what, &error)),
    }
}

/// The packing's own end, with its checksum, comes after the last byte of content.
fn to_the_end(unpacked: &mut dyn BufRead, what: &str) -> Result<(), Unread> {
    match unpacked.fill_buf() {
        Ok([]) => Ok(()),
        Ok(_) => Err(Unread::broken("the content goes on after its end")),
        Err(error) => Err(unpacking(what, &error)),
    }
}

fn unpacking(what: &str, error: &io::Error) -> Unread {
    Unread::broken(format!(
        "the {what} data is damaged or ends too early ({error})"
    ))
}

/// An error of reading unpacked content: the packing's, or one that is known to [`pass`] already.
pub(crate) fn content(error: &io::Error) -> Unread {
    Unread::broken(format!(
        "the file cannot be unpacked to its end: it is damaged or was cut off ({error})"
    ))
}
