//! `logs`: the last lines that a chunk's attempt wrote, and where the whole log is.

use serde::Serialize;

use super::Session;
use super::explain::named_chunk;
use super::failure::{Exit, Failure};
use super::output::{Page, Shown, tame_log};
use super::selector::Name;
use super::words;
use crate::read::chunk;
use crate::read::history::{self, AttemptRow};

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The chunk
    #[arg(value_name = "DATASET/KEY")]
    pub chunk: Name,
    /// Which attempt; the last that has ended when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub attempt: Option<i32>,
}

#[derive(Debug, Serialize)]
struct Log {
    chunk: String,
    #[serde(flatten)]
    attempt: AttemptRow,
}

impl Shown for Log {
    fn human(&self, page: &mut Page) {
        let text = tame_log(self.attempt.log_tail.as_deref().unwrap_or(""));
        page.raw(&text);
        if !text.is_empty() && !text.ends_with('\n') {
            page.raw("\n");
        }
    }
}

/// Runs `logs`: the log goes to stdout, what it is to stderr.
///
/// # Errors
/// Where there is no such chunk or no such attempt of it.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let found = named_chunk(&db, session.global.flow.as_deref(), &args.chunk).await?;
    let name = format!("{}/{}", found.dataset, found.key);
    let facts = chunk::facts(&db, found.chunk_id).await?;
    let Some(attempt) = history::attempts(&db, found.chunk_id, args.attempt, 1)
        .await?
        .pop()
    else {
        return Err(none(&name, &args, &facts));
    };
    let ended = words::stamp(session.out.page().zoned(attempt.ended_at));
    session.out.say(format!(
        "{name}: attempt {} on {} ended {ended}, {}",
        attempt.attempt, attempt.worker, attempt.outcome
    ));
    if let Some(lease) = facts.lease.filter(|_| args.attempt.is_none()) {
        session.out.say(format!(
            "attempt {} is running on {}; its log is there until it ends",
            lease.attempt, lease.worker
        ));
    }
    let (empty, path) = (
        attempt.log_tail.as_deref().unwrap_or("").is_empty(),
        attempt.log_path.clone(),
    );
    let host = attempt.host.clone();
    session.out.show(&Log {
        chunk: name,
        attempt,
    })?;
    if empty {
        session.out.say("it wrote nothing");
    }
    match path {
        Some(path) => session.out.say(format!("the whole log: {path} on {host}")),
        None => session.out.say("no log file is known for it"),
    }
    Ok(Exit::Ok)
}

fn none(name: &str, args: &Args, facts: &chunk::ChunkFacts) -> Failure {
    let message = match args.attempt {
        Some(n) => format!("no ended attempt {n} of {name} is kept"),
        None => format!("no attempt of {name} has ended, or its history is pruned"),
    };
    let failure = Failure::new(Exit::NotFound, message);
    match &facts.lease {
        Some(lease) => failure.hint(format!(
            "attempt {} is running on {} ({})",
            lease.attempt, lease.worker, lease.host
        )),
        None => failure.hint(format!("coordinator explain {name}")),
    }
}
