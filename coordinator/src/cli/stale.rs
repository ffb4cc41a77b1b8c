//! `stale`: what was made from data that has been superseded since, and how to repair it.

use serde::Serialize;

use super::Session;
use super::chunks::tone;
use super::failure::{Exit, Failure};
use super::output::{Grid, Page, Shown, Tone, cell, tame, toned};
use super::selector::Name;
use super::words;
use crate::read::obstacle::plural;
use crate::read::stale::{self, StaleCount, StaleRow, WillBeStale};
use crate::read::{chunk, data_set};

/// Arguments of `stale`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One data set; all when none is named
    #[arg(value_name = "DATASET")]
    pub dataset: Option<Name>,
    /// Also what is made from stale chunks and will be stale once they are made again
    #[arg(long)]
    pub downstream: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    pub limit: i64,
    /// Only what comes after this chunk
    #[arg(long, value_name = "DATASET/KEY")]
    pub after: Option<Name>,
}

#[derive(Debug, Serialize)]
struct List {
    sets: Vec<StaleCount>,
    chunks: Vec<StaleRow>,
    /// What is made from them; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    will_be_stale: Option<Vec<WillBeStale>>,
    /// What repairs it.
    repair: Option<String>,
    /// The last chunk shown, where more follow: what `--after` takes.
    next: Option<String>,
}

impl Shown for List {
    fn human(&self, page: &mut Page) {
        if self.sets.is_empty() {
            page.line("nothing is stale");
            return;
        }
        for set in &self.sets {
            let line = format!(
                "{}: {} stale, the first since {}",
                tame(&set.dataset),
                plural(set.chunks, "chunk"),
                words::stamp(page.zoned(set.since))
            );
            page.line(page.paint(Tone::Warn, &line));
        }
        page.line("");
        self.table(page);
        if let Some(next) = &self.next {
            let more = format!("more follow: --after {}", tame(next));
            page.line(page.paint(Tone::Dim, &more));
        }
        for set in self.will_be_stale.iter().flatten() {
            let shown = i64::try_from(set.first.len()).unwrap_or(i64::MAX);
            let more = if set.chunks > shown { ", ..." } else { "" };
            page.line(format!(
                "{}: {} will be stale once those are made again: {}{more}",
                tame(&set.dataset),
                plural(set.chunks, "chunk"),
                tame(&set.first.join(", "))
            ));
        }
        if let Some(repair) = &self.repair {
            page.line(page.paint(Tone::Dim, &format!("repair: {repair}")));
        }
    }
}

impl List {
    fn table(&self, page: &mut Page) {
        let header: &[&'static str] = if page.wide {
            &[
                "chunk",
                ">gen",
                "status",
                "published",
                ">attempt",
                "worker",
                "location",
                "since",
                "made from",
            ]
        } else {
            &["chunk", ">gen", "status", "since", "made from"]
        };
        let mut grid = Grid::new(header);
        for chunk in &self.chunks {
            let mut cells = vec![
                cell(&chunk.name),
                cell(chunk.generation.to_string()),
                toned(tone(&chunk.status), &chunk.status),
            ];
            if page.wide {
                cells.push(cell(
                    chunk
                        .published_at
                        .map_or(String::new(), |at| words::stamp(page.zoned(at))),
                ));
                cells.push(cell(chunk.attempt.map_or(String::new(), |n| n.to_string())));
                cells.push(cell(chunk.worker.as_deref().unwrap_or("")));
                cells.push(cell(chunk.location.as_deref().unwrap_or("")));
            }
            cells.push(cell(words::stamp(page.zoned(chunk.since))));
            cells.push(cell(made_from(chunk)));
            grid.row(cells);
        }
        page.table(grid);
    }
}

/// `generation 1 of mid/00002, now 2`.
fn made_from(chunk: &StaleRow) -> String {
    let mut parts: Vec<String> = chunk
        .superseded
        .iter()
        .take(2)
        .map(|input| match input.read {
            Some(read) => format!("generation {read} of {}, now {}", input.name, input.now),
            None => format!("nothing of {}, now {}", input.name, input.now),
        })
        .collect();
    let more = chunk.superseded_n - i64::try_from(parts.len()).unwrap_or(0);
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    parts.extend(chunk.whole.iter().map(|set| {
        format!(
            "all of {} as of publication {}, now {}",
            set.dataset, set.read, set.now
        )
    }));
    parts.join("; ")
}

/// Runs `stale`.
///
/// # Errors
/// As the server answers, or where the name is not that of a data set.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let mut flow = session.global.flow.clone();
    let named = match &args.dataset {
        Some(Name {
            key: Some(key),
            dataset,
            ..
        }) => {
            return Err(
                Failure::usage(format!("expected a data set, found {dataset}/{key}"))
                    .hint(format!("coordinator lineage {dataset}/{key}")),
            );
        }
        Some(name) => {
            flow = flow.or_else(|| name.flow.clone());
            Some(data_set::find(&db, flow.as_deref(), &name.dataset).await?)
        }
        None => None,
    };
    let id = named.as_ref().map(|set| set.data_set_id);
    let after = match &args.after {
        Some(Name {
            key: Some(key),
            dataset,
            ..
        }) => {
            let found = chunk::find(&db, flow.as_deref(), dataset, key).await?;
            (found.data_set_id, found.chunk_id)
        }
        Some(name) => {
            return Err(Failure::usage(format!(
                "expected --after DATASET/KEY, found {:?}",
                name.dataset
            )));
        }
        None => (0, 0),
    };
    let sets = stale::counts(&db, flow.as_deref(), id).await?;
    let mut chunks = stale::list(&db, flow.as_deref(), id, after, args.limit + 1).await?;
    let wanted = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let more = chunks.len() > wanted;
    chunks.truncate(wanted);
    let will_be_stale = if args.downstream && !sets.is_empty() {
        Some(stale::below(&db, flow.as_deref(), id).await?)
    } else {
        None
    };
    let name = named.map_or(String::new(), |set| format!("{} ", set.name));
    session.out.show(&List {
        repair: (!sets.is_empty())
            .then(|| format!("coordinator resubmit {name}--stale --downstream")),
        next: chunks
            .last()
            .filter(|_| more)
            .map(|chunk| chunk.name.clone()),
        sets,
        chunks,
        will_be_stale,
    })?;
    Ok(Exit::Ok)
}
