//! The real programs as processes: built once a run, started, signalled, judged by what they print.
//!
//! A process that a test forgets is killed with its handle.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::OnceCell;

use super::eventually;

/// The `coordinator` program, built by whoever asks first.
pub(crate) async fn coordinator() -> PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_init(|| build("coordinator")).await.clone()
}

/// The `worker` program, built by whoever asks first.
pub(crate) async fn worker() -> PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_init(|| build("worker")).await.clone()
}

/// Builds a program in the profile of this test and answers where it is.
async fn build(name: &'static str) -> PathBuf {
    // target/PROFILE/deps/it-HASH
    let folder = std::env::current_exe().unwrap();
    let folder = folder.parent().and_then(Path::parent).unwrap().to_owned();
    let mut command = tokio::process::Command::new(env!("CARGO"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "-p", name, "--bin", name]);
    // What cargo tells a test process about itself would make build scripts run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let built = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "cargo build of {name}: {said}");
    folder.join(name)
}

/// A program to start: arguments and environment, nothing of ours inherited.
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Program {
    /// `coordinator` with those arguments.
    pub(crate) async fn coordinator(args: &[&str]) -> Self {
        Self::of(coordinator().await, args)
    }

    /// `worker` with those arguments.
    pub(crate) async fn worker(args: &[&str]) -> Self {
        Self::of(worker().await, args)
    }

    fn of(program: PathBuf, args: &[&str]) -> Self {
        Self {
            path: program,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: BTreeMap::new(),
        }
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<Path>) -> Self {
        self.args
            .push(arg.as_ref().to_str().expect("a test's own path").to_owned());
        self
    }

    /// One more variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// The control database.
    pub(crate) fn database(self, url: impl Into<String>) -> Self {
        self.env("ODF_DATABASE_URL", url)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ODF_") {
                command.env_remove(name);
            }
        }
        command.envs(&self.env).env("NO_COLOR", "1");
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self) -> Ran {
        let output = tokio::process::Command::from(self.command())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        Ran::of(&output)
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Daemon {
        let log = tempfile::NamedTempFile::new().unwrap();
        let out = |file: &File| Stdio::from(file.try_clone().unwrap());
        let child = self
            .command()
            .stdout(out(log.as_file()))
            .stderr(out(log.as_file()))
            .spawn()
            .unwrap();
        Daemon { child, log }
    }
}

/// What a program came to.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    /// The exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it answered.
    pub(crate) stdout: String,
    /// What it said.
    pub(crate) stderr: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

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

/// A running process. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Daemon {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed so far, on either stream.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Waits until it has printed that text.
    pub(crate) async fn until_said(&mut self, text: &str) {
        eventually(&format!("{text:?} in the log"), || {
            let said = self.said();
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() || said.contains(text),
                "it ended ({ended:?}) before it said {text:?}: {said}"
            );
            let found = said.contains(text).then_some(());
            async move { found }
        })
        .await;
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the end of a process", || {
            let ended = self.child.try_wait().unwrap();
            async move { ended }
        })
        .await
    }

    /// Kills it on the spot.
    pub(crate) async fn kill_hard(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }

    /// Asks it to end and demands that it ends well.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let ended = self.ended().await;
        assert!(ended.success(), "{ended}: {}", self.said());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- process {}:\n{}", self.pid(), self.said());
        }
    }
}
