//! `resubmit`, `hold` and `cancel`: what people ask of chunks, previewed, then asked.
//!
//! What a verb means for a chunk in a given state is decided in the database; here is only who is
//! asked before, and how the answer reads.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Session;
use super::failure::{Exit, Failure};
use super::operate::{self, Options, Readers, Requested};
use super::output::{Page, Shown, Tone, tame};
use super::selector::Selection;
use super::until::moment;
use super::wait::duration;
use super::words;
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
    --status takes others, for example --status validated to make published chunks again.\n\
    A chunk that runs is run again when its attempt has ended (--now stops it first); one that was set aside after \
    crashes or failures counts its attempts from the start; chunks of a source, and of data sets that the flow no \
    longer declares, are refused."
)]
pub struct ResubmitArgs {
    /// What the verbs share.
    #[command(flatten)]
    pub common: Common,
    /// Only chunks that were made from superseded data; every data set where none is named
    #[arg(long)]
    pub stale: bool,
    /// Also everything that was made from them, in order
    #[arg(long)]
    pub downstream: bool,
    /// What becomes of running attempts that read them
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub readers: Readers,
}

/// Arguments of `hold`.
#[derive(Debug, clap::Args)]
pub struct HoldArgs {
    /// What the verbs share.
    #[command(flatten)]
    pub common: Common,
    /// End the hold by itself after this time, for example 2h
    #[arg(long = "for", value_name = "TIME", value_parser = duration, conflicts_with = "until")]
    pub hold_for: Option<Duration>,
    /// End the hold by itself at this time: 18:30, 2026-12-03 18:30 (here), or with a zone as in RFC 3339
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<DateTime<Utc>>,
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
    if args.stale {
        selection.stale = true;
        selection.all |= selection.names.is_empty();
    } else if !selection.names_chunks() && selection.filters.status.is_empty() {
        // Making every published chunk again is asked for in so many words, or not at all.
        selection.filters.status = vec![Failed, Exhausted, Held, Cancelled];
    }
    let verb = Verb {
        word: "resubmit",
        name: "resubmit",
        done: "resubmitted",
        ends: false,
    };
    let options = Options {
        downstream: args.downstream,
        readers: args.readers,
        ..Options::default()
    };
    ask(verb, args.common, options, session).await
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
    let options = Options {
        hold_s: args.hold_for.map(|time| time.as_secs_f64()),
        until: args.until,
        ..Options::default()
    };
    ask(verb, args.common, options, session).await
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
    ask(verb, args.common, Options::default(), session).await
}

async fn ask(
    verb: Verb,
    args: Common,
    mut options: Options,
    session: &mut Session,
) -> Result<Exit, Failure> {
    let selectors = args.selection.to_json(session.global.flow.as_deref())?;
    let db = session.db().await?;
    options.dry_run = true;
    let preview = operate::request(&db, verb.word, &selectors, None, &options).await?;
    if preview.matched == 0 {
        return nothing(&verb, &args.selection, &selectors, preview, session);
    }
    let named = preview.sets.iter().filter(|set| !set.below);
    let missing = missing(&args.selection, named.map(|set| set.chunks).sum());
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
                .hint(refusal_hint(&verb, &preview)),
        );
    }
    confirm(&verb, &args, &preview, session)?;
    let reason = args.reason.as_deref();
    options.dry_run = false;
    options.now = args.now;
    let done = operate::request(&db, verb.word, &selectors, reason, &options).await?;
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

fn refusal_hint(verb: &Verb, preview: &Requested) -> String {
    if !preview.causes.is_empty() {
        return preview.causes.join("; ");
    }
    let hint = match verb.word {
        "cancelled" => "published and ended chunks cannot be cancelled; a source's chunks never",
        "held" => "only chunks that are still to be made can be set aside; a source's chunks never",
        _ => "a source's chunks are not made by any job of this flow",
    };
    hint.to_owned()
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
        page.line(self.line(page));
        self.sets(page);
        if asked.readers_n > 0 {
            let attempts = if asked.readers_n == 1 {
                "1 running attempt reads".to_owned()
            } else {
                format!("{} running attempts read", asked.readers_n)
            };
            let names: Vec<String> = asked.readers.iter().map(|name| tame(name)).collect();
            page.line(format!(
                "{attempts} what is made again: {}",
                names.join(", ")
            ));
        }
        if self.verb.word == "resubmit" && asked.states.get("validated").is_some_and(|n| *n > 0) {
            let below = asked.sets.iter().any(|set| set.below);
            let then = if below {
                "what was made from them follows, in order"
            } else {
                "what was made from them becomes stale"
            };
            page.line(page.paint(
                Tone::Warn,
                &format!("published generations stay readable until new ones are; {then}"),
            ));
        }
    }
}

impl Answer<'_> {
    fn line(&self, page: &Page) -> String {
        let asked = &self.requested;
        let until = asked.until.map_or(String::new(), |at| {
            format!(" until {}", words::stamp(page.zoned(at)))
        });
        let mut line = if asked.dry_run {
            format!(
                "would {} {} of {}{until} ({})",
                self.verb.name,
                plural(asked.accepted, "chunk"),
                asked.matched,
                by_state(&asked.states)
            )
        } else {
            let at_once = asked.accepted - asked.pending;
            let mut line = format!("{} {}{until}", plural(at_once, "chunk"), self.verb.done);
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
        line
    }

    /// A line a data set, where what is made from the selection comes along.
    fn sets(&self, page: &mut Page) {
        let sets = &self.requested.sets;
        if !sets.iter().any(|set| set.below) {
            return;
        }
        for set in sets {
            let mut line = format!("  {} {}", tame(&set.dataset), plural(set.accepted, "chunk"));
            if set.below {
                line.push_str(", made from those above");
            }
            if set.kept > 0 {
                line.push_str(&format!(
                    "; {} that a person held or cancelled stay so, and what is made from them",
                    set.kept
                ));
            }
            page.line(line);
        }
    }
}
