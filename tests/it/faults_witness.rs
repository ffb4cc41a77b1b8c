//! The judge of who ran when: it reads only what the scripts themselves appended to one file.
//!
//! Lines are `start|tick|end CHUNK FENCE`, appended with `O_APPEND`, so that their order is the order
//! in which they happened. A script ticks all its life: one that was killed is alive until its last
//! line, and one that should be dead and is not gives itself away by the next one. Other lines are
//! remarks of the test.

use std::collections::{BTreeMap, BTreeSet};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Start,
    Tick,
    End,
}

/// A line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    what: What,
    chunk: String,
    fence: i64,
}

/// The scripts' lines with the number of each, torn ones refused.
fn read(text: &str) -> Vec<(usize, Seen)> {
    let parse = |line: &str| {
        let (what, rest) = line.split_once(' ')?;
        let what = match what {
            "start" => What::Start,
            "tick" => What::Tick,
            "end" => What::End,
            _ => return None,
        };
        let (chunk, fence) = rest.rsplit_once(' ').expect(line);
        Some(Seen {
            what,
            chunk: chunk.to_owned(),
            fence: fence.parse().expect(line),
        })
    };
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(number, line)| Some((number, parse(line)?)))
        .collect()
}

/// How many attempts have started.
pub(crate) fn starts(text: &str) -> usize {
    read(text)
        .iter()
        .filter(|(_, seen)| seen.what == What::Start)
        .count()
}

/// Attempts that have started and not ended, as (chunk, fence), oldest first.
pub(crate) fn open(text: &str) -> Vec<(String, i64)> {
    let mut open = Vec::new();
    for (_, seen) in read(text) {
        let key = (seen.chunk, seen.fence);
        match seen.what {
            What::Start => open.push(key),
            What::Tick => {}
            What::End => open.retain(|one| *one != key),
        }
    }
    open
}

/// Lines that prove two live writers of one chunk, or a fence that came twice or went back.
pub(crate) fn doubled(text: &str) -> Vec<String> {
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, seen) in read(text) {
        let newest = newest.entry(seen.chunk.clone()).or_insert(i64::MIN);
        let fine = match seen.what {
            What::Start => seen.fence > *newest,
            What::Tick | What::End => seen.fence == *newest,
        };
        if !fine {
            wrong.push(format!(
                "line {}: {:?} of {} under fence {} beside fence {newest}",
                number + 1,
                seen.what,
                seen.chunk,
                seen.fence
            ));
        }
        *newest = seen.fence.max(*newest);
    }
    wrong
}

/// The most that ran at once between two remarks of the test (the whole file where one is `None`).
/// An attempt runs from its first line to its last.
pub(crate) fn peak(text: &str, from: Option<&str>, to: Option<&str>) -> usize {
    let place = |remark: &str| {
        text.lines()
            .position(|line| line == remark)
            .unwrap_or_else(|| panic!("no remark {remark:?}"))
    };
    let from = from.map_or(0, place);
    let to = to.map_or(usize::MAX, place);
    let mut lives: BTreeMap<(String, i64), (usize, usize)> = BTreeMap::new();
    for (number, seen) in read(text) {
        let life = lives
            .entry((seen.chunk, seen.fence))
            .or_insert((number, number));
        life.1 = number;
    }
    let at_once = |moment: usize| {
        lives
            .values()
            .filter(|(first, last)| *first <= moment && moment <= *last)
            .count()
    };
    let moments = lives.values().map(|(first, _)| *first).chain([from]);
    moments
        .filter(|moment| (from..=to).contains(moment))
        .map(at_once)
        .max()
        .unwrap_or(0)
}

/// Starts after a remark that found `limit` others alive already, but for those that `before` names as
/// `CHUNK FENCE`.
pub(crate) fn starts_beyond(
    text: &str,
    remark: &str,
    limit: usize,
    before: &BTreeSet<String>,
) -> Vec<String> {
    let from = text.lines().position(|line| line == remark);
    let from = from.unwrap_or_else(|| panic!("no remark {remark:?}"));
    let mut alive = BTreeSet::new();
    let mut wrong = Vec::new();
    for (number, seen) in read(text) {
        let name = format!("{} {}", seen.chunk, seen.fence);
        match seen.what {
            What::Start => {
                let exempt = number < from || before.contains(&name);
                if alive.len() >= limit && !exempt {
                    wrong.push(format!("line {}: {name} beside {alive:?}", number + 1));
                }
                alive.insert(name);
            }
            What::Tick => {}
            What::End => {
                alive.remove(&name);
            }
        }
    }
    wrong
}

#[test]
fn the_judge_sees_a_start_above_a_lowered_limit() {
    let text = "start a/1 1\nstart a/2 1\nlimit 1\nstart a/3 1\nend a/1 1\nend a/2 1\n";
    let none = BTreeSet::new();
    assert_eq!(starts_beyond(text, "limit 1", 1, &none).len(), 1);
    let leased = BTreeSet::from(["a/3 1".to_owned()]);
    assert_eq!(starts_beyond(text, "limit 1", 1, &leased), [""; 0]);
    let later = format!("{text}end a/3 1\nstart a/4 1\n");
    assert_eq!(starts_beyond(&later, "limit 1", 1, &leased), [""; 0]);
}

#[test]
fn the_judge_sees_two_writers_and_none_where_there_is_one() {
    let good = "start a/1 1\nstart a/2 1\ntick a/1 1\nstart a/1 2\nend a/1 2\nend a/2 1\n";
    assert_eq!(doubled(good), [""; 0]);
    assert_eq!(doubled(&format!("{good}tick a/2 1\n")), [""; 0]);
    assert_eq!(doubled(&format!("{good}tick a/1 1\n")).len(), 1);
    assert_eq!(doubled(&format!("{good}start a/2 1\n")).len(), 1);
    assert_eq!(starts(good), 3);
    assert_eq!(open(good), [("a/1".to_owned(), 1)]);
}

#[test]
fn the_judge_counts_what_runs_at_once() {
    let text = "start a/1 1\nstart a/2 1\nend a/1 1\nlimit 1\nend a/2 1\nstart a/3 1\nlimit 2\nstart a/4 1\nend a/3 1\nend a/4 1\n";
    assert_eq!(peak(text, None, None), 2);
    assert_eq!(peak(text, Some("limit 1"), Some("limit 2")), 1);
    assert_eq!(peak(text, Some("limit 2"), None), 2);
    assert_eq!(peak(text, None, Some("limit 1")), 2);
}
