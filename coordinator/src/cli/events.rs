//! `events`: what happened and who did it; once or followed.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Page, Shown, Tone, tame};
use super::{wait, words};
use crate::read::events::{self, EventFilter, EventRow};

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on with what happens next
    #[arg(short, long)]
    pub follow: bool,
    /// Only these kinds, or their first part: pool takes pool.scaled
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<String>,
    /// Only what is about this pool, worker, data set, ...
    #[arg(long, value_name = "NAME")]
    pub subject: Option<String>,
    /// Only what this login did
    #[arg(long, value_name = "LOGIN")]
    pub actor: Option<String>,
    /// Only the last so long, for example 2h
    #[arg(long, value_name = "TIME", value_parser = wait::duration)]
    pub since: Option<Duration>,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(0..=100_000))]
    pub limit: i64,
}

/// How often to look while following.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far back to look again: an event is dated when it is written and seen when it is committed.
const LATE: TimeDelta = TimeDelta::seconds(30);

/// At most so many events of one look, so that a flood cannot fill the memory.
const BATCH: i64 = 10_000;

impl Shown for EventRow {
    fn human(&self, page: &mut Page) {
        let at = words::stamp(page.zoned(self.at));
        let kind = page.paint(tone(&self.kind), &format!("{:<18}", tame(&self.kind)));
        let subject = self
            .subject
            .as_deref()
            .map(|subject| format!(" {}", tame(subject)))
            .unwrap_or_default();
        let message = if self.message.is_empty() {
            String::new()
        } else {
            format!(": {}", tame(&self.message))
        };
        page.line(format!(
            "{at}  {kind} {}{subject}{message}",
            tame(&self.actor)
        ));
    }
}

fn tone(kind: &str) -> Tone {
    match kind {
        "bug" | "worker.dead" | "plan.failed" | "lane.blocked" => Tone::Bad,
        "paused" | "worker.draining" | "chunks.cancelled" | "chunks.held" => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// Runs `events`. Ends only with the reader of its output where it follows.
///
/// # Errors
/// As the server answers; while following, a database that is away for a time is waited for.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let now = events::now(&db).await?;
    let since = args
        .since
        .and_then(|since| TimeDelta::from_std(since).ok())
        .map(|since| now - since);
    let filter = EventFilter {
        kinds: args.kind,
        subject: args.subject,
        actor: args.actor,
        since,
        limit: args.limit,
    };
    let first = events::list(&db, &filter).await?;
    for event in &first {
        session.out.stream(event)?;
    }
    if !args.follow {
        return Ok(Exit::Ok);
    }
    follow(&db, filter, now, first, session).await
}

async fn follow(
    db: &PgPool,
    mut filter: EventFilter,
    start: DateTime<Utc>,
    first: Vec<EventRow>,
    session: &mut Session,
) -> Result<Exit, Failure> {
    filter.limit = BATCH;
    let mut newest = start;
    // What was there before the start and not among the first is not shown later either.
    filter.since = Some(newest - LATE);
    let mut seen: BTreeSet<(DateTime<Utc>, i64)> =
        first.iter().map(|e| (e.at, e.event_id)).collect();
    for event in events::list(db, &filter).await? {
        if event.at <= start {
            seen.insert((event.at, event.event_id));
        }
    }
    loop {
        filter.since = Some(newest - LATE);
        match events::list(db, &filter).await {
            Ok(rows) => {
                for event in rows {
                    if seen.insert((event.at, event.event_id)) {
                        newest = newest.max(event.at);
                        session.out.stream(&event)?;
                    }
                }
                seen = seen.split_off(&(newest - LATE - LATE, 0));
            }
            Err(error) if error.may_pass() => session.out.say(format!("{error}; looking again")),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
