//! `status`: one line a data set with its state, its speed and what keeps it; once or watched.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::Instant;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Grid, Page, Shown, Tone, cell, tame, toned};
use super::{wait, words};
use crate::read::facts::{DataSetFacts, FleetFacts};
use crate::read::fingerprint::fingerprint;
use crate::read::obstacle::{Reason, plural};
use crate::read::state::{self, Speed, Standing, State, Verdict};
use crate::read::{ReadError, loops, status};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these data sets
    #[arg(value_name = "DATASET")]
    pub names: Vec<String>,
    /// Look again and again
    #[arg(short, long)]
    pub watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = wait::duration)]
    pub interval: Duration,
    /// Watch until every data set is done (exit 0), or what is left needs a person (exit 5)
    #[arg(long, conflicts_with = "loops")]
    pub until_done: bool,
    /// Stop watching after so long (exit 124 with --until-done)
    #[arg(long, value_name = "TIME", value_parser = wait::duration)]
    pub timeout: Option<Duration>,
    /// What the coordinator's loops did last
    #[arg(long, conflicts_with = "names")]
    pub loops: bool,
}

/// Where everything stands.
#[derive(Debug, Serialize)]
struct Status {
    #[serde(flatten)]
    fleet: FleetFacts,
    datasets: Vec<Line>,
}

/// Where a data set stands.
#[derive(Debug, Serialize)]
struct Line {
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
    plan_notes: Vec<String>,
}

impl Line {
    fn new(
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
        for part in parts {
            line.push_str(" | ");
            line.push_str(&part);
        }
        page.line(line);
        if page.wide {
            self.more(page);
        }
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
            widest(&|line| line.progress().chars().count()),
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
                " | {} wait for running attempts",
                plural(fleet.pending, "request")
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

#[derive(Debug, Serialize)]
struct Loops {
    now: DateTime<Utc>,
    leads: bool,
    holder: String,
    term: i64,
    since: Option<DateTime<Utc>>,
    loops: Vec<loops::LoopRow>,
}

impl Shown for Loops {
    fn human(&self, page: &mut Page) {
        match (self.leads, self.since) {
            (true, Some(since)) => page.line(format!(
                "coordinator {} leads since {} (term {})",
                self.holder,
                words::stamp(page.zoned(since)),
                self.term
            )),
            _ => page.line(page.paint(Tone::Bad, "no coordinator leads")),
        }
        let mut grid = Grid::new(&["loop", "last", ">took", ">passes", "result"]);
        for one in &self.loops {
            let last = one.last_at.map_or("never".to_owned(), |at| {
                format!("{} ago", state::span(self.now - at))
            });
            let result = tame(one.result.as_deref().unwrap_or(""));
            let result = match one.failing_since {
                Some(since) => toned(
                    Tone::Bad,
                    format!("FAILING for {}: {result}", state::span(self.now - since)),
                ),
                None => cell(result),
            };
            let took = one.last_ms.map_or(String::new(), words::millis);
            grid.row(vec![
                cell(&one.name),
                cell(last),
                cell(took),
                cell(one.passes.to_string()),
                result,
            ]);
        }
        if grid.is_empty() {
            page.line("no loop has reported yet");
        } else {
            page.table(grid);
        }
    }
}

/// Runs `status`.
///
/// # Errors
/// As the server answers; while watching, a database that is away for a time is waited for.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    if !args.watch && !args.until_done {
        return if args.loops {
            let loops = look_at_loops(&db).await?;
            session.out.show(&loops)?;
            Ok(Exit::Ok)
        } else {
            let (status, _) = look(&db, &args, session.global.flow.as_deref()).await?;
            session.out.show(&status)?;
            Ok(Exit::Ok)
        };
    }
    watch(&args, &db, session).await
}

async fn watch(args: &Args, db: &PgPool, session: &mut Session) -> Result<Exit, Failure> {
    let start = Instant::now();
    let mut shown = String::new();
    let mut degraded_before = false;
    loop {
        let mut verdict = Verdict::Open;
        let looked = if args.loops {
            look_at_loops(db).await.map(|loops| render(&loops, session))
        } else {
            look(db, args, session.global.flow.as_deref())
                .await
                .map(|(status, found)| {
                    verdict = found;
                    render(&status, session)
                })
        };
        match looked {
            Ok(text) => redraw(&text?, &mut shown, session)?,
            Err(error) if error.may_pass() => session.out.say(format!("{error}; looking again")),
            Err(error) => return Err(error.into()),
        }
        if args.until_done {
            // Twice in a row, so that the moment between two states is not taken for the end.
            match verdict {
                Verdict::Done => return Ok(Exit::Ok),
                Verdict::Degraded if degraded_before => return Ok(Exit::Degraded),
                Verdict::Degraded => degraded_before = true,
                Verdict::Open => degraded_before = false,
            }
        }
        if args
            .timeout
            .is_some_and(|timeout| start.elapsed() >= timeout)
        {
            return Ok(if args.until_done {
                Exit::TimedOut
            } else {
                Exit::Ok
            });
        }
        tokio::time::sleep(args.interval).await;
    }
}

fn render<T: Shown>(value: &T, session: &Session) -> Result<String, Failure> {
    if session.out.is_json() {
        let line = serde_json::to_string(value)
            .map_err(|error| Failure::new(Exit::Error, format!("write the answer: {error}")))?;
        return Ok(line + "\n");
    }
    let mut page = session.out.page();
    value.human(&mut page);
    Ok(page.into_text())
}

/// A terminal shows the newest state in place; a pipe gets the lines that changed.
fn redraw(text: &str, shown: &mut String, session: &mut Session) -> Result<(), Failure> {
    if session.out.redraws && !session.out.is_json() {
        // Home, each line cleared to its end, then everything below: nothing flickers.
        let lines: String = text
            .lines()
            .map(|line| format!("{line}\u{1b}[K\n"))
            .collect();
        let first = if shown.is_empty() { "\u{1b}[2J" } else { "" };
        session
            .out
            .raw(&format!("{first}\u{1b}[H{lines}\u{1b}[J"))?;
    } else {
        let before: Vec<&str> = shown.lines().collect();
        let changed: Vec<&str> = text.lines().filter(|line| !before.contains(line)).collect();
        for line in changed {
            session.out.raw(&format!("{line}\n"))?;
        }
    }
    shown.clear();
    shown.push_str(text);
    Ok(())
}

async fn look_at_loops(db: &PgPool) -> Result<Loops, ReadError> {
    let fleet = status::fleet(db).await?;
    let loops = loops::all(db).await?;
    Ok(Loops {
        now: fleet.now,
        leads: fleet.leads,
        holder: fleet.holder,
        term: fleet.term,
        since: fleet.since,
        loops,
    })
}

async fn look(
    db: &PgPool,
    args: &Args,
    flow: Option<&str>,
) -> Result<(Status, Verdict), ReadError> {
    let fleet = status::fleet(db).await?;
    let all = status::data_sets(db, flow).await?;
    if let Some(flow) = flow.filter(|_| all.is_empty()) {
        return Err(ReadError::NotFound {
            message: format!("no flow named {flow:?}"),
            hint: None,
        });
    }
    check_names(&all, &args.names)?;
    let standings: Vec<Standing> = all.iter().map(|set| state::standing(set, &fleet)).collect();
    let speeds: Vec<Option<Speed>> = all
        .iter()
        .map(|set| {
            set.sample
                .as_ref()
                .and_then(|sample| state::speed(sample, fleet.now))
        })
        .collect();
    let triples: Vec<_> = all
        .iter()
        .zip(&standings)
        .zip(&speeds)
        .map(|((set, standing), speed)| (set, standing, *speed))
        .collect();
    let ends = state::ends(&triples, fleet.now);
    let mut datasets = Vec::new();
    let mut judged = Vec::new();
    for ((set, standing), speed) in all.into_iter().zip(standings).zip(speeds) {
        if !args.names.is_empty() && !args.names.contains(&set.name) {
            continue;
        }
        judged.push(standing.clone());
        let eta = ends.get(&set.data_set_id).copied();
        datasets.push(Line::new(set, standing, speed, eta));
    }
    let verdict = if judged.is_empty() {
        Verdict::Open
    } else {
        state::verdict(&judged)
    };
    Ok((Status { fleet, datasets }, verdict))
}

fn check_names(all: &[DataSetFacts], names: &[String]) -> Result<(), ReadError> {
    match names
        .iter()
        .find(|name| !all.iter().any(|set| &set.name == *name))
    {
        None => Ok(()),
        Some(name) => {
            let known: Vec<&str> = all.iter().map(|set| set.name.as_str()).collect();
            Err(ReadError::NotFound {
                message: format!("no data set named {name:?}"),
                hint: Some(format!("data sets: {}", known.join(", "))),
            })
        }
    }
}
