//! A moment as a person writes it: `18:30`, `2026-12-03 18:30`, or with a zone.
//!
//! Times without a zone are of the place where the command runs. Must never guess: a time that a
//! change of the clock skips or repeats is refused.

use chrono::{DateTime, Days, Local, NaiveDateTime, NaiveTime, TimeZone, Utc};

/// Reads a moment; a time of day alone is the next one.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    after(text, Local::now())
}

fn after<Z: TimeZone>(text: &str, now: DateTime<Z>) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let expected = || format!("expected a time such as 18:30 or 2026-12-03 18:30, found {text:?}");
    let zoned = |at: NaiveDateTime| {
        now.timezone()
            .from_local_datetime(&at)
            .single()
            .ok_or_else(|| {
                format!("{text:?} does not come exactly once here: the clock changes then")
            })
            .map(|at| at.to_utc())
    };
    for format in ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return zoned(at);
        }
    }
    let time = NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| expected())?;
    let today = now.naive_local().date();
    let day = if time > now.naive_local().time() {
        today
    } else {
        today.checked_add_days(Days::new(1)).ok_or_else(expected)?
    };
    zoned(day.and_time(time))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, FixedOffset};

    use super::after;

    #[test]
    fn a_moment_is_read_where_it_is_written() {
        let now: DateTime<FixedOffset> = "2026-11-21T15:00:00+01:00".parse().unwrap();
        for (text, expected) in [
            ("18:30", "2026-11-21T17:30:00+00:00"),
            ("09:00", "2026-11-22T08:00:00+00:00"),
            ("15:00", "2026-11-22T14:00:00+00:00"),
            ("2026-12-03 18:30", "2026-12-03T17:30:00+00:00"),
            ("2026-12-03T18:30", "2026-12-03T17:30:00+00:00"),
            ("2026-12-03T18:30:00Z", "2026-12-03T18:30:00+00:00"),
        ] {
            assert_eq!(after(text, now).unwrap().to_rfc3339(), expected, "{text}");
        }
        for text in ["", "soon", "25:00", "2026-13-01 10:00", "18"] {
            let problem = after(text, now).unwrap_err();
            assert!(problem.contains("expected a time"), "{problem}");
        }
    }
}
