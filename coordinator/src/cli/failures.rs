//! `failures`: what failed, grouped by cause, the most frequent first.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Page, Shown, Tone, tame};
use super::words;
use crate::read::failures::{self, Cause, MOST};
use crate::read::obstacle::plural;
use crate::read::state::span;
use crate::read::{data_set, events};

/// Arguments of `failures`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these data sets
    #[arg(value_name = "DATASET")]
    pub names: Vec<String>,
    /// At most so many causes
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

#[derive(Debug, Serialize)]
struct Failures {
    now: DateTime<Utc>,
    chunks: i64,
    causes: Vec<Cause>,
    /// More causes than were asked for.
    more_causes: usize,
    /// Whether there are more failing chunks than were looked at.
    cut: bool,
}

impl Shown for Failures {
    fn human(&self, page: &mut Page) {
        if self.chunks == 0 {
            page.line("nothing is failed or exhausted");
            return;
        }
        let least = if self.cut { "at least " } else { "" };
        let causes = self.causes.len() + self.more_causes;
        page.line(format!(
            "{least}{}, {}",
            plural(self.chunks, "failure"),
            plural(causes as i64, "cause")
        ));
        for cause in &self.causes {
            page.line("");
            self.cause(cause, page);
        }
        if self.more_causes > 0 {
            page.line("");
            page.line(format!(
                "{} more: --limit {causes}",
                plural(self.more_causes as i64, "cause")
            ));
        }
    }
}

impl Failures {
    fn cause(&self, cause: &Cause, page: &mut Page) {
        let class = cause.class.as_deref().unwrap_or("unknown class");
        let tone = if cause.exhausted > 0 {
            Tone::Bad
        } else {
            Tone::Warn
        };
        let head = page.paint(tone, &plural(cause.chunks, "chunk"));
        page.line(format!("{head}  {class}: {}", tame(&cause.pattern)));
        let mut state = Vec::new();
        if cause.exhausted > 0 {
            state.push(format!("{} exhausted (a person decides)", cause.exhausted));
        }
        if cause.failed > 0 {
            let next = match cause.next_retry {
                Some(at) if at > self.now => format!(" (next retry in {})", span(at - self.now)),
                _ => " (to be retried)".to_owned(),
            };
            state.push(format!("{} failed{next}", cause.failed));
        }
        page.line(format!("  state    {}", state.join(", ")));
        let sets: Vec<String> = cause
            .datasets
            .iter()
            .map(|(name, n)| format!("{name} ({n})"))
            .collect();
        page.line(format!("  in       {}", sets.join(", ")));
        let when = if cause.first_at == cause.last_at {
            words::stamp(page.zoned(cause.first_at))
        } else {
            format!(
                "{} to {}",
                words::stamp(page.zoned(cause.first_at)),
                words::stamp(page.zoned(cause.last_at))
            )
        };
        page.line(format!("  when     {when}"));
        if !cause.workers.is_empty() {
            let names: Vec<&str> = cause.workers.iter().map(String::as_str).take(8).collect();
            let more = cause.workers.len().saturating_sub(8);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            page.line(format!("  workers  {}{more}", names.join(", ")));
        }
        if !cause.exit_codes.is_empty() {
            let codes: Vec<String> = cause.exit_codes.iter().map(i32::to_string).collect();
            page.line(format!("  exit     {}", codes.join(", ")));
        }
        page.line(format!(
            "  example  {}: {}",
            cause.example,
            tame(&cause.message)
        ));
    }
}

/// Runs `failures`.
///
/// # Errors
/// As the server answers, or for a data set that is not there.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let flow = session.global.flow.clone();
    for name in &args.names {
        data_set::find(&db, flow.as_deref(), name).await?;
    }
    let now = events::now(&db).await?;
    let rows = failures::failing(&db, flow.as_deref(), &args.names).await?;
    let chunks = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let mut causes = failures::group(rows);
    let more_causes = causes.len().saturating_sub(args.limit);
    causes.truncate(args.limit);
    session.out.show(&Failures {
        now,
        chunks,
        causes,
        more_causes,
        cut: chunks >= MOST,
    })?;
    Ok(Exit::Ok)
}
