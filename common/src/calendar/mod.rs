//! Calendar windows in a time zone: they tile UTC from one local date to another, each instant once.
//!
//! The policy for gaps and folds, which everything else follows from:
//! - A day, week or month begins at the first instant at which the local date is its first date or a
//!   later one. Where midnight falls into a gap that is the end of the gap; where midnight comes
//!   twice, the first time. A date that its zone left out has no window.
//! - An hour window is a stretch of one hour of the clock. Where the clock is put back after that hour
//!   was over, the second pass is a window of its own (a day of 25 hours has 25 of them); where it is
//!   put back or forward within a window, the window is longer or shorter by as much.
//!
//! So windows of hours never cross the border of a day, nor days that of a week or a month. Pure: no
//! clock and no I/O; the zones are those of the build.

mod every;
#[cfg(test)]
mod tests;
mod zone;

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

pub use every::{EXPECTED, Every, NotEvery};
use zone::{Dial, Stretch, offset_at, stretches};

/// The first date that may begin a window.
pub const FIRST: NaiveDate = date(1800);
/// The last date that may end one: zones are known up to there.
pub const LAST: NaiveDate = date(2100);

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;

const fn date(year: i32) -> NaiveDate {
    match NaiveDate::from_ymd_opt(year, 1, 1) {
        Some(date) => date,
        None => NaiveDate::MIN,
    }
}

/// Windows of one length in one zone over a span of local dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// How long a window is.
    pub every: Every,
    /// The first date inside.
    pub from: NaiveDate,
    /// The first date outside.
    pub to: NaiveDate,
    /// Whose clock counts.
    pub zone: Tz,
    /// The day on which a week begins; Monday unless declared.
    #[serde(default = "monday", skip_serializing_if = "is_monday")]
    pub week_starts: Weekday,
}

fn monday() -> Weekday {
    Weekday::Mon
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_monday(day: &Weekday) -> bool {
    *day == Weekday::Mon
}

/// One window: the instants in `[start, end)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// First instant inside.
    pub start: DateTime<Utc>,
    /// First instant outside.
    pub end: DateTime<Utc>,
    /// Its name, unique in its calendar and telling local time: `2024-03-31`, `2024-W13`, `2024-03`,
    /// `2024-10-27T02+0200`.
    pub label: String,
}

/// Why a calendar's dates cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// `to` is not after `from`.
    #[error("to ({to}) is not after from ({from})")]
    Empty {
        /// The first date inside.
        from: NaiveDate,
        /// The first date outside.
        to: NaiveDate,
    },
    /// A date outside of the years that zones are known for.
    #[error("{date} is not between {FIRST} and {LAST}, for which the zones' rules are known")]
    Unknown {
        /// Which.
        date: NaiveDate,
    },
    /// A date on which no window of this length begins.
    #[error(
        "no window of a {every} begins on {date}; the nearest that do are {before} and {after}"
    )]
    Crooked {
        /// The length.
        every: Every,
        /// The date written.
        date: NaiveDate,
        /// The last beginning before it.
        before: NaiveDate,
        /// The first beginning after it.
        after: NaiveDate,
    },
}

impl Calendar {
    /// Whether whole windows tile the dates from `from` to `to`.
    ///
    /// # Errors
    /// The first thing that is wrong with the two dates.
    pub fn check(&self) -> Result<(), CalendarError> {
        let (from, to) = (self.from, self.to);
        if let Some(date) = [from, to].into_iter().find(|d| *d < FIRST || *d > LAST) {
            return Err(CalendarError::Unknown { date });
        }
        if to <= from {
            return Err(CalendarError::Empty { from, to });
        }
        for date in [from, to] {
            let before = self.begin_of(date);
            if before != date {
                return Err(CalendarError::Crooked {
                    every: self.every,
                    date,
                    before,
                    after: self.next(before),
                });
            }
        }
        Ok(())
    }

    /// The windows of the calendar, in order; they tile the time from the beginning of `from` to the
    /// beginning of `to`.
    #[must_use]
    pub fn windows(&self) -> Vec<Window> {
        let known = stretches(
            self.zone,
            local(self.from) - 2 * DAY,
            local(self.to) + 2 * DAY,
        );
        match self.every {
            Every::Hours(hours) => self.of_hours(i64::from(hours), &known),
            Every::Day | Every::Week | Every::Months(_) => self.of_dates(&known),
        }
    }

    /// The windows of this length and zone that share an instant with `[start, end)`, whatever the
    /// calendar's own dates are.
    #[must_use]
    pub fn over(&self, start: DateTime<Utc>, end: DateTime<Utc>) -> Vec<Window> {
        let date = |instant: DateTime<Utc>| instant.with_timezone(&self.zone).date_naive();
        let from = date(start).checked_sub_days(Days::new(2));
        let to = date(end).checked_add_days(Days::new(3));
        let around = Self {
            from: self.begin_of(from.map_or(FIRST, |date| date.max(FIRST))),
            to: to.map_or(LAST, |date| date.min(LAST)),
            ..*self
        };
        let mut windows = around.windows();
        windows.retain(|window| window.start < end && window.end > start);
        windows
    }

    /// The first date of the window in which a date lies.
    fn begin_of(&self, date: NaiveDate) -> NaiveDate {
        let begin = match self.every {
            Every::Hours(_) | Every::Day => Some(date),
            Every::Week => {
                let days = date.weekday().days_since(self.week_starts);
                date.checked_sub_days(Days::new(u64::from(days)))
            }
            Every::Months(months) => {
                let over = date.month0() % months;
                let first = date.with_day(1);
                first.and_then(|first| first.checked_sub_months(Months::new(over)))
            }
        };
        begin.unwrap_or(date)
    }

    /// The first date of the window after the one that begins on `date`.
    fn next(&self, date: NaiveDate) -> NaiveDate {
        let next = match self.every {
            Every::Hours(_) | Every::Day => date.succ_opt(),
            Every::Week => date.checked_add_days(Days::new(7)),
            Every::Months(months) => date.checked_add_months(Months::new(months)),
        };
        next.unwrap_or(NaiveDate::MAX)
    }

    fn of_dates(&self, known: &[Stretch]) -> Vec<Window> {
        let mut dial = Dial::new(known);
        let mut windows = Vec::new();
        let mut date = self.from;
        let mut start = dial.reach(local(date));
        while date < self.to {
            let next = self.next(date);
            let end = dial.reach(local(next));
            // A date that its zone left out lasts no second.
            if start < end {
                windows.push(window(start, end, self.date_label(date)));
            }
            (date, start) = (next, end);
        }
        windows
    }

    fn date_label(&self, date: NaiveDate) -> String {
        match self.every {
            Every::Week if self.week_starts == Weekday::Mon => {
                let week = date.iso_week();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            // Only weeks that begin on a Monday have numbers that everybody counts alike.
            Every::Week => format!("W{date}"),
            Every::Months(_) => date.format("%Y-%m").to_string(),
            Every::Hours(_) | Every::Day => date.to_string(),
        }
    }

    fn of_hours(&self, hours: i64, known: &[Stretch]) -> Vec<Window> {
        let slot_length = hours * HOUR;
        let mut dial = Dial::new(known);
        let start = dial.reach(local(self.from));
        let end = dial.reach(local(self.to));
        let mut windows: Vec<(i64, i64)> = Vec::new();
        // The slot of the last window, and whether the clock came to its end.
        let mut last: Option<(i64, bool)> = None;
        for stretch in known {
            let (mut at, until) = (stretch.start.max(start), stretch.end.min(end));
            while at < until {
                let slot = (at + stretch.offset).div_euclid(slot_length);
                let slot_end = (slot + 1) * slot_length - stretch.offset;
                let piece_end = slot_end.min(until);
                match (last, windows.last_mut()) {
                    (Some((same, false)), Some(window)) if same == slot => window.1 = piece_end,
                    _ => windows.push((at, piece_end)),
                }
                last = Some((slot, piece_end == slot_end));
                at = piece_end;
            }
        }
        windows
            .into_iter()
            .map(|(start, end)| window(start, end, self.hour_label(start)))
            .collect()
    }

    fn hour_label(&self, start: i64) -> String {
        let offset = offset_at(self.zone, start);
        let shown = instant(start + offset).format("%Y-%m-%dT%H");
        let sign = if offset < 0 { '-' } else { '+' };
        let offset = offset.abs();
        let (hours, minutes, seconds) = (offset / HOUR, offset % HOUR / 60, offset % 60);
        if seconds == 0 {
            format!("{shown}{sign}{hours:02}{minutes:02}")
        } else {
            // Zones had the offset of their longitude before there were railways.
            format!("{shown}{sign}{hours:02}{minutes:02}{seconds:02}")
        }
    }
}

/// Midnight of a date in local seconds.
fn local(date: NaiveDate) -> i64 {
    i64::from(date.to_epoch_days()) * DAY
}

fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

fn window(start: i64, end: i64, label: String) -> Window {
    Window {
        start: instant(start),
        end: instant(end),
        label,
    }
}
