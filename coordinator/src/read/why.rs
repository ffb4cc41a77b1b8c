//! Why a chunk is where it is: the first binding reason, in plain words and with its numbers.
//!
//! Pure. The same facts always give the same sentence, on the command line and the dashboard.

use common::domain::Bounds;
use serde_json::Value;

use super::chunk::{ChunkFacts, NeighbourFacts};
use super::facts::{DataSetFacts, FleetFacts};
use super::history::PublicationRow;
use super::obstacle::{Reason, no_leader, obstacle, plural};
use super::state::span;

/// The state that people see: a request before a lease, a lease before the stored state.
#[must_use]
pub fn shown(chunk: &ChunkFacts) -> &str {
    match (&chunk.request, &chunk.lease) {
        (Some(request), _) => &request.verb,
        (None, Some(_)) => "running",
        (None, None) => &chunk.stored,
    }
}

/// What a chunk waits for or what ended it. `set` is its data set, `newest` its last publication.
#[must_use]
pub fn why(
    name: &str,
    chunk: &ChunkFacts,
    set: &DataSetFacts,
    fleet: &FleetFacts,
    newest: Option<&PublicationRow>,
) -> Reason {
    if chunk.request.is_some() {
        return requested(chunk);
    }
    if chunk.lease.is_some() {
        return running(chunk, fleet);
    }
    let reason = chunk.reason.as_deref().unwrap_or("no reason is kept");
    match chunk.stored.as_str() {
        "validated" => published(name, chunk, newest),
        "complete" => Reason::new(
            "approval",
            "it is published and waits for a person's approval",
        )
        .hint(format!("coordinator approve {name}")),
        "held" => Reason::new(
            "held",
            format!("a person set it aside{}: {reason}", until(chunk, fleet)),
        )
        .hint(format!("coordinator resubmit {name}")),
        "cancelled" => Reason::new("cancelled", format!("a person ended it: {reason}"))
            .hint(format!("coordinator resubmit {name}")),
        "split" => Reason::new("split", "it was replaced by smaller chunks"),
        "exhausted" => exhausted(name, chunk, reason),
        "failed" => failed(chunk, fleet, reason),
        "waiting" => waiting(chunk, set, fleet),
        _ => ready(chunk, set, fleet),
    }
}

fn requested(chunk: &ChunkFacts) -> Reason {
    let Some(request) = &chunk.request else {
        return Reason::new("requested", "nothing is asked");
    };
    let asked = match request.verb.as_str() {
        "resubmit" => "run again",
        "held" => "be set aside",
        _ => "be cancelled",
    };
    let until = match &chunk.lease {
        Some(lease) => format!("attempt {} on {} has ended", lease.attempt, lease.worker),
        None => match chunk
            .consumers
            .iter()
            .find(|consumer| consumer.status == "running")
        {
            Some(reader) => format!("{}, which reads it, has ended", reader.name),
            None => "a coordinator looks next".to_owned(),
        },
    };
    let text = format!(
        "{} asked for it to {asked} ({}); that is done when {until}",
        request.by, request.reason
    );
    Reason::new("requested", text)
}

fn running(chunk: &ChunkFacts, fleet: &FleetFacts) -> Reason {
    let Some(lease) = &chunk.lease else {
        return Reason::new("running", "it is running");
    };
    let mut text = format!(
        "attempt {} runs on {} for {}",
        lease.attempt,
        lease.worker,
        span(fleet.now - lease.claimed_at)
    );
    if lease.session_state != "active" {
        text.push_str("; the worker is not heard, and a lease that stays unheard is taken back");
    }
    if let Some(abort) = &lease.abort {
        let why = lease.abort_why.as_deref().unwrap_or("asked by a person");
        text.push_str(&format!("; it was told to stop ({abort}): {why}"));
    }
    Reason::new("running", text)
}

/// Made; but from what there is now?
fn published(name: &str, chunk: &ChunkFacts, newest: Option<&PublicationRow>) -> Reason {
    if chunk.job.is_none() {
        return Reason::new(
            "source",
            "it is part of a source: it was there from the start",
        );
    }
    let stale = newest.and_then(|newest| {
        newest
            .inputs
            .iter()
            .find(|input| input.now != input.generation)
    });
    if let Some(input) = stale {
        let text = format!(
            "it is stale: made from generation {} of {}, which is at generation {} now",
            input.generation, input.name, input.now
        );
        return Reason::new("stale", text)
            .hint(format!("coordinator resubmit {name} --downstream"));
    }
    if chunk.stale_since.is_some() {
        let text = "it is stale: a data set that it takes whole, or an input that it did not have, was published since";
        return Reason::new("stale", text).hint(format!(
            "coordinator lineage {name} --up; coordinator resubmit {name} --downstream"
        ));
    }
    Reason::new(
        "validated",
        format!(
            "it is made: generation {} is published and checked",
            chunk.generation
        ),
    )
}

/// How long a hold still lasts, where it ends by itself.
fn until(chunk: &ChunkFacts, fleet: &FleetFacts) -> String {
    match chunk.hold_until {
        Some(at) if at > fleet.now => format!(" for another {}", span(at - fleet.now)),
        Some(_) => " until now".to_owned(),
        None => String::new(),
    }
}

fn exhausted(name: &str, chunk: &ChunkFacts, reason: &str) -> Reason {
    let charged = match &chunk.job {
        Some(job) if chunk.charged >= job.max_attempts => {
            format!("all {} are used up", plural(job.max_attempts, "attempt"))
        }
        _ => format!(
            "it failed for good after {}",
            plural(chunk.attempts, "attempt")
        ),
    };
    Reason::new(
        "exhausted",
        format!("{charged} and a person decides: {reason}"),
    )
    .hint(format!(
        "coordinator logs {name}; then coordinator resubmit {name}"
    ))
}

fn failed(chunk: &ChunkFacts, fleet: &FleetFacts, reason: &str) -> Reason {
    if !fleet.leads {
        return no_leader("it is not retried");
    }
    let charged = match &chunk.job {
        Some(job) => format!(
            ", {} of {} attempts are charged",
            chunk.charged, job.max_attempts
        ),
        None => String::new(),
    };
    let when = match chunk.retry_at {
        Some(at) if at > fleet.now => format!("in {}", span(at - fleet.now)),
        _ => "shortly".to_owned(),
    };
    Reason::new("retry", format!("it is retried {when}{charged}: {reason}"))
}

fn waiting(chunk: &ChunkFacts, set: &DataSetFacts, fleet: &FleetFacts) -> Reason {
    if let Some(gap) = &chunk.gap {
        // Before what is only late: this one will not come by itself.
        return Reason::new("gap", format!("it waits for {}", gap.in_words()))
            .hint(format!("coordinator chunks {}", gap.dataset));
    }
    if let Some(input) = chunk
        .inputs
        .iter()
        .find(|input| input.status != "validated")
    {
        return missing(input, fleet);
    }
    let lacks = |chunks: Option<i64>, validated| chunks.is_none_or(|chunks| validated < chunks);
    if let Some(input) = set
        .inputs
        .iter()
        .find(|i| i.whole && lacks(i.chunks, i.validated))
    {
        let chunks = input.chunks.map_or("not cut yet".to_owned(), |n| {
            format!("{}/{n} validated", input.validated)
        });
        let mut text = format!("it needs all of {}: {chunks}", input.dataset);
        if input.exhausted > 0 {
            text.push_str(&format!(", {} exhausted", input.exhausted));
        }
        return Reason::new("inputs", text).hint(format!("coordinator explain {}", input.dataset));
    }
    if !fleet.leads {
        return no_leader("what waits for a whole data set is not released");
    }
    Reason::new(
        "release",
        "its inputs are there; it will be released shortly",
    )
}

fn missing(input: &NeighbourFacts, fleet: &FleetFacts) -> Reason {
    let more = match (input.status.as_str(), input.retry_at) {
        ("failed", Some(at)) if at > fleet.now => format!(", retried in {}", span(at - fleet.now)),
        ("failed", _) => ", retried shortly".to_owned(),
        ("exhausted" | "held" | "cancelled", _) => ", a person decides".to_owned(),
        _ => String::new(),
    };
    Reason::new(
        "inputs",
        format!("its input {} is {}{more}", input.name, input.status),
    )
    .hint(format!("coordinator explain {}", input.name))
}

fn ready(chunk: &ChunkFacts, set: &DataSetFacts, fleet: &FleetFacts) -> Reason {
    let Some(lane) = &set.lane else {
        return Reason::new("source", "no job makes it");
    };
    let place = match chunk.ahead {
        Some(0) => "it is the next of its lane".to_owned(),
        Some(ahead) => format!("{} of its lane are before it", plural(ahead, "chunk")),
        None => "more than 10,000 chunks of its lane are before it".to_owned(),
    };
    match obstacle(
        &set.name,
        lane,
        &set.pools,
        set.buffer.as_ref(),
        set.running,
        fleet,
    ) {
        Some(mut reason) => {
            reason.text = format!("it is ready; {}; {place}", reason.text);
            reason
        }
        None => Reason::new(
            "queued",
            format!("it is ready and will be claimed shortly; {place}"),
        ),
    }
}

/// What a chunk covers, in words.
#[must_use]
pub fn bounds(bounds: &Value) -> String {
    match serde_json::from_value::<Bounds>(bounds.clone()) {
        Ok(bounds) => bounds.in_words(),
        Err(_) => bounds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::bounds;

    #[test]
    fn bounds_are_told_in_words() {
        let column = |name: &str| json!({ "name": name, "type": "bigint" });
        let one = |lower, upper| {
            bounds(
                &json!({ "kind": "key_range", "columns": [column("id")], "lower": lower, "upper": upper }),
            )
        };
        assert_eq!(one(json!(["5"]), json!(["9"])), "id from 5 to below 9");
        assert_eq!(one(json!(null), json!(["9"])), "id below 9");
        assert_eq!(one(json!(["5"]), json!(null)), "id from 5 on");
        assert_eq!(one(json!(null), json!(null)), "every id");
        let two = json!({ "kind": "key_range", "columns": [column("a"), column("b")],
                          "lower": ["1", "x"], "upper": null });
        assert_eq!(bounds(&two), "(a, b) from (1, x) on");
        assert_eq!(bounds(&json!({ "kind": "single" })), "the whole data set");
        assert_eq!(
            bounds(&json!({ "kind": "row", "values": [["day", "1"], ["x", null]] })),
            "day = 1, x = NULL"
        );
        assert_eq!(bounds(&json!({ "kind": "later" })), r#"{"kind":"later"}"#);
    }
}
