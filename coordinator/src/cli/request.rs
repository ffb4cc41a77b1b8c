//! `resubmit`, `hold` and `cancel`: what people ask of chunks, previewed, then asked.
//!
//! What a verb means for a chunk in a given state is decided in the database; here is only who is
//! asked before, and how the answer reads.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Session;
use super::failure::{Exit, Failure};
use super::operate::{self, Requested};
use super::output::{Page, Shown, Tone};
use super::selector::Selection;
use crate::read::obstacle::plural;

/// What the three verbs share.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Which chunks.
    #[command(flatten)]
    pub selection: Selection,
    /// Show what would be done and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Why, for whoever looks later
    #[arg(long)]
    pub reason: Option<String>,
    /// Stop running attempts instead of waiting for them; they are not charged
    #[arg(long)]
    pub now: bool,
}

/// Arguments of `resubmit`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A data set named whole stands for its failed, exhausted, held and cancelled chunks; \
    --status takes others, for example --status validated to make published chunks again."
)]
pub struct ResubmitArgs {
    /// What the verbs share.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `hold`.
#[derive(Debug, clap::Args)]
pub struct HoldArgs {
    /// What the verbs share.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `cancel`.
#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    /// What the verbs share.
    #[command(flatten)]
    pub common: Common,
}

/// What a verb is called where.
struct Verb {
    /// In SQL.
    word: &'static str,
    /// On the command line.
    name: &'static str,
    /// Once it is done.
    done: &'static str,
    /// Whether it needs `--yes` where nobody can be asked.
    ends: bool,
}

/// Runs `resubmit`.
///
/// # Errors
/// As the server answers, or refused by the person who was asked.
pub async fn resubmit(mut args: ResubmitArgs, session: &mut Session) -> Result<Exit, Failure> {
    use common::domain::ChunkStatus::{Cancelled, Exhausted, Failed, Held};
    let selection = &mut args.common.selection;
    if !selection.names_chunks() && selection.filters.status.is_empty() {
        // Making every published chunk again is asked for in so many words, or not at all.
        selection.filters.status = vec![Failed, Exhausted, Held, Cancelled];
    }
    let verb = Verb {
        word: "resubmit",
        name: "resubmit",
        done: "resubmitted",
        ends: false,
    };
    ask(verb, args.common, session).await
}

/// Runs `hold`.
///
/// # Errors
/// As the server answers, or refused by the person who was asked.
pub async fn hold(args: HoldArgs, session: &mut Session) -> Result<Exit, Failure> {
    let verb = Verb {
        word: "held",
        name: "hold",
        done: "set aside",
        ends: false,
    };
    ask(verb, args.common, session).await
}

/// Runs `cancel`.
///
/// # Errors
/// As the server answers, or refused because nobody could be asked.
pub async fn cancel(args: CancelArgs, session: &mut Session) -> Result<Exit, Failure> {
    let verb = Verb {
        word: "cancelled",
        name: "cancel",
        done: "cancelled",
        ends: true,
    };
    ask(verb, args.common, session).await
}

async fn ask(verb: Verb, args: Common, session: &mut Session) -> Result<Exit, Failure> {
    let selectors = args.selection.to_json(session.global.flow.as_deref())?;
    let db = session.db().await?;
    let preview = operate::request(&db, verb.word, &selectors, None, true, false).await?;
    if preview.matched == 0 {
        return nothing(&verb, &args.selection, &selectors, preview, session);
    }
    let missing = missing(&args.selection, preview.matched);
    if missing > 0 {
        session
            .out
            .say(format!("{} of the named chunks do not exist", missing));
    }
    if args.dry_run {
        session.out.show(&Answer {
            verb: &verb,
            requested: preview,
        })?;
        return Ok(Exit::Ok);
    }
    if preview.accepted == 0 {
        let what = by_state(&preview.refused);
        return Err(
            Failure::new(Exit::Refused, format!("nothing to {}: {what}", verb.name))
                .hint(refusal_hint(&verb)),
        );
    }
    confirm(&verb, &args, &preview, session)?;
    let reason = args.reason.as_deref();
    let done = operate::request(&db, verb.word, &selectors, reason, false, args.now).await?;
    session.out.show(&Answer {
        verb: &verb,
        requested: done,
    })?;
    Ok(Exit::Ok)
}

/// A name without a chunk is a mistake; a filter without a match is an answer.
fn nothing(
    verb: &Verb,
    selection: &Selection,
    selectors: &[Value],
    preview: Requested,
    session: &mut Session,
) -> Result<Exit, Failure> {
    if selection.names_chunks()
        && selectors
            .iter()
            .all(|selector| selector.get("status").is_none())
    {
        let named = &selection.names[0];
        let key = named.key.as_deref().unwrap_or_default();
        return Err(
            Failure::new(Exit::NotFound, format!("no chunk {}/{key}", named.dataset))
                .hint(format!("coordinator chunks {}", named.dataset)),
        );
    }
    session.out.show(&Answer {
        verb,
        requested: preview,
    })?;
    Ok(Exit::Ok)
}

/// How many of the chunks named one by one are not there.
fn missing(selection: &Selection, matched: i64) -> i64 {
    let filters = &selection.filters;
    let filtered = !filters.status.is_empty()
        || filters.error.is_some()
        || filters.range.is_some()
        || filters.worker.is_some();
    if !selection.names_chunks() || filtered {
        return 0;
    }
    let names: std::collections::BTreeSet<_> = selection.names.iter().collect();
    i64::try_from(names.len()).unwrap_or(i64::MAX) - matched
}

fn confirm(
    verb: &Verb,
    args: &Common,
    preview: &Requested,
    session: &mut Session,
) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    let chunks = plural(preview.accepted, "chunk");
    if session.out.interactive {
        if preview.accepted <= 1 && !verb.ends {
            return Ok(());
        }
        let now = if args.now {
            ", stopping those that run"
        } else {
            ""
        };
        let question = format!(
            "{} {chunks}{now} ({})?",
            verb.name,
            by_state(&preview.states)
        );
        if session.out.ask(&question)? {
            return Ok(());
        }
        return Err(Failure::new(Exit::Refused, "nothing was changed"));
    }
    if verb.ends {
        return Err(Failure::new(
            Exit::Refused,
            format!("this would {} {chunks} and nobody can be asked", verb.name),
        )
        .hint("look with --dry-run, then say --yes"));
    }
    Ok(())
}

fn refusal_hint(verb: &Verb) -> &'static str {
    match verb.word {
        "cancelled" => "published and ended chunks cannot be cancelled; a source's chunks never",
        "held" => "only chunks that are still to be made can be set aside; a source's chunks never",
        _ => "a source's chunks are not made by any job of this flow",
    }
}

/// `600 failed, 12 exhausted`.
fn by_state(states: &BTreeMap<String, i64>) -> String {
    let parts: Vec<String> = states
        .iter()
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    parts.join(", ")
}

struct Answer<'v> {
    verb: &'v Verb,
    requested: Requested,
}

impl serde::Serialize for Answer<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.requested.serialize(serializer)
    }
}

impl Shown for Answer<'_> {
    fn human(&self, page: &mut Page) {
        let asked = &self.requested;
        if asked.matched == 0 {
            page.line("no chunk matches");
            return;
        }
        let accepted = plural(asked.accepted, "chunk");
        let mut line = if asked.dry_run {
            format!(
                "would {} {accepted} of {} ({})",
                self.verb.name,
                asked.matched,
                by_state(&asked.states)
            )
        } else {
            let at_once = asked.accepted - asked.pending;
            let mut line = format!("{} {}", plural(at_once, "chunk"), self.verb.done);
            if asked.pending > 0 {
                line.push_str(&format!(
                    ", {} when the running attempt that makes or reads them has ended",
                    asked.pending
                ));
            }
            line
        };
        if !asked.refused.is_empty() {
            line.push_str(&format!("; refused: {}", by_state(&asked.refused)));
        }
        page.line(line);
        if self.verb.word == "resubmit" && asked.states.get("validated").is_some_and(|n| *n > 0) {
            page.line(page.paint(
                Tone::Warn,
                "published generations stay readable until new ones are; what was made from them becomes stale",
            ));
        }
    }
}
