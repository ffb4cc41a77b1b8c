//! How long logs stay on a worker: by age, and by the size of all together, oldest first.
//!
//! It removes only files that look like logs of attempts, and directories that become empty.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Limits for all logs of a worker together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRetention {
    /// Older logs are removed (30 days).
    pub older_than: Duration,
    /// Beyond this many bytes the oldest are removed (10 GiB).
    pub total_bytes: u64,
}

impl Default for LogRetention {
    fn default() -> Self {
        Self {
            older_than: Duration::from_hours(30 * 24),
            total_bytes: 10 << 30,
        }
    }
}

struct Log {
    path: PathBuf,
    written: SystemTime,
    bytes: u64,
}

/// Removes logs beyond the limits, except those written to within the last hour: their
/// attempts may be running. Returns how many were removed. Blocking.
///
/// # Errors
/// When the log directory cannot be listed; one that does not exist is empty.
pub fn clean_logs(log_dir: &Path, retention: LogRetention) -> io::Result<usize> {
    let now = SystemTime::now();
    let age = |log: &Log| now.duration_since(log.written).unwrap_or_default();
    let mut logs = find_logs(log_dir)?;
    logs.sort_by_key(|log| log.written);
    let mut total: u64 = logs.iter().map(|log| log.bytes).sum();
    let mut removed = 0;
    for log in &logs {
        let age = age(log);
        let beyond = age >= retention.older_than || total > retention.total_bytes;
        if !beyond || age < Duration::from_hours(1) {
            break;
        }
        if fs::remove_file(&log.path).is_ok() {
            total -= log.bytes;
            removed += 1;
        }
        // Only an empty one is removed; a new log's directory is made together with it.
        for directory in log.path.ancestors().skip(1).take(2) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
    Ok(removed)
}

/// `LOGDIR/<data set>/<key>/<fence>.log`, nothing else.
fn find_logs(log_dir: &Path) -> io::Result<Vec<Log>> {
    let mut level = match subdirectories(log_dir) {
        Ok(level) => level,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    level = level
        .iter()
        .flat_map(|dataset| subdirectories(dataset).unwrap_or_default())
        .collect();
    let mut logs = Vec::new();
    for key in level {
        for entry in fs::read_dir(key).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let fence = name.to_str().and_then(|name| name.strip_suffix(".log"));
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if fence.is_some_and(|fence| fence.parse::<i64>().is_ok()) && metadata.is_file() {
                logs.push(Log {
                    path: entry.path(),
                    written: metadata.modified().unwrap_or_else(|_| SystemTime::now()),
                    bytes: metadata.len(),
                });
            }
        }
    }
    Ok(logs)
}

fn subdirectories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{LogRetention, clean_logs};

    fn log(dir: &Path, name: &str, hours_old: u64, bytes: usize) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![b'x'; bytes]).unwrap();
        let written = SystemTime::now() - Duration::from_hours(hours_old);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(written).unwrap();
    }

    #[test]
    fn old_logs_go_then_the_oldest_beyond_the_size_and_never_a_fresh_one() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        log(dir, "orders/1/10.log", 100, 10);
        log(dir, "orders/2/11.log", 40, 10);
        log(dir, "orders/2/12.log", 30, 10);
        log(dir, "orders/3/13.log", 0, 1000);
        log(dir, "orders/3/notes.txt", 1000, 10);
        log(dir, "readme.log", 1000, 10);
        let retention = |total_bytes| LogRetention {
            older_than: Duration::from_hours(72),
            total_bytes,
        };
        assert_eq!(clean_logs(dir, retention(1 << 20)).unwrap(), 1);
        assert!(!dir.join("orders/1").exists() && dir.join("orders/2/11.log").exists());
        assert_eq!(clean_logs(dir, retention(1015)).unwrap(), 1);
        assert!(dir.join("orders/2/12.log").exists());
        assert_eq!(clean_logs(dir, retention(0)).unwrap(), 1);
        for kept in ["orders/3/13.log", "orders/3/notes.txt", "readme.log"] {
            assert!(dir.join(kept).exists(), "{kept}");
        }
        assert_eq!(clean_logs(&dir.join("none"), retention(0)).unwrap(), 0);
    }
}
