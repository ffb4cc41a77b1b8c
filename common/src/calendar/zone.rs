//! A zone as stretches of one offset each: what every window is computed from.
//!
//! Local time is a function of UTC and not the other way round, so nothing in here ever asks which
//! instant a local time "is": it asks where the clock stood during a stretch. All numbers are whole
//! seconds; a local second counts from 1970-01-01T00:00 on the wall clock.

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

/// No two changes of a zone's clock lie closer together than this, in seconds.
const STEP: i64 = 3600;

/// A time during which the offset of a zone does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// First second inside, UTC.
    pub(super) start: i64,
    /// First second outside, UTC.
    pub(super) end: i64,
    /// Local minus UTC.
    pub(super) offset: i64,
}

/// Local minus UTC at an instant.
pub(super) fn offset_at(zone: Tz, utc: i64) -> i64 {
    // Out of the calendar's range only beyond the years that a window may lie in.
    let naive = DateTime::from_timestamp(utc, 0)
        .unwrap_or_default()
        .naive_utc();
    let offset = zone.offset_from_utc_datetime(&naive).fix();
    i64::from(offset.local_minus_utc())
}

/// The stretches that tile `[from, to)`, in order.
pub(super) fn stretches(zone: Tz, from: i64, to: i64) -> Vec<Stretch> {
    let mut found = Vec::new();
    let mut start = from;
    let mut offset = offset_at(zone, from);
    let mut seen = from;
    while seen < to {
        let next = (seen + STEP).min(to);
        let changed = offset_at(zone, next);
        if changed != offset {
            let end = change_between(zone, seen, next, offset);
            found.push(Stretch { start, end, offset });
            (start, offset) = (end, changed);
        }
        seen = next;
    }
    if start < to {
        let end = to;
        found.push(Stretch { start, end, offset });
    }
    found
}

/// The first second after `before` whose offset is not `offset`; that of `after` is not.
fn change_between(zone: Tz, mut before: i64, mut after: i64, offset: i64) -> i64 {
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset_at(zone, middle) == offset {
            before = middle;
        } else {
            after = middle;
        }
    }
    after
}

/// Walks through stretches to the first instants of ever later local times.
#[derive(Debug)]
pub(super) struct Dial<'s> {
    left: &'s [Stretch],
}

impl<'s> Dial<'s> {
    pub(super) fn new(stretches: &'s [Stretch]) -> Self {
        Self { left: stretches }
    }

    /// The first instant at which the clock shows `local` or later. In a gap that is the end of the
    /// gap, in a fold the first of the two times. Later calls must ask for later times.
    pub(super) fn reach(&mut self, local: i64) -> i64 {
        while let [first, rest @ ..] = self.left {
            if local < first.end + first.offset || rest.is_empty() {
                return first.start.max(local - first.offset);
            }
            self.left = rest;
        }
        local
    }
}
