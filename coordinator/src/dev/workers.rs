//! The worker processes of `coordinator dev`: started together, ended together, and never left behind.
//!
//! A small shell is set over them as `private_pg` sets one over its server: it reads from a pipe whose
//! other end we hold, and the end of the pipe, which kill -9 brings about as well, is its order.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use common::runtime::Shutdown;
use futures_util::future::{join_all, select_all};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{DevSettings, Urls};

/// How long workers may finish what they run, beyond the 30 s that they take for themselves.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long they may take once they were told twice.
const FORCED_PATIENCE: Duration = Duration::from_secs(10);

/// The guard's orders: $@ are the workers' process ids. A line on the pipe sends it away.
const GUARD: &str = r#"
read -r dismissed && exit 0
any_lives() { for pid; do kill -0 "$pid" 2>/dev/null && return 0; done; return 1; }
kill -TERM "$@" 2>/dev/null
waited=0
while any_lives "$@" && [ "$waited" -lt 400 ]; do
    sleep 0.1
    waited=$((waited + 1))
done
kill -KILL "$@" 2>/dev/null
exit 0
"#;

/// Running workers.
pub(super) struct Workers {
    processes: Vec<Worker>,
    guard: Option<std::process::Child>,
}

struct Worker {
    name: String,
    process: Child,
}

impl Workers {
    /// Starts as many as the settings say.
    pub(super) fn start(settings: &DevSettings, urls: &Urls) -> anyhow::Result<Self> {
        let mut workers = Self {
            processes: Vec::new(),
            guard: None,
        };
        let program = std::env::current_exe()?.with_file_name("worker");
        for number in 1..=settings.workers {
            let name = format!("dev-{number}");
            let process = start_one(&program, &name, settings, urls).with_context(|| {
                format!(
                    "start {}; hint: build it with 'cargo build', or say --workers 0",
                    program.display()
                )
            })?;
            workers.processes.push(Worker { name, process });
        }
        workers.guard = workers
            .set_guard()
            .context("set a guard over the workers")?;
        Ok(workers)
    }

    fn set_guard(&self) -> std::io::Result<Option<std::process::Child>> {
        let pids: Vec<String> = self
            .processes
            .iter()
            .filter_map(|worker| worker.process.id())
            .map(|pid| pid.to_string())
            .collect();
        if pids.is_empty() {
            return Ok(None);
        }
        let guard = std::process::Command::new("/bin/sh")
            .args(["-c", GUARD, "odf-dev-guard"])
            .args(&pids)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Some(guard))
    }

    /// Waits until one of them has ended by itself; for ever where there is none.
    pub(super) async fn one_ended(&mut self) -> anyhow::Error {
        if self.processes.is_empty() {
            std::future::pending::<()>().await;
        }
        let ends = self
            .processes
            .iter_mut()
            .map(|worker| Box::pin(async { (worker.name.clone(), worker.process.wait().await) }));
        let ((name, status), ..) = select_all(ends).await;
        match status {
            Ok(status) => anyhow::anyhow!("worker {name} ended by itself: {}", shown(status)),
            Err(error) => anyhow::anyhow!("worker {name} cannot be watched: {error}"),
        }
    }

    /// Lets all of them finish what they run; a second signal to us is passed on and makes them hurry.
    pub(super) async fn end(mut self, shutdown: &Shutdown) {
        self.signal(Signal::SIGTERM);
        tokio::select! {
            () = self.all_ended() => {}
            () = tokio::time::sleep(PATIENCE) => {}
            () = shutdown.forced().cancelled() => {
                self.signal(Signal::SIGTERM);
                // Whether they made it shows below.
                let _ended = tokio::time::timeout(FORCED_PATIENCE, self.all_ended()).await;
            }
        }
        for worker in &mut self.processes {
            if matches!(worker.process.try_wait(), Ok(None)) {
                tracing::warn!(worker.name = %worker.name, "does not end: killed");
                // It may have ended meanwhile.
                let _killed = worker.process.kill().await;
            }
        }
        if let Some(mut guard) = self.guard.take() {
            if let Some(mut pipe) = guard.stdin.take() {
                // Where the guard is gone there is nobody to send away.
                let _told = pipe.write_all(b"dismissed\n");
            }
            let _reaped = tokio::task::spawn_blocking(move || guard.wait()).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pids = self.processes.iter().filter_map(|w| w.process.id());
        for pid in pids.filter_map(|pid| i32::try_from(pid).ok()) {
            // One that has ended meanwhile needs no signal.
            let _told = kill(Pid::from_raw(pid), signal);
        }
    }

    async fn all_ended(&mut self) {
        join_all(self.processes.iter_mut().map(|w| w.process.wait())).await;
    }
}

fn start_one(
    program: &Path,
    name: &str,
    settings: &DevSettings,
    urls: &Urls,
) -> std::io::Result<Child> {
    Command::new(program)
        .arg("run")
        .args(["--name", name])
        .args(["--slots", &settings.slots.to_string()])
        .arg("--script-dir")
        .arg(&settings.script_dir)
        .arg("--state-dir")
        .arg(settings.dir.join("worker"))
        .env("ODF_DATABASE_URL", &urls.worker)
        .stdin(Stdio::null())
        // The terminal's Ctrl-C is ours, we pass it on in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

fn shown(status: ExitStatus) -> String {
    format!("{status}; hint: its own last lines above say why")
}
