//! States, speeds, ends and verdicts from made-up facts.

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::read::facts::{Counts, LaneFacts, PoolFacts, WorkerFacts};

const NOON: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn fleet() -> FleetFacts {
    let worker = WorkerFacts {
        name: "w1".to_owned(),
        state: "active".to_owned(),
        draining: false,
        labels: vec!["ssd".to_owned()],
        slots: 4,
        running: 0,
    };
    FleetFacts {
        now: NOON,
        leads: true,
        holder: "c1".to_owned(),
        term: 1,
        since: None,
        workers: vec![worker],
        running: 0,
        pending: 0,
        repairs: 0,
    }
}

fn made(counts: Counts) -> DataSetFacts {
    let pool = PoolFacts {
        name: "extract".to_owned(),
        limit: Some(10),
        paused: false,
        operator_set: false,
        reason: None,
        changed_by: None,
        running: 0,
    };
    DataSetFacts {
        flow: "f".to_owned(),
        name: "mid".to_owned(),
        data_set_id: 2,
        job: Some("extract".to_owned()),
        chunks: Some(10),
        notes: Vec::new(),
        outdated: false,
        replan: None,
        plan_error: None,
        gap: None,
        writing_since: None,
        counts,
        running: 0,
        rows_out: 0,
        bytes_out: 0,
        lane: Some(LaneFacts::default()),
        pools: vec![pool],
        inputs: Vec::new(),
        buffer: None,
        next_retry: None,
        reasons: Vec::new(),
        sample: None,
    }
}

fn state_of(set: &DataSetFacts, fleet: &FleetFacts) -> (State, &'static str) {
    let standing = standing(set, fleet);
    (
        standing.state,
        standing.reason.map_or("", |reason| reason.kind),
    )
}

#[test]
fn what_runs_is_running_whatever_else_failed() {
    let mut set = made(Counts {
        ready: 3,
        exhausted: 2,
        failed: 1,
        ..Counts::default()
    });
    set.running = 1;
    assert_eq!(state_of(&set, &fleet()), (State::Running, ""));
    let mut silent = fleet();
    silent.workers[0].state = "silent".to_owned();
    assert_eq!(state_of(&set, &silent), (State::Stalled, "silent"));
    set.running = 0;
    assert_eq!(state_of(&set, &fleet()), (State::Idle, ""));
}

#[test]
fn without_a_leader_only_what_needs_one_stalls() {
    let alone = FleetFacts {
        leads: false,
        ..fleet()
    };
    let ready = made(Counts {
        ready: 3,
        ..Counts::default()
    });
    assert_eq!(state_of(&ready, &alone), (State::Idle, ""));
    let failed = made(Counts {
        failed: 3,
        ..Counts::default()
    });
    assert_eq!(
        state_of(&failed, &alone),
        (State::Stalled, "no_coordinator")
    );
    let fan_in = made(Counts {
        waiting: 1,
        ..Counts::default()
    });
    assert_eq!(
        state_of(&fan_in, &alone),
        (State::Stalled, "no_coordinator")
    );
    assert_eq!(state_of(&fan_in, &fleet()), (State::Idle, "release"));
}

#[test]
fn the_first_binding_reason_is_told() {
    let mut set = made(Counts {
        ready: 3,
        ..Counts::default()
    });
    let mut crowd = fleet();
    crowd.workers[0].running = 4;
    assert_eq!(state_of(&set, &crowd), (State::Waiting, "workers_full"));
    set.pools[0].running = 10;
    assert_eq!(state_of(&set, &crowd), (State::Waiting, "pool_full"));
    crowd.workers[0].state = "silent".to_owned();
    assert_eq!(state_of(&set, &crowd), (State::Stalled, "silent"));
    crowd.workers[0].draining = true;
    assert_eq!(state_of(&set, &crowd), (State::Stalled, "draining"));
    set.lane = Some(LaneFacts {
        labels: vec!["gpu".to_owned()],
        ..LaneFacts::default()
    });
    assert_eq!(state_of(&set, &crowd), (State::Stalled, "no_labels"));
    crowd.workers.clear();
    assert_eq!(state_of(&set, &crowd), (State::Stalled, "no_workers"));
    set.pools[0].limit = Some(0);
    assert_eq!(state_of(&set, &crowd), (State::Paused, "limit_zero"));
    set.lane = Some(LaneFacts {
        blocked: Some("full".to_owned()),
        ..LaneFacts::default()
    });
    assert_eq!(state_of(&set, &crowd), (State::Blocked, "blocked"));
    set.pools[0].paused = true;
    assert_eq!(state_of(&set, &crowd), (State::Paused, "paused"));
}

#[test]
fn people_and_the_exhausted_are_told_apart_in_the_end() {
    let cases = [
        (
            Counts {
                validated: 10,
                ..Counts::default()
            },
            State::Done,
            "",
        ),
        (
            Counts {
                validated: 8,
                cancelled: 2,
                ..Counts::default()
            },
            State::Done,
            "",
        ),
        (
            Counts {
                validated: 8,
                held: 2,
                ..Counts::default()
            },
            State::Paused,
            "held",
        ),
        (
            Counts {
                validated: 8,
                complete: 1,
                held: 1,
                ..Counts::default()
            },
            State::Waiting,
            "approval",
        ),
        (
            Counts {
                validated: 7,
                exhausted: 1,
                complete: 1,
                held: 1,
                ..Counts::default()
            },
            State::Degraded,
            "exhausted",
        ),
    ];
    for (counts, state, kind) in cases {
        assert_eq!(
            state_of(&made(counts), &fleet()),
            (state, kind),
            "{counts:?}"
        );
    }
}

#[test]
fn a_chain_behind_an_exhausted_chunk_is_at_its_end_and_a_paused_one_is_not() {
    let degraded = Standing::new(State::Degraded, Reason::new("exhausted", ""));
    let done = Standing::new(State::Done, None);
    let blocked = Standing::new(State::Blocked, Reason::new("input_exhausted", ""));
    let behind = Standing::new(State::Waiting, Reason::new("inputs", ""));
    let retry = Standing::new(State::Waiting, Reason::new("retry", ""));
    let paused = Standing::new(State::Paused, Reason::new("paused", ""));
    let failed = Standing::new(State::Blocked, Reason::new("plan_failed", ""));
    assert_eq!(verdict(&[done.clone(), done.clone()]), Verdict::Done);
    assert_eq!(
        verdict(&[
            done.clone(),
            degraded.clone(),
            blocked.clone(),
            behind.clone()
        ]),
        Verdict::Degraded
    );
    assert_eq!(verdict(&[failed, behind.clone()]), Verdict::Degraded);
    assert_eq!(verdict(&[degraded.clone(), retry]), Verdict::Open);
    assert_eq!(verdict(&[degraded, paused]), Verdict::Open);
    assert_eq!(verdict(&[done.clone(), behind]), Verdict::Open);
    let gap = Standing::new(State::Blocked, Reason::new("gap", ""));
    assert_eq!(verdict(&[done, gap]), Verdict::Degraded);
}

fn sample(n_15m: i64, n_1h: i64, n_all: i64, first_claimed_ago: TimeDelta) -> Sample {
    Sample {
        n_15m,
        bytes_15m: n_15m * 1000,
        n_1h,
        bytes_1h: n_1h * 1000,
        n_all,
        bytes_all: n_all * 1000,
        first_claimed: NOON - first_claimed_ago,
        cut_since: None,
    }
}

fn per_hour(sample: &Sample) -> f64 {
    speed(sample, NOON).map_or(0.0, |speed| speed.chunks_per_second * 3600.0)
}

#[test]
fn speed_is_taken_over_the_shortest_window_that_means_something() {
    let day = TimeDelta::hours(24);
    assert!(
        (per_hour(&sample(90, 100, 110, day)) - 360.0).abs() < 1e-6,
        "15 minutes"
    );
    assert!(
        (per_hour(&sample(3, 20, 110, day)) - 20.0).abs() < 1e-6,
        "an hour"
    );
    assert!(
        (per_hour(&sample(0, 2, 48, day)) - 2.0).abs() < 1e-6,
        "a day"
    );
    // Four results of ten minutes' work: a start is not an eternity of nothing before.
    assert!((per_hour(&sample(4, 4, 4, TimeDelta::minutes(10))) - 24.0).abs() < 1e-6);
    // A sample that was cut off knows nothing before the cut.
    let cut = Sample {
        cut_since: Some(NOON - TimeDelta::seconds(100)),
        ..sample(2000, 2000, 2000, day)
    };
    assert!((per_hour(&cut) - 72_000.0).abs() < 1e-6);
    assert_eq!(speed(&sample(0, 0, 0, day), NOON), None);
    assert_eq!(
        speed(
            &Sample {
                first_claimed: NOON + TimeDelta::hours(1),
                ..sample(1, 1, 1, day)
            },
            NOON
        ),
        None
    );
}

#[test]
fn nothing_ends_before_its_inputs_and_only_what_moves_has_an_end() {
    let slow = Speed {
        chunks_per_second: 0.001,
        bytes_per_second: 0.0,
    };
    let fast = Speed {
        chunks_per_second: 10.0,
        bytes_per_second: 0.0,
    };
    let mid = made(Counts {
        ready: 5,
        failed: 5,
        exhausted: 3,
        ..Counts::default()
    });
    let mut dst = made(Counts {
        waiting: 10,
        ..Counts::default()
    });
    (dst.name, dst.data_set_id) = ("dst".to_owned(), 3);
    dst.inputs = vec![InputFacts {
        dataset: "mid".to_owned(),
        whole: false,
        chunks: Some(13),
        validated: 0,
        exhausted: 3,
    }];
    let running = Standing::new(State::Running, None);
    let waiting = Standing::new(State::Waiting, Reason::new("inputs", ""));
    let ends_of = |mid_standing: &Standing, mid_speed: Option<Speed>| {
        let ends = ends(
            &[
                (&mid, mid_standing, mid_speed),
                (&dst, &waiting, Some(fast)),
            ],
            NOON,
        );
        (ends.get(&2).copied(), ends.get(&3).copied())
    };
    let late = Some(NOON + TimeDelta::seconds(10_000));
    assert_eq!(ends_of(&running, Some(slow)), (late, late));
    let paused = Standing::new(State::Paused, Reason::new("paused", ""));
    assert_eq!(ends_of(&paused, Some(slow)), (None, None));
    assert_eq!(ends_of(&running, None).0, None);
    let never = Speed {
        chunks_per_second: 1e-300,
        bytes_per_second: 0.0,
    };
    assert!(
        ends_of(&running, Some(never))
            .0
            .is_some_and(|end| end > NOON + TimeDelta::days(30_000))
    );
}

#[test]
fn what_no_plan_has_is_no_chunk_that_comes_shortly() {
    let mut set = made(Counts {
        waiting: 2,
        validated: 8,
        ..Counts::default()
    });
    let fleet = fleet();
    assert_eq!(state_of(&set, &fleet), (State::Idle, "release"));
    set.gap = Some("hours/2024-03-31T05+0200".to_owned());
    assert_eq!(state_of(&set, &fleet), (State::Blocked, "gap"));
    let text = standing(&set, &fleet).reason.unwrap().text;
    assert!(
        text.contains("2 chunks wait") && text.contains("hours/2024-03-31T05+0200"),
        "{text}"
    );
    set.counts.failed = 1;
    assert_eq!(
        state_of(&set, &fleet).0,
        State::Waiting,
        "something moves yet"
    );
}

#[test]
fn spans_have_two_units_at_most() {
    let shown = |seconds: i64| span(TimeDelta::seconds(seconds));
    let cases = [
        (-5, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (1800, "30 min"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ];
    for (seconds, expected) in cases {
        assert_eq!(shown(seconds), expected);
    }
}
