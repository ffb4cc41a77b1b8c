//! What can go wrong with a private server, told so that the reader knows what to do next.
//!
//! No variant ever carries the password.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::discover::{MAJORS, Rejected};
use crate::runtime::error_text;

/// How PostgreSQL is installed, one command per system.
pub const INSTALL_HINT: &str = "\
hint: install one, then try again:
  Debian, Ubuntu:  sudo apt-get install -y postgresql
  Fedora:          sudo dnf install -y postgresql-server
  RHEL 8 and 9:    sudo dnf module install -y postgresql:16/server
  macOS:           brew install postgresql@17
or set ODF_PG_BIN to the folder that holds `initdb` and `postgres`, \
or give the URL of a running PostgreSQL instead.";

/// Why a private server could not be found, made, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivatePgError {
    /// No usable installation on this machine.
    #[error("{}", not_found(.rejected))]
    NotFound {
        /// What was found and why it cannot be used.
        rejected: Vec<Rejected>,
    },

    /// The folder that was named cannot be used.
    #[error("{origin} names {}, which cannot be used: {why}\nhint: it must be the folder that holds `initdb` and `postgres` of PostgreSQL {} to {}", .bin_dir.display(), MAJORS.start(), MAJORS.end())]
    Unusable {
        /// Which setting named it.
        origin: &'static str,
        /// The folder.
        bin_dir: PathBuf,
        /// What was found there.
        why: String,
    },

    /// The data directory belongs to another major version than the binaries.
    #[error("{} was made by PostgreSQL {data_major}, and {found}\nhint: install PostgreSQL {data_major}, or use another data directory", .data_dir.display())]
    WrongMajor {
        /// The data directory.
        data_dir: PathBuf,
        /// What its PG_VERSION says.
        data_major: u32,
        /// What is installed instead, as a clause.
        found: String,
    },

    /// The data directory exists, holds something, and is not a cluster of ours.
    #[error("{} cannot be used as a private PostgreSQL: {why}\nhint: name a directory that does not exist yet", .data_dir.display())]
    NotOurs {
        /// The data directory.
        data_dir: PathBuf,
        /// What is in the way.
        why: String,
    },

    /// The server's user cannot reach a place.
    #[error("PostgreSQL refuses to run as root, so it runs as user {user}, and {user} cannot enter {} on the way to {}\nhint: use a place that every user may enter (such as /var/lib/opendataflow), or `chmod o+x {}`", .blocked_at.display(), .path.display(), .blocked_at.display())]
    Unreachable {
        /// Where the server has to get.
        path: PathBuf,
        /// The directory that is closed to it.
        blocked_at: PathBuf,
        /// The server's user.
        user: String,
    },

    /// Nobody to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor a user `nobody`\nhint: run this command as an ordinary user, or `useradd --system postgres`"
    )]
    NoUser,

    /// A file operation failed.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was being done, present tense.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },

    /// `initdb` failed.
    #[error("initdb could not make a database cluster in {} ({status})\n{output}", .data_dir.display())]
    Initdb {
        /// Where it was to be made.
        data_dir: PathBuf,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },

    /// The server ended, or did not come up in time.
    #[error("PostgreSQL did not start: {why}\nthe last lines of {}:\n{tail}", .log.display())]
    Start {
        /// What happened.
        why: String,
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },

    /// A server serves the data directory and cannot be used by us.
    #[error("{} is served by process {pid} on port {port}, and it cannot be used: {why}\nhint: stop it (`kill -INT {pid}`), then try again", .data_dir.display())]
    Occupied {
        /// The data directory.
        data_dir: PathBuf,
        /// The running server's process id.
        pid: i32,
        /// Its port.
        port: u16,
        /// What failed.
        why: String,
    },

    /// Another process holds the start lock for too long.
    #[error("another process has been starting a server in this place for more than {limit:?} (it holds {})\nhint: find it with `fuser {}` and end it", .lock.display(), .lock.display())]
    Locked {
        /// The lock file.
        lock: PathBuf,
        /// How long we waited.
        limit: Duration,
    },

    /// The server did not end, not even when killed.
    #[error("PostgreSQL (process {pid}) is still there {limit:?} after it was told to stop")]
    Stop {
        /// The server's process id.
        pid: i32,
        /// How long it was awaited.
        limit: Duration,
    },

    /// A statement on the running server failed.
    #[error("{what} on the private PostgreSQL: {}", error_text(.source))]
    Sql {
        /// What was being done, present tense.
        what: String,
        /// The driver's answer.
        source: tokio_postgres::Error,
    },

    /// A helper thread was lost.
    #[error("a helper thread ended early: {0}")]
    Thread(String),
}

impl PrivatePgError {
    /// Wraps an I/O error with what was being done to which path.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

fn not_found(rejected: &[Rejected]) -> String {
    let (low, high) = (MAJORS.start(), MAJORS.end());
    let mut text = format!(
        "no PostgreSQL server {low} to {high} was found (looked in PATH, at `pg_config --bindir`, and in the usual folders)\n"
    );
    for one in rejected {
        let _ = writeln!(text, "found {}: {}", one.bin_dir.display(), one.why);
    }
    text.push_str(INSTALL_HINT);
    text
}
