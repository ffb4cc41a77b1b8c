//! The guard's life: a guard that is gone took its scripts along, so a new one is started.
//!
//! While there is none, nothing is claimed. It never starts a script.

use std::sync::Arc;
use std::time::Duration;

use super::Daemon;
use super::backoff::Backoff;
use super::config::Config;
use super::pause::Cause;
use crate::guard::{GuardError, GuardHandle, GuardSettings};

/// How often a new guard is tried before the worker gives up.
const TRIES: usize = 5;

/// Starts a guard for a worker with these settings.
///
/// # Errors
/// [`GuardError`].
pub(crate) async fn start_guard(config: &Config) -> Result<GuardHandle, GuardError> {
    let mut settings = GuardSettings::new(config.guard_lock());
    settings.tick_every = config.liveness.guard_tick;
    settings.tick_timeout = config.liveness.guard_timeout;
    GuardHandle::start(settings).await
}

/// Watches until the loops end.
pub(crate) async fn watch(daemon: Arc<Daemon>) -> Result<(), GuardError> {
    loop {
        let guard = daemon.guard();
        let reason = tokio::select! {
            biased;
            () = daemon.end.graceful().cancelled() => return Ok(()),
            reason = guard.until_lost() => reason,
        };
        if daemon.end.graceful().is_cancelled() {
            return Ok(());
        }
        let why = format!("the guard process is gone ({reason})");
        daemon.pauses.set(Cause::Guard, Some(&why));
        let fresh = again(&daemon.config).await?;
        daemon.guard.send_replace(fresh);
        daemon.pauses.set(Cause::Guard, None);
        daemon.wake_claims.notify_one();
    }
}

async fn again(config: &Config) -> Result<GuardHandle, GuardError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut tries = 0;
    loop {
        tries += 1;
        match start_guard(config).await {
            Err(error) if tries < TRIES => {
                tracing::warn!(tries, "{error}");
                backoff.pause().await;
            }
            other => return other,
        }
    }
}
