//! The log of an attempt: bounded on disk and in memory whatever the script prints, secrets hidden.
//!
//! A log that cannot be written never stops the reading of the pipe: a script must not hang on
//! our disk. The fault is remembered and told.

use std::io;
use std::path::{Path, PathBuf};

use common::domain::size::format_bytes;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::Mask;
use super::mask::MaskStream;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes in the file (16 MiB); the rest is read and thrown away.
    pub file_bytes: u64,
    /// Bytes of the tail that goes to the database (8 KiB).
    pub tail_bytes: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
            tail_bytes: 8 << 10,
        }
    }
}

/// What is left of a log after the attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The last part, valid UTF-8 without NUL, secrets hidden.
    pub tail: String,
    /// Why the file is not complete, where a write failed.
    pub fault: Option<String>,
}

/// A log being written.
pub struct AttemptLog {
    limits: LogLimits,
    mask: Mask,
    stream: MaskStream,
    masked: Vec<u8>,
    tail: Vec<u8>,
    path: PathBuf,
    file: Option<File>,
    written: u64,
    fault: Option<String>,
}

impl std::fmt::Debug for AttemptLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttemptLog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl AttemptLog {
    /// Creates the file, for its owner only, with its directories.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn create(path: &Path, limits: LogLimits, mask: Mask) -> io::Result<Self> {
        let file = match create(path).await {
            // The clean-up of old logs may just have removed the directory as empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path).await?,
            other => other?,
        };
        Ok(Self {
            limits,
            mask,
            stream: MaskStream::default(),
            masked: Vec::new(),
            tail: Vec::new(),
            path: path.to_owned(),
            file: Some(file),
            written: 0,
            fault: None,
        })
    }

    /// Takes what the script printed.
    pub async fn write(&mut self, bytes: &[u8]) {
        let mut masked = std::mem::take(&mut self.masked);
        self.stream.push(&self.mask, bytes, &mut masked);
        self.keep(&masked).await;
        masked.clear();
        self.masked = masked;
    }

    /// Adds a line of our own, after all that the script printed until now.
    pub async fn note(&mut self, line: &str) {
        let mut masked = Vec::new();
        self.stream.finish(&self.mask, &mut masked);
        self.keep(&masked).await;
        let begin = if self.tail.last().is_none_or(|byte| *byte == b'\n') {
            ""
        } else {
            "\n"
        };
        self.keep(format!("{begin}[{line}]\n").as_bytes()).await;
    }

    async fn keep(&mut self, masked: &[u8]) {
        self.tail.extend_from_slice(masked);
        // Cut only when it has grown to the double, so that it costs little.
        if self.tail.len() > self.limits.tail_bytes * 2 {
            let cut = self.tail.len() - self.limits.tail_bytes;
            self.tail.drain(..cut);
        }
        let room = self.limits.file_bytes.saturating_sub(self.written);
        let fits = masked
            .len()
            .min(usize::try_from(room).unwrap_or(usize::MAX));
        let Some(file) = &mut self.file else {
            return;
        };
        self.written += fits as u64;
        let mut result = file.write_all(&masked[..fits]).await;
        let full = fits < masked.len();
        if result.is_ok() && full {
            let size = format_bytes(self.limits.file_bytes);
            let line = format!("\n[log truncated at {size}]\n");
            result = file.write_all(line.as_bytes()).await;
        }
        if result.is_ok() {
            // A file of the runtime reports a failed write only at the next call.
            result = file.flush().await;
        }
        if let Err(error) = result {
            self.fault = Some(format!("write the log {}: {error}", self.path.display()));
            self.file = None;
        } else if full {
            self.file = None;
        }
    }

    /// Ends the log.
    pub async fn finish(mut self) -> LogEnd {
        let mut masked = Vec::new();
        self.stream.finish(&self.mask, &mut masked);
        self.keep(&masked).await;
        if let Some(fault) = self.fault.clone() {
            self.note(&fault).await;
        }
        LogEnd {
            tail: printable_tail(&self.tail, self.limits.tail_bytes),
            fault: self.fault,
        }
    }
}

async fn create(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .await
}

/// The last bytes as text that a database takes: valid UTF-8, no NUL, at most `limit` bytes.
fn printable_tail(bytes: &[u8], limit: usize) -> String {
    let from = bytes.len().saturating_sub(limit);
    // A character cut in two at the beginning is no damage of the script's.
    let bytes = &bytes[from..];
    let whole = bytes
        .iter()
        .take(3)
        .take_while(|byte| from > 0 && **byte & 0xC0 == 0x80)
        .count();
    let mut text = String::from_utf8_lossy(&bytes[whole..]).replace('\0', "");
    if text.len() > limit {
        let mut cut = text.len() - limit;
        while !text.is_char_boundary(cut) {
            cut += 1;
        }
        text.drain(..cut);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{AttemptLog, LogLimits, Mask, printable_tail};

    #[test]
    fn a_tail_is_text_of_bounded_length_whatever_the_bytes() {
        assert_eq!(printable_tail(b"ab\0c", 8), "abc");
        assert_eq!(printable_tail("x\u{e9}y".as_bytes(), 2), "y");
        let binary: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let tail = printable_tail(&binary, 1000);
        assert!(tail.len() <= 1000 && tail.len() > 900);
    }

    #[tokio::test]
    async fn a_log_is_cut_masked_and_ends_with_its_tail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/1.log");
        let limits = LogLimits {
            file_bytes: 20,
            tail_bytes: 10,
        };
        let mask = Mask::new(["hunter2".to_owned()]);
        let mut log = AttemptLog::create(&path, limits, mask).await.unwrap();
        for piece in ["pass hun", "ter2 word and ", "much more after it"] {
            log.write(piece.as_bytes()).await;
        }
        log.note("the end").await;
        let end = log.finish().await;
        assert_eq!(end.tail, "[the end]\n");
        assert_eq!(end.fault, None);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "pass *** word and mu\n[log truncated at 20 B]\n"
        );
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_is_reported_and_its_tail_kept() {
        let limits = LogLimits::default();
        let full = std::path::Path::new("/dev/full");
        let mut log = AttemptLog::create(full, limits, Mask::default())
            .await
            .unwrap();
        log.write(b"hello").await;
        let end = log.finish().await;
        let fault = end.fault.expect("a fault");
        assert!(fault.starts_with("write the log /dev/full: "), "{fault}");
        assert_eq!(end.tail, format!("hello\n[{fault}]\n"));
    }
}
