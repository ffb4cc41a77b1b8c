//! What outlives the process on this machine: the lock on the worker's name and the session's key.
//!
//! The lock keeps a second worker of the same name off this state directory; the session file lets
//! a restarted worker sign its predecessor off, so that its leases come free at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use common::domain::SessionId;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Why the worker's own files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has the name.
    #[error(
        "a worker named {name} already runs on this machine{}; hint: give this one another --name, or another --state-dir if it serves another control database",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Taken {
        /// The name.
        name: String,
        /// Who has it, where that is known.
        pid: Option<i32>,
    },
    /// The file system refused.
    #[error("{path}: {source}; hint: name another place with --state-dir")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The lock on a worker's name; released when it is dropped or its process ends in any way.
#[derive(Debug)]
pub struct NameLock {
    _lock: Flock<File>,
}

impl NameLock {
    /// Takes the name on this state directory and leaves the process id there for people.
    ///
    /// # Errors
    /// [`StateError::Taken`] while another process has it.
    pub fn take(state_dir: &Path, name: &str) -> Result<Self, StateError> {
        let path = state_dir.join(format!("{name}.lock"));
        let io = |source| StateError::Io {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _unread = file.read_to_string(&mut text);
                return Err(StateError::Taken {
                    name: name.to_owned(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err((_, errno)) => return Err(io(errno.into())),
        };
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(io)?;
        Ok(Self { _lock: lock })
    }
}

/// A session as it is kept on disk.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredSession {
    /// Its number.
    pub session: SessionId,
    key: String,
}

impl std::fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSession")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl StoredSession {
    /// A session and its key.
    #[must_use]
    pub fn new(session: SessionId, key: [u8; 16]) -> Self {
        Self {
            session,
            key: hex::encode(key),
        }
    }

    /// The key; `None` where the file was damaged.
    #[must_use]
    pub fn key(&self) -> Option<[u8; 16]> {
        hex::decode(&self.key).ok()?.try_into().ok()
    }
}

/// The file of the current session; only the holder of the name's lock may touch it.
#[derive(Debug, Clone)]
pub struct SessionFile {
    path: PathBuf,
}

impl SessionFile {
    /// The session file of a worker.
    #[must_use]
    pub fn new(state_dir: &Path, name: &str) -> Self {
        Self {
            path: state_dir.join(format!("{name}.session")),
        }
    }

    /// What a predecessor left. A file that cannot be read as a session is as good as none.
    ///
    /// # Errors
    /// [`StateError::Io`] where it exists and cannot be read.
    pub fn load(&self) -> Result<Option<StoredSession>, StateError> {
        match fs::read(&self.path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.io(source)),
        }
    }

    /// Replaces the file in one step; a reader sees the old session or the new one.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn store(&self, session: &StoredSession) -> Result<(), StateError> {
        let text = serde_json::to_vec(session).unwrap_or_default();
        let fresh = self.path.with_extension("session.new");
        let write = || -> io::Result<()> {
            let _old = fs::remove_file(&fresh);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)
        };
        write().map_err(|source| self.io(source))
    }

    /// Removes the file after an orderly end.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the session file");
        }
    }

    fn io(&self, source: io::Error) -> StateError {
        StateError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_name_is_taken_once_and_free_after() {
        let dir = tempfile::tempdir().unwrap();
        let first = NameLock::take(dir.path(), "w1").unwrap();
        let error = NameLock::take(dir.path(), "w1").unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        NameLock::take(dir.path(), "w2").unwrap();
        drop(first);
        NameLock::take(dir.path(), "w1").unwrap();
    }

    #[test]
    fn a_session_survives_on_disk_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = SessionFile::new(dir.path(), "w1");
        assert!(file.load().unwrap().is_none());
        for id in [7, 8] {
            let stored = StoredSession::new(SessionId(id), [id as u8; 16]);
            file.store(&stored).unwrap();
            let back = file.load().unwrap().unwrap();
            assert_eq!(
                (back.session, back.key()),
                (SessionId(id), Some([id as u8; 16]))
            );
        }
        let path = dir.path().join("w1.session");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "{torn").unwrap();
        assert!(file.load().unwrap().is_none());
        file.remove();
        file.remove();
        assert!(!path.exists());
    }
}
