//! Windows against an independent reading of the same zones: which local time an instant has.

use std::collections::HashSet;

use chrono::{DateTime, Datelike as _, Days, NaiveDate, Timelike as _, Utc, Weekday};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::{Calendar, CalendarError, Every, Window};

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn calendar(every: &str, from: &str, to: &str, zone: &str) -> Calendar {
    Calendar {
        every: every.parse().unwrap(),
        from: day(from),
        to: day(to),
        zone: zone.parse().unwrap(),
        week_starts: Weekday::Mon,
    }
}

fn hours(window: &Window) -> f64 {
    (window.end - window.start).num_seconds() as f64 / 3600.0
}

fn labels(windows: &[Window]) -> Vec<&str> {
    windows.iter().map(|w| w.label.as_str()).collect()
}

/// No gap, no overlap, no empty window, no name twice; and from the first instant of the first date
/// on to that of the last.
fn tiles(calendar: &Calendar, windows: &[Window]) {
    let zone = calendar.zone;
    let first = windows.first().expect("a window");
    let last = windows.last().expect("a window");
    for pair in windows.windows(2) {
        assert_eq!(
            pair[0].end, pair[1].start,
            "{} | {}",
            pair[0].label, pair[1].label
        );
    }
    let mut names = HashSet::new();
    for window in windows {
        assert!(window.start < window.end, "{window:?}");
        assert!(names.insert(&window.label), "{} stands twice", window.label);
        assert!(!window.label.contains('/'));
    }
    for (edge, date) in [(first.start, calendar.from), (last.end, calendar.to)] {
        let local = |at: DateTime<Utc>| at.with_timezone(&zone).date_naive();
        assert!(local(edge) >= date, "{edge} is before {date}");
        // No earlier instant has that date: looked for minute by minute over two days.
        for minutes in 1..2 * 24 * 60 {
            let earlier = edge - chrono::TimeDelta::minutes(minutes);
            assert!(local(earlier) < date, "{earlier} is in {date} already");
        }
    }
}

#[test]
fn a_day_has_23_24_or_25_hours() {
    let days = calendar("day", "2024-03-30", "2024-04-02", "Europe/Berlin").windows();
    assert_eq!(
        days.iter().map(hours).collect::<Vec<_>>(),
        [24.0, 23.0, 24.0]
    );
    assert_eq!(labels(&days), ["2024-03-30", "2024-03-31", "2024-04-01"]);
    let spring = calendar("hour", "2024-03-31", "2024-04-01", "Europe/Berlin").windows();
    assert_eq!(spring.len(), 23);
    assert!(spring.iter().all(|w| hours(w) == 1.0));
    assert_eq!(
        labels(&spring)[1..3],
        ["2024-03-31T01+0100", "2024-03-31T03+0200"]
    );
    let autumn = calendar("hour", "2024-10-27", "2024-10-28", "Europe/Berlin").windows();
    assert_eq!(autumn.len(), 25);
    assert_eq!(
        labels(&autumn)[2..4],
        ["2024-10-27T02+0200", "2024-10-27T02+0100"]
    );
}

#[test]
fn windows_of_several_hours_stretch_with_the_clock() {
    let spring = calendar("6 hours", "2024-03-31", "2024-04-01", "Europe/Berlin").windows();
    assert_eq!(
        spring.iter().map(hours).collect::<Vec<_>>(),
        [5.0, 6.0, 6.0, 6.0]
    );
    let autumn = calendar("6 hours", "2024-10-27", "2024-10-28", "Europe/Berlin").windows();
    assert_eq!(
        autumn.iter().map(hours).collect::<Vec<_>>(),
        [7.0, 6.0, 6.0, 6.0]
    );
    assert_eq!(autumn[0].label, "2024-10-27T00+0200");
}

#[test]
fn midnight_in_a_gap_begins_the_day_late() {
    // The clock went from 24:00 to 01:00.
    for (zone, date) in [
        ("America/Sao_Paulo", "2018-11-04"),
        ("Africa/Cairo", "2024-04-26"),
        ("Asia/Beirut", "2024-03-31"),
    ] {
        let next = day(date).succ_opt().unwrap().to_string();
        let days = calendar("day", date, &next, zone);
        let windows = days.windows();
        tiles(&days, &windows);
        assert_eq!(hours(&windows[0]), 23.0, "{zone}");
        let local = windows[0].start.with_timezone(&days.zone);
        assert_eq!((local.day(), local.hour()), (day(date).day(), 1), "{zone}");
        let of_hours = calendar("hour", date, &next, zone).windows();
        assert_eq!(of_hours.len(), 23, "{zone}");
        assert_eq!(of_hours[0].start, windows[0].start);
    }
}

#[test]
fn midnight_in_a_fold_begins_the_day_early() {
    // At 01:00 the clock went back to 00:00.
    let days = calendar("day", "2024-11-02", "2024-11-05", "America/Havana").windows();
    assert_eq!(
        days.iter().map(hours).collect::<Vec<_>>(),
        [24.0, 25.0, 24.0]
    );
    // At one minute past midnight it went back to 23:01: the day had begun.
    let johns = calendar("day", "2010-11-06", "2010-11-09", "America/St_Johns");
    let windows = johns.windows();
    tiles(&johns, &windows);
    assert_eq!(
        windows.iter().map(hours).collect::<Vec<_>>(),
        [24.0, 25.0, 24.0]
    );
    let of_hours = Calendar {
        every: Every::Hours(1),
        ..johns
    }
    .windows();
    assert_eq!(
        of_hours.len(),
        74,
        "a minute of its own, and the rest of the second pass"
    );
}

#[test]
fn half_hours_and_left_out_days() {
    let howe = |from, to| calendar("hour", from, to, "Australia/Lord_Howe").windows();
    let autumn = howe("2024-04-07", "2024-04-08");
    assert_eq!(autumn.iter().map(hours).sum::<f64>(), 24.5);
    assert_eq!(
        labels(&autumn)[1..3],
        ["2024-04-07T01+1100", "2024-04-07T01+1030"]
    );
    let spring = howe("2024-10-06", "2024-10-07");
    assert_eq!(spring.iter().map(hours).sum::<f64>(), 23.5);
    assert_eq!((spring.len(), hours(&spring[2])), (24, 0.5));

    let apia = calendar("day", "2011-12-28", "2012-01-02", "Pacific/Apia");
    let windows = apia.windows();
    tiles(&apia, &windows);
    assert_eq!(
        labels(&windows),
        ["2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01"]
    );
    let week = calendar("week", "2011-12-26", "2012-01-02", "Pacific/Apia").windows();
    assert_eq!((labels(&week), hours(&week[0])), (vec!["2011-W52"], 144.0));
    // A date that came twice.
    let kwaj = calendar("day", "1969-09-29", "1969-10-02", "Pacific/Kwajalein");
    tiles(&kwaj, &kwaj.windows());
    assert_eq!(kwaj.windows().iter().map(hours).sum::<f64>(), 72.0 + 23.0);
    let offsets = calendar("hour", "2024-01-01", "2024-01-02", "Asia/Kathmandu").windows();
    assert_eq!(offsets[0].label, "2024-01-01T00+0545");
    assert_eq!(offsets[0].start.minute(), 15);
}

#[test]
fn weeks_and_months_are_named_as_calendars_name_them() {
    let weeks = calendar("week", "2024-12-23", "2025-01-13", "UTC").windows();
    assert_eq!(labels(&weeks), ["2024-W52", "2025-W01", "2025-W02"]);
    let sundays = Calendar {
        week_starts: Weekday::Sun,
        ..calendar("week", "2024-03-31", "2024-04-14", "UTC")
    };
    assert_eq!(sundays.check(), Ok(()));
    assert_eq!(labels(&sundays.windows()), ["W2024-03-31", "W2024-04-07"]);
    let months = calendar("month", "2024-01-01", "2024-04-01", "UTC").windows();
    assert_eq!(labels(&months), ["2024-01", "2024-02", "2024-03"]);
    let quarters = calendar("3 months", "2024-01-01", "2025-01-01", "Asia/Tokyo").windows();
    assert_eq!(
        labels(&quarters),
        ["2024-01", "2024-04", "2024-07", "2024-10"]
    );
}

#[test]
fn dates_between_windows_are_refused_with_the_nearest() {
    let check = |every, from, to| calendar(every, from, to, "UTC").check();
    assert_eq!(check("week", "2024-01-01", "2024-01-15"), Ok(()));
    let text = check("week", "2024-01-03", "2024-01-15")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("2024-01-01") && text.contains("2024-01-08"),
        "{text}"
    );
    let text = check("3 months", "2024-01-01", "2024-05-01")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("2024-04-01") && text.contains("2024-07-01"),
        "{text}"
    );
    assert!(matches!(
        check("day", "2024-01-01", "2024-01-01"),
        Err(CalendarError::Empty { .. })
    ));
    assert!(matches!(
        check("day", "2024-01-01", "2100-01-02"),
        Err(CalendarError::Unknown { .. })
    ));
}

#[test]
fn lengths_that_do_not_tile_are_refused() {
    for text in [
        "hour",
        "6 hours",
        "day",
        "week",
        "month",
        "3 months",
        "12 months",
    ] {
        assert_eq!(text.parse::<Every>().unwrap().to_string(), text);
    }
    assert_eq!("1 hour".parse::<Every>(), Ok(Every::Hours(1)));
    for text in [
        "",
        "0 hours",
        "5 hours",
        "24 hours",
        "48 hours",
        "2 days",
        "5 months",
        "minute",
        "six hours",
        "-1 hours",
    ] {
        assert!(text.parse::<Every>().is_err(), "{text}");
    }
}

#[test]
fn the_last_year_still_has_summer_time() {
    let last = calendar("hour", "2099-03-29", "2099-03-30", "Europe/Berlin").windows();
    assert_eq!(last.len(), 23, "the zones' rules are known up to there");
}

fn any_zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(TZ_VARIANTS.to_vec())
}

fn any_every() -> impl Strategy<Value = Every> {
    let words = [
        "hour", "2 hours", "3 hours", "6 hours", "12 hours", "day", "week", "month", "3 months",
    ];
    prop::sample::select(words.to_vec()).prop_map(|word| word.parse().unwrap())
}

/// The beginning of a window at or before a date.
fn aligned(every: Every, zone: Tz, date: NaiveDate) -> Calendar {
    let calendar = Calendar {
        every,
        from: date,
        to: date,
        zone,
        week_starts: Weekday::Mon,
    };
    let from = calendar.begin_of(date);
    Calendar {
        from,
        to: from,
        ..calendar
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_of_every_zone_tile_time_exactly_once(
        zone in any_zone(), every in any_every(), year in 1890..2098_i32, ordinal in 1..=365_u32, count in 1..40_u32,
    ) {
        let date = NaiveDate::from_yo_opt(year, ordinal).unwrap();
        let mut calendar = aligned(every, zone, date);
        for _ in 0..count {
            calendar.to = calendar.next(calendar.to);
        }
        prop_assume!(calendar.to <= super::LAST);
        prop_assert_eq!(calendar.check(), Ok(()));
        let windows = calendar.windows();
        // A span of one left-out date has no window and no time to tile.
        prop_assume!(!windows.is_empty());
        tiles(&calendar, &windows);
        // The same windows whichever way they are asked for.
        let middle = &windows[windows.len() / 2];
        let over = calendar.over(middle.start, middle.end);
        prop_assert_eq!(over, vec![middle.clone()]);
    }

    #[test]
    fn smaller_windows_never_cross_larger_ones(zone in any_zone(), year in 1890..2098_i32, ordinal in 1..=350_u32) {
        let date = NaiveDate::from_yo_opt(year, ordinal).unwrap();
        let span = |every: Every| Calendar { to: date.checked_add_days(Days::new(9)).unwrap(), ..aligned(every, zone, date) };
        let starts = |every: Every| -> HashSet<DateTime<Utc>> {
            let windows = Calendar { from: date, ..span(every) }.windows();
            windows.iter().flat_map(|w| [w.start, w.end]).collect()
        };
        let hours = starts(Every::Hours(1));
        let sixes = starts(Every::Hours(6));
        let days = starts(Every::Day);
        prop_assert!(days.is_subset(&sixes) && days.is_subset(&hours), "{zone} {date}");
    }
}
