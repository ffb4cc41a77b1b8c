//! One attempt as a task: the chunk's inputs, the run, and its end handed to the settle batcher.
//!
//! Whatever happens to the task, a panic included, an end is handed over: nothing stays held for ever.

use std::sync::Arc;
use std::time::Duration;

use common::domain::{AttemptResult, ChunkId, FailureClass, InputChunk, Outcome};
use common::store::StoreError;

use super::Daemon;
use super::backoff::Backoff;
use super::running::Held;
use super::settle::Ended;
use crate::attempt::run_attempt;

/// Chunks of an input taken whole that are asked for at once.
const PAGE: i32 = 1000;

/// Starts the attempt of a chunk just leased.
pub(crate) fn start(daemon: &Arc<Daemon>, held: Arc<Held>) {
    tracing::debug!(chunk = %held.name(), fence = %held.item.fence, "attempt starts");
    daemon.adjust_guard();
    let work = daemon
        .attempts
        .spawn(run(Arc::clone(daemon), Arc::clone(&held)));
    let daemon = Arc::clone(daemon);
    let tracker = daemon.attempts.clone();
    tracker.spawn(async move {
        let result = match work.await {
            Ok(result) => result,
            Err(error) => {
                let words = match error.try_into_panic() {
                    Ok(panic) => panic_text(&*panic),
                    Err(_) => "its task was cancelled".to_owned(),
                };
                tracing::error!(chunk = %held.name(), "an attempt's task panicked: {words}");
                failed(
                    FailureClass::Transient,
                    format!("worker panicked: {words} (this is a bug)"),
                )
            }
        };
        end(&daemon, held, result);
    });
}

async fn run(daemon: Arc<Daemon>, held: Arc<Held>) -> AttemptResult {
    let fan_in = match inputs_taken_whole(&held).await {
        Ok(inputs) => inputs,
        Err(result) => return *result,
    };
    let guard = daemon.guard();
    run_attempt(
        &daemon.env,
        &guard,
        &held.item,
        &held.spec,
        fan_in,
        held.control.clone(),
    )
    .await
}

/// The chunks of all inputs that are taken whole, page by page.
async fn inputs_taken_whole(held: &Held) -> Result<Vec<InputChunk>, Box<AttemptResult>> {
    let mut all: Vec<InputChunk> = Vec::new();
    if held.item.fan_in.is_empty() {
        return Ok(all);
    }
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let (chunk, fence) = held.key();
    loop {
        let after = all.last().map_or(ChunkId(0), |input| input.chunk_id);
        let page = tokio::select! {
            biased;
            () = held.control.kill.cancelled() => return Err(released(held)),
            () = held.control.term.cancelled() => return Err(released(held)),
            page = held.session.main.attempt_inputs(chunk, fence, after, PAGE) => page,
        };
        match page {
            Ok(page) => {
                backoff.reset();
                let last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
                all.extend(page);
                if last {
                    return Ok(all);
                }
            }
            Err(error) if error.may_pass() => tokio::select! {
                () = held.control.kill.cancelled() => {}
                () = held.control.term.cancelled() => {}
                () = backoff.pause() => {}
            },
            Err(error) => return Err(Box::new(no_inputs(&error))),
        }
    }
}

fn no_inputs(error: &StoreError) -> AttemptResult {
    failed(FailureClass::Transient, format!("list the inputs: {error}"))
}

fn released(held: &Held) -> Box<AttemptResult> {
    Box::new(AttemptResult::bare(Outcome::Released {
        reason: held.control.reason(),
    }))
}

fn failed(class: FailureClass, error: String) -> AttemptResult {
    AttemptResult::bare(Outcome::Failed { class, error })
}

/// Hands a chunk back that was leased when nothing more may start.
pub(crate) fn hand_back(daemon: &Daemon, held: Arc<Held>) {
    held.control.because(super::drain::DRAINED);
    let result = *released(&held);
    end(daemon, held, result);
}

/// Hands the end over and draws this host's conclusions from it.
fn end(daemon: &Daemon, held: Arc<Held>, mut result: AttemptResult) {
    let stopped = held.is_stopped();
    match &result.outcome {
        // Stopped by us, whatever the script made of it: that is no failure of the chunk.
        Outcome::Failed { .. } if stopped => {
            result.outcome = Outcome::Released {
                reason: held.control.reason(),
            };
        }
        Outcome::Failed {
            class: FailureClass::Host,
            error,
        } => daemon.pauses.host_failed(error),
        Outcome::Validated(_) => daemon.pauses.host_works(),
        Outcome::Failed { .. } | Outcome::Released { .. } => {}
    }
    let (name, fence) = (held.name(), held.item.fence);
    match &result.outcome {
        Outcome::Validated(_) => {
            tracing::debug!(chunk = %name, fence = %fence, ms = result.duration_ms, "attempt published");
        }
        Outcome::Failed { class, error } => {
            let line = error.lines().next().unwrap_or_default();
            tracing::warn!(chunk = %name, fence = %fence, class = class.word(), "attempt failed: {line}");
        }
        Outcome::Released { reason } => {
            tracing::info!(chunk = %name, fence = %fence, "attempt handed back: {reason}");
        }
    }
    daemon.running.ended(&held);
    daemon.adjust_guard();
    // The receiver lives as long as the loops; after them nobody settles any more.
    let _unsettled = daemon.settles.send(Ended { held, result });
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".to_owned())
}
