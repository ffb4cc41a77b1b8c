//! Recording ends: collected for a few milliseconds, sent as one batch, repeated until answered.
//!
//! A slot is free only when the end of its attempt is recorded. One row that the database refuses
//! never holds up the others.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::domain::{AttemptResult, ChunkId, FailureClass, Fence, Outcome, SessionId};
use common::store::{Settled, StoreError};
use tokio::sync::mpsc;

use super::Daemon;
use super::backoff::Backoff;
use super::running::Held;

/// How long ends are collected.
const COLLECT: Duration = Duration::from_millis(25);
/// Rows in one batch.
const MOST: usize = 500;

/// An attempt that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What was leased.
    pub(crate) held: Arc<Held>,
    /// How it ended.
    pub(crate) result: AttemptResult,
}

/// Settles until the loops end.
pub(crate) async fn settle(
    daemon: Arc<Daemon>,
    mut ends: mpsc::UnboundedReceiver<Ended>,
) -> Result<(), Infallible> {
    let over = daemon.end.graceful().clone();
    let work = async {
        while let Some(batch) = collect(&daemon, &mut ends).await {
            for (_, rows) in by_session(batch) {
                settle_all(&daemon, rows).await;
            }
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        () = work => over.cancelled().await,
    }
    Ok(())
}

/// Waits for an end and for those that come soon after; for none where nothing runs any more.
async fn collect(daemon: &Daemon, ends: &mut mpsc::UnboundedReceiver<Ended>) -> Option<Vec<Ended>> {
    let mut batch = vec![ends.recv().await?];
    let until = tokio::time::Instant::now() + COLLECT;
    while batch.len() < MOST && !(ends.is_empty() && daemon.running.alive() == 0) {
        match tokio::time::timeout_at(until, ends.recv()).await {
            Ok(Some(ended)) => batch.push(ended),
            Ok(None) | Err(_) => break,
        }
    }
    Some(batch)
}

fn by_session(batch: Vec<Ended>) -> HashMap<SessionId, Vec<Ended>> {
    let mut groups: HashMap<SessionId, Vec<Ended>> = HashMap::new();
    for ended in batch {
        groups
            .entry(ended.held.session.id())
            .or_default()
            .push(ended);
    }
    groups
}

/// What to do about an error of a batch.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    /// Send it again as it was.
    Repeat,
    /// The session is gone and every lease with it.
    AllLost,
    /// Some row is at fault: find it.
    Divide,
}

fn remedy(error: &StoreError) -> Remedy {
    match error {
        StoreError::UnknownSession(_) => Remedy::AllLost,
        StoreError::Database { .. } | StoreError::Usage(_) | StoreError::Refused(_)
            if !error.may_pass() =>
        {
            Remedy::Divide
        }
        // A wrong password, a schema being replaced, another release: a person repairs it, and
        // what was made in the meantime is not thrown away.
        _ => Remedy::Repeat,
    }
}

/// Settles rows of one session until every one is answered or refused for good.
async fn settle_all(daemon: &Daemon, rows: Vec<Ended>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), daemon.config.liveness.poll);
    let mut said = None;
    // Whether an answer was lost: then `lease_lost` may mean that our own earlier call had it all.
    let mut unsure = false;
    let mut open = VecDeque::from([rows]);
    while let Some(mut rows) = open.pop_front() {
        let Some(first) = rows.first() else { continue };
        let batch: Vec<(ChunkId, Fence, AttemptResult)> = rows
            .iter()
            .map(|row| {
                (
                    row.held.item.chunk_id,
                    row.held.item.fence,
                    row.result.clone(),
                )
            })
            .collect();
        let error = match first.held.session.main.settle(&batch).await {
            Ok(answers) => {
                for row in rows {
                    let answer = answers.get(&row.held.key()).copied();
                    conclude(daemon, row, answer, unsure).await;
                }
                continue;
            }
            Err(error) => error,
        };
        match remedy(&error) {
            Remedy::AllLost => {
                for row in rows {
                    conclude(daemon, row, Some(Settled::LeaseLost), true).await;
                }
            }
            Remedy::Divide if rows.len() > 1 => {
                let rest = rows.split_off(rows.len() / 2);
                open.push_front(rest);
                open.push_front(rows);
            }
            Remedy::Divide => refused(daemon, rows, &error, &mut open),
            Remedy::Repeat => {
                unsure = true;
                daemon.ask_reconcile();
                let text = error.to_string();
                if said.as_ref() != Some(&text) {
                    tracing::warn!(rows = rows.len(), "settle, to be repeated: {text}");
                    said = Some(text);
                }
                open.push_front(rows);
                backoff.pause().await;
            }
        }
    }
}

/// The one row that cannot be stored: a bare failure is settled in its place, once.
fn refused(daemon: &Daemon, rows: Vec<Ended>, error: &StoreError, open: &mut VecDeque<Vec<Ended>>) {
    for Ended { held, result } in rows {
        let name = held.name();
        let bare = refusal(&name, error);
        if result == bare {
            // Not held any more, so that reconciliation hands the chunk back; claims pause, or it
            // would come round without end.
            tracing::error!(chunk = %name, "not even a bare failure can be settled: {error}");
            daemon
                .pauses
                .host_failed("the control database refuses what is settled");
            daemon.running.remove(held.key());
            daemon.ask_reconcile();
            continue;
        }
        tracing::error!(chunk = %name, fence = %held.item.fence, "the control database refuses how an attempt ended: {error}");
        open.push_front(vec![Ended { held, result: bare }]);
    }
}

fn refusal(name: &str, error: &StoreError) -> AttemptResult {
    AttemptResult::bare(Outcome::Failed {
        class: FailureClass::Permanent,
        error: format!("the control database refused the end of an attempt of {name}: {error}"),
    })
}

async fn conclude(daemon: &Daemon, row: Ended, answer: Option<Settled>, unsure: bool) {
    let Ended { held, result } = row;
    let (name, fence) = (held.name(), held.item.fence);
    match answer {
        Some(Settled::Applied | Settled::AlreadyApplied) => {
            daemon.counts.settled(&result);
        }
        Some(Settled::StaleInput) => {
            tracing::info!(chunk = %name, fence = %fence, "an input was published again meanwhile: the chunk runs again");
        }
        Some(Settled::LeaseLost) => {
            if matches!(result.outcome, Outcome::Validated(_)) {
                tracing::warn!(chunk = %name, fence = %fence, "the lease was lost: what was made does not count");
            } else {
                tracing::debug!(chunk = %name, fence = %fence, "the lease was lost before the attempt's end");
            }
            if !unsure {
                super::orphan::remove(&daemon.roots, &held, &result).await;
            }
        }
        None => {
            tracing::error!(chunk = %name, fence = %fence, "a settled attempt was not answered for");
            daemon.ask_reconcile();
        }
    }
    daemon.running.remove(held.key());
    daemon.wake_claims.notify_one();
}

#[cfg(test)]
mod tests {
    use common::store::error::Said;

    use super::*;

    #[test]
    fn each_error_has_its_remedy() {
        let said = || Said {
            message: "x".to_owned(),
            hint: None,
        };
        let database = |code: &str| StoreError::Database {
            code: code.to_owned(),
            message: String::new(),
        };
        let unreachable = StoreError::Unreachable {
            problem: String::new(),
        };
        let denied = StoreError::Denied {
            problem: String::new(),
        };
        assert_eq!(remedy(&unreachable), Remedy::Repeat);
        assert_eq!(remedy(&denied), Remedy::Repeat);
        assert_eq!(remedy(&database("53300")), Remedy::Repeat);
        assert_eq!(remedy(&database("22003")), Remedy::Divide);
        assert_eq!(remedy(&StoreError::Usage(said())), Remedy::Divide);
        assert_eq!(remedy(&StoreError::UnknownSession(said())), Remedy::AllLost);
    }
}
