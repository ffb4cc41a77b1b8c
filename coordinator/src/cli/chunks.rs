//! `chunks`: the list of chunks, filtered and page by page.

use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Grid, Page, Shown, Tone, cell, tame, toned};
use super::selector::{Filters, Name};
use super::words;
use crate::read::chunks::{self, ChunkRow, ListFilter};
use crate::read::why;

/// Arguments of `chunks`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Data sets and chunks; all when none is named
    #[arg(value_name = "DATASET[/KEY]")]
    pub names: Vec<Name>,
    /// A data set, as an option
    #[arg(long = "dataset", value_name = "DATASET")]
    pub datasets: Vec<Name>,
    /// What narrows it down.
    #[command(flatten)]
    pub filters: Filters,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    pub limit: i64,
    /// Only what comes after this chunk
    #[arg(long, value_name = "DATASET/KEY")]
    pub after: Option<Name>,
}

/// A page of chunks.
#[derive(Debug, Serialize)]
struct List {
    chunks: Vec<ChunkRow>,
    /// The last of them, where more follow: what `--after` takes.
    next: Option<String>,
}

/// The tone of a chunk's state.
pub(crate) fn tone(status: &str) -> Tone {
    match status {
        "validated" => Tone::Good,
        "running" => Tone::Busy,
        "failed" | "held" | "complete" | "resubmit" => Tone::Warn,
        "exhausted" => Tone::Bad,
        "cancelled" | "split" => Tone::Dim,
        _ => Tone::Plain,
    }
}

impl Shown for List {
    fn human(&self, page: &mut Page) {
        if self.chunks.is_empty() {
            page.line("no chunk matches");
            return;
        }
        let header: &[&'static str] = if page.wide {
            &[
                ">#", "chunk", "status", ">tries", ">gen", ">rows", ">bytes", "worker", "changed",
                "covers", "why",
            ]
        } else {
            &[
                ">#", "chunk", "status", ">tries", ">rows", ">bytes", "worker", "why",
            ]
        };
        let mut grid = Grid::new(header);
        for chunk in &self.chunks {
            let running = chunk.worker.is_some();
            let rows = if running {
                chunk.rows_done.unwrap_or(0)
            } else {
                chunk.rows
            };
            let bytes = if running {
                chunk.bytes_done.unwrap_or(0)
            } else {
                chunk.bytes
            };
            let mut cells = vec![
                cell(chunk.ordinal.to_string()),
                cell(format!("{}/{}", chunk.dataset, chunk.key)),
                toned(tone(&chunk.status), &chunk.status),
                cell(chunk.attempts.to_string()),
            ];
            if page.wide {
                cells.push(cell(chunk.generation.to_string()));
            }
            cells.push(cell(if rows == 0 {
                String::new()
            } else {
                words::grouped(rows)
            }));
            cells.push(cell(if bytes == 0 {
                String::new()
            } else {
                words::bytes(bytes)
            }));
            cells.push(cell(chunk.worker.as_deref().unwrap_or("")));
            if page.wide {
                cells.push(cell(words::stamp(page.zoned(chunk.changed_at))));
                cells.push(cell(why::bounds(&chunk.bounds)));
            }
            cells.push(cell(reason(chunk, page)));
            grid.row(cells);
        }
        page.table(grid);
        if let Some(next) = &self.next {
            let more = format!("more follow: --after {}", tame(next));
            page.line(page.paint(Tone::Dim, &more));
        }
    }
}

fn reason(chunk: &ChunkRow, page: &Page) -> String {
    let text = chunk.reason.as_deref().unwrap_or("");
    match (chunk.retry_at, chunk.hold_until, chunk.stale_since) {
        (Some(at), ..) => format!("retry at {}: {text}", page.zoned(at).format("%H:%M:%S")),
        (None, Some(at), _) => format!("until {}: {text}", words::stamp(page.zoned(at))),
        (None, None, Some(_)) if text.is_empty() => "stale".to_owned(),
        _ => text.to_owned(),
    }
}

/// Runs `chunks`.
///
/// # Errors
/// As the server answers, or where a name is not that of a chunk or data set.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let mut flow = session.global.flow.clone();
    let names = args.names.into_iter().chain(args.datasets);
    let (mut datasets, mut single) = (Vec::new(), Vec::new());
    for name in names {
        flow = flow.or(name.flow);
        match name.key {
            Some(key) => single.push((name.dataset, key)),
            None => datasets.push(name.dataset),
        }
    }
    let after = match args.after {
        Some(Name {
            key: Some(key),
            dataset,
            ..
        }) => Some((dataset, key)),
        Some(name) => {
            return Err(Failure::usage(format!(
                "expected --after DATASET/KEY, found {:?}",
                name.dataset
            )));
        }
        None => None,
    };
    let filter = ListFilter {
        flow: flow.clone(),
        datasets,
        chunks: single,
        status: args.filters.status,
        error: args.filters.error,
        ranges: args
            .filters
            .range
            .map(|ranges| ranges.0.iter().map(|r| (r.first, r.last, r.step)).collect())
            .unwrap_or_default(),
        worker: args.filters.worker,
        after,
        limit: args.limit + 1,
    };
    let mut rows = chunks::list(&db, &filter).await?;
    let wanted = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let last = rows
        .last()
        .map(|chunk| format!("{}/{}", chunk.dataset, chunk.key));
    session.out.show(&List {
        next: last.filter(|_| more),
        chunks: rows,
    })?;
    Ok(Exit::Ok)
}
