//! `reconcile`: a target against what its source held at its extract, chunk by chunk.

use std::time::{Duration, Instant};

use common::secret::SecretSource;
use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Grid, Page, Shown, Tone, cell, tame, toned};
use super::selector::{Filters, Name};
use super::words;
use crate::planner::Planner;
use crate::read::chunks::ListFilter;
use crate::read::obstacle::plural;
use crate::read::{data_set, reconciliation};
use crate::reconcile::keys::{Difference, KeyList};
use crate::reconcile::place::{self, Place};
use crate::reconcile::run::{Ends, Options, Outcome, Run, TIMEOUT, Tally};
use crate::reconcile::table::Look;
use crate::reconcile::verdict::Verdict;

/// Outcomes that an answer lists one by one; all are kept in the database.
const LISTED: usize = 1_000;
/// How often a run says where it is.
const TALK: Duration = Duration::from_secs(5);

/// Compare a target with what its source held at its extract, chunk by chunk
///
/// Expected are rows and row sum that were computed in the extract's own snapshot and kept with its
/// publication; found is what the target holds now. Each answer is kept as it comes: an interrupted
/// run goes on where it stopped. Connections are resolved from this process's own environment; nothing
/// is written to either side. Ends with 5 where something differs or could not be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data set, or some of its chunks
    #[arg(value_name = "DATASET[/KEY]", required = true)]
    pub names: Vec<Name>,
    /// What narrows it down.
    #[command(flatten)]
    pub filters: Filters,
    /// Measure the source of today as well: a column of its own, no part of the verdict
    #[arg(long)]
    pub today: bool,
    /// Which rows belong: a condition over the rows of source and target
    #[arg(long, value_name = "SQL")]
    pub cutoff: Option<String>,
    /// Keys to list for a chunk that differs; 0 leaves the source alone
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub keys: usize,
    /// Chunks at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub concurrency: u8,
    /// Compare again what was found equal before
    #[arg(long)]
    pub again: bool,
    /// The time zone in which the extract printed times with a zone
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub timezone: String,
    /// The longest that reading one chunk may take
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Serialize)]
struct Reconciled {
    flow: String,
    dataset: String,
    #[serde(flatten)]
    tally: Tally,
    /// Chunks that are not equal, and those whose source has changed since, at most 1,000.
    chunks: Vec<Outcome>,
    /// How many of them are not listed.
    more: i64,
}

/// Runs `reconcile`.
///
/// # Errors
/// As the server answers; where a name is not there or the target cannot be reached.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let (flow, dataset, keys) = one_data_set(&args.names, session.global.flow.as_deref())?;
    let found = data_set::find(&db, flow.as_deref(), &dataset).await?;
    let ends = ends(&db, found.data_set_id).await?;
    if let Place::Nowhere(why) = &ends.target {
        return Err(Failure::new(
            Exit::Refused,
            format!("{dataset} cannot be looked at from here: {why}"),
        )
        .hint("set what its connection names (its secrets) in this environment, or run this where they are"));
    }
    let (filter, options) = args.into_parts(&found, keys);
    let run = Run::new(db, ends, options)
        .await
        .map_err(|error| Failure::new(Exit::Error, format!("look at {dataset}: {error}")))?;
    let (mut listed, mut more, mut said) = (Vec::new(), 0, Instant::now());
    let out = &mut session.out;
    let tally = run
        .all(filter, |outcome, tally| {
            if noteworthy(outcome) {
                if listed.len() < LISTED {
                    listed.push(outcome.clone());
                } else {
                    more += 1;
                }
            }
            if said.elapsed() >= TALK {
                said = Instant::now();
                out.say(summary(&dataset, tally));
            }
        })
        .await?;
    if tally.total() > 0 {
        run.close(&summary(&dataset, &tally)).await?;
    }
    listed.sort_by_key(|outcome| outcome.chunk_id);
    let holds = tally.holds();
    session.out.show(&Reconciled {
        flow: found.flow,
        dataset,
        tally,
        chunks: listed,
        more,
    })?;
    Ok(if holds { Exit::Ok } else { Exit::Degraded })
}

impl Args {
    /// Which chunks of a data set, and how; all of them where no keys are named.
    fn into_parts(self, found: &data_set::Found, keys: Vec<String>) -> (ListFilter, Options) {
        let ranges = self.filters.range.map(|ranges| ranges.0);
        let filter = ListFilter {
            flow: Some(found.flow.clone()),
            datasets: if keys.is_empty() {
                vec![found.name.clone()]
            } else {
                Vec::new()
            },
            chunks: keys
                .into_iter()
                .map(|key| (found.name.clone(), key))
                .collect(),
            status: self.filters.status,
            error: self.filters.error,
            ranges: ranges
                .iter()
                .flatten()
                .map(|range| (range.first, range.last, range.step))
                .collect(),
            worker: self.filters.worker,
            ..ListFilter::default()
        };
        let options = Options {
            concurrency: usize::from(self.concurrency),
            keys: self.keys,
            today: self.today,
            again: self.again,
            look: Look {
                timezone: self.timezone,
                cutoff: self.cutoff,
                timeout: self.timeout.unwrap_or(TIMEOUT),
            },
        };
        (filter, options)
    }
}

/// The one data set that all names are about, and the chunks of it that are named.
fn one_data_set(
    names: &[Name],
    flow: Option<&str>,
) -> Result<(Option<String>, String, Vec<String>), Failure> {
    let Some(first) = names.first() else {
        return Err(Failure::usage("no data set is named"));
    };
    if let Some(other) = names
        .iter()
        .find(|name| name.dataset != first.dataset || name.flow != first.flow)
    {
        return Err(Failure::usage(format!(
            "expected chunks of one data set, found {} and {}",
            first.dataset, other.dataset
        ))
        .hint("reconcile one data set at a time"));
    }
    let whole = names.iter().any(|name| name.key.is_none());
    let keys = names.iter().filter_map(|name| name.key.clone());
    Ok((
        first.flow.clone().or_else(|| flow.map(str::to_owned)),
        first.dataset.clone(),
        if whole { Vec::new() } else { keys.collect() },
    ))
}

/// Where a data set and its one source are.
pub(crate) async fn ends(db: &sqlx::PgPool, data_set_id: i32) -> Result<Ends, Failure> {
    let way = reconciliation::way(db, data_set_id).await?;
    let planner = Planner::new(SecretSource::from_process(), None);
    let target = match way
        .iter()
        .find(|station| station.data_set_id == data_set_id)
    {
        Some(station) if station.made => place::of(&planner, station).await,
        Some(station) => {
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "{} is a source: there is nothing that it was made from",
                    station.name
                ),
            )
            .hint("name the data set that was made from it"));
        }
        None => Place::Nowhere("it is not declared any more".to_owned()),
    };
    let sources: Vec<_> = way.iter().filter(|station| !station.made).collect();
    let source = match sources.as_slice() {
        [one] => place::of(&planner, one).await,
        [] => Place::Nowhere("it has no source".to_owned()),
        several => Place::Nowhere(format!(
            "it is made from {} sources: none of them is the one to compare with",
            several.len()
        )),
    };
    Ok(Ends {
        data_set_id,
        target,
        source,
    })
}

fn noteworthy(outcome: &Outcome) -> bool {
    outcome.verdict != Verdict::Equal || outcome.keys.is_some() || outcome.reason.is_some()
}

fn summary(dataset: &str, tally: &Tally) -> String {
    let mut parts = Vec::new();
    for (verdict, words) in [
        (Verdict::Equal, "equal"),
        (Verdict::RowsEqual, "with equal rows (no sum is kept)"),
        (Verdict::Differs, "differ"),
        (Verdict::Unknown, "unknown"),
    ] {
        let n = tally.of(verdict);
        if n > 0 {
            parts.push(format!("{} {words}", words::grouped(n)));
        }
    }
    if tally.known_equal > 0 {
        parts.push(format!(
            "{} equal before and not compared again",
            words::grouped(tally.known_equal)
        ));
    }
    if tally.changed_since > 0 {
        parts.push(format!(
            "{} changed in the source since",
            words::grouped(tally.changed_since)
        ));
    }
    format!(
        "{dataset}: {}: {}",
        plural(tally.total(), "chunk"),
        parts.join(", ")
    )
}

impl Shown for Reconciled {
    fn human(&self, page: &mut Page) {
        if self.tally.total() == 0 {
            page.line("no chunk matches");
            return;
        }
        page.line(summary(&self.dataset, &self.tally));
        if !self.chunks.is_empty() {
            page.line("");
            page.table(self.grid());
        }
        if self.more > 0 {
            page.line(format!(
                "and {} more: narrow down with --range",
                words::grouped(self.more)
            ));
        }
        for outcome in &self.chunks {
            if let Some(list) = &outcome.keys {
                page.line("");
                show_keys(&format!("{}/{}", self.dataset, outcome.key), list, page);
            }
        }
    }
}

impl Reconciled {
    fn grid(&self) -> Grid {
        let mut grid = Grid::new(&[
            "chunk",
            "verdict",
            ">at extract",
            ">in target",
            ">source today",
            "expected from",
            "why",
        ]);
        let rows = |n: Option<i64>| n.map_or_else(String::new, words::grouped);
        for outcome in &self.chunks {
            let tone = match outcome.verdict {
                Verdict::Equal => Tone::Good,
                Verdict::RowsEqual | Verdict::Unknown => Tone::Warn,
                Verdict::Differs => Tone::Bad,
            };
            grid.row(vec![
                cell(format!("{}/{}", self.dataset, outcome.key)),
                toned(tone, outcome.verdict.word()),
                cell(rows(outcome.expected_rows)),
                cell(rows(outcome.found_rows)),
                cell(rows(outcome.today_rows)),
                cell(outcome.expected_from.as_deref().unwrap_or("")),
                cell(outcome.reason.as_deref().unwrap_or("")),
            ]);
        }
        grid
    }
}

fn show_keys(name: &str, list: &KeyList, page: &mut Page) {
    page.line(format!(
        "{}: keys ({}) in target and source as they are now: {} missing in the target, {} only there, {} changed",
        tame(name),
        tame(&list.columns.join(", ")),
        list.missing_in_target,
        list.only_in_target,
        list.changed
    ));
    for found in &list.listed {
        let key: Vec<&str> = found
            .key
            .iter()
            .map(|part| part.as_deref().unwrap_or("null"))
            .collect();
        let what = match found.what {
            Difference::MissingInTarget => "missing in target",
            Difference::OnlyInTarget => "only in target",
            Difference::Changed if found.source_rows == found.target_rows => "changed",
            Difference::Changed => "changed in number",
        };
        let counts = if found.source_rows <= 1 && found.target_rows <= 1 {
            String::new()
        } else {
            format!(
                " (rows: source {}, target {})",
                found.source_rows, found.target_rows
            )
        };
        page.line(format!("  {what:<18} {}{counts}", tame(&key.join(", "))));
    }
}
