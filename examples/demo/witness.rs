//! The judge of who ran when: reads the lines that the scripts themselves appended.
//!
//! It asks neither OpenDataFlow nor its database. A script's line is
//! `<seconds since 1970> start|purpose|end <stage> <chunk> <attempt> <fence> <worker> <exit code>`,
//! where `purpose` says that this attempt is going to fail on purpose.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// How long after a lowered limit a script may still begin whose lease is older than the limit:
/// from the claim to the script's first line, on a machine that has other things to do.
const HAND_OVER: f64 = 10.0;

/// One run of a script.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunOf {
    pub(crate) stage: String,
    pub(crate) chunk: String,
    pub(crate) fence: i64,
    pub(crate) worker: String,
    pub(crate) started: f64,
    /// Whether it said that it would fail on purpose.
    pub(crate) on_purpose: bool,
    /// When it ended and how; `None` when it was killed.
    pub(crate) ended: Option<(f64, i32)>,
}

/// A limit in force from when its command began until the next one's end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit {
    pub(crate) running: u32,
    /// When the command that set it began, seconds since 1970.
    pub(crate) asked: f64,
    /// When that command was done: from here on nothing above it may start.
    pub(crate) in_force: f64,
}

/// What the witness says about a stage's limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    /// The most that ran at once under each limit, in order.
    pub(crate) peaks: Vec<(u32, u32)>,
    /// How often the stage's script started.
    pub(crate) starts: i64,
    /// What broke a limit, in words.
    pub(crate) broken: Vec<String>,
}

/// Reads the witness file, in order of starts.
pub(crate) fn read(text: &str) -> Result<Vec<RunOf>> {
    let mut runs: BTreeMap<(String, String, i64), RunOf> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("line {} of the witness file: {line}", number + 1);
        let words: Vec<&str> = line.split(' ').collect();
        let [at, what, stage, chunk, _, fence, worker, code] = words[..] else {
            bail!("{}: eight words were expected", place());
        };
        let at: f64 = at.parse().with_context(place)?;
        let fence: i64 = fence.parse().with_context(place)?;
        // Fences are handed out chunk by chunk, so only together they name an attempt.
        let attempt = (stage.to_owned(), chunk.to_owned(), fence);
        match what {
            "start" => {
                let run = RunOf {
                    stage: stage.to_owned(),
                    chunk: chunk.to_owned(),
                    fence,
                    worker: worker.to_owned(),
                    started: at,
                    on_purpose: false,
                    ended: None,
                };
                if runs.insert(attempt, run).is_some() {
                    bail!("{}: this attempt had started before", place());
                }
            }
            "purpose" | "end" => {
                let run = runs
                    .get_mut(&attempt)
                    .with_context(|| format!("{}: it never started", place()))?;
                if what == "purpose" {
                    run.on_purpose = true;
                } else {
                    run.ended = Some((at, code.parse().with_context(place)?));
                }
            }
            _ => bail!("{}: start, purpose or end was expected", place()),
        }
    }
    let mut runs: Vec<RunOf> = runs.into_values().collect();
    runs.sort_by(|a, b| a.started.total_cmp(&b.started));
    Ok(runs)
}

/// Judges whether `stage` kept its limits. A killed run counts until `killed_gone`, when its last
/// process had been seen to be gone.
pub(crate) fn judge(runs: &[RunOf], stage: &str, limits: &[Limit], killed_gone: f64) -> Judged {
    let mut changes: Vec<(f64, bool, &RunOf)> = runs
        .iter()
        .filter(|run| run.stage == stage)
        .flat_map(|run| {
            [
                (run.started, true, run),
                (end_of(run, killed_gone), false, run),
            ]
        })
        .collect();
    // At the same instant an end comes before a start.
    changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut judge = Judge::new(limits);
    for (at, starts, run) in changes {
        judge.advance(at);
        if starts {
            judge.start(at, stage, run);
        } else {
            judge.running = judge.running.saturating_sub(1);
        }
    }
    judge.judged
}

/// Goes through a stage's starts and ends in order of time.
struct Judge<'a> {
    limits: &'a [Limit],
    /// Which limit is in force; none before the first.
    phase: Option<usize>,
    running: u32,
    /// How many scripts may still begin whose leases are older than a lowered limit.
    excusable: u32,
    judged: Judged,
}

impl<'a> Judge<'a> {
    fn new(limits: &'a [Limit]) -> Self {
        Self {
            limits,
            phase: None,
            running: 0,
            excusable: 0,
            judged: Judged {
                peaks: limits.iter().map(|limit| (limit.running, 0)).collect(),
                starts: 0,
                broken: Vec::new(),
            },
        }
    }

    /// Takes over the limits that have come into force.
    fn advance(&mut self, at: f64) {
        let next = self.phase.map_or(0, |phase| phase + 1);
        if let Some(limit) = self.limits.get(next).filter(|limit| limit.in_force <= at) {
            // There were at most so many leases, and these scripts have begun already.
            let before = self.phase.map_or(0, |phase| self.limits[phase].running);
            self.excusable = match before > limit.running {
                true => before.saturating_sub(self.running),
                false => 0,
            };
            self.phase = Some(next);
            self.advance(at);
        }
    }

    fn start(&mut self, at: f64, stage: &str, run: &RunOf) {
        self.running += 1;
        self.judged.starts += 1;
        let in_force = self.phase.map(|phase| self.limits[phase]);
        // While the command for the next limit runs, either may be in force.
        let next = self.limits.get(self.phase.map_or(0, |phase| phase + 1));
        let coming = next.filter(|limit| limit.asked <= at);
        let allowed = in_force
            .iter()
            .chain(coming)
            .map(|limit| limit.running)
            .max();
        if self.running <= allowed.unwrap_or(0) {
            if let (Some(phase), None) = (self.phase, coming) {
                let peak = &mut self.judged.peaks[phase].1;
                *peak = self.running.max(*peak);
            }
        } else if self.excusable > 0 && in_force.is_some_and(|now| at <= now.in_force + HAND_OVER) {
            self.excusable -= 1;
        } else {
            self.judged.broken.push(format!(
                "{} ran at {at:.3} when {stage} {} began, {} were allowed",
                self.running,
                run.chunk,
                allowed.unwrap_or(0)
            ));
        }
    }
}

/// Chunks of which two attempts of one stage ran at the same time, in words.
pub(crate) fn doubled(runs: &[RunOf], killed_gone: f64) -> Vec<String> {
    let mut last: BTreeMap<(&str, &str), &RunOf> = BTreeMap::new();
    let mut doubled = Vec::new();
    for run in runs {
        if let Some(before) = last.insert((&run.stage, &run.chunk), run)
            && end_of(before, killed_gone) > run.started
        {
            doubled.push(format!("{} {}", run.stage, run.chunk));
        }
    }
    doubled
}

/// How many runs failed on purpose, and how many ended badly by themselves.
pub(crate) fn failures(runs: &[RunOf]) -> (usize, usize) {
    let failed = || {
        runs.iter()
            .filter(|run| run.ended.is_some_and(|(_, code)| code != 0))
    };
    let on_purpose = failed().filter(|run| run.on_purpose).count();
    (on_purpose, failed().count() - on_purpose)
}

fn end_of(run: &RunOf, killed_gone: f64) -> f64 {
    run.ended.map_or(killed_gone.max(run.started), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: f64, what: &str, chunk: u32, fence: u32) -> String {
        format!("{at} {what} extract {chunk} 1 {fence} w1.1 0\n")
    }

    fn limits(list: &[(u32, f64)]) -> Vec<Limit> {
        list.iter()
            .map(|&(running, at)| Limit {
                running,
                asked: at,
                in_force: at + 0.1,
            })
            .collect()
    }

    #[test]
    fn sees_a_limit_broken_and_one_kept() {
        let text = [
            line(10.0, "start", 1, 1),
            line(10.1, "start", 2, 1),
            line(11.0, "end", 1, 1),
            line(11.5, "end", 2, 1),
        ]
        .concat();
        let runs = read(&text).unwrap();
        assert!(
            judge(&runs, "extract", &limits(&[(2, 0.0)]), 0.0)
                .broken
                .is_empty()
        );
        let judged = judge(&runs, "extract", &limits(&[(1, 0.0)]), 0.0);
        assert_eq!(judged.broken.len(), 1);
        assert_eq!(judged.peaks, [(1, 1)]);
    }

    #[test]
    fn a_lowered_limit_binds_once_older_leases_have_started() {
        let text = [
            line(10.0, "start", 1, 1),
            // Two leases were allowed and one had started: this may be the other one.
            line(20.5, "start", 2, 1),
            // This can be none of them.
            line(21.0, "start", 3, 1),
            line(25.0, "end", 3, 1),
            line(26.0, "end", 2, 1),
            line(26.5, "end", 1, 1),
            line(31.0, "start", 4, 1),
            line(40.0, "end", 4, 1),
        ]
        .concat();
        let runs = read(&text).unwrap();
        let judged = judge(&runs, "extract", &limits(&[(2, 0.0), (1, 20.0)]), 99.0);
        assert_eq!(judged.broken.len(), 1, "{judged:?}");
        assert!(judged.broken[0].contains("extract 3"), "{judged:?}");
        assert_eq!(judged.peaks, [(2, 1), (1, 1)]);
        let raised = judge(&runs, "extract", &limits(&[(1, 0.0), (3, 20.0)]), 99.0);
        assert_eq!(raised.broken, [""; 0]);
        assert_eq!(raised.peaks, [(1, 1), (3, 3)]);
    }

    #[test]
    fn nothing_is_excused_without_a_lease() {
        let text = [
            line(10.0, "start", 1, 1),
            line(10.0, "start", 2, 1),
            line(20.5, "start", 3, 1),
        ]
        .concat();
        let runs = read(&text).unwrap();
        let judged = judge(&runs, "extract", &limits(&[(2, 0.0), (1, 20.0)]), 99.0);
        assert_eq!(judged.broken.len(), 1, "{judged:?}");
    }

    #[test]
    fn a_killed_run_counts_until_it_is_gone() {
        let text = [line(10.0, "start", 1, 1), line(15.0, "start", 1, 2)].concat();
        let runs = read(&text).unwrap();
        assert_eq!(doubled(&runs, 14.0), [""; 0]);
        assert_eq!(doubled(&runs, 16.0), ["extract 1"]);
    }

    #[test]
    fn a_torn_line_is_an_error() {
        assert!(read("10.0 start extract 1").is_err());
        assert!(read("10.0 end extract 1 1 1 w1.1 0").is_err());
    }
}
