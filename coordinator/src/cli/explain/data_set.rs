//! The explanation of a data set: its plan, its counts, what is slowest and what fails.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use crate::cli::failure::Failure;
use crate::cli::output::{Grid, Page, Shown, Tone, cell, tame, toned};
use crate::cli::{pools, words};
use crate::read::data_set::{self, Declared, Found, PlanRow, SlowRow};
use crate::read::facts::{BufferFacts, Counts, PoolFacts};
use crate::read::failures::{self, Cause};
use crate::read::obstacle::plural;
use crate::read::state::{self, Speed, Standing};
use crate::read::{ReadError, status};

/// A data set, explained.
#[derive(Debug, Serialize)]
pub struct DataSetExplained {
    now: DateTime<Utc>,
    flow: String,
    name: String,
    #[serde(flatten)]
    standing: Standing,
    #[serde(flatten)]
    declared: Declared,
    plan: Option<PlanRow>,
    plan_outdated: bool,
    counts: Counts,
    running: i64,
    rows: i64,
    bytes: i64,
    pools: Vec<PoolFacts>,
    buffer: Option<BufferFacts>,
    speed: Option<Speed>,
    eta: Option<DateTime<Utc>>,
    slowest: Vec<SlowRow>,
    causes: Vec<Cause>,
}

/// Collects what an explanation rests on.
pub(crate) async fn explain(db: &PgPool, found: Found) -> Result<DataSetExplained, Failure> {
    let fleet = status::fleet(db).await?;
    let sets = status::data_sets(db, Some(&found.flow)).await?;
    let standings: Vec<Standing> = sets
        .iter()
        .map(|set| state::standing(set, &fleet))
        .collect();
    let all: Vec<_> = sets
        .iter()
        .zip(&standings)
        .map(|(set, standing)| {
            (
                set,
                standing,
                set.sample.as_ref().and_then(|s| state::speed(s, fleet.now)),
            )
        })
        .collect();
    let ends = state::ends(&all, fleet.now);
    let Some((set, standing, speed)) = all
        .iter()
        .find(|(set, ..)| set.data_set_id == found.data_set_id)
    else {
        let message = format!("no data set named {:?}", found.name);
        return Err(ReadError::NotFound {
            message,
            hint: None,
        }
        .into());
    };
    let causes = if set.counts.failed + set.counts.exhausted > 0 {
        failures::group(failures::failing(db, Some(&found.flow), &[found.name]).await?)
    } else {
        Vec::new()
    };
    Ok(DataSetExplained {
        now: fleet.now,
        flow: found.flow,
        name: set.name.clone(),
        standing: (*standing).clone(),
        declared: data_set::declared(db, found.data_set_id).await?,
        plan: data_set::plan(db, found.data_set_id).await?,
        plan_outdated: set.outdated,
        counts: set.counts,
        running: set.running,
        rows: set.rows_out,
        bytes: set.bytes_out,
        pools: set.pools.clone(),
        buffer: set.buffer.clone(),
        speed: *speed,
        eta: ends.get(&found.data_set_id).copied(),
        slowest: data_set::slowest(db, found.data_set_id, 5).await?,
        causes,
    })
}

impl Shown for DataSetExplained {
    fn human(&self, page: &mut Page) {
        page.line(format!(
            "{} is {} (flow {}, version {})",
            self.name,
            self.standing.state.word(),
            self.flow,
            self.declared.flow_version
        ));
        if let Some(reason) = &self.standing.reason {
            page.line(format!("  why       {}", tame(&reason.text)));
            if let Some(hint) = &reason.hint {
                page.line(page.paint(Tone::Dim, &format!("  hint      {hint}")));
            }
        }
        page.line(format!("  at        {}", place(&self.declared.at)));
        match &self.declared.job {
            Some(job) => page.line(format!("  made by   job {job}")),
            None => page.line("  made by   nobody here: it is a source"),
        }
        if !self.declared.consumers.is_empty() {
            page.line(format!(
                "  read by   {}",
                self.declared.consumers.join(", ")
            ));
        }
        self.plan(page);
        self.progress(page);
        self.limits(page);
        self.slow(page);
        for cause in self.causes.iter().take(5) {
            page.line("");
            let head = page.paint(Tone::Warn, &plural(cause.chunks, "chunk"));
            let class = cause.class.as_deref().unwrap_or("unknown class");
            page.line(format!(
                "{head} failed with {class}: {}",
                tame(&cause.pattern)
            ));
            page.line(format!(
                "  example   {}: {}",
                cause.example,
                tame(&cause.message)
            ));
        }
        if self.causes.len() > 5 {
            page.line(format!("more causes: coordinator failures {}", self.name));
        }
    }
}

impl DataSetExplained {
    fn plan(&self, page: &mut Page) {
        if let Some(error) = &self.declared.plan_error {
            page.line(format!(
                "  plan      {}",
                page.paint(Tone::Bad, &format!("failed: {}", tame(error)))
            ));
        }
        let Some(plan) = &self.plan else {
            if self.declared.plan_error.is_none() {
                page.line("  plan      none yet");
            }
            return;
        };
        let Some(sealed) = plan.sealed_at else {
            let since = words::stamp(page.zoned(plan.started_at));
            page.line(format!(
                "  plan      version {} is being written since {since}",
                plan.version
            ));
            return;
        };
        page.line(format!(
            "  plan      version {}, {}, sealed {}",
            plan.version,
            plural(plan.chunks, "chunk"),
            words::stamp(page.zoned(sealed))
        ));
        if self.plan_outdated {
            let text = format!(
                "  declared  otherwise since: coordinator replan {}",
                self.name
            );
            page.line(page.paint(Tone::Warn, &text));
        }
        if let Some(digest) = &plan.digest {
            let short = if page.wide {
                digest.as_str()
            } else {
                digest.get(..16).unwrap_or(digest)
            };
            page.line(format!("  digest    {short}"));
        }
        for note in &plan.notes {
            page.line(format!("  note      {}", tame(note)));
        }
    }

    fn progress(&self, page: &mut Page) {
        let counts = self.counts;
        let ready = (counts.ready - self.running).max(0);
        let parts: Vec<String> = [
            (counts.validated, "validated"),
            (self.running, "running"),
            (ready, "ready"),
            (counts.waiting, "waiting"),
            (counts.complete, "to approve"),
            (counts.failed, "failed"),
            (counts.exhausted, "exhausted"),
            (counts.held, "held"),
            (counts.cancelled, "cancelled"),
            (counts.split, "split"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
        if !parts.is_empty() {
            page.line(format!("  chunks    {}", parts.join(", ")));
        }
        let mut output = Vec::new();
        if self.rows > 0 {
            output.push(format!("{} rows", words::grouped(self.rows)));
        }
        if self.bytes > 0 {
            output.push(words::bytes(self.bytes));
        }
        if !output.is_empty() {
            page.line(format!("  output    {}", output.join(", ")));
        }
        if let Some(speed) = self.speed.filter(|_| self.declared.job.is_some()) {
            let volume = if speed.bytes_per_second > 0.0 {
                format!(", {}", words::volume(speed.bytes_per_second))
            } else {
                String::new()
            };
            page.line(format!(
                "  speed     {}{volume}",
                words::rate(speed.chunks_per_second)
            ));
        }
        if let Some(eta) = self.eta {
            page.line(format!(
                "  ETA       {}",
                words::moment(page.zoned(eta), page.zoned(self.now))
            ));
        }
    }

    fn limits(&self, page: &mut Page) {
        for pool in &self.pools {
            let paused = if pool.paused { ", paused" } else { "" };
            let by = if pool.operator_set {
                ", set by scale"
            } else {
                ""
            };
            page.line(format!(
                "  pool      {}: {}{by}{paused}",
                pool.name,
                pools::usage(pool.running, pool.limit)
            ));
        }
        if let Some(buffer) = &self.buffer {
            let mut limits = Vec::new();
            limits.extend(buffer.chunks.map(|n| plural(n, "chunk")));
            limits.extend(buffer.bytes.map(words::bytes));
            page.line(format!(
                "  buffer    {} published and not consumed, limit {}",
                plural(buffer.unconsumed, "chunk"),
                limits.join(" or ")
            ));
        }
    }

    fn slow(&self, page: &mut Page) {
        if self.slowest.is_empty() {
            return;
        }
        page.line("");
        page.line("slowest now and lately");
        let mut grid = Grid::new(&["chunk", "state", ">took", ">rows", ">bytes", "worker"]);
        for slow in &self.slowest {
            let (tone, word) = if slow.running {
                (Tone::Busy, "running")
            } else {
                (Tone::Good, "published")
            };
            grid.row(vec![
                cell(format!("{}/{}", self.name, slow.key)),
                toned(tone, word),
                cell(words::millis(slow.took_ms)),
                cell(slow.rows.map_or(String::new(), words::grouped)),
                cell(slow.bytes.map_or(String::new(), words::bytes)),
                cell(&slow.worker),
            ]);
        }
        page.table(grid);
    }
}

/// `connection lake, path orders/{chunk}.parquet`.
fn place(at: &Value) -> String {
    let field = |name: &str| at.get(name).and_then(Value::as_str);
    let mut text = format!("connection {}", field("connection").unwrap_or("?"));
    for name in ["table", "path"] {
        if let Some(value) = field(name) {
            text.push_str(&format!(", {name} {}", tame(value)));
        }
    }
    text
}
