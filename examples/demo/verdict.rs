//! The end of the demo: what was found, whether it is all true, and how it is printed.

use common::endpoint::PgSession;

use anyhow::Result;

use crate::console::grouped;
use crate::tpch::Fingerprint;
use crate::watch::{self, Attempts};
use crate::witness::{Judged, RunOf};

/// One statement about the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) holds: bool,
    pub(crate) text: String,
}

impl Check {
    pub(crate) fn new(holds: bool, text: impl Into<String>) -> Self {
        Self {
            holds,
            text: text.into(),
        }
    }
}

/// Figures of one stage for the table.
#[derive(Debug, Clone)]
pub(crate) struct StageFigures {
    pub(crate) name: &'static str,
    pub(crate) chunks: i64,
    pub(crate) validated: i64,
    pub(crate) attempts: Attempts,
}

impl StageFigures {
    fn count(&self, outcome: &str) -> i64 {
        self.attempts.get(outcome).copied().unwrap_or(0)
    }

    fn all(&self) -> i64 {
        self.attempts.values().sum()
    }
}

/// Everything that the last lines say.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The name of a chunk to look at.
    pub(crate) example: String,
    pub(crate) stages: Vec<StageFigures>,
    pub(crate) source: Fingerprint,
    pub(crate) target: Fingerprint,
    pub(crate) checks: Vec<Check>,
}

impl Verdict {
    /// Why it is no success, if it is none.
    pub(crate) fn failure(&self) -> Option<String> {
        self.checks
            .iter()
            .find(|check| !check.holds)
            .map(|check| check.text.clone())
    }

    /// The last line's words between `demo ok: ` and the seconds.
    pub(crate) fn figures(&self) -> String {
        let last = self.stages.last();
        format!(
            "chunks={} validated={} rows={} identical={}",
            last.map_or(0, |stage| stage.chunks),
            last.map_or(0, |stage| stage.validated),
            self.target.rows,
            self.source == self.target
        )
    }

    /// The tables, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{:<9}{:>9}{:>10}{:>11}{:>9}{:>9}{:>7}",
            "stage", "chunks", "attempts", "validated", "retries", "failed", "lost"
        )];
        for stage in &self.stages {
            lines.push(format!(
                "{:<9}{:>9}{:>10}{:>11}{:>9}{:>9}{:>7}",
                stage.name,
                grouped(stage.chunks),
                grouped(stage.all()),
                grouped(stage.validated),
                grouped(stage.all() - stage.chunks),
                grouped(stage.count("failed")),
                grouped(stage.count("lost") + stage.count("released")),
            ));
        }
        lines.push(String::new());
        lines.push(format!("{:<18}{:>12}  checksum", "table", "rows"));
        for (name, table) in [
            ("source lineitem", &self.source),
            ("target lineitem", &self.target),
        ] {
            lines.push(format!(
                "{name:<18}{:>12}  {}",
                grouped(table.rows),
                table.checksum
            ));
        }
        lines
    }
}

/// What became of the worker that was killed.
#[derive(Debug, Clone)]
pub(crate) struct Killed {
    /// As people know it.
    pub(crate) name: String,
    /// As the witness knows this start of it.
    pub(crate) label: String,
    /// When it was killed, seconds since 1970.
    pub(crate) at: f64,
    /// When the last process that it had started was seen to be gone.
    pub(crate) gone: f64,
}

/// Says whether the limits were kept, from the witness alone.
pub(crate) fn limits_kept(judged: &Judged) -> Check {
    match judged.broken.first() {
        Some(first) => Check::new(
            false,
            format!("running extracts exceeded the limit: {first}"),
        ),
        None => {
            let peaks: Vec<String> = judged
                .peaks
                .iter()
                .map(|(limit, peak)| format!("{peak} of {limit}"))
                .collect();
            Check::new(
                true,
                format!(
                    "extracts at once, of those allowed: {} ({} starts witnessed)",
                    peaks.join(", then "),
                    grouped(judged.starts)
                ),
            )
        }
    }
}

/// Says whether anything of the killed worker lived on or was published.
pub(crate) async fn none_survived(
    control: &PgSession,
    runs: &[RunOf],
    killed: &Killed,
    stages: &[(&str, &str)],
) -> Result<Check> {
    let name = &killed.name;
    let strays: Vec<String> = runs
        .iter()
        .filter(|run| run.ended.is_none() && run.worker != killed.label)
        .map(|run| format!("{} {} of {}", run.stage, run.chunk, run.worker))
        .collect();
    if !strays.is_empty() {
        let text = format!("scripts died that nobody killed: {}", strays.join(", "));
        return Ok(Check::new(false, text));
    }
    let after = |run: &RunOf, at: f64| run.ended.is_none_or(|(ended, _)| ended > at);
    let theirs: Vec<&RunOf> = runs
        .iter()
        .filter(|run| run.worker == killed.label)
        .collect();
    let late = theirs
        .iter()
        .filter(|run| {
            run.started > killed.gone || run.ended.is_some_and(|(at, _)| at > killed.gone)
        })
        .count();
    let in_hand: Vec<&&RunOf> = theirs.iter().filter(|run| after(run, killed.at)).collect();
    let mut published = 0;
    for (stage, data_set) in stages {
        let of_stage = || in_hand.iter().filter(|run| run.stage == *stage);
        let keys: Vec<String> = of_stage().map(|run| run.chunk.clone()).collect();
        let fences: Vec<i64> = of_stage().map(|run| run.fence).collect();
        published += watch::published(control, data_set, &keys, &fences).await?;
    }
    let count = in_hand.len();
    if published > 0 || late > 0 {
        let text = format!(
            "{name} was killed with -9 in the middle of {count} chunks: {published} published, {late} lived on"
        );
        return Ok(Check::new(false, text));
    }
    Ok(Check::new(
        true,
        format!(
            "{name} was killed with -9 in the middle of {count} chunks: gone after {:.0} ms, none published",
            (killed.gone - killed.at) * 1000.0
        ),
    ))
}
