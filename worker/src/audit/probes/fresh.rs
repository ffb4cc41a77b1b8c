//! `freshness`: the greatest time of a column is not old, by this worker's clock.

use std::time::Duration;

use chrono::{NaiveDateTime, Utc};
use common::flow::rules::Freshness;

use super::{Broken, Wanted, shown};
use crate::audit::probe::{Answer, Facts, Probe};
use crate::audit::row::Row;
use crate::audit::value::{Order, Typed};

/// The probe.
pub(crate) struct Fresh {
    rule: Freshness,
    wanted: Wanted,
    newest: Option<NaiveDateTime>,
    broken: Broken,
}

impl Fresh {
    pub(crate) fn new(rule: &Freshness) -> Self {
        Self {
            rule: rule.clone(),
            wanted: Wanted::new([&rule.column]),
            newest: None,
            broken: Broken::default(),
        }
    }
}

impl Probe for Fresh {
    fn columns(&mut self, names: &[String]) {
        self.wanted.find(names);
    }

    fn row(&mut self, row: &Row<'_>) -> bool {
        if let Some(text) = self.wanted.value(row, 0) {
            match Order::Moment.parse(text) {
                Some(Typed::Moment(at)) => {
                    self.newest = Some(self.newest.map_or(at, |newest| newest.max(at)));
                }
                _ => self
                    .broken
                    .add(row.number, || format!("{} is no time", shown(Some(text)))),
            }
        }
        true
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        if let Some(missing) = self.wanted.missing(facts.rows) {
            return Answer::new(false, missing);
        }
        if let Some(told) = self.broken.told() {
            return Answer::new(false, told);
        }
        fresh(
            self.newest,
            self.rule.within_seconds,
            Utc::now().naive_utc(),
        )
    }
}

/// Judges the newest time of a column; also for tables.
pub(crate) fn fresh(
    newest: Option<NaiveDateTime>,
    within_seconds: u64,
    now: NaiveDateTime,
) -> Answer {
    let words = |seconds: u64| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let expected = format!("at most {} old", words(within_seconds));
    let Some(newest) = newest else {
        return Answer::new(false, "no time at all").expecting(expected);
    };
    // What lies ahead of this clock is not old.
    let age = u64::try_from((now - newest).num_seconds()).unwrap_or(0);
    Answer::new(
        age <= within_seconds,
        format!("newest {newest}, {} old", words(age)),
    )
    .expecting(expected)
}
