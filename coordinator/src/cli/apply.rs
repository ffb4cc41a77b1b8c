//! `coordinator apply`: takes a flow file over.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use common::endpoint::SecretString;
use common::flow::diff::{self, Change, Effect};

use common::store::ControlDb;
use common::store::apply::Applied;

use crate::declare::{self, Declared};
use crate::read::obstacle::plural;

/// Apply a flow file: declare or change connections, pools, data sets and jobs
///
/// Applying the same file twice changes nothing. Limits that 'scale' set stay as they are. A change
/// that would orphan running or published work is refused and nothing is changed.
#[derive(Debug, Clone, clap::Args)]
pub struct ApplyArgs {
    /// The flow file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Pin the SHA-256 of every script found in this folder; a worker whose copy differs refuses to run it
    #[arg(long, env = "ODF_SCRIPT_DIR", value_name = "DIR")]
    pub script_dir: Option<PathBuf>,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Show what would change and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Let limits that 'scale' set give way to the file's
    #[arg(long)]
    pub reset_limits: bool,
}

/// What `apply` did or would do.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ApplyReport {
    /// The flow's name.
    pub flow: String,
    /// The version in force before, if any.
    pub before: Option<i32>,
    /// The version in force now.
    pub version: Option<i32>,
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// What differs from the version before.
    pub changes: Vec<Change>,
    /// Data sets that are cut otherwise from now on, and the chunks of the plan that stays in force.
    pub replans: BTreeMap<String, i64>,
    /// Scripts' pinned hashes by job.
    pub pinned: BTreeMap<String, String>,
    /// Scripts that could not be pinned, and why.
    pub unpinned: Vec<String>,
    /// Limits that `scale` set and that stay: pool, the operator's, the file's (`None` is none).
    pub overrides: Vec<(String, Option<u32>, Option<u32>)>,
}

/// What a person sees before being asked.
#[derive(Debug, Clone)]
pub struct Preview {
    declared: Declared,
    report: ApplyReport,
    db: ControlDb,
}

/// Reads the file and compares it with what is in force.
///
/// # Errors
/// With every problem of the file, or where the database cannot be read.
pub async fn preview(args: &ApplyArgs, url: SecretString) -> anyhow::Result<Preview> {
    let declared = declare::read(&args.file, args.script_dir.as_deref())?;
    let db = ControlDb::new(url, 1, "coordinator-cli")?;
    let current = db.current_flow(&declared.flow.name).await?;
    let planned = db.planned_chunks(&declared.flow.name).await?;
    let changes = match &current {
        Some((_, before)) => {
            let mut changes = diff::diff(before, &declared.flow);
            changes.extend(repinned(&declared, db.pinned_scripts(&before.name).await?));
            changes
        }
        None => Vec::new(),
    };
    let overrides = if args.reset_limits {
        Vec::new()
    } else {
        overrides(&declared, db.limit_overrides(&declared.flow.name).await?)
    };
    let report = ApplyReport {
        flow: declared.flow.name.clone(),
        before: current.map(|(version, _)| version),
        version: None,
        changed: false,
        dry_run: args.dry_run,
        replans: recut(&changes, planned),
        changes,
        pinned: declared.scripts.clone(),
        unpinned: declared.unpinned.clone(),
        overrides,
    };
    Ok(Preview {
        declared,
        report,
        db,
    })
}

/// The planned data sets whose partition changes.
fn recut(changes: &[Change], planned: BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let is_cut = |name: &str| {
        let path = format!("datasets.{name}.partition");
        changes.iter().any(|change| change.path == path)
    };
    planned
        .into_iter()
        .filter(|(name, _)| is_cut(name))
        .collect()
}

/// Scripts whose pinned content changes, in jobs that stay.
fn repinned(declared: &Declared, before: BTreeMap<String, Option<String>>) -> Vec<Change> {
    let short = |hash: &String| format!("sha256 {}", hash.get(..12).unwrap_or(hash));
    before
        .into_iter()
        .filter(|(job, _)| declared.flow.jobs.contains_key(job))
        .filter(|(job, hash)| declared.scripts.get(job) != hash.as_ref())
        .map(|(job, hash)| Change {
            path: format!("jobs.{job}.run.script, its content"),
            old: hash.as_ref().map(short),
            new: declared.scripts.get(&job).map(short),
            effect: Effect::NewAttempts,
        })
        .collect()
}

/// The limits of `scale` beside those of the file that is being applied.
fn overrides(
    declared: &Declared,
    stored: Vec<(String, Option<u32>, Option<u32>)>,
) -> Vec<(String, Option<u32>, Option<u32>)> {
    stored
        .into_iter()
        .filter_map(|(pool, ours, _)| {
            let file = declared.flow.pools.get(&pool)?.limit;
            Some((pool, ours, file))
        })
        .collect()
}

impl Preview {
    /// What would change.
    #[must_use]
    pub fn report(&self) -> &ApplyReport {
        &self.report
    }

    /// What the file's author should look at.
    #[must_use]
    pub fn warnings(&self) -> &[common::flow::Diagnostic] {
        &self.declared.warnings
    }

    /// Whether a person should be asked: something in force would change.
    #[must_use]
    pub fn needs_consent(&self) -> bool {
        !self.report.changes.is_empty()
    }

    /// Applies it, unless it was a dry run.
    ///
    /// # Errors
    /// Where it is refused; nothing is changed then.
    pub async fn apply(mut self, reset_limits: bool) -> anyhow::Result<ApplyReport> {
        if !self.report.dry_run {
            let done: Applied = self
                .db
                .apply_flow(&self.declared.application(reset_limits))
                .await
                .with_context(|| format!("apply flow {}", self.declared.flow.name))?;
            self.report.version = Some(done.version);
            self.report.changed = done.changed;
        }
        Ok(self.report)
    }
}

impl ApplyReport {
    /// The changes, a line each, and what they leave as it is.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let changes = self.changes.iter().map(|change| format!("  {change}"));
        let plans = self.replans.iter().map(|(name, chunks)| {
            let chunks = plural(*chunks, "chunk");
            format!(
                "  {name}: the plan in force keeps its {chunks} until 'coordinator replan {name}'"
            )
        });
        changes.chain(plans)
    }
}

impl fmt::Display for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        for (pool, ours, file) in &self.overrides {
            let number =
                |limit: &Option<u32>| limit.map_or_else(|| "none".to_owned(), |n| n.to_string());
            writeln!(
                f,
                "  pool {pool} stays at {} (scale), the file says {}",
                number(ours),
                number(file)
            )?;
        }
        for problem in &self.unpinned {
            writeln!(f, "  not pinned: {problem}")?;
        }
        match (self.dry_run, self.changed, self.version) {
            (true, _, _) if self.before.is_none() => write!(f, "flow {} would be new", self.flow),
            (true, _, _) => write!(
                f,
                "flow {}: {} changes, nothing applied (dry run)",
                self.flow,
                self.changes.len()
            ),
            (_, true, Some(version)) => write!(f, "flow {} version {version} applied", self.flow),
            (_, _, Some(version)) => write!(
                f,
                "flow {} version {version} is in force already; nothing changed",
                self.flow
            ),
            _ => write!(f, "flow {}", self.flow),
        }
    }
}
