//! What `status --loops` shows: when each of the leader's loops ran last and what it did.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::cli::output::{Grid, Page, Shown, Tone, cell, tame, toned};
use crate::cli::words;
use crate::read::state::span;
use crate::read::{ReadError, loops, status};

#[derive(Debug, Serialize)]
pub(super) struct Loops {
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
                format!("{} ago", span(self.now - at))
            });
            let result = tame(one.result.as_deref().unwrap_or(""));
            let result = match one.failing_since {
                Some(since) => toned(
                    Tone::Bad,
                    format!("FAILING for {}: {result}", span(self.now - since)),
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

/// Looks at the loops.
pub(super) async fn look(db: &PgPool) -> Result<Loops, ReadError> {
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
