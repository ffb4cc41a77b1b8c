//! What `status` shows: a line about the fleet and one for every data set.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::cli::output::{Page, Shown, Tone, tame};
use crate::cli::words;
use crate::read::facts::{DataSetFacts, FleetFacts};
use crate::read::fingerprint::fingerprint;
use crate::read::obstacle::{Reason, doing, plural};
use crate::read::state::{Speed, Standing, State};

/// Where everything stands.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    pub(super) fleet: FleetFacts,
    pub(super) datasets: Vec<Line>,
}

/// Where a data set stands.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    flow: String,
    name: String,
    #[serde(flatten)]
    standing: Standing,
    /// Nobody makes it here.
    source: bool,
    job: Option<String>,
    chunks: Option<i64>,
    validated: i64,
    ready: i64,
    running: i64,
    waiting: i64,
    complete: i64,
    failed: i64,
    exhausted: i64,
    held: i64,
    cancelled: i64,
    /// Different causes among the failed chunks that are retried next.
    causes: usize,
    /// The least limit of its pools; none is unlimited.
    limit: Option<i32>,
    rows: i64,
    bytes: i64,
    speed: Option<Speed>,
    eta: Option<DateTime<Utc>>,
    /// The plan in force is older than the declared partition.
    plan_outdated: bool,
    /// Where planning it again stands, while that is under way.
    replan: Option<String>,
    plan_notes: Vec<String>,
}

impl Line {
    pub(super) fn new(
        set: DataSetFacts,
        standing: Standing,
        speed: Option<Speed>,
        eta: Option<DateTime<Utc>>,
    ) -> Self {
        let mut causes: Vec<String> = set
            .reasons
            .iter()
            .map(|reason| fingerprint(reason))
            .collect();
        causes.sort_unstable();
        causes.dedup();
        Self {
            source: set.job.is_none(),
            job: set.job,
            flow: set.flow,
            name: set.name,
            standing,
            chunks: set.chunks,
            validated: set.counts.validated,
            ready: (set.counts.ready - set.running).max(0),
            running: set.running,
            waiting: set.counts.waiting,
            complete: set.counts.complete,
            failed: set.counts.failed,
            exhausted: set.counts.exhausted,
            held: set.counts.held,
            cancelled: set.counts.cancelled,
            causes: causes.len(),
            limit: set.pools.iter().filter_map(|pool| pool.limit).min(),
            rows: set.rows_out,
            bytes: set.bytes_out,
            speed,
            eta,
            plan_outdated: set.outdated,
            replan: set.replan,
            plan_notes: set.notes,
        }
    }

    /// `4812/10000 48.1%`.
    fn progress(&self) -> String {
        match self.chunks {
            None => String::new(),
            Some(chunks) if self.source => format!("{} (source)", plural(chunks, "chunk")),
            Some(chunks) => format!(
                "{}/{chunks} {}",
                self.validated,
                words::percent(self.validated, chunks)
            ),
        }
    }

    /// `run 10/10 failed 3 (1 cause) exhausted 2`.
    fn counts(&self, page: &Page) -> String {
        let mut parts = Vec::new();
        if self.running > 0 {
            let limit = self
                .limit
                .map(|limit| format!("/{limit}"))
                .unwrap_or_default();
            parts.push(format!("run {}{limit}", self.running));
        }
        if self.failed > 0 {
            let causes = match self.causes {
                0 => String::new(),
                n => format!(" ({})", plural(n, "cause")),
            };
            parts.push(page.paint(Tone::Warn, &format!("failed {}{causes}", self.failed)));
        }
        if self.exhausted > 0 {
            parts.push(page.paint(Tone::Bad, &format!("exhausted {}", self.exhausted)));
        }
        for (n, what) in [
            (self.complete, "to approve"),
            (self.held, "held"),
            (self.cancelled, "cancelled"),
        ] {
            if n > 0 {
                parts.push(format!("{what} {n}"));
            }
        }
        parts.join(" ")
    }

    fn human(&self, page: &mut Page, now: DateTime<Utc>, widths: (usize, usize), label: &str) {
        let word = format!("{:8}", self.standing.state.word());
        let progress = self.progress();
        let mut line = format!(
            "{label:<w$} {} {progress:<p$}",
            page.paint(tone(self.standing.state), &word),
            w = widths.0,
            p = widths.1
        );
        let counts = self.counts(page);
        if !counts.is_empty() {
            line.push(' ');
            line.push_str(&counts);
        }
        let mut parts = Vec::new();
        if let Some(speed) = self
            .speed
            .filter(|_| !self.source && self.standing.state != State::Done)
        {
            let volume =
                (speed.bytes_per_second > 0.0).then(|| words::volume(speed.bytes_per_second));
            let rate = words::rate(speed.chunks_per_second);
            parts.push(
                [Some(rate), volume]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(", "),
            );
        }
        if let Some(eta) = self.eta {
            parts.push(format!(
                "ETA {}",
                words::moment(page.zoned(eta), page.zoned(now))
            ));
        }
        if let Some(reason) = &self.standing.reason {
            parts.push(tame(&reason.text));
        }
        parts.extend(self.plan_part());
        for part in parts {
            line.push_str(" | ");
            line.push_str(&part);
        }
        page.line(line);
        if page.wide {
            self.more(page);
        }
    }

    /// What there is to say about a plan that was or is to be replaced.
    fn plan_part(&self) -> Option<String> {
        let text = match self.replan.as_deref() {
            Some("asked") => "a new plan is being prepared".to_owned(),
            Some("prepared") => "a new plan waits for consent".to_owned(),
            Some(_) => "a new plan is taking force".to_owned(),
            None if self.plan_outdated => format!(
                "its plan is older than its declaration: coordinator replan {}",
                self.name
            ),
            None => return None,
        };
        Some(text)
    }

    fn more(&self, page: &mut Page) {
        let mut parts = vec![
            format!("ready {}, waiting {}", self.ready, self.waiting),
            format!("{} rows", words::grouped(self.rows)),
            words::bytes(self.bytes),
        ];
        parts.extend(self.job.iter().map(|job| format!("job {job}")));
        parts.extend(self.plan_notes.iter().map(|note| tame(note)));
        if let Some(Reason {
            hint: Some(hint), ..
        }) = &self.standing.reason
        {
            parts.push(format!("hint: {hint}"));
        }
        let line = format!("  {}", parts.join(" | "));
        page.line(page.paint(Tone::Dim, &line));
    }
}

fn tone(state: State) -> Tone {
    match state {
        State::Done => Tone::Good,
        State::Running | State::Planning => Tone::Busy,
        State::Idle | State::Waiting => Tone::Plain,
        State::Paused => Tone::Warn,
        State::Blocked | State::Stalled | State::Degraded => Tone::Bad,
    }
}

impl Shown for Status {
    fn human(&self, page: &mut Page) {
        self.header(page);
        let one_flow = self
            .datasets
            .windows(2)
            .all(|pair| pair[0].flow == pair[1].flow);
        let label = |line: &Line| {
            if one_flow {
                line.name.clone()
            } else {
                format!("{}:{}", line.flow, line.name)
            }
        };
        let widest = |of: &dyn Fn(&Line) -> usize| self.datasets.iter().map(of).max().unwrap_or(0);
        let widths = (
            widest(&|line| label(line).chars().count()),
            // A source's line is longer and has nothing behind it to align.
            widest(&|line| {
                if line.source {
                    0
                } else {
                    line.progress().chars().count()
                }
            }),
        );
        for line in &self.datasets {
            line.human(page, self.fleet.now, widths, &label(line));
        }
        if self.datasets.is_empty() {
            page.line("no flow is applied yet");
            page.line(page.paint(
                Tone::Dim,
                "hint: coordinator apply FLOW.yaml, or coordinator example warehouse",
            ));
        }
    }
}

impl Status {
    /// Who leads, who works, and whatever should not be.
    fn header(&self, page: &mut Page) {
        let fleet = &self.fleet;
        let leader = if fleet.leads {
            format!("coordinator {} leads", fleet.holder)
        } else {
            page.paint(Tone::Bad, "no coordinator leads")
        };
        let slots: i64 = fleet.workers.iter().map(|worker| worker.slots).sum();
        let workers = if fleet.workers.is_empty() {
            page.paint(Tone::Bad, "no worker is at work")
        } else {
            let silent = fleet
                .workers
                .iter()
                .filter(|worker| worker.state != "active")
                .count();
            let silent = if silent > 0 {
                format!(" ({silent} not heard)")
            } else {
                String::new()
            };
            format!(
                "{}{silent}, {} of {} busy",
                plural(fleet.workers.len(), "worker"),
                fleet.running,
                plural(slots, "slot")
            )
        };
        let mut line = format!("{leader} | {workers}");
        if fleet.pending > 0 {
            line.push_str(&format!(
                " | {} for running attempts",
                doing(fleet.pending, "request", "wait")
            ));
        }
        page.line(line);
        if fleet.repairs > 0 {
            let text = format!(
                "{} of what should never need one: a defect of ours, please report it (coordinator events --kind bug)",
                plural(fleet.repairs, "repair")
            );
            page.line(page.paint(Tone::Warn, &text));
        }
    }
}
