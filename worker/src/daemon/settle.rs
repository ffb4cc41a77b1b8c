//! Recording ends: collected for a few milliseconds, sent as one batch, repeated until answered.
//!
//! A slot is free only when the end of its attempt is recorded. One row that the database refuses
//! never holds up the others, and neither does one that somebody's open transaction has locked.

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
/// Rows that wait for somebody's lock at once: of the sessions for work, most stay for others.
pub(super) const ALONE: usize = 2;
/// The server's word for a lock that was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

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
                settle_all(&daemon, rows, Company::Batch).await;
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
    /// Somebody's transaction holds a row: each goes by itself, so that the others need not wait.
    Apart,
}

/// Who is settled with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    /// Whatever ended with it.
    Batch,
    /// Nobody: an earlier call met a lock.
    Alone {
        /// Whether an answer was lost before that.
        unsure: bool,
    },
}

fn remedy(error: &StoreError) -> Remedy {
    match error {
        StoreError::UnknownSession(_) => Remedy::AllLost,
        StoreError::Database { code, .. } if code == LOCK_NOT_AVAILABLE => Remedy::Apart,
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
async fn settle_all(daemon: &Arc<Daemon>, rows: Vec<Ended>, company: Company) {
    let mut backoff = Backoff::new(Duration::from_millis(200), daemon.config.liveness.poll);
    let mut said = None;
    // Whether an answer was lost: then `lease_lost` may mean that our own earlier call had it all.
    let mut unsure = company == Company::Alone { unsure: true };
    let mut open = VecDeque::from([rows]);
    while let Some(mut rows) = open.pop_front() {
        let error = match send(daemon, &rows, company).await {
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
            Remedy::Apart if company == Company::Batch => {
                tracing::warn!(rows = rows.len(), "settle, each by itself: {error}");
                for row in rows {
                    settle_apart(daemon, row, unsure);
                }
            }
            Remedy::Apart => {
                open.push_front(rows);
                backoff.pause().await;
            }
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

/// One call for rows of one session.
async fn send(
    daemon: &Daemon,
    rows: &[Ended],
    company: Company,
) -> Result<HashMap<(ChunkId, Fence), Settled>, StoreError> {
    let Some(first) = rows.first() else {
        return Ok(HashMap::new());
    };
    let batch: Vec<(ChunkId, Fence, AttemptResult)> = rows
        .iter()
        .map(|row| {
            let item = &row.held.item;
            (item.chunk_id, item.fence, row.result.clone())
        })
        .collect();
    // Never closed, so there always is a turn.
    let _turn = match company {
        Company::Batch => None,
        Company::Alone { .. } => daemon.settle_alone.acquire().await.ok(),
    };
    first.held.session.main.settle(&batch).await
}

/// Settles a row beside the loop, until it is answered or the parts end.
fn settle_apart(daemon: &Arc<Daemon>, row: Ended, unsure: bool) {
    let daemon = Arc::clone(daemon);
    let tracker = daemon.attempts.clone();
    tracker.spawn(async move {
        let over = daemon.end.graceful().clone();
        tokio::select! {
            () = over.cancelled() => {}
            () = settle_all(&daemon, vec![row], Company::Alone { unsure }) => {}
        }
    });
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
        assert_eq!(remedy(&database("55P03")), Remedy::Apart);
        assert_eq!(remedy(&database("22003")), Remedy::Divide);
        assert_eq!(remedy(&StoreError::Usage(said())), Remedy::Divide);
        assert_eq!(remedy(&StoreError::UnknownSession(said())), Remedy::AllLost);
    }
}
