//! Edges against counting by hand, and windows against an independent look at instants.

use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::{Gap, Links, Side, link, unknown_group};
use crate::calendar::{Calendar, Every};
use crate::domain::{Bounds, NewChunk};
use crate::flow::model::{First, Mapping, Rewrite};

fn calendar(every: &str, from: &str, to: &str, zone: &str) -> Calendar {
    Calendar {
        every: every.parse().unwrap(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        zone: zone.parse().unwrap(),
        week_starts: chrono::Weekday::Mon,
    }
}

fn windows(calendar: &Calendar) -> Vec<NewChunk> {
    let chunk = |window: crate::calendar::Window| NewChunk {
        key: window.label.clone(),
        bounds: Bounds::Window {
            start: window.start,
            end: window.end,
            zone: calendar.zone.to_string(),
            label: window.label,
            rows: None,
        },
        est_rows: None,
        est_bytes: None,
    };
    calendar.windows().into_iter().map(chunk).collect()
}

fn named(keys: &[&str]) -> Vec<NewChunk> {
    let chunk = |key: &&str| NewChunk {
        key: (*key).to_owned(),
        bounds: Bounds::Value {
            value: (*key).to_owned(),
        },
        est_rows: Some(1),
        est_bytes: None,
    };
    keys.iter().map(chunk).collect()
}

fn rewrite(pattern: &str, template: &str) -> Rewrite {
    Rewrite {
        pattern: pattern.to_owned(),
        template: template.to_owned(),
    }
}

fn keys(links: &Links) -> Vec<&str> {
    links
        .chunks
        .iter()
        .map(|chunk| chunk.key.as_str())
        .collect()
}

fn side<'a>(
    mapping: &'a Mapping,
    calendar: Option<&'a Calendar>,
    chunks: &'a [NewChunk],
) -> Side<'a> {
    Side {
        dataset: "in",
        mapping,
        calendar,
        chunks,
    }
}

#[test]
fn a_day_is_made_of_23_24_or_25_hours() {
    let hours = calendar("hour", "2024-03-30", "2024-04-02", "Europe/Berlin");
    let days = calendar("day", "2024-03-30", "2024-04-02", "Europe/Berlin");
    let input = windows(&hours);
    let links = link(
        "out",
        Some(windows(&days)),
        &[side(&Mapping::Windows, Some(&hours), &input)],
    )
    .unwrap();
    let figures = &links.figures[0];
    assert_eq!(
        (figures.min, figures.max, figures.gaps, figures.unused),
        (23, 24, 0, 0)
    );
    assert_eq!(links.edges.len(), 71);
    let autumn = calendar("day", "2024-10-27", "2024-10-28", "Europe/Berlin");
    let hours = Calendar {
        every: Every::Hours(1),
        ..autumn
    };
    let input = windows(&hours);
    let links = link(
        "out",
        Some(windows(&autumn)),
        &[side(&Mapping::Windows, Some(&hours), &input)],
    )
    .unwrap();
    assert_eq!(links.figures[0].max, 25);
}

#[test]
fn a_window_that_the_plan_lacks_is_missed_by_name() {
    let hours = calendar("hour", "2024-03-31", "2024-04-01", "Europe/Berlin");
    let days = calendar("day", "2024-03-30", "2024-04-01", "Europe/Berlin");
    let mut input = windows(&hours);
    input.remove(4);
    let links = link(
        "out",
        Some(windows(&days)),
        &[side(&Mapping::Windows, Some(&hours), &input)],
    )
    .unwrap();
    let of = |output: usize| links.gaps.iter().filter(move |gap| gap.output == output);
    assert_eq!(of(0).count(), 24, "a day before the input begins");
    let gap = Gap {
        output: 1,
        side: 0,
        wanted: "2024-03-31T05+0200".to_owned(),
        is_key: true,
    };
    assert_eq!(of(1).collect::<Vec<_>>(), [&gap]);
    assert_eq!(links.edges.len(), 22);
}

#[test]
fn windows_that_lie_in_two_outputs_are_refused() {
    let hours = calendar("6 hours", "2024-03-30", "2024-04-02", "UTC");
    let days = calendar("day", "2024-03-30", "2024-04-02", "Europe/Berlin");
    let input = windows(&hours);
    let refused = link(
        "out",
        Some(windows(&days)),
        &[side(&Mapping::Windows, Some(&hours), &input)],
    );
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("in/2024-03-29T18+0000") && text.contains("out/2024-03-30"),
        "{text}"
    );
    // The larger inside the smaller is no window inside.
    let refused = link(
        "out",
        Some(windows(&hours)),
        &[side(&Mapping::Windows, Some(&days), &windows(&days))],
    );
    assert!(refused.is_err());
    // Months and weeks never agree.
    let (weeks, months) = (
        calendar("week", "2024-01-01", "2024-02-05", "UTC"),
        calendar("month", "2024-01-01", "2024-02-01", "UTC"),
    );
    assert!(
        link(
            "out",
            Some(windows(&months)),
            &[side(&Mapping::Windows, Some(&weeks), &windows(&weeks))]
        )
        .is_err()
    );
}

#[test]
fn the_first_window_has_none_before_it_and_its_policy_says_what_then() {
    let days = calendar("day", "2024-01-01", "2024-01-04", "UTC");
    let input = windows(&days);
    let by = |first, own: Option<Vec<NewChunk>>| {
        let mapping = Mapping::Previous { first };
        link("out", own, &[side(&mapping, Some(&days), &input)]).unwrap()
    };
    let ready = by(First::Ready, None);
    assert_eq!(keys(&ready), ["2024-01-01", "2024-01-02", "2024-01-03"]);
    let pairs: Vec<_> = ready
        .edges
        .iter()
        .map(|edge| (edge.output, edge.input))
        .collect();
    assert_eq!((pairs, ready.gaps.len()), (vec![(1, 0), (2, 1)], 0));
    let wait = by(First::Wait, None);
    assert_eq!(
        (wait.gaps.len(), wait.gaps[0].wanted.as_str()),
        (1, "2023-12-31")
    );
    let skip = by(First::Skip, None);
    assert_eq!(keys(&skip), ["2024-01-02", "2024-01-03"]);
    let pairs: Vec<_> = skip
        .edges
        .iter()
        .map(|edge| (edge.output, edge.input))
        .collect();
    assert_eq!(pairs, [(0, 0), (1, 1)]);
    // The policy is for the beginning of the input, not for whatever else it lacks.
    let longer = calendar("day", "2023-12-31", "2024-01-06", "UTC");
    let far = by(First::Ready, Some(windows(&longer)));
    let missed: Vec<_> = far
        .gaps
        .iter()
        .map(|gap| (gap.output, gap.wanted.as_str()))
        .collect();
    assert_eq!(missed, [(0, "2023-12-30"), (5, "2024-01-04")]);
}

#[test]
fn expressions_gather_and_spread() {
    let days = named(&["2024-01-01", "2024-01-02", "2024-02-01"]);
    let to = Mapping::To(rewrite(r"^(\d{4}-\d{2})-\d{2}$", "$1"));
    let months = link("out", None, &[side(&to, None, &days)]).unwrap();
    assert_eq!(keys(&months), ["2024-01", "2024-02"]);
    assert_eq!((months.figures[0].min, months.figures[0].max), (1, 2));
    let own = named(&["2024-02", "2024-03"]);
    let declared = link("out", Some(own), &[side(&to, None, &days)]).unwrap();
    assert_eq!(declared.figures[0].unused, 2);
    assert_eq!(
        (declared.gaps[0].output, declared.gaps[0].is_key),
        (1, false)
    );
    // One to several.
    let parts = named(&["a-1", "a-2", "c-1"]);
    let from = Mapping::From(rewrite("^(.)-", "$1"));
    let spread = link(
        "out",
        Some(parts.clone()),
        &[side(&from, None, &named(&["a", "b"]))],
    )
    .unwrap();
    let pairs: Vec<_> = spread
        .edges
        .iter()
        .map(|edge| (edge.output, edge.input))
        .collect();
    assert_eq!(pairs, [(0, 0), (1, 0)]);
    assert_eq!(
        (spread.gaps[0].wanted.as_str(), spread.gaps[0].is_key),
        ("c", true)
    );
    assert_eq!(spread.figures[0].unused, 1);
    // What matches nothing or makes no key is refused.
    let odd = named(&["2024-01-01", "rest"]);
    let text = link("out", None, &[side(&to, None, &odd)])
        .unwrap_err()
        .to_string();
    assert!(text.contains("in/rest"), "{text}");
    let slash = Mapping::To(rewrite("^(....)-(..)", "$1/$2"));
    let text = link("out", None, &[side(&slash, None, &days)])
        .unwrap_err()
        .to_string();
    assert!(text.contains("2024/01"), "{text}");
}

#[test]
fn equal_keys_beside_other_inputs_must_be_the_same() {
    let days = calendar("day", "2024-01-01", "2024-01-04", "UTC");
    let input = windows(&days);
    let before = Mapping::Previous {
        first: First::Ready,
    };
    let same = Mapping::SameKey;
    let both = [
        side(&same, Some(&days), &input),
        side(&before, Some(&days), &input),
    ];
    let links = link("out", None, &both).unwrap();
    assert_eq!((links.chunks.len(), links.edges.len()), (3, 5));
    let odd = [
        side(&same, Some(&days), &input),
        side(&same, Some(&days), &input[1..]),
    ];
    assert!(
        link("out", None, &odd)
            .unwrap_err()
            .what
            .contains("2024-01-01")
    );
}

#[test]
fn groups_that_an_expression_does_not_have_are_found() {
    let regex = regex::Regex::new("^(?P<year>....)-(..)").unwrap();
    let unknown = |template: &str| unknown_group(&regex, template);
    for good in ["$1-$2", "${year}", "$year", "$$9", "a$", "$0", "${1}a"] {
        assert_eq!(unknown(good), None, "{good}");
    }
    assert_eq!(unknown("$3").as_deref(), Some("3"));
    assert_eq!(
        unknown("$1a").as_deref(),
        Some("1a"),
        "a group of that name, to the engine"
    );
    assert_eq!(unknown("x${month}").as_deref(), Some("month"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_hour_feeds_the_one_day_in_which_it_lies(
        zone in prop::sample::select(TZ_VARIANTS.to_vec()), year in 1900..2098_i32, ordinal in 1..350_u32, days in 1..6_u64,
        lost in prop::collection::btree_set(0..200_usize, 0..5),
    ) {
        let from = chrono::NaiveDate::from_yo_opt(year, ordinal).unwrap();
        let to = from.checked_add_days(chrono::Days::new(days)).unwrap();
        let zone: Tz = zone;
        let day = Calendar { every: Every::Day, from, to, zone, week_starts: chrono::Weekday::Mon };
        let hour = Calendar { every: Every::Hours(1), ..day };
        let whole = windows(&hour);
        let input: Vec<NewChunk> = whole.iter().enumerate().filter(|(n, _)| !lost.contains(n)).map(|(_, c)| c.clone()).collect();
        let outputs = windows(&day);
        let links = link("out", Some(outputs), &[side(&Mapping::Windows, Some(&hour), &input)]).unwrap();
        prop_assert_eq!(links.edges.len(), input.len(), "each once");
        prop_assert_eq!(links.gaps.len(), whole.len() - input.len(), "and what is lost is missed");
        for edge in &links.edges {
            let (outer, inner) = (&links.chunks[edge.output].bounds, &input[edge.input].bounds);
            let ((s, e, ..), (a, b, ..)) = (outer.window().unwrap(), inner.window().unwrap());
            prop_assert!(s <= a && b <= e);
        }
        let lost: Vec<&str> = whole.iter().filter(|c| !input.contains(c)).map(|c| c.key.as_str()).collect();
        let missed: Vec<&str> = links.gaps.iter().map(|gap| gap.wanted.as_str()).collect();
        prop_assert_eq!(lost, missed);
    }
}
