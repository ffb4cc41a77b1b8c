//! `coordinator plan`: what a flow file would be split into and what would run. Writes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use common::calendar::Calendar;
use common::domain::{NewChunk, Severity};
use common::endpoint::{self, SecretString};
use common::flow::Diagnostic;
use common::flow::link::{Figures, Links, Side, calendars, link};
use common::flow::model::{DataSet, Flow, Input, Mapping, Partition, Rest};
use common::secret::SecretSource;
use common::store::ControlDb;
use serde::Serialize;

use crate::declare;
use crate::linker::{self, Gathered};
use crate::planner::{Planner, Preview};
use crate::split::check::{TilingCheck, TilingReport};
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
    /// How many chunks of its inputs each of its chunks is made from, where that is not one for one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Figures>,
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
    let mut chunks = Chunks::of(flow);
    for (name, set) in &flow.datasets {
        if declared.topology.maker(name).is_some() {
            continue;
        }
        let connection = &flow.connections[&set.at.connection];
        let mut sink = Preview::keeping(chunks.wanted);
        let summary = planner
            .split(name, set, connection, &mut sink)
            .await
            .with_context(|| format!("split data set {name}"))?;
        chunks.known.insert(name.clone(), sink.all);
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
            inputs: Vec::new(),
            notes: summary.notes,
            checks: Vec::new(),
            effect: None,
        });
    }
    let calendars = calendars(flow, &declared.topology);
    for job in declared.topology.order() {
        let links = chunks
            .made(&planner, flow, job, &calendars)
            .await
            .with_context(|| format!("plan what job {job} makes"))?;
        datasets.push(made(flow, job, &datasets, links));
    }
    Ok(PlanReport {
        flow: flow.name.clone(),
        datasets,
        warnings: declared.warnings.clone(),
    })
}

/// The chunks of every data set, kept only where edges have to be drawn between them.
struct Chunks {
    wanted: bool,
    known: BTreeMap<String, Vec<NewChunk>>,
}

impl Chunks {
    fn of(flow: &Flow) -> Self {
        let inputs = flow.jobs.values().flat_map(|job| &job.inputs);
        Self {
            wanted: inputs.into_iter().any(|input| input.mapping.is_linked()),
            known: BTreeMap::new(),
        }
    }

    /// What a job's output would be made from; `None` where its edges follow from equal keys or it
    /// takes its inputs whole.
    async fn made(
        &mut self,
        planner: &Planner,
        flow: &Flow,
        name: &str,
        calendars: &BTreeMap<&str, &Calendar>,
    ) -> anyhow::Result<Option<Links>> {
        if !self.wanted {
            return Ok(None);
        }
        let job = &flow.jobs[name];
        let set = &flow.datasets[&job.output];
        let own = match set.partition {
            Some(_) => {
                let mut sink = Gathered::default();
                planner.split_made(&job.output, set, &mut sink).await?;
                Some(sink.0)
            }
            None => None,
        };
        let mapped = |input: &&Input| input.mapping != Mapping::All;
        let sides: Vec<Side<'_>> = job
            .inputs
            .iter()
            .filter(mapped)
            .map(|input| Side {
                dataset: &input.dataset,
                mapping: &input.mapping,
                calendar: calendars.get(input.dataset.as_str()).copied(),
                chunks: self.known.get(&input.dataset).map_or(&[], Vec::as_slice),
            })
            .collect();
        let links = link(&job.output, own, &sides)?;
        self.known.insert(job.output.clone(), links.chunks.clone());
        let is_linked = job.inputs.iter().any(|input| input.mapping.is_linked());
        Ok(is_linked.then_some(links))
    }
}

fn made(
    flow: &Flow,
    job_name: &str,
    before: &[DataSetPreview],
    links: Option<Links>,
) -> DataSetPreview {
    let job = &flow.jobs[job_name];
    let set = &flow.datasets[&job.output];
    let one_to_one = job
        .inputs
        .iter()
        .find(|input| input.mapping == Mapping::SameKey);
    let chunks = match (&links, one_to_one, &set.partition) {
        (Some(links), ..) => u64::try_from(links.chunks.len()).ok(),
        (None, Some(input), _) => before
            .iter()
            .find(|p| p.name == input.dataset)
            .and_then(|p| p.chunks),
        (None, None, Some(partition)) => counted(partition),
        (None, None, None) => Some(1),
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
    let (mut examples, mut inputs) = (Vec::new(), Vec::new());
    if let Some(links) = links {
        let shown = links
            .chunks
            .iter()
            .take(1)
            .chain(links.chunks.iter().skip(1).last());
        examples.extend(shown.map(describe));
        notes.extend(links.figures.iter().flat_map(linker::notes));
        for gap in links.gaps.iter().take(GAPS_SHOWN) {
            let (chunk, input) = (
                &links.chunks[gap.output].key,
                &links.figures[gap.side].dataset,
            );
            notes.push(format!(
                "{chunk} waits for {input}/{}, which the plan of {input} does not have",
                gap.wanted
            ));
        }
        inputs = links.figures;
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
        examples,
        inputs,
        notes,
        checks: checks_of(set),
        effect: Some(effect),
    }
}

/// How many missing inputs a preview names.
const GAPS_SHOWN: usize = 3;

/// How many chunks a partition has that says so without looking at anything.
fn counted(partition: &Partition) -> Option<u64> {
    match partition {
        Partition::Single => Some(1),
        Partition::List { values } => u64::try_from(values.len()).ok(),
        Partition::Windows { calendar, .. } => u64::try_from(calendar.windows().len()).ok(),
        Partition::Product { parts } => parts
            .iter()
            .map(counted)
            .try_fold(1_u64, |all, part| all.checked_mul(part?)),
        _ => None,
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
    let mut check = TilingCheck::default();
    for (key, bounds) in stored.chunks {
        check.add(key, bounds)?;
    }
    if let Some(Partition::Windows {
        rest: Rest::Ignore, ..
    }) = &stored.spec.partition
    {
        check.leave_out_rest()?;
    }
    let tiling = check.run(&mut client, limits, table).await?;
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
        if t.left_out > 0 {
            writeln!(
                f,
                "  outside of all windows, left out by declaration: {}",
                t.left_out
            )?;
        }
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
