//! Durations as people write them in a flow file and on a command line: `25s`, `2h 30m`, `7d`.
//!
//! Units are fixed lengths, so there is no month and no year: their length depends on when.

use std::time::Duration;

/// The units, longest first, with the words that a person may write for each.
const UNITS: [(u64, &[&str]); 6] = [
    (604_800_000, &["w", "week", "weeks"]),
    (86_400_000, &["d", "day", "days"]),
    (3_600_000, &["h", "hr", "hour", "hours"]),
    (60_000, &["m", "min", "mins", "minute", "minutes"]),
    (1_000, &["s", "sec", "secs", "second", "seconds"]),
    (1, &["ms", "millis", "millisecond", "milliseconds"]),
];

/// Parses whole numbers with units, such as `25s`, `2h 30m` or `1h30m`.
///
/// # Errors
/// A sentence that says what was expected, where the text has no number, no unit, an unknown
/// unit, or does not fit in 63 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration such as 25s, 10m, 2h 30m or 7d, found {text:?}");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(expected());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (digits, after) = split_at(rest, |c| !c.is_ascii_digit());
        let (unit, next) = split_at(after.trim_start(), |c| !c.is_alphabetic());
        if digits.is_empty() {
            return Err(expected());
        }
        if unit.is_empty() {
            return Err(format!(
                "expected a unit after the number in {text:?}, for example {digits}s or {digits}m"
            ));
        }
        let factor = UNITS
            .iter()
            .find(|(_, words)| words.contains(&unit))
            .map(|(factor, _)| *factor)
            .ok_or_else(|| format!("{}, units are ms, s, m, h, d and w", expected()))?;
        let number: u64 = digits.parse().map_err(|_| expected())?;
        total = number
            .checked_mul(factor)
            .and_then(|part| total.checked_add(part))
            .filter(|sum| i64::try_from(*sum).is_ok())
            .ok_or_else(|| format!("{}, this one is too long", expected()))?;
        rest = next.trim_start();
    }
    Ok(Duration::from_millis(total))
}

fn split_at(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// Prints a duration with its largest units: `2h 30m`, `25s`, `250ms`, `0s`.
///
/// What it prints, [`parse_duration`] reads back to the same value (below a millisecond is cut).
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (factor, words) in UNITS.iter().skip(1) {
        if left >= *factor {
            parts.push(format!("{}{}", left / factor, words[0]));
            left %= factor;
        }
    }
    if parts.is_empty() {
        return "0s".to_owned();
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{format_duration, parse_duration};

    #[test]
    fn durations_are_read_with_units() {
        let seconds = |n| Ok(Duration::from_secs(n));
        assert_eq!(parse_duration("25s"), seconds(25));
        assert_eq!(parse_duration(" 2h 30m "), seconds(9000));
        assert_eq!(parse_duration("1h30m"), seconds(5400));
        assert_eq!(parse_duration("7d"), seconds(604_800));
        assert_eq!(parse_duration("1 week"), seconds(604_800));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in [
            "",
            "25",
            "s",
            "-3s",
            "1.5h",
            "3 months",
            "10M",
            "9999999999999999w",
            "1h x",
            "²s",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad} was read");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(millis in 0_u64..=4_000_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
