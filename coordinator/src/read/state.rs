//! The one word that a data set is in, why, how fast it goes and when it ends.
//!
//! Pure: facts and the time go in, words come out. The command line, the dashboard and the exit
//! code of `status --until-done` all rest on what is derived here.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::facts::{DataSetFacts, FleetFacts, InputFacts, Sample};
use super::obstacle::{Reason, doing, no_leader, obstacle, paused_by_hand, plural};

/// What a data set as a whole is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Being cut into chunks.
    Planning,
    /// Something that will come by itself: inputs, a retry, a free slot.
    Waiting,
    /// Chunks are running.
    Running,
    /// A person stopped it.
    Paused,
    /// The system stopped it, or an input that a person must look at.
    Blocked,
    /// About to be claimed.
    Idle,
    /// Nobody is there to do it.
    Stalled,
    /// Every chunk is made, or ended by a person.
    Done,
    /// All is made but chunks that a person must look at.
    Degraded,
}

impl State {
    /// The word as people see it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Planning => "PLANNING",
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Blocked => "BLOCKED",
            Self::Idle => "IDLE",
            Self::Stalled => "STALLED",
            Self::Done => "DONE",
            Self::Degraded => "DEGRADED",
        }
    }
}

/// A data set's state and the reason for it, where there is one to give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The word.
    pub state: State,
    /// Why nothing more of it moves.
    pub reason: Option<Reason>,
}

impl Standing {
    fn new(state: State, reason: impl Into<Option<Reason>>) -> Self {
        Self {
            state,
            reason: reason.into(),
        }
    }
}

/// Derives a data set's state.
#[must_use]
pub fn standing(set: &DataSetFacts, fleet: &FleetFacts) -> Standing {
    if set.chunks.is_none() {
        return unplanned(set, fleet);
    }
    let Some(lane) = set.lane.as_ref().filter(|_| set.job.is_some()) else {
        return Standing::new(State::Done, None);
    };
    let counts = set.counts;
    let claimable = (counts.ready - set.running).max(0);
    let open = claimable + set.running + counts.failed + counts.waiting;
    if open > 0
        && let Some(mut reason) = paused_by_hand(&set.name, lane, &set.pools)
    {
        if set.running > 0 {
            reason.text = format!("{}; {} still running", reason.text, set.running);
        }
        return Standing::new(State::Paused, reason);
    }
    if set.running > 0 {
        return running(set, fleet);
    }
    if claimable > 0 {
        let found = obstacle(
            &set.name,
            lane,
            &set.pools,
            set.buffer.as_ref(),
            set.running,
            fleet,
        );
        let state = match found.as_ref().map(|reason| reason.kind) {
            None => State::Idle,
            Some("paused" | "limit_zero") => State::Paused,
            Some("blocked" | "buffer_full") => State::Blocked,
            Some("pool_full" | "workers_full" | "replanning") => State::Waiting,
            Some(_) => State::Stalled,
        };
        return Standing::new(state, found);
    }
    if counts.failed > 0 {
        return retrying(set, fleet);
    }
    if counts.waiting > 0 {
        return waiting(set, fleet);
    }
    ended(set)
}

/// What runs is running as long as anybody is heard: a lease alone is no sign of life.
fn running(set: &DataSetFacts, fleet: &FleetFacts) -> Standing {
    if fleet.workers.iter().any(|worker| worker.state == "active") {
        return Standing::new(State::Running, None);
    }
    let text = format!(
        "{} on workers that are not heard",
        doing(set.running, "chunk", "run")
    );
    let mut reason = Reason::new("silent", text);
    if !fleet.leads {
        reason
            .text
            .push_str(", and no coordinator leads that would give them to others");
        reason = reason.hint("coordinator serve");
    }
    Standing::new(State::Stalled, reason)
}

fn unplanned(set: &DataSetFacts, fleet: &FleetFacts) -> Standing {
    if let Some(error) = &set.plan_error {
        let first = error.lines().next().unwrap_or_default();
        let reason = Reason::new(
            "plan_failed",
            format!("cutting it into chunks failed: {first}"),
        )
        .hint(format!("coordinator explain {}", set.name));
        return Standing::new(State::Blocked, reason);
    }
    if set.writing_since.is_some() {
        return Standing::new(
            State::Planning,
            Reason::new("planning", "it is being cut into chunks"),
        );
    }
    if let Some(input) = set.inputs.iter().find(|input| input.chunks.is_none()) {
        let text = format!("waits for {} to be cut into chunks", input.dataset);
        return Standing::new(State::Waiting, Reason::new("inputs", text));
    }
    if !fleet.leads {
        return Standing::new(State::Stalled, no_leader("nothing is cut into chunks"));
    }
    Standing::new(
        State::Planning,
        Reason::new("planning", "it will be cut into chunks shortly"),
    )
}

fn retrying(set: &DataSetFacts, fleet: &FleetFacts) -> Standing {
    if !fleet.leads {
        return Standing::new(State::Stalled, no_leader("nothing is retried"));
    }
    let failed = plural(set.counts.failed, "failed chunk");
    let text = match set.next_retry {
        Some(at) if at > fleet.now => format!("next retry of {failed} in {}", span(at - fleet.now)),
        Some(_) => format!("{failed} will be retried shortly"),
        None => format!("{failed} will be retried later"),
    };
    Standing::new(State::Waiting, Reason::new("retry", text))
}

fn waiting(set: &DataSetFacts, fleet: &FleetFacts) -> Standing {
    let lacks = |input: &&InputFacts| input.chunks.is_none_or(|chunks| input.validated < chunks);
    let Some(input) = set.inputs.iter().find(lacks) else {
        if let Some(gap) = &set.gap {
            let text = format!(
                "{} for what no plan has, such as {gap}",
                doing(set.counts.waiting, "chunk", "wait")
            );
            let hint = format!("coordinator chunks {} --status waiting", set.name);
            return Standing::new(State::Blocked, Reason::new("gap", text).hint(hint));
        }
        if !fleet.leads {
            return Standing::new(
                State::Stalled,
                no_leader("what waits for a whole data set is not released"),
            );
        }
        return Standing::new(
            State::Idle,
            Reason::new(
                "release",
                "its inputs are there; it will be released shortly",
            ),
        );
    };
    let chunks = input.chunks.unwrap_or(0);
    if input.exhausted > 0 && input.validated + input.exhausted >= chunks {
        let text = format!(
            "waits for {}, where {} a person",
            input.dataset,
            doing(input.exhausted, "chunk", "need")
        );
        let reason = Reason::new("input_exhausted", text)
            .hint(format!("coordinator failures {}", input.dataset));
        return Standing::new(State::Blocked, reason);
    }
    let all = if input.whole { "all of " } else { "" };
    let text = format!(
        "waits for {all}{} ({}/{chunks} validated)",
        input.dataset, input.validated
    );
    Standing::new(State::Waiting, Reason::new("inputs", text))
}

/// Nothing is left that could run by itself.
fn ended(set: &DataSetFacts) -> Standing {
    let counts = set.counts;
    if counts.exhausted > 0 {
        let text = format!(
            "{} a person",
            doing(counts.exhausted, "exhausted chunk", "need")
        );
        let reason =
            Reason::new("exhausted", text).hint(format!("coordinator failures {}", set.name));
        return Standing::new(State::Degraded, reason);
    }
    if counts.complete > 0 {
        let text = format!(
            "{} for approval",
            doing(counts.complete, "published chunk", "wait")
        );
        let reason =
            Reason::new("approval", text).hint(format!("coordinator approve {}", set.name));
        return Standing::new(State::Waiting, reason);
    }
    if counts.held > 0 {
        let text = format!("{} set aside by a person", plural(counts.held, "chunk"));
        let reason = Reason::new("held", text)
            .hint(format!("coordinator resubmit {} --status held", set.name));
        return Standing::new(State::Paused, reason);
    }
    Standing::new(State::Done, None)
}

/// What a whole installation (or flow) comes to, for `--until-done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every data set is done.
    Done,
    /// Something is failed or exhausted and nothing else moves or will move by itself.
    Degraded,
    /// It goes on, or a person stopped it for a time.
    Open,
}

/// Judges data sets together: a chain that waits on an exhausted chunk is at its end.
#[must_use]
pub fn verdict(standings: &[Standing]) -> Verdict {
    if standings
        .iter()
        .all(|standing| standing.state == State::Done)
    {
        return Verdict::Done;
    }
    let kind = |standing: &Standing| standing.reason.as_ref().map(|reason| reason.kind);
    let passive = |standing: &Standing| {
        matches!(standing.state, State::Done | State::Degraded)
            || matches!(
                kind(standing),
                Some("inputs" | "input_exhausted" | "plan_failed" | "gap")
            )
    };
    let broken = |standing: &Standing| {
        standing.state == State::Degraded || matches!(kind(standing), Some("plan_failed" | "gap"))
    };
    if standings.iter().all(passive) && standings.iter().any(broken) {
        return Verdict::Degraded;
    }
    Verdict::Open
}

/// How fast a data set is made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Chunks published in a second.
    pub chunks_per_second: f64,
    /// Bytes published in a second; 0 where jobs report none.
    pub bytes_per_second: f64,
}

/// The speed over the shortest window that holds enough publications to mean something.
#[must_use]
pub fn speed(sample: &Sample, now: DateTime<Utc>) -> Option<Speed> {
    let (window, n, bytes) = if sample.n_15m >= 30 {
        (TimeDelta::minutes(15), sample.n_15m, sample.bytes_15m)
    } else if sample.n_1h >= 10 {
        (TimeDelta::hours(1), sample.n_1h, sample.bytes_1h)
    } else {
        (TimeDelta::hours(24), sample.n_all, sample.bytes_all)
    };
    let mut start = now - window;
    if n == sample.n_all {
        // Work began inside the window: it counts from the first claim, not from the first result.
        start = start.max(sample.first_claimed);
    }
    if let Some(cut) = sample.cut_since {
        start = start.max(cut);
    }
    let seconds = (now - start).as_seconds_f64();
    if n == 0 || seconds <= 0.0 {
        return None;
    }
    let seconds = seconds.max(1.0);
    Some(Speed {
        chunks_per_second: n as f64 / seconds,
        bytes_per_second: bytes as f64 / seconds,
    })
}

/// When each data set of a list (inputs first) will be made, by flow and name. Only what moves has
/// an end, and nothing ends before its inputs.
#[must_use]
pub fn ends(
    sets: &[(&DataSetFacts, &Standing, Option<Speed>)],
    now: DateTime<Utc>,
) -> HashMap<i32, DateTime<Utc>> {
    let mut by_name: HashMap<(&str, &str), DateTime<Utc>> = HashMap::new();
    let mut ends = HashMap::new();
    for (set, standing, speed) in sets {
        let left = set.counts.waiting + set.counts.ready + set.counts.failed;
        let moves = matches!(
            standing.state,
            State::Running | State::Idle | State::Waiting
        );
        let Some(speed) = speed.filter(|_| moves && left > 0 && set.job.is_some()) else {
            continue;
        };
        let seconds = left as f64 / speed.chunks_per_second;
        // Beyond a century the number says nothing, and dates have an end.
        let Some(delta) = TimeDelta::try_milliseconds((seconds.min(3.2e9) * 1000.0) as i64) else {
            continue;
        };
        let Some(own) = now.checked_add_signed(delta) else {
            continue;
        };
        let end = set.inputs.iter().try_fold(own, |end, input| {
            if input.chunks == Some(input.validated) {
                return Some(end);
            }
            // An input that is not finished and has no end leaves what is made of it without one.
            by_name
                .get(&(set.flow.as_str(), input.dataset.as_str()))
                .map(|of| end.max(*of))
        });
        let Some(end) = end else { continue };
        by_name.insert((set.flow.as_str(), set.name.as_str()), end);
        ends.insert(set.data_set_id, end);
    }
    ends
}

/// `40 s`, `3 min`, `2 h 5 min`, `3 d 4 h`: two units at most, negative spans as `0 s`.
#[must_use]
pub fn span(delta: TimeDelta) -> String {
    let s = delta.num_seconds().max(0);
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        small => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match s {
        0..60 => format!("{s} s"),
        60..600 => two(s / 60, "min", s % 60, "s"),
        600..3600 => format!("{} min", s / 60),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests;
