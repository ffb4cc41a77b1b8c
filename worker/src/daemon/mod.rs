//! The worker daemon: claims chunks, runs their attempts, records their ends, and lets nothing
//! outlive its right to run.
//!
//! Everything that lives as long as the process is a named part under one supervisor: a part that
//! ends early or panics ends the process. Attempts are tasks beside them. The order at the start
//! is a promise: the name's lock, then the guard (which waits until nothing of a predecessor is
//! alive), then the predecessor's session signed off, then our own registered.

mod attempt_task;
mod backoff;
mod claim_loop;
pub mod config;
mod counts;
mod drain;
mod facts;
mod guard_watch;
mod heard;
mod heartbeat;
mod orphan;
mod pause;
mod running;
mod secrets;
mod session;
mod settle;
mod silence;
pub mod state;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use common::runtime::{Shutdown, Supervisor};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::config::{Config, check_script_dir, make_private_dir};
use self::session::{Registrar, Session};
use self::settle::Ended;
use crate::attempt::{WorkerEnv, clean_work_dir};
use crate::guard::GuardHandle;

pub(crate) use self::facts::free_bytes;
pub(crate) use self::guard_watch::start_guard;
pub(crate) use self::secrets::worker_env;

/// How long parts may take to end once the worker has drained.
const PARTS_END_WITHIN: Duration = Duration::from_secs(20);

/// Beats that fit into a job's silence, at least.
const BEATS_IN_SILENCE: u32 = 6;

/// What the parts share.
pub(crate) struct Daemon {
    pub(crate) config: Config,
    pub(crate) env: WorkerEnv,
    pub(crate) registrar: Registrar,
    /// The session in force.
    pub(crate) current: watch::Sender<Arc<Session>>,
    /// The guard in force.
    pub(crate) guard: watch::Sender<GuardHandle>,
    pub(crate) running: running::Running,
    pub(crate) pauses: pause::Pauses,
    pub(crate) roots: orphan::Roots,
    pub(crate) counts: counts::Counts,
    /// Slots that the control database lets us use.
    pub(crate) slots: AtomicU32,
    pub(crate) reconcile_asked: AtomicBool,
    pub(crate) wake_claims: Notify,
    pub(crate) wake_beat: Notify,
    pub(crate) settles: mpsc::UnboundedSender<Ended>,
    pub(crate) attempts: TaskTracker,
    /// Turns of ends that wait for somebody's lock.
    pub(crate) settle_alone: Semaphore,
    /// Cancelled when nothing more may be claimed.
    pub(crate) stop_claims: CancellationToken,
    /// Cancelled when the claim loop has ended.
    pub(crate) claims_stopped: CancellationToken,
    /// What people ask of the process.
    pub(crate) signals: Shutdown,
    /// The end of the parts: after the drain, or when one of them fails.
    pub(crate) end: Shutdown,
}

impl Daemon {
    /// The session in force.
    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.current.borrow())
    }

    /// The guard in force.
    pub(crate) fn guard(&self) -> GuardHandle {
        self.guard.borrow().clone()
    }

    /// Slots that nothing is held in.
    pub(crate) fn free_slots(&self) -> u32 {
        let slots = self.slots.load(Ordering::Acquire).min(self.config.slots);
        let held = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        slots.saturating_sub(held)
    }

    /// Between two beats: often enough that a few may fail before the shortest silence of what runs
    /// makes us end it.
    pub(crate) fn beat_interval(&self) -> Duration {
        let usual = self.config.liveness.beat;
        self.running
            .shortest_silence()
            .map_or(usual, |silence| usual.min(silence / BEATS_IN_SILENCE))
    }

    /// Makes the guard's patience fit the shortest silence of what runs: a stopped worker's scripts
    /// must be dead before their leases are anybody's.
    pub(crate) fn adjust_guard(&self) {
        let shortest = self.running.shortest_silence();
        let own = shortest.map(|silence| silence.mul_f64(silence::KILL_AT));
        let usual = self.config.liveness.guard_timeout;
        self.guard()
            .wait_at_most(own.map_or(usual, |own| own.min(usual)));
    }

    /// Has the next look say what is held before it claims.
    pub(crate) fn ask_reconcile(&self) {
        self.reconcile_asked.store(true, Ordering::Release);
    }

    /// Waits; `false` when the parts end meanwhile.
    pub(crate) async fn sleep(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.end.graceful().cancelled())
            .await
            .is_err()
    }
}

/// Runs a worker until `signals` end it and it has drained.
///
/// # Errors
/// Why it cannot start, each with a hint; later, the part that failed, or that the end could not
/// be recorded.
pub async fn run(config: Config, signals: Shutdown) -> anyhow::Result<()> {
    if let Some(warning) = check_script_dir(&config.script_dir)? {
        tracing::warn!("{warning}");
    }
    if nix::unistd::geteuid().is_root() {
        tracing::warn!(
            "running as root, and so does every script (hint: give the worker a user of its own)"
        );
    }
    make_private_dir(&config.state_dir, "state", "--state-dir")?;
    make_private_dir(&config.log_dir, "log", "--log-dir")?;
    make_private_dir(&config.work_dir(), "state", "--state-dir")?;
    let _name = state::NameLock::take(&config.state_dir, &config.name)?;
    let registrar = Registrar::new(&config)?;
    let guard = start_guard(&config).await?;
    clean_work_dir(&config.work_dir())?;
    let session = match register(&registrar).await {
        Ok(session) => session,
        Err(error) => {
            guard.shutdown().await;
            return Err(error.into());
        }
    };
    tracing::info!(
        worker = %config.name, session = %session.id(), slots = config.slots,
        scripts = %config.script_dir.display(), "registered"
    );
    serve(config, signals, registrar, session, guard).await
}

async fn register(registrar: &Registrar) -> Result<Session, session::RegisterError> {
    registrar.end_predecessor().await?;
    registrar.register().await
}

async fn serve(
    config: Config,
    signals: Shutdown,
    registrar: Registrar,
    session: Session,
    guard: GuardHandle,
) -> anyhow::Result<()> {
    let (settles, ends) = mpsc::unbounded_channel();
    let end = Shutdown::new();
    let daemon = Arc::new(Daemon {
        env: worker_env(&config),
        registrar,
        current: watch::Sender::new(Arc::new(session)),
        guard: watch::Sender::new(guard),
        running: running::Running::default(),
        pauses: pause::Pauses::new(config.liveness.scale),
        roots: orphan::Roots::new(),
        counts: counts::Counts::default(),
        slots: AtomicU32::new(config.slots),
        reconcile_asked: AtomicBool::new(false),
        wake_claims: Notify::new(),
        wake_beat: Notify::new(),
        settles,
        attempts: TaskTracker::new(),
        settle_alone: Semaphore::new(settle::ALONE),
        stop_claims: CancellationToken::new(),
        claims_stopped: CancellationToken::new(),
        signals,
        end: end.clone(),
        config,
    });
    let mut parts = Supervisor::new(end).with_grace(PARTS_END_WITHIN);
    parts.spawn("heartbeat", heartbeat::beat(Arc::clone(&daemon)));
    parts.spawn("claims", claim_loop::claim(Arc::clone(&daemon)));
    parts.spawn("settles", settle::settle(Arc::clone(&daemon), ends));
    parts.spawn("silence", silence::watch(Arc::clone(&daemon)));
    parts.spawn("guard", guard_watch::watch(Arc::clone(&daemon)));
    parts.spawn("upkeep", upkeep::keep(Arc::clone(&daemon)));
    parts.spawn("counts", counts::tell(Arc::clone(&daemon)));
    parts.spawn("drain", drain::drain(daemon));
    Ok(parts.run().await?)
}
