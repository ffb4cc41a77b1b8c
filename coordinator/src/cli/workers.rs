//! `workers`: who is at work, what each offers and what it runs.

use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Grid, Page, Shown, Tone, cell, toned};
use super::words;
use crate::read::state::span;
use crate::read::workers::{self, WorkerRow};

/// Arguments of `workers`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also those that have ended or died
    #[arg(short, long)]
    pub all: bool,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Workers(Vec<WorkerRow>);

impl Shown for Workers {
    fn human(&self, page: &mut Page) {
        if self.0.is_empty() {
            page.line("no worker is at work");
            return;
        }
        let header: &[&'static str] = if page.wide {
            &[
                "worker", "state", ">running", ">slots", "heard", "started", "host", ">pid",
                "version", "labels", "remark",
            ]
        } else {
            &[
                "worker", "state", ">running", ">slots", "heard", "host", "labels", "remark",
            ]
        };
        let mut grid = Grid::new(header);
        for worker in &self.0 {
            let (tone, word) = state(worker);
            let mut cells = vec![
                cell(&worker.name),
                toned(tone, word),
                cell(worker.running.to_string()),
                cell(slots(worker)),
                cell(
                    worker
                        .beat_at
                        .map_or(String::new(), |at| format!("{} ago", span(worker.now - at))),
                ),
            ];
            let host = cell(worker.host.as_deref().unwrap_or(""));
            if page.wide {
                cells.push(cell(
                    worker
                        .started_at
                        .map_or(String::new(), |at| words::stamp(page.zoned(at))),
                ));
                cells.push(host);
                cells.push(cell(
                    worker.pid.map_or(String::new(), |pid| pid.to_string()),
                ));
                cells.push(cell(worker.version.as_deref().unwrap_or("")));
            } else {
                cells.push(host);
            }
            cells.push(cell(worker.labels.as_deref().unwrap_or(&[]).join(",")));
            cells.push(cell(remark(worker)));
            grid.row(cells);
        }
        page.table(grid);
    }
}

fn state(worker: &WorkerRow) -> (Tone, &str) {
    match worker.state.as_deref() {
        Some("active") if worker.draining && worker.running == 0 => (Tone::Warn, "drained"),
        Some("active") if worker.draining => (Tone::Warn, "draining"),
        Some("active") => (Tone::Good, "active"),
        Some("silent") => (Tone::Bad, "silent"),
        Some("dead") => (Tone::Bad, "dead"),
        Some(other) => (Tone::Dim, other),
        None => (Tone::Dim, "unknown"),
    }
}

/// `4` or `4 of 8`, where scaled below what it was started with.
fn slots(worker: &WorkerRow) -> String {
    match (worker.slots_limit, worker.slots) {
        (Some(limit), Some(slots)) if limit < slots => format!("{limit} of {slots}"),
        (_, Some(slots)) => slots.to_string(),
        (Some(limit), None) => limit.to_string(),
        (None, None) => String::new(),
    }
}

fn remark(worker: &WorkerRow) -> String {
    let mut parts = Vec::new();
    if worker.draining || worker.slots_limit.is_some() {
        let what = if worker.draining { "drained" } else { "scaled" };
        let by = worker
            .changed_by
            .as_deref()
            .map(|by| format!(" by {by}"))
            .unwrap_or_default();
        let why = worker
            .reason
            .as_deref()
            .map(|why| format!(": {why}"))
            .unwrap_or_default();
        parts.push(format!("{what}{by}{why}"));
    }
    parts.extend(worker.end_reason.clone());
    parts.join("; ")
}

/// Runs `workers`.
///
/// # Errors
/// As the server answers.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let list = workers::list(&db, args.all).await?;
    let empty = list.is_empty();
    session.out.show(&Workers(list))?;
    if empty && !args.all {
        session
            .out
            .say("hint: worker run; --all shows those that have ended");
    }
    Ok(Exit::Ok)
}
