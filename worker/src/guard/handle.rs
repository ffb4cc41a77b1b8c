//! The worker's end of the guard: starts it, ticks, starts and stops scripts, hears their ends.
//!
//! Dropping the last handle closes the pipe, and the guard then kills every script.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::protocol::{FromGuard, KeeperEvent, ScriptSpec, Stop, ToGuard};
use super::wire::line_of;

/// How a guard is started.
#[derive(Debug, Clone)]
pub struct GuardSettings {
    /// The program whose `guard` subcommand calls [`super::guard_main`]: the running worker itself.
    pub program: PathBuf,
    /// The lock file; its directory exists. One path for each worker of a host.
    pub lock_path: PathBuf,
    /// How often the worker says that it is alive.
    pub tick_every: Duration,
    /// After so long without a word each side takes the other for dead.
    pub tick_timeout: Duration,
    /// How long to wait for an earlier worker's scripts to be dead.
    pub start_timeout: Duration,
}

impl GuardSettings {
    /// The defaults: this program, a tick a second, 20 s to the verdict, 60 s to start.
    #[must_use]
    pub fn new(lock_path: PathBuf) -> Self {
        Self {
            // The link and not what it points to: an upgrade may have replaced the file.
            program: PathBuf::from("/proc/self/exe"),
            lock_path,
            tick_every: Duration::from_secs(1),
            tick_timeout: Duration::from_secs(20),
            start_timeout: Duration::from_secs(60),
        }
    }
}

/// Why there is no guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The process could not be started.
    #[error("start the guard process {program}: {source}")]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It did not take its lock in time.
    #[error(
        "the guard did not get the lock {lock} within {waited:?}: another worker runs here, \
         or scripts of an earlier one have not died (hint: give each worker its own work directory)"
    )]
    Locked {
        /// The lock file.
        lock: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// It ended before it was ready.
    #[error("the guard process ended before it was ready (its reason is on stderr)")]
    Ended,
}

/// Why a script was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// The operating system refused.
    #[error("{message}")]
    Refused {
        /// The error number, where there is one.
        errno: Option<i32>,
        /// The error in words.
        message: String,
    },
    /// There is no guard any more.
    #[error("the guard process is gone: {0}")]
    GuardLost(String),
}

type Calls = Mutex<HashMap<u64, mpsc::UnboundedSender<KeeperEvent>>>;

/// What the handle and its tasks share.
struct Shared {
    calls: Calls,
    next_id: AtomicU64,
    last_tock: Mutex<Instant>,
    patience: Mutex<Duration>,
    lost: watch::Sender<Option<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running guard. Cheap to clone.
#[derive(Clone)]
pub struct GuardHandle {
    shared: Arc<Shared>,
    outgoing: mpsc::UnboundedSender<ToGuard>,
    _tasks: Arc<Mutex<JoinSet<()>>>,
    closing: tokio_util::sync::CancellationToken,
}

impl std::fmt::Debug for GuardHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardHandle").finish_non_exhaustive()
    }
}

impl GuardHandle {
    /// Starts a guard and waits until nothing of an earlier one is alive.
    ///
    /// # Errors
    /// [`GuardError`]; nothing is left running then.
    pub async fn start(settings: GuardSettings) -> Result<Self, GuardError> {
        let mut child = Command::new(&settings.program)
            .arg0("worker")
            .args(["guard", "--lock"])
            .arg(&settings.lock_path)
            .arg("--tick-timeout-ms")
            .arg(settings.tick_timeout.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| GuardError::Start {
                program: settings.program.clone(),
                source,
            })?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(GuardError::Ended);
        };
        let mut lines = BufReader::new(stdout).lines();
        match tokio::time::timeout(settings.start_timeout, lines.next_line()).await {
            Ok(Ok(Some(line))) if matches!(read_line(&line), Some(FromGuard::Ready)) => {}
            Ok(_) => return Err(GuardError::Ended),
            Err(_) => {
                return Err(GuardError::Locked {
                    lock: settings.lock_path,
                    waited: settings.start_timeout,
                });
            }
        }
        Ok(Self::attend(child, stdin, lines, &settings))
    }

    /// Starts the tasks around a guard that is ready.
    fn attend(
        child: Child,
        stdin: ChildStdin,
        lines: Lines<BufReader<ChildStdout>>,
        settings: &GuardSettings,
    ) -> Self {
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            next_id: AtomicU64::new(1),
            last_tock: Mutex::new(Instant::now()),
            patience: Mutex::new(settings.tick_timeout),
            lost: watch::channel(None).0,
        });
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let closing = tokio_util::sync::CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(write(stdin, incoming, settings.tick_every, closing.clone()));
        tasks.spawn(read(
            lines,
            child,
            Arc::clone(&shared),
            settings.tick_timeout,
        ));
        Self {
            shared,
            outgoing,
            _tasks: Arc::new(Mutex::new(tasks)),
            closing,
        }
    }

    /// Starts a script under a keeper of its own.
    ///
    /// # Errors
    /// [`SpawnError`]: nothing of the script runs then.
    pub async fn spawn(&self, script: ScriptSpec) -> Result<GuardedScript, SpawnError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::unbounded_channel();
        locked(&self.shared.calls).insert(id, sender);
        let mut guarded = GuardedScript {
            id,
            pid: 0,
            events,
            guard: self.clone(),
            gone: false,
        };
        // Looked at after the call is in the table: a guard lost in between empties the table.
        if let Some(reason) = self.lost() {
            guarded.gone = true;
            return Err(SpawnError::GuardLost(reason));
        }
        let _ = self.outgoing.send(ToGuard::Spawn { id, script });
        match guarded.next_event().await {
            Some(KeeperEvent::Spawned { pid }) => {
                guarded.pid = pid;
                Ok(guarded)
            }
            Some(KeeperEvent::Refused { errno, message }) => {
                Err(SpawnError::Refused { errno, message })
            }
            Some(other) => Err(SpawnError::Refused {
                errno: None,
                message: match other {
                    KeeperEvent::Gone {
                        fault: Some(fault), ..
                    } => fault,
                    _ => "the keeper process ended without starting it".to_owned(),
                },
            }),
            None => Err(SpawnError::GuardLost(self.lost().unwrap_or_default())),
        }
    }

    /// Changes how long the guard goes on without a word of the worker. Shortened before a script
    /// is started, it holds for that script: messages arrive in order.
    pub fn wait_at_most(&self, patience: Duration) {
        let mut now = locked(&self.shared.patience);
        if *now != patience {
            *now = patience;
            let ms = patience.as_millis().try_into().unwrap_or(u64::MAX);
            let _ = self.outgoing.send(ToGuard::Patience { ms });
        }
    }

    /// Why the guard is gone, if it is. A worker then starts another one.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.shared.lost.borrow().clone()
    }

    /// Waits until the guard is gone; says why.
    pub async fn until_lost(&self) -> String {
        let mut lost = self.shared.lost.subscribe();
        match lost.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Closes the pipe and waits until the guard has killed every script and is gone.
    pub async fn shutdown(&self) {
        self.closing.cancel();
        self.until_lost().await;
    }
}

fn read_line(line: &str) -> Option<FromGuard> {
    serde_json::from_str(line).ok()
}

/// Writes ticks and requests; ends, and so closes the pipe, when asked or when the pipe breaks.
async fn write(
    mut pipe: ChildStdin,
    mut incoming: mpsc::UnboundedReceiver<ToGuard>,
    tick_every: Duration,
    closing: tokio_util::sync::CancellationToken,
) {
    let mut ticks = tokio::time::interval(tick_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let message = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            _ = ticks.tick() => ToGuard::Tick,
            message = incoming.recv() => match message {
                Some(message) => message,
                None => return,
            },
        };
        let Ok(line) = line_of(&message) else {
            continue;
        };
        drop(message);
        tokio::select! {
            () = closing.cancelled() => return,
            written = pipe.write_all(&line) => if written.is_err() { return },
        }
    }
}

/// Reads what the guard says until it ends; kills it when it says nothing for too long.
async fn read(
    mut lines: Lines<BufReader<ChildStdout>>,
    mut child: Child,
    shared: Arc<Shared>,
    tick_timeout: Duration,
) {
    let mut reason = None;
    let mut looks = tokio::time::interval(tick_timeout / 4);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_look = Instant::now();
    loop {
        tokio::select! {
            biased;
            line = lines.next_line() => match line {
                Ok(Some(line)) => hear(&line, &shared, &mut reason),
                Ok(None) | Err(_) => break,
            },
            _ = looks.tick() => {
                // A gap of our own (this process was stopped) is not the guard's silence.
                if last_look.elapsed() > tick_timeout / 2 {
                    *locked(&shared.last_tock) = Instant::now();
                }
                last_look = Instant::now();
                if locked(&shared.last_tock).elapsed() >= tick_timeout {
                    // Its keepers notice and kill every script.
                    let _ = child.start_kill();
                    reason.get_or_insert_with(|| {
                        format!("it did not answer for {} s", tick_timeout.as_secs_f64())
                    });
                }
            }
        }
    }
    let ended = child.wait().await;
    let reason = reason.unwrap_or_else(|| match ended {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("it cannot be waited for: {error}"),
    });
    shared.lost.send_replace(Some(reason));
    locked(&shared.calls).clear();
}

fn hear(line: &str, shared: &Shared, reason: &mut Option<String>) {
    *locked(&shared.last_tock) = Instant::now();
    match read_line(line) {
        Some(FromGuard::Script { id, event }) => {
            let mut calls = locked(&shared.calls);
            let gone = matches!(event, KeeperEvent::Gone { .. });
            if let Some(call) = calls.get(&id) {
                let _ = call.send(event);
            }
            if gone {
                calls.remove(&id);
            }
        }
        Some(FromGuard::Lost { reason: why }) => *reason = Some(why),
        Some(FromGuard::Ready | FromGuard::Tock) => {}
        None => tracing::warn!("the guard said something that is no message"),
    }
}

/// A started script. Dropping it before its tree is gone kills the tree.
#[derive(Debug)]
pub struct GuardedScript {
    id: u64,
    pid: i32,
    events: mpsc::UnboundedReceiver<KeeperEvent>,
    guard: GuardHandle,
    gone: bool,
}

impl GuardedScript {
    /// The script's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks all processes of the attempt to end; returns at once.
    pub fn stop(&self, how: Stop) {
        let _ = self.guard.outgoing.send(ToGuard::Stop { id: self.id, how });
    }

    /// The next thing that happens to it; `None` after [`KeeperEvent::Gone`] or when the guard is lost.
    pub async fn next_event(&mut self) -> Option<KeeperEvent> {
        let event = self.events.recv().await;
        self.gone |= matches!(event, None | Some(KeeperEvent::Gone { .. }));
        event
    }

    /// Why the guard is gone, where it is.
    #[must_use]
    pub fn guard_lost(&self) -> Option<String> {
        self.guard.lost()
    }
}

impl Drop for GuardedScript {
    fn drop(&mut self) {
        if !self.gone {
            self.stop(Stop::Kill);
        }
    }
}
