//! The orderly end: claim nothing more, finish or end what runs, record it, sign off.
//!
//! Also what happens when another part of the daemon fails: then everything is killed at once.

use std::sync::Arc;
use std::time::Duration;

use common::store::StoreError;

use super::Daemon;
use super::running::Firmness;

/// What is said of attempts that are handed back.
pub(crate) const DRAINED: &str = "worker drained";
/// On top of the longest kill grace of what runs.
const AFTER_GRACE: Duration = Duration::from_secs(5);
/// How long killed attempts may take to be gone.
const DIES_WITHIN: Duration = Duration::from_secs(10);
/// How long the ends may take to be recorded.
const FLUSH: Duration = Duration::from_secs(20);
/// How long a registration that was under way when the end was asked for may take to show.
const REPLACED_WITHIN: Duration = Duration::from_secs(1);
/// How long signing off may take.
const FAREWELL: Duration = Duration::from_secs(10);

/// What could not be recorded at the end.
#[derive(Debug, thiserror::Error)]
#[error(
    "the control database could not be told how this worker ended ({problem}); {unrecorded} attempts are not recorded and will run again; hint: start the worker again on this machine, or wait until its silence has passed"
)]
pub(crate) struct Unrecorded {
    unrecorded: usize,
    problem: String,
}

/// Waits until the end is asked for or a part fails, and brings it about.
pub(crate) async fn drain(daemon: Arc<Daemon>) -> Result<(), Unrecorded> {
    let failed = daemon.end.graceful().clone();
    tokio::select! {
        () = daemon.signals.graceful().cancelled() => {}
        () = failed.cancelled() => return abandon(&daemon).await,
    }
    daemon.stop_claims.cancel();
    tracing::info!(running = daemon.running.alive(), grace = ?daemon.config.grace, "draining");
    tokio::select! {
        () = finish(&daemon) => {}
        () = failed.cancelled() => return abandon(&daemon).await,
    }
    let farewell = sign_off(&daemon, DRAINED, daemon.config.liveness.shortened(FAREWELL)).await;
    daemon.end.begin();
    shut_guard(&daemon).await;
    if farewell.is_ok() {
        tracing::info!("drained");
    }
    farewell
}

/// Until nothing runs and every end is recorded, or the limits are reached.
async fn finish(daemon: &Daemon) {
    let none_alive = || daemon.running.until(|running| running.alive() == 0);
    let forced = daemon.signals.forced();
    let grace = async {
        match daemon.config.grace {
            Some(grace) => tokio::time::sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = none_alive() => {}
        () = forced.cancelled() => {}
        () = grace => {
            let limit = stop_all(daemon, Firmness::Term) + AFTER_GRACE;
            tokio::select! {
                biased;
                () = none_alive() => {}
                () = forced.cancelled() => {}
                () = tokio::time::sleep(limit) => {}
            }
        }
    }
    if daemon.running.alive() > 0 {
        stop_all(daemon, Firmness::Kill);
        let _late = tokio::time::timeout(DIES_WITHIN, none_alive()).await;
    }
    // A claim under way may still bring leases, which then are handed back unrun.
    let _late = tokio::time::timeout(AFTER_GRACE, daemon.claims_stopped.cancelled()).await;
    let flush = daemon.config.liveness.shortened(FLUSH);
    let _late = tokio::time::timeout(flush, daemon.running.until(|r| r.len() == 0)).await;
}

/// Ends all that runs; answers the longest kill grace among them.
fn stop_all(daemon: &Daemon, firmness: Firmness) -> Duration {
    let running = daemon.running.all_alive();
    tracing::info!(running = running.len(), ?firmness, "ending attempts");
    let mut longest = 0;
    for held in running {
        longest = longest.max(held.spec.job.kill_grace_seconds);
        held.stop(firmness, DRAINED);
    }
    Duration::from_secs(longest)
}

async fn sign_off(daemon: &Daemon, why: &str, limit: Duration) -> Result<(), Unrecorded> {
    let unrecorded = |problem: String| Unrecorded {
        unrecorded: daemon.running.len(),
        problem,
    };
    let mut seen = daemon.current.subscribe();
    loop {
        let session = daemon.session();
        let ended = tokio::time::timeout(limit, daemon.registrar.end(&session, why)).await;
        match ended {
            Ok(Ok(())) => return Ok(()),
            // Nothing is leased by a session that nobody knows. A new one may just be registering.
            Ok(Err(StoreError::UnknownSession(_))) => {
                let replaced = seen.wait_for(|current| current.id() != session.id());
                match tokio::time::timeout(REPLACED_WITHIN, replaced).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) | Err(_) => return Ok(()),
                }
            }
            Ok(Err(error)) => return Err(unrecorded(error.to_string())),
            Err(_) => {
                let text = format!("no answer within {} s", limit.as_secs());
                return Err(unrecorded(text));
            }
        }
    }
}

async fn shut_guard(daemon: &Daemon) {
    if tokio::time::timeout(DIES_WITHIN, daemon.guard().shutdown())
        .await
        .is_err()
    {
        tracing::error!("scripts do not die; the guard goes on killing them after this process");
    }
}

/// A part of the daemon failed: nothing may go on without it.
async fn abandon(daemon: &Daemon) -> Result<(), Unrecorded> {
    daemon.stop_claims.cancel();
    for held in daemon.running.all_alive() {
        held.fence_off(Firmness::Kill, "the worker failed");
    }
    shut_guard(daemon).await;
    // The failure itself is told by the supervisor; a lost farewell adds nothing to it.
    let _silent = sign_off(daemon, "the worker failed", Duration::from_secs(5)).await;
    Ok(())
}
