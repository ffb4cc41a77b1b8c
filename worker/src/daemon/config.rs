//! What a worker daemon is told: checked whole before anything is started or connected.
//!
//! It must never hold a secret in a printable form, and never look at the database.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

/// Free space of the state and log directories below which nothing is claimed.
pub const MIN_FREE: u64 = 256 << 20;

/// A worker's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The control database, as a login in `odf_worker`.
    pub database_url: SecretString,
    /// The worker's name, unique among living workers.
    pub name: String,
    /// How many chunks it runs at once.
    pub slots: u32,
    /// What it offers to jobs that ask for labels.
    pub labels: Vec<String>,
    /// Scripts are looked up here and nowhere else; absolute.
    pub script_dir: PathBuf,
    /// Locks, the session file and private directories of attempts; absolute.
    pub state_dir: PathBuf,
    /// Logs of attempts; absolute.
    pub log_dir: PathBuf,
    /// How long running attempts may finish after the end was asked for; `None` is for ever.
    pub grace: Option<Duration>,
    /// Logs older than this are deleted.
    pub log_keep: Duration,
    /// Together, logs take at most so many bytes.
    pub log_max: u64,
    /// Intervals.
    pub liveness: Liveness,
}

/// The intervals of a worker's life signs and looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Liveness {
    /// Between two beats (4 s).
    pub beat: Duration,
    /// Longest pause between two looks for work (5 s).
    pub poll: Duration,
    /// Between two glances at whether rights or chunks have come meanwhile, while slots are free (1 s).
    pub look: Duration,
    /// Between two reconciliations (60 s).
    pub reconcile: Duration,
    /// How often the guard is told that the worker lives (1 s).
    pub guard_tick: Duration,
    /// After how long without that word it kills every script (20 s).
    pub guard_timeout: Duration,
    /// Jobs' silences are divided by this; 1 outside tests.
    pub scale: f64,
}

impl Liveness {
    /// The given beat and poll with every other default, all divided by `scale`.
    #[must_use]
    pub fn scaled(beat: Duration, poll: Duration, scale: f64) -> Self {
        let shorter = |interval: Duration| interval.div_f64(scale);
        Self {
            beat: shorter(beat),
            poll: shorter(poll),
            look: shorter(Duration::from_secs(1)),
            reconcile: shorter(Duration::from_secs(60)),
            guard_tick: shorter(Duration::from_secs(1)),
            guard_timeout: shorter(Duration::from_secs(20)),
            scale,
        }
    }

    /// A limit of ours, divided as everything is.
    pub(crate) fn shortened(&self, limit: Duration) -> Duration {
        limit.div_f64(self.scale)
    }

    /// How long an attempt of a job with that silence may go on unheard.
    #[must_use]
    pub fn silence(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).div_f64(self.scale)
    }
}

/// A setting that a worker cannot start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No control database was named.
    #[error(
        "no control database: expected its url in --database-url or the environment variable ODF_DATABASE_URL; hint: postgres://worker@host/odf"
    )]
    NoDatabase,
    /// A worker that can run nothing.
    #[error(
        "--slots 0 would run nothing: expected 1 or more; hint: to pause a worker use 'coordinator drain'"
    )]
    NoSlots,
    /// A name that the control database refuses.
    #[error(
        "worker name {0:?} is not usable: expected 1 to 63 letters, digits, dots, dashes or underscores, starting with a letter or digit; hint: choose one with --name"
    )]
    Name(String),
    /// The directory of scripts is not there.
    #[error(
        "script directory {path}: {problem}; hint: create it or name another one with --script-dir or ODF_SCRIPT_DIR"
    )]
    ScriptDir {
        /// As given, made absolute.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A directory of our own cannot be written to.
    #[error(
        "{what} directory {path}: {problem}; hint: make it writable for this user or name another one with {flag}"
    )]
    NotWritable {
        /// `state` or `log`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        problem: String,
        /// The option that names it.
        flag: &'static str,
    },
    /// A number of the hidden settings that makes no sense.
    #[error("{name}={given:?}: expected {expected}; hint: leave it unset for the default")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What it holds.
        given: String,
        /// What it should hold.
        expected: &'static str,
    },
}

impl ConfigError {
    /// Whether the setting is wrong by itself, whatever this host looks like.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoDatabase | Self::NoSlots | Self::Name(_) | Self::Setting { .. } => true,
            Self::ScriptDir { .. } | Self::NotWritable { .. } => false,
        }
    }
}

/// Whether the control database takes that name for a worker.
#[must_use]
pub fn usable_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// This host's name, made usable as a worker's name.
#[must_use]
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_else(|_| OsString::from("worker"));
    let mut name: String = name
        .to_string_lossy()
        .chars()
        .map(|c| {
            if usable_name(&format!("a{c}")) {
                c
            } else {
                '-'
            }
        })
        .collect();
    name.truncate(63);
    if usable_name(&name) {
        name
    } else {
        "worker".to_owned()
    }
}

/// Where state is kept when nobody says: `$XDG_STATE_HOME/odf` or `~/.local/state/odf`.
#[must_use]
pub fn default_state_dir() -> PathBuf {
    let named = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    named("XDG_STATE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("odf")
}

/// Looks at the directory of scripts; answers what a person should be warned of.
///
/// # Errors
/// [`ConfigError::ScriptDir`] where it is missing, no directory or not readable.
pub fn check_script_dir(path: &Path) -> Result<Option<String>, ConfigError> {
    let wrong = |problem: String| ConfigError::ScriptDir {
        path: path.to_owned(),
        problem,
    };
    let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(wrong("it is not a directory".to_owned()));
    }
    std::fs::read_dir(path).map_err(|error| wrong(error.to_string()))?;
    let mode = metadata.permissions().mode();
    let me = nix::unistd::geteuid().as_raw();
    let owner = metadata.uid();
    Ok(if mode & 0o022 != 0 {
        Some(format!(
            "script directory {} can be written by others than its owner (mode {:04o}): whoever can write there runs programs as this worker (hint: chmod go-w)",
            path.display(),
            mode & 0o7777
        ))
    } else if owner != me && owner != 0 {
        Some(format!(
            "script directory {} belongs to user id {owner}, who can run programs as this worker",
            path.display()
        ))
    } else {
        None
    })
}

/// Makes a directory for this user alone, where it is not there, and proves that it can be written to.
///
/// # Errors
/// [`ConfigError::NotWritable`].
pub fn make_private_dir(
    path: &Path,
    what: &'static str,
    flag: &'static str,
) -> Result<(), ConfigError> {
    use std::os::unix::fs::DirBuilderExt;
    let wrong = |error: std::io::Error| ConfigError::NotWritable {
        what,
        path: path.to_owned(),
        problem: error.to_string(),
        flag,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(wrong)?;
    let probe = path.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"x").map_err(wrong)?;
    std::fs::remove_file(&probe).map_err(wrong)
}

impl Config {
    /// Private directories of this worker's attempts.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.state_dir.join(&self.name).join("work")
    }

    /// The lock that the guard holds while anything of this worker lives.
    #[must_use]
    pub fn guard_lock(&self) -> PathBuf {
        self.state_dir.join(format!("{}.guard.lock", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_the_database_does() {
        for good in ["a", "etl-1.example.com", "9_x"] {
            assert!(usable_name(good), "{good}");
        }
        for bad in ["", "-a", "a b", "ä", &"a".repeat(64)] {
            assert!(!usable_name(bad), "{bad}");
        }
        assert!(usable_name(&host_name()));
    }

    #[test]
    fn every_interval_is_shortened() {
        let liveness = Liveness::scaled(Duration::from_secs(4), Duration::from_secs(5), 10.0);
        assert_eq!(liveness.beat, Duration::from_millis(400));
        assert_eq!(liveness.guard_timeout, Duration::from_secs(2));
        assert_eq!(liveness.silence(25), Duration::from_millis(2500));
    }

    #[test]
    fn a_script_directory_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let missing = check_script_dir(&root.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("--script-dir"), "{missing}");
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = check_script_dir(&file).unwrap_err().to_string();
        assert!(error.contains("not a directory"), "{error}");
        let open = root.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let warning = check_script_dir(&open).unwrap().unwrap();
        assert!(warning.contains("0777"), "{warning}");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(check_script_dir(&open).unwrap(), None);
    }

    #[test]
    fn a_state_directory_is_made_for_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("a/b");
        make_private_dir(&state, "state", "--state-dir").unwrap();
        let mode = std::fs::metadata(&state).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = make_private_dir(&file, "state", "--state-dir").unwrap_err();
        assert!(error.to_string().contains("--state-dir"), "{error}");
    }
}
