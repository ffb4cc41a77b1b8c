//! Removing what attempts leave behind: staged files of dead attempts and private directories.
//!
//! It removes only inside `.odf-staging` and the worker's own work directory, and never what
//! may belong to a living attempt.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::domain::Fence;

use super::staged_stem;

/// Below the root of each file connection: outputs that are not published yet.
pub const STAGING_DIR: &str = ".odf-staging";

/// What the caller knows about the attempt that a staged file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs, here or elsewhere: kept however old.
    Live,
    /// It has ended for good: removed however young.
    Dead,
    /// Not known: removed when it has not been written to for long.
    Unknown,
}

/// Whether a staged file (by its name) is that attempt's.
#[must_use]
pub fn belongs_to(file_name: &str, dataset: &str, key: &str, fence: Fence) -> bool {
    file_name
        .strip_prefix(&staged_stem(dataset, key, fence))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Removes staged leftovers below a root: those of dead attempts, and those of unknown ones
/// that nobody has written to for `older_than` (24 h). Returns how many were removed.
///
/// # Errors
/// When the staging directory cannot be listed; one that does not exist is empty.
pub fn clean_staging(
    root: &Path,
    fate: &dyn Fn(&str) -> Fate,
    older_than: Duration,
) -> io::Result<usize> {
    let now = SystemTime::now();
    remove_where(&root.join(STAGING_DIR), |name, metadata| {
        match fate(name) {
            Fate::Live => false,
            Fate::Dead => true,
            // A clock behind the file server's makes files younger, never older.
            Fate::Unknown => metadata
                .modified()
                .is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age >= older_than)),
        }
    })
}

/// Removes the private directories of all attempts: for the start of a worker, when its guard
/// is ready and so nothing of its predecessor is alive. Returns how many were removed.
///
/// # Errors
/// When the directory cannot be listed; one that does not exist is empty.
pub fn clean_work_dir(work_dir: &Path) -> io::Result<usize> {
    remove_where(work_dir, |name, metadata| {
        // `<chunk id>.<fence>`: other files in there are not ours.
        metadata.is_dir()
            && name.split_once('.').is_some_and(|(id, fence)| {
                id.parse::<i64>().is_ok() && fence.parse::<i64>().is_ok()
            })
    })
}

fn remove_where(
    directory: &Path,
    remove: impl Fn(&str, &fs::Metadata) -> bool,
) -> io::Result<usize> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        // Another worker may have removed it meanwhile.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let name = entry.file_name();
        if remove(&name.to_string_lossy(), &metadata) && remove_any(&entry.path()) {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes a file or a whole directory, also one whose permissions a script has taken away;
/// a symbolic link itself and never what it points to. `false` when something is still there.
pub(crate) fn remove_any(path: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    let result = if metadata.is_dir() {
        fs::remove_dir_all(path).or_else(|_| {
            open_up(path);
            fs::remove_dir_all(path)
        })
    } else {
        fs::remove_file(path)
    };
    if let Err(error) = &result {
        tracing::warn!(path = %path.display(), %error, "cannot remove what an attempt left");
    }
    result.is_ok()
}

/// Gives the owner all rights on every directory of a tree; follows no link.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use common::domain::Fence;

    use super::{Fate, STAGING_DIR, belongs_to, clean_staging, clean_work_dir};

    #[test]
    fn a_staged_name_belongs_to_one_fence_only() {
        assert!(belongs_to("orders.k.12.csv", "orders", "k", Fence(12)));
        assert!(belongs_to("orders.k.12", "orders", "k", Fence(12)));
        assert!(!belongs_to("orders.k.123.csv", "orders", "k", Fence(12)));
        assert!(!belongs_to("orders.k.12.csv", "orders", "k", Fence(1)));
    }

    #[test]
    fn dead_and_old_files_go_and_live_ones_stay() {
        let root = tempfile::tempdir().unwrap();
        let staging = root.path().join(STAGING_DIR);
        fs::create_dir_all(staging.join("dead-directory/inner")).unwrap();
        for name in ["live", "dead", "old", "young"] {
            fs::write(staging.join(name), "x").unwrap();
        }
        let yesterday = SystemTime::now() - Duration::from_hours(25);
        for name in ["live", "old"] {
            let file = fs::File::options()
                .write(true)
                .open(staging.join(name))
                .unwrap();
            file.set_modified(yesterday).unwrap();
        }
        let fate = |name: &str| match name {
            "live" => Fate::Live,
            "dead" | "dead-directory" => Fate::Dead,
            _ => Fate::Unknown,
        };
        let removed = clean_staging(root.path(), &fate, Duration::from_hours(24)).unwrap();
        assert_eq!(removed, 3);
        assert!(staging.join("live").exists() && staging.join("young").exists());
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 2);
        let none = root.path().join("none");
        assert_eq!(clean_staging(&none, &fate, Duration::ZERO).unwrap(), 0);
    }

    #[test]
    fn only_directories_of_attempts_are_removed_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        let work = root.path().join("work");
        fs::create_dir_all(work.join("7.4294967297/work")).unwrap();
        std::os::unix::fs::symlink(&outside, work.join("7.4294967297/work/link")).unwrap();
        fs::write(work.join("guard.lock"), "").unwrap();
        assert_eq!(clean_work_dir(&work).unwrap(), 1);
        assert!(work.join("guard.lock").exists() && outside.join("precious").exists());
    }
}
