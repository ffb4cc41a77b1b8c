//! Processes and databases of the tests of faults: what runs, what it printed, what a query answers.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use common::endpoint::{PgSession, SecretString, SessionSettings, connect};
use common::runtime::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Mutex;
use tokio_postgres::types::FromSqlOwned;

use crate::harness::cluster;

/// How long a condition may take: whole runs of real processes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A superuser's sessions in one database, opened again when the server was away.
pub(crate) struct Sql {
    url: String,
    session: Mutex<Option<PgSession>>,
}

impl Sql {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            session: Mutex::new(None),
        }
    }

    /// The first column of all rows; `Err` where the server or the statement fails.
    pub(crate) async fn try_column<T: FromSqlOwned>(&self, sql: &str) -> Result<Vec<T>, String> {
        let mut slot = self.session.lock().await;
        let session = match slot.take() {
            Some(open) => open,
            None => {
                let settings = SessionSettings {
                    statement_timeout: None,
                    ..SessionSettings::named("odf-it")
                };
                connect(&SecretString::from(self.url.clone()), &settings)
                    .await
                    .map_err(|error| error.to_string())?
            }
        };
        match session.query(sql, &[]).await {
            Ok(rows) => {
                *slot = Some(session);
                Ok(rows.iter().map(|row| row.get(0)).collect())
            }
            Err(error) => Err(common::endpoint::describe(&error)),
        }
    }

    /// The first column of all rows.
    pub(crate) async fn column<T: FromSqlOwned>(&self, sql: &str) -> Vec<T> {
        self.try_column(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The first column of the one row.
    pub(crate) async fn get<T: FromSqlOwned>(&self, sql: &str) -> T {
        let mut rows = self.column(sql).await;
        assert_eq!(rows.len(), 1, "{sql}");
        rows.remove(0)
    }

    /// Runs statements that answer nothing.
    pub(crate) async fn run(&self, sql: &str) {
        let session = cluster::session(&self.url).await;
        cluster::run(&session, sql).await;
        session.close().await;
    }
}

/// Looks again and again; `None` when the limit is over.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    wait::until(LIMIT, Duration::from_millis(20), what, || {
        std::future::ready(look())
    })
    .await
    .ok()
}

/// What a command came to.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What it answered, where it did what was asked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// What it said, where it ended with that code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.stderr
    }
}

pub(crate) async fn ran(command: Command) -> Ran {
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output)
        .await
        .expect("a command ends")
        .unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A daemon to be started.
pub(crate) struct Starting {
    command: Command,
    log: PathBuf,
}

impl Starting {
    /// A program whose output goes to that file.
    pub(crate) fn new(command: Command, log: PathBuf) -> Self {
        Self { command, log }
    }

    /// More arguments.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// One more variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it by a clock that is so far off, such as `-7h`.
    pub(crate) fn by_clock(self, library: &str, off: &str) -> Self {
        // Only the wall clock: the others cannot be set by anybody.
        self.env("LD_PRELOAD", library)
            .env("FAKETIME", off)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DISABLE_SHM", "1")
    }

    /// Runs it under another host name, and where `/etc/machine-id` is that file.
    pub(crate) fn on_machine(mut self, id: &Path, host: &str) -> Self {
        const ENTER: &str =
            r#"mount --bind "$0" /etc/machine-id && hostname "$1" && shift && exec "$@""#;
        let mut outer = Command::new("unshare");
        outer.args(["--mount", "--uts", "sh", "-c", ENTER]);
        outer.arg(id).arg(host);
        outer
            .arg(self.command.get_program())
            .args(self.command.get_args());
        if let Some(dir) = self.command.get_current_dir() {
            outer.current_dir(dir);
        }
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        outer.stdin(Stdio::null());
        self.command = outer;
        self
    }

    /// Whether such a program runs here at all, asked for its `--help`.
    pub(crate) fn can_start(mut self) -> bool {
        self.command.arg("--help").stdout(Stdio::null());
        self.command.status().is_ok_and(|status| status.success())
    }

    /// Starts it as a group of its own; its log goes to a file of its own.
    pub(crate) fn start(mut self) -> Daemon {
        let log = std::fs::File::create(&self.log).unwrap();
        let child = self
            .command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        Daemon {
            child,
            log: self.log,
        }
    }
}

/// A running daemon; killed with the value.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// What it has printed on either stream.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has printed a text.
    pub(crate) async fn until_logged(&self, text: &str) {
        let seen = until(text, || self.log().contains(text).then_some(())).await;
        assert!(seen.is_some(), "{text:?} is not in {}", self.log());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let ended = until("the end of a daemon", || child.try_wait().unwrap()).await;
        ended.unwrap_or_else(|| panic!("it does not end: {}", self.log()))
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to end and demands a good end.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {}\n{}", self.log.display(), self.log());
        }
    }
}
