//! What keeps a lane's claimable chunks from being claimed: the first binding reason, with numbers.
//!
//! Pure. The order is that of the claim: what a person stopped comes first, then what the system
//! stopped, then who could do it, then how much may run at once.

use common::domain::size::format_bytes;
use serde::Serialize;

use super::facts::{BufferFacts, FleetFacts, LaneFacts, PoolFacts, WorkerFacts};

/// Why something does not move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// One word for programs.
    pub kind: &'static str,
    /// A sentence without its full stop, for people.
    pub text: String,
    /// The command that helps, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Reason {
    /// A reason without a command that helps.
    pub(crate) fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            hint: None,
        }
    }

    /// The same with a command that helps.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// No coordinator leads, and what therefore does not happen.
#[must_use]
pub fn no_leader(what: &str) -> Reason {
    Reason::new("no_coordinator", format!("no coordinator leads: {what}")).hint("coordinator serve")
}

/// `paused by ann: maintenance`.
fn paused(what: &str, by: Option<&str>, reason: Option<&str>) -> String {
    let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = reason
        .filter(|reason| !reason.is_empty())
        .map(|reason| format!(": {reason}"));
    format!("{what}paused{by}{}", reason.unwrap_or_default())
}

/// A stop that a person ordered for a lane or one of its pools.
#[must_use]
pub fn paused_by_hand(name: &str, lane: &LaneFacts, pools: &[PoolFacts]) -> Option<Reason> {
    if lane.paused {
        let text = paused("", lane.changed_by.as_deref(), lane.reason.as_deref());
        return Some(Reason::new("paused", text).hint(format!("coordinator resume {name}")));
    }
    let pool = pools.iter().find(|pool| pool.paused)?;
    let text = paused(
        &format!("pool {} ", pool.name),
        pool.changed_by.as_deref(),
        pool.reason.as_deref(),
    );
    Some(Reason::new("paused", text).hint(format!("coordinator resume {}", pool.name)))
}

/// The first reason why nothing more of a lane is claimed; `None` where the next claim takes some.
///
/// `name` is the data set that the lane makes, `running` its leases.
#[must_use]
pub fn obstacle(
    name: &str,
    lane: &LaneFacts,
    pools: &[PoolFacts],
    buffer: Option<&BufferFacts>,
    running: i64,
    fleet: &FleetFacts,
) -> Option<Reason> {
    paused_by_hand(name, lane, pools)
        .or_else(|| {
            lane.blocked
                .as_ref()
                .map(|why| Reason::new("blocked", format!("claims stop here: {why}")))
        })
        .or_else(|| {
            lane.replanning.then(|| {
                let text = "claims stop here while a new plan takes force";
                Reason::new("replanning", text)
            })
        })
        .or_else(|| limit_zero(pools))
        .or_else(|| nobody(lane, &fleet.workers))
        .or_else(|| buffer.and_then(|buffer| buffer_full(buffer, running)))
        .or_else(|| pool_full(pools))
        .or_else(|| workers_full(lane, &fleet.workers))
}

fn limit_zero(pools: &[PoolFacts]) -> Option<Reason> {
    let pool = pools.iter().find(|pool| pool.limit == Some(0))?;
    let by = match (pool.operator_set, pool.changed_by.as_deref()) {
        (true, Some(by)) => {
            paused("", Some(by), pool.reason.as_deref()).replacen("paused", " (set", 1) + ")"
        }
        _ => " (the flow file says so)".to_owned(),
    };
    let text = format!("the limit of pool {} is 0{by}", pool.name);
    Some(Reason::new("limit_zero", text).hint(format!("coordinator scale {} N", pool.name)))
}

/// Whether a worker has every label that a lane asks for.
fn fits(worker: &WorkerFacts, lane: &LaneFacts) -> bool {
    lane.labels
        .iter()
        .all(|label| worker.labels.contains(label))
}

fn nobody(lane: &LaneFacts, workers: &[WorkerFacts]) -> Option<Reason> {
    if workers.is_empty() {
        return Some(Reason::new("no_workers", "no worker is at work").hint("worker run"));
    }
    let able: Vec<&WorkerFacts> = workers.iter().filter(|worker| fits(worker, lane)).collect();
    if able.is_empty() {
        let labels = lane.labels.join(", ");
        let text = format!(
            "none of {} has the labels {labels}",
            plural(workers.len(), "worker")
        );
        return Some(Reason::new("no_labels", text).hint(format!("worker run --label {labels}")));
    }
    if able.iter().all(|worker| worker.draining) {
        let text = format!(
            "every worker that may run it is draining ({})",
            names(&able)
        );
        return Some(Reason::new("draining", text).hint("coordinator drain --off WORKER"));
    }
    if able
        .iter()
        .all(|worker| worker.draining || worker.state != "active")
    {
        let text = format!("no worker that may run it is heard ({})", names(&able));
        return Some(Reason::new("silent", text));
    }
    None
}

fn names(workers: &[&WorkerFacts]) -> String {
    let mut names: Vec<&str> = workers
        .iter()
        .take(3)
        .map(|worker| worker.name.as_str())
        .collect();
    if workers.len() > 3 {
        names.push("...");
    }
    names.join(", ")
}

fn buffer_full(buffer: &BufferFacts, running: i64) -> Option<Reason> {
    let waiting = buffer.unconsumed + running;
    if let Some(limit) = buffer.chunks
        && waiting >= limit
    {
        let text = format!(
            "its buffer is full: {} published and not consumed, {running} running, of {limit} chunks",
            buffer.unconsumed
        );
        return Some(Reason::new("buffer_full", text));
    }
    let limit = buffer.bytes?;
    if buffer.mean_bytes <= 0.0 || ((limit as f64 / buffer.mean_bytes).floor() as i64) > waiting {
        return None;
    }
    let held = format_bytes((buffer.mean_bytes * waiting as f64) as u64);
    let limit = format_bytes(u64::try_from(limit).unwrap_or(0));
    let text = format!(
        "its buffer is full: about {held} of {limit} published or running and not consumed"
    );
    Some(Reason::new("buffer_full", text))
}

fn pool_full(pools: &[PoolFacts]) -> Option<Reason> {
    let full = |pool: &&PoolFacts| {
        pool.limit
            .is_some_and(|limit| pool.running >= i64::from(limit))
    };
    let pool = pools.iter().find(full)?;
    let limit = pool.limit.unwrap_or(0);
    let text = format!("pool {} has {}/{limit} in use", pool.name, pool.running);
    Some(Reason::new("pool_full", text).hint(format!("coordinator scale {} +1", pool.name)))
}

fn workers_full(lane: &LaneFacts, workers: &[WorkerFacts]) -> Option<Reason> {
    let able = workers
        .iter()
        .filter(|w| fits(w, lane) && !w.draining && w.state == "active");
    let (mut slots, mut busy) = (0, 0);
    for worker in able {
        slots += worker.slots;
        busy += worker.running.min(worker.slots);
    }
    if busy < slots {
        return None;
    }
    Some(Reason::new(
        "workers_full",
        format!("all {} are busy", plural(slots, "worker slot")),
    ))
}

/// `1 chunk`, `2 chunks`.
#[must_use]
pub fn plural(n: impl TryInto<i64>, noun: &str) -> String {
    let n = n.try_into().unwrap_or(i64::MAX);
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// `1 chunk waits`, `2 chunks wait`.
#[must_use]
pub(crate) fn doing(n: i64, noun: &str, verb: &str) -> String {
    format!(
        "{} {verb}{}",
        plural(n, noun),
        if n == 1 { "s" } else { "" }
    )
}
