//! Starting and ending real processes: the daemons and the commands a person would type.
//!
//! Every daemon is a process group of its own with its output in a log file. It is ended by its
//! pid, and by the kernel should this program be killed.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use common::runtime::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable by which both programs take the control database's URL.
const DATABASE_URL: &str = "ODF_DATABASE_URL";

/// How long a daemon may take to hand back its work when told to end.
const GRACE: Duration = Duration::from_secs(15);

/// Longer than any command of the demo should take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// What every process of the demo is given.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// Name and value; on top of a few from our own environment.
    pub(crate) variables: Vec<(String, OsString)>,
}

/// Our own variables that a daemon gets; no others, so that the demo is the same everywhere.
const INHERITED: [&str; 6] = ["HOME", "LANG", "TMPDIR", "TZ", "RUST_LOG", "COLUMNS"];

impl Environment {
    /// `programs` come first in the path, so that psql fits the server.
    pub(crate) fn new(programs: &[PathBuf]) -> Result<Self> {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(
            programs
                .iter()
                .cloned()
                .chain(std::env::split_paths(&inherited)),
        )?;
        let mut variables: Vec<(String, OsString)> = INHERITED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)))
            .collect();
        variables.push(("PATH".to_owned(), path));
        Ok(Self { variables })
    }

    /// The same with more variables.
    pub(crate) fn with<V: Into<OsString>>(
        &self,
        more: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        let mut variables = self.variables.clone();
        variables.extend(
            more.into_iter()
                .map(|(name, value)| (name.to_owned(), value.into())),
        );
        Self { variables }
    }

    /// The same with the control database as one login sees it. By variable, because arguments
    /// stand in the process list.
    pub(crate) fn as_login(&self, url: &str) -> Self {
        self.with([(DATABASE_URL, url)])
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) name: String,
    pub(crate) log: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts `program` with `arguments`, its output appended to `log`.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &Environment,
        log: PathBuf,
    ) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut command = match setpriv() {
            // It becomes the daemon under the same pid, and the kernel kills that with us.
            Some(setpriv) => {
                let mut command = environment.command(&setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            None => environment.command(program),
        };
        let child = command
            .args(arguments)
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            log,
            child,
        })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// kill -9, and its zombie away.
    pub(crate) fn kill_hard(&mut self) -> Result<()> {
        self.child.kill().context("kill a worker")?;
        self.child.wait().context("wait for the killed worker")?;
        Ok(())
    }

    /// Sends it a signal; harmless when it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Until it is waited for, its pid is nobody else's.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits until it has ended after SIGTERM, with more force after a grace.
    pub(crate) async fn end(mut self) -> Result<()> {
        for force in [None, Some(Signal::SIGKILL)] {
            if let Some(signal) = force {
                self.signal(signal);
            }
            let child = &mut self.child;
            let gone = wait::until(GRACE, Duration::from_millis(20), "it to end", || {
                std::future::ready(child.try_wait().ok().flatten())
            });
            if gone.await.is_ok() {
                return Ok(());
            }
        }
        bail!("{} (pid {}) does not end", self.name, self.child.id())
    }

    /// The last lines of its log.
    pub(crate) fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Only where something broke before it was ended properly.
        if self.ended().is_none() {
            let _ = self.kill_hard();
        }
    }
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn setpriv() -> Option<PathBuf> {
    ["/usr/bin/setpriv", "/bin/setpriv"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: ExitStatus,
}

/// Runs a command to its end. Its output goes through files, so that no pipe can fill up.
pub(crate) async fn run(
    program: &Path,
    arguments: &[&str],
    environment: &Environment,
    logs: &Path,
) -> Result<Output> {
    let files = [logs.join("command.out"), logs.join("command.err")];
    let mut child = environment
        .command(program)
        .args(arguments)
        .stdout(File::create(&files[0])?)
        .stderr(File::create(&files[1])?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let ended = wait::until(
        COMMAND_LIMIT,
        Duration::from_millis(10),
        "a command",
        || std::future::ready(child.try_wait().ok().flatten()),
    )
    .await;
    let Ok(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        bail!(
            "'{} {}' did not end within {COMMAND_LIMIT:?}",
            program.file_name().unwrap_or_default().display(),
            arguments.join(" ")
        );
    };
    let [stdout, stderr] = files
        .map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned());
    Ok(Output {
        stdout,
        stderr,
        status,
    })
}

/// The processes whose environment holds `variable=value`, ourselves apart.
pub(crate) fn with_variable(variable: &str, value: &str) -> Vec<i32> {
    let wanted = format!("{variable}={value}");
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == wanted.as_bytes())
                .then_some(pid)
        })
        .collect()
}
