//! Numbers, times and speeds as people read them: units always, times in the viewer's zone.

use chrono::{DateTime, Datelike, FixedOffset};
use common::domain::size::format_bytes;

/// `1,234,567`.
#[must_use]
pub fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if n < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a unit; negative counts, which only a defect makes, as 0.
#[must_use]
pub fn bytes(n: i64) -> String {
    format_bytes(u64::try_from(n).unwrap_or(0))
}

/// Parts of a whole in percent, never rounded up to 100.0 while something is missing.
#[must_use]
pub fn percent(part: i64, whole: i64) -> String {
    if whole <= 0 {
        return "100.0%".to_owned();
    }
    let tenths = (i128::from(part.clamp(0, whole)) * 1000 / i128::from(whole)) as i64;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// `12.3 chunks/s`, or by the minute, hour or day where that is easier to read.
#[must_use]
pub fn rate(per_second: f64) -> String {
    let (value, unit) = match per_second {
        r if r >= 1.0 => (r, "s"),
        r if r * 60.0 >= 1.0 => (r * 60.0, "min"),
        r if r * 3600.0 >= 1.0 => (r * 3600.0, "h"),
        r => (r * 86_400.0, "day"),
    };
    if value >= 100.0 {
        format!("{value:.0} chunks/{unit}")
    } else {
        format!("{value:.1} chunks/{unit}")
    }
}

/// `2.1 TB/day`.
#[must_use]
pub fn volume(bytes_per_second: f64) -> String {
    format!("{}/day", format_bytes((bytes_per_second * 86_400.0) as u64))
}

/// When something will be: `14:00` today, `3 Dec 14:00` this year, else `3 Dec 2027`.
#[must_use]
pub fn moment(at: DateTime<FixedOffset>, now: DateTime<FixedOffset>) -> String {
    if at.date_naive() == now.date_naive() {
        at.format("%H:%M").to_string()
    } else if at.year() == now.year() || (at - now).num_days().abs() < 60 {
        at.format("%-d %b %H:%M").to_string()
    } else {
        at.format("%-d %b %Y").to_string()
    }
}

/// When something was, to the second: `2026-12-03 14:00:05`.
#[must_use]
pub fn stamp(at: DateTime<FixedOffset>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Milliseconds as `250 ms`, `4.2 s`, `3 min 5 s`, ...
#[must_use]
pub fn millis(ms: i64) -> String {
    match ms {
        ..1000 => format!("{} ms", ms.max(0)),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => crate::read::state::span(chrono::TimeDelta::milliseconds(ms)),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{grouped, millis, moment, percent, rate, volume};

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(-12_345), "-12,345");
        assert_eq!(grouped(i64::MIN), "-9,223,372,036,854,775,808");
    }

    #[test]
    fn a_percentage_reaches_a_hundred_only_when_all_is_there() {
        assert_eq!(percent(4812, 10_000), "48.1%");
        assert_eq!(percent(999_999, 1_000_000), "99.9%");
        assert_eq!(percent(1_000_000, 1_000_000), "100.0%");
        assert_eq!(percent(0, 0), "100.0%");
        assert_eq!(percent(11, 10), "100.0%");
    }

    #[test]
    fn speeds_take_the_unit_that_reads_best() {
        assert_eq!(rate(12.34), "12.3 chunks/s");
        assert_eq!(rate(1234.0), "1234 chunks/s");
        assert_eq!(rate(0.5), "30.0 chunks/min");
        assert_eq!(rate(0.001), "3.6 chunks/h");
        assert_eq!(rate(0.000_1), "8.6 chunks/day");
        assert_eq!(volume(24_305_555.6), "2.1 TB/day");
    }

    #[test]
    fn a_moment_shows_what_is_not_obvious() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap();
        let now = at("2026-11-21T15:00:00+01:00");
        assert_eq!(moment(at("2026-11-21T23:30:00+01:00"), now), "23:30");
        assert_eq!(moment(at("2026-12-03T14:00:00+01:00"), now), "3 Dec 14:00");
        assert_eq!(moment(at("2027-01-03T14:00:00+01:00"), now), "3 Jan 14:00");
        assert_eq!(moment(at("2027-12-03T14:00:00+01:00"), now), "3 Dec 2027");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(millis(250), "250 ms");
        assert_eq!(millis(4_260), "4.2 s");
        assert_eq!(millis(185_000), "3 min 5 s");
    }
}
