//! Progress that a script writes into a file: only the end of the file is read, its last line wins.
//!
//! Bounded work for each look, however large the file grows. What cannot be read is no progress
//! and never an error: progress decides nothing.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Progress;

/// A line and its predecessor fit in here many times over.
const LOOK_AT: u64 = 4096;

/// Looks at a progress file again and again.
pub(crate) struct ProgressFile {
    path: PathBuf,
    seen_bytes: u64,
    last: Progress,
}

impl ProgressFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen_bytes: 0,
            last: Progress::default(),
        }
    }

    /// The newest progress, if it changed. A line without its end is still being written,
    /// unless the script has `ended`.
    pub(crate) fn look(&mut self, ended: bool) -> Option<Progress> {
        let (text, length) = self.read_end()?;
        if length == self.seen_bytes && !ended {
            return None;
        }
        self.seen_bytes = length;
        let text = String::from_utf8_lossy(&text);
        let whole = match text.rfind('\n') {
            _ if ended => &text[..],
            Some(end) => &text[..end],
            None => "",
        };
        let newest = whole.lines().rev().find_map(parse_progress)?;
        // A line that tells one figure says nothing about the other.
        let merged = Progress {
            rows: newest.rows.or(self.last.rows),
            bytes: newest.bytes.or(self.last.bytes),
        };
        let changed = merged != self.last;
        self.last = merged;
        changed.then_some(merged)
    }

    fn read_end(&self) -> Option<(Vec<u8>, u64)> {
        let mut file = open_regular(&self.path)?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOOK_AT)))
            .ok()?;
        let mut end = Vec::new();
        file.take(LOOK_AT).read_to_end(&mut end).ok()?;
        Some((end, length))
    }
}

/// Opens a file that a script may have replaced by anything, a FIFO included, without waiting.
pub(crate) fn open_regular(path: &Path) -> Option<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// Parses one line of a progress file: `rows=N bytes=N` or a JSON object.
pub(crate) fn parse_progress(line: &str) -> Option<Progress> {
    let line = line.trim();
    let mut progress = Progress::default();
    if line.starts_with('{') {
        let object: Value = serde_json::from_str(line).ok()?;
        progress.rows = object.get("rows").and_then(Value::as_i64);
        progress.bytes = object.get("bytes").and_then(Value::as_i64);
    } else {
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some(("rows", number)) => progress.rows = number.parse().ok(),
                Some(("bytes", number)) => progress.bytes = number.parse().ok(),
                _ => {}
            }
        }
    }
    progress.rows = progress.rows.filter(|rows| *rows >= 0);
    progress.bytes = progress.bytes.filter(|bytes| *bytes >= 0);
    (progress != Progress::default()).then_some(progress)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Progress, ProgressFile, parse_progress};

    #[test]
    fn progress_lines() {
        let both = Some(Progress {
            rows: Some(5),
            bytes: Some(7),
        });
        assert_eq!(parse_progress("rows=5 bytes=7"), both);
        assert_eq!(parse_progress(r#" {"rows": 5, "bytes": 7, "x": 1} "#), both);
        assert_eq!(parse_progress("rows=-1 bytes=x"), None);
        assert_eq!(parse_progress("hello"), None);
        assert_eq!(parse_progress("{broken"), None);
    }

    #[test]
    fn the_last_whole_line_wins_and_the_end_counts_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let mut progress = ProgressFile::new(&path);
        assert_eq!(progress.look(false), None);
        let mut file = std::fs::File::create(&path).unwrap();
        for row in 0..10_000 {
            writeln!(file, "rows={row}").unwrap();
        }
        write!(file, "bytes=12").unwrap();
        let rows = Some(9_999);
        let expected = Progress { rows, bytes: None };
        assert_eq!(progress.look(false), Some(expected));
        assert_eq!(progress.look(false), None);
        write!(file, "34").unwrap();
        let bytes = Some(1234);
        assert_eq!(progress.look(true), Some(Progress { rows, bytes }));
    }

    #[test]
    fn a_fifo_in_its_place_is_no_progress() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(ProgressFile::new(&path).look(true), None);
    }
}
