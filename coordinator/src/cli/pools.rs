//! `pools`: every limit, who set it, and what runs and waits under it.

use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Grid, Page, Shown, Tone, cell, toned};
use super::words;
use crate::read::pools::{self, PoolRow};

/// Arguments of `pools`.
#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Pools(Vec<PoolRow>);

/// `none` for unlimited.
pub(crate) fn limit(limit: Option<i32>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

impl Shown for Pools {
    fn human(&self, page: &mut Page) {
        if self.0.is_empty() {
            page.line("no flow is applied yet");
            return;
        }
        let one_flow = self.0.windows(2).all(|pair| pair[0].flow == pair[1].flow);
        let mut grid = Grid::new(&[
            "pool", ">running", ">limit", ">file", ">ready", "state", "jobs", "remark",
        ]);
        for pool in &self.0 {
            let name = if one_flow {
                pool.name.clone()
            } else {
                format!("{}:{}", pool.flow, pool.name)
            };
            let (tone, word) = state(pool);
            grid.row(vec![
                cell(name),
                cell(pool.running.to_string()),
                cell(limit(pool.base_limit)),
                cell(limit(pool.file_limit)),
                cell(pool.ready.to_string()),
                toned(tone, word),
                cell(pool.jobs.join(",")),
                cell(remark(pool, page)),
            ]);
        }
        page.table(grid);
    }
}

/// `3 of 10 running`, `3 running, unlimited`.
pub(crate) fn usage(running: i64, limit: Option<i32>) -> String {
    match limit {
        Some(limit) => format!("{running} of {limit} running"),
        None => format!("{running} running, unlimited"),
    }
}

/// The word for a pool.
pub(crate) fn state(pool: &PoolRow) -> (Tone, &'static str) {
    let over = pool
        .limit
        .is_some_and(|limit| pool.running > i64::from(limit));
    match (pool.paused, over, pool.limit) {
        (true, _, _) if pool.running > 0 => (Tone::Warn, "pausing"),
        (true, ..) => (Tone::Warn, "paused"),
        (false, true, _) => (Tone::Warn, "draining"),
        (false, false, Some(0)) => (Tone::Warn, "closed"),
        (false, false, Some(limit)) if pool.running >= i64::from(limit) => (Tone::Busy, "full"),
        _ => (Tone::Good, "open"),
    }
}

/// Who changed it, when and why.
pub(crate) fn remark(pool: &PoolRow, page: &Page) -> String {
    let Some(by) = pool
        .changed_by
        .as_deref()
        .filter(|_| pool.operator_set || pool.paused)
    else {
        return String::new();
    };
    let when = pool
        .changed_at
        .map(|at| format!(" at {}", words::stamp(page.zoned(at))))
        .unwrap_or_default();
    let why = pool
        .reason
        .as_deref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    format!("set by {by}{when}{why}")
}

/// Runs `pools`.
///
/// # Errors
/// As the server answers.
pub async fn run(_: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let list = pools::all(&db, session.global.flow.as_deref(), None).await?;
    session.out.show(&Pools(list))?;
    Ok(Exit::Ok)
}
