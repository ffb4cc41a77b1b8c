//! `coordinator plan`: what a flow file would be split into and what would run. Writes nothing.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use common::domain::{NewChunk, Severity};
use common::endpoint::{self, SecretString};
use common::flow::Diagnostic;
use common::flow::model::{DataSet, Flow, Mapping, Partition};
use common::secret::SecretSource;
use common::store::ControlDb;
use serde::Serialize;

use crate::declare;
use crate::planner::{Planner, Preview};
use crate::split::check::{TilingReport, check_tiling};
use crate::split::{Endpoint, SplitLimits, session_settings};

/// Show what would be split and run; or check that a stored plan tiles its table
#[derive(Debug, Clone, clap::Args)]
pub struct PlanArgs {
    /// The flow file to preview; writes nothing
    #[arg(
        value_name = "FILE",
        required_unless_present = "check",
        conflicts_with = "check"
    )]
    pub file: Option<PathBuf>,
    /// Count, for every row of the real table, in how many stored chunks of this data set it lies
    #[arg(long, value_name = "DATASET")]
    pub check: Option<String>,
    /// Where planning commands are; nothing outside of it is run
    #[arg(long, env = "ODF_SCRIPT_DIR", value_name = "DIR")]
    pub script_dir: Option<PathBuf>,
}

/// A preview of a whole flow.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// The flow's name.
    pub flow: String,
    /// Every data set, sources first.
    pub datasets: Vec<DataSetPreview>,
    /// What the file's author should look at; told apart from the answer.
    #[serde(skip)]
    pub warnings: Vec<Diagnostic>,
}

/// A preview of one data set.
#[derive(Debug, Clone, Serialize)]
pub struct DataSetPreview {
    /// Its name.
    pub name: String,
    /// The job that makes it; `None` for a source.
    pub made_by: Option<String>,
    /// Chunks it would have, where that is known without running anything.
    pub chunks: Option<u64>,
    /// Rows in all of them.
    pub rows: Option<i64>,
    /// Bytes in all of them.
    pub bytes: Option<i64>,
    /// Smallest, median and largest chunk in rows, and largest / mean.
    pub sizes: Option<(i64, i64, i64, f64)>,
    /// First and last chunks.
    pub examples: Vec<(String, String)>,
    /// What to know.
    pub notes: Vec<String>,
    /// What is checked before a chunk of it is published.
    pub checks: Vec<String>,
    /// What promise publishing to it can keep.
    pub effect: Option<&'static str>,
}

/// Previews a flow file.
///
/// # Errors
/// With every problem of the file, or where a source cannot be split.
pub async fn preview(args: &PlanArgs) -> anyhow::Result<PlanReport> {
    let file = args.file.as_deref().context("give the flow file")?;
    let declared = declare::read(file, args.script_dir.as_deref())?;
    let flow = &declared.flow;
    let planner = Planner::new(SecretSource::from_process(), args.script_dir.clone());
    let mut datasets: Vec<DataSetPreview> = Vec::new();
    for (name, set) in &flow.datasets {
        if declared.topology.maker(name).is_some() {
            continue;
        }
        let connection = &flow.connections[&set.at.connection];
        let mut sink = Preview::default();
        let summary = planner
            .split(name, set, connection, &mut sink)
            .await
            .with_context(|| format!("split data set {name}"))?;
        datasets.push(DataSetPreview {
            name: name.clone(),
            made_by: None,
            chunks: Some(summary.chunks),
            rows: summary.rows_estimate,
            bytes: summary.bytes_estimate,
            sizes: summary
                .rows
                .as_ref()
                .map(|s| (s.min, s.median, s.max, s.skew)),
            examples: sink.first.iter().chain(&sink.last).map(describe).collect(),
            notes: summary.notes,
            checks: Vec::new(),
            effect: None,
        });
    }
    for job in declared.topology.order() {
        datasets.push(made(flow, job, &datasets));
    }
    Ok(PlanReport {
        flow: flow.name.clone(),
        datasets,
        warnings: declared.warnings.clone(),
    })
}

fn made(flow: &Flow, job_name: &str, before: &[DataSetPreview]) -> DataSetPreview {
    let job = &flow.jobs[job_name];
    let set = &flow.datasets[&job.output];
    let one_to_one = job
        .inputs
        .iter()
        .find(|input| input.mapping == Mapping::SameKey);
    let chunks = match (one_to_one, &set.partition) {
        (Some(input), _) => before
            .iter()
            .find(|p| p.name == input.dataset)
            .and_then(|p| p.chunks),
        (None, Some(Partition::List { values })) => u64::try_from(values.len()).ok(),
        (None, _) => Some(1),
    };
    let mut notes = Vec::new();
    if let Some(all) = job
        .inputs
        .iter()
        .find(|input| input.mapping == Mapping::All)
    {
        notes.push(format!(
            "starts when every chunk of {} is validated",
            all.dataset
        ));
    }
    let effect = if set.at.path.is_some() {
        "exactly once: a file is renamed into place and the settled row is the only pointer"
    } else {
        "at least once: the script decides; make it delete its key range and insert in one transaction"
    };
    DataSetPreview {
        name: job.output.clone(),
        made_by: Some(job_name.to_owned()),
        chunks,
        rows: None,
        bytes: None,
        sizes: None,
        examples: Vec::new(),
        notes,
        checks: checks_of(set),
        effect: Some(effect),
    }
}

/// What is checked about a data set that a job makes, a line each.
fn checks_of(set: &DataSet) -> Vec<String> {
    let checks = &set.checks;
    let mut lines = Vec::new();
    if let Some(format) = &checks.format {
        lines.push(format!(
            "{format}: read to its end; rows, bytes and checksum as reported; keys inside the chunk's bounds"
        ));
    }
    lines.extend(checks.validate.iter().map(|rule| match rule.severity {
        Severity::Fail => rule.check.to_string(),
        Severity::Warn => format!("{} (warns)", rule.check),
    }));
    if let Some(rejects) = &checks.rejects {
        lines.push(format!("at most {} rows rejected", rejects.max));
    }
    if !checks.vouch() {
        lines.push("nothing: its chunks are published unvalidated".to_owned());
    }
    lines
}

/// A chunk's key and what it covers, in a few words.
fn describe(chunk: &NewChunk) -> (String, String) {
    (chunk.key.clone(), chunk.bounds.in_words())
}

/// What `--check` found.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// The data set.
    pub dataset: String,
    /// Stored chunks that were checked.
    pub chunks: usize,
    /// The figures.
    #[serde(flatten)]
    pub tiling: TilingReport,
}

/// Checks a stored plan against the real table.
///
/// # Errors
/// Where there is no such plan, it is not one of key ranges, or the table cannot be read.
pub async fn check(dataset: &str, url: SecretString) -> anyhow::Result<CheckReport> {
    let db = ControlDb::new(url, 1, "coordinator-cli")?;
    let stored = db.stored_plan(dataset).await?;
    let table = stored.spec.at.table.as_deref().with_context(|| {
        format!(
            "data set {dataset} is not a table: only plans over tables can be checked row by row"
        )
    })?;
    let planner = Planner::new(SecretSource::from_process(), None);
    let Endpoint::Postgres { url } = planner.endpoint(&stored.connection).await? else {
        anyhow::bail!("data set {dataset} is not in a PostgreSQL database")
    };
    let limits = SplitLimits::default();
    let mut client = endpoint::connect(&url, &session_settings(dataset, limits)).await?;
    let chunks = stored.chunks.len();
    let tiling = check_tiling(&mut client, limits, table, stored.chunks).await?;
    client.close().await;
    Ok(CheckReport {
        dataset: dataset.to_owned(),
        chunks,
        tiling,
    })
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "flow {}: nothing is written", self.flow)?;
        for set in &self.datasets {
            let chunks = set
                .chunks
                .map_or_else(|| "unknown".to_owned(), |n| n.to_string());
            let by = set
                .made_by
                .as_ref()
                .map_or_else(|| "source".to_owned(), |job| format!("made by {job}"));
            writeln!(f, "\n{} ({by}): {chunks} chunks", set.name)?;
            if let Some(rows) = set.rows {
                writeln!(f, "  {rows} rows")?;
            }
            if let Some(bytes) = set.bytes.and_then(|b| u64::try_from(b).ok()) {
                writeln!(f, "  {}", common::domain::size::format_bytes(bytes))?;
            }
            if let Some((min, median, max, skew)) = set.sizes {
                writeln!(
                    f,
                    "  rows per chunk: smallest {min}, median {median}, largest {max} ({skew:.2} x the mean)"
                )?;
            }
            for (key, what) in &set.examples {
                writeln!(f, "  {key}  {what}")?;
            }
            for check in &set.checks {
                writeln!(f, "  checked: {check}")?;
            }
            for note in &set.notes {
                writeln!(f, "  note: {note}")?;
            }
            if let Some(effect) = set.effect {
                writeln!(f, "  {effect}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.tiling;
        writeln!(
            f,
            "{}: {} chunks over {} rows",
            self.dataset, self.chunks, t.rows
        )?;
        writeln!(f, "  in exactly one chunk: {}", t.covered_once)?;
        writeln!(f, "  in no chunk: {}", t.uncovered)?;
        writeln!(f, "  in more than one: {}", t.covered_more)?;
        for example in &t.examples {
            let key: Vec<&str> = example
                .key
                .iter()
                .map(|v| v.as_deref().unwrap_or("null"))
                .collect();
            writeln!(
                f,
                "  key ({}) lies in {} chunks ({} rows)",
                key.join(", "),
                example.times,
                example.rows
            )?;
        }
        write!(
            f,
            "{}",
            if t.tiles() {
                "the plan tiles the table"
            } else {
                "the plan does NOT tile the table"
            }
        )
    }
}
