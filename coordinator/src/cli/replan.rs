//! `replan`: cutting a data set again as its flow declares it now.
//!
//! The leader does it; this command asks, shows what would become of the chunks, asks for consent and
//! waits. It may be interrupted at any moment: what has consent goes on without it, the rest is given up.

use std::time::Duration;

use common::store::replan::ReplanState;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::types::Json;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Grid, Page, Shown, Tone, cell};
use super::words;
use crate::read::ReadError;
use crate::read::obstacle::{doing, plural};

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(300);

/// Cut a data set into chunks again, as its flow declares it now
///
/// A chunk of the new plan that equals one of the plan in force (name and bounds) keeps its state and
/// what was published; others begin anew; those of the old plan that are left out are retired: their
/// record stays, and 'explain' finds them. What is made from it chunk by chunk follows. The old plan is
/// in force until the moment of the switch, whatever is interrupted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data set with a partition
    #[arg(value_name = "DATASET")]
    pub name: String,
    /// Show what would become of the chunks and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Start nothing new of it and wait for what runs, rather than be refused by it
    #[arg(long)]
    pub drain: bool,
    /// Why, for whoever looks later
    #[arg(long)]
    pub reason: Option<String>,
    /// Give up one that is under way; the plan in force stays
    #[arg(long, conflicts_with_all = ["dry_run", "yes", "drain"])]
    pub withdraw: bool,
}

/// Where a replan stands, as `odf.replan_now` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Replan {
    replan_id: i64,
    flow: String,
    dataset: String,
    state: ReplanState,
    consent: bool,
    preview: Vec<SetPreview>,
    error: Option<String>,
    hint: Option<String>,
    #[serde(skip_serializing)]
    refused: bool,
    running: i64,
    #[serde(skip_serializing)]
    written: i64,
    #[serde(skip_serializing)]
    leader: bool,
    #[serde(default, skip_serializing)]
    joined: bool,
}

/// What becomes of one data set's chunks.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SetPreview {
    dataset: String,
    made: bool,
    old: i64,
    new: i64,
    kept: i64,
    fresh: i64,
    retired: i64,
    published: i64,
    rows: i64,
    bytes: i64,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    dry_run: bool,
    #[serde(flatten)]
    replan: Replan,
}

impl Shown for Answer {
    fn human(&self, page: &mut Page) {
        let replan = &self.replan;
        let mut grid = Grid::new(&[
            "data set",
            ">now",
            ">new plan",
            ">kept",
            ">fresh",
            ">retired",
        ]);
        for set in &replan.preview {
            let counts = [set.old, set.new, set.kept, set.fresh, set.retired];
            let mut cells = vec![cell(&set.dataset)];
            cells.extend(counts.map(|n| cell(words::grouped(n))));
            grid.row(cells);
        }
        page.table(grid);
        for set in replan.preview.iter().filter(|set| set.published > 0) {
            let text = format!(
                "{}: {} out of use ({} rows, {})",
                set.dataset,
                doing(set.published, "published chunk", "fall"),
                words::grouped(set.rows),
                words::bytes(set.bytes)
            );
            page.line(page.paint(Tone::Warn, &text));
        }
        if self.dry_run {
            page.line("nothing was changed");
            if replan.running > 0 {
                let running = doing(replan.running, "chunk", "run");
                page.line(format!(
                    "{running} now: it needs --drain, or a pause before"
                ));
            }
        } else if replan.state == ReplanState::Done {
            page.line(format!("{}: the new plan is in force", replan.dataset));
        }
    }
}

/// Runs `replan`.
///
/// # Errors
/// As the server answers, or refused: while something runs, or by the person who was asked.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let name = session.qualified(&args.name);
    if !(args.withdraw || args.dry_run || args.yes || session.out.interactive) {
        let message = format!(
            "this would plan {} again and nobody can be asked",
            args.name
        );
        return Err(
            Failure::new(Exit::Refused, message).hint("look with --dry-run, then say --yes")
        );
    }
    let db = session.db().await?;
    if args.withdraw {
        return withdraw_named(&db, &name, args.reason.as_deref(), session).await;
    }
    let consent = args.yes && !args.dry_run;
    let asked = ask(&db, &name, args.reason.as_deref(), consent, args.drain).await?;
    if asked.joined {
        session
            .out
            .say("it is under way already: this waits for it");
    } else if consent {
        session.out.say("asked for; Ctrl-C leaves it going");
    }
    let prepared = wait(&db, asked.replan_id, session, |state| {
        state != ReplanState::Asked
    })
    .await?;
    let joined = asked.joined;
    if args.dry_run {
        if !joined {
            withdraw(&db, prepared.replan_id, Some("a dry run")).await?;
        }
        return show(session, prepared, true);
    }
    if prepared.state == ReplanState::Prepared && !prepared.consent {
        consent_to(&db, &args, &prepared, session).await?;
    }
    let ended = wait(&db, prepared.replan_id, session, |state| {
        state == ReplanState::Done
    })
    .await?;
    show(session, ended, false)
}

fn show(session: &mut Session, replan: Replan, dry_run: bool) -> Result<Exit, Failure> {
    session.out.show(&Answer { dry_run, replan })?;
    Ok(Exit::Ok)
}

/// Shows what was counted and asks; without a yes nothing of it is left.
async fn consent_to(
    db: &PgPool,
    args: &Args,
    prepared: &Replan,
    session: &mut Session,
) -> Result<(), Failure> {
    let mut page = session.out.page();
    let answer = Answer {
        dry_run: false,
        replan: prepared.clone(),
    };
    answer.human(&mut page);
    session.out.say(page.into_text().trim_end());
    if !session.out.ask("let this plan take force?")? {
        withdraw(db, prepared.replan_id, Some("the person who asked said no")).await?;
        return Err(Failure::new(Exit::Refused, "nothing was changed"));
    }
    if let Err(error) = confirm(db, prepared.replan_id, args.drain).await {
        withdraw(db, prepared.replan_id, Some("it was refused")).await?;
        return Err(error.into());
    }
    Ok(())
}

/// Looks until a replan is where it should be, and says what it waits for whenever that changes.
async fn wait(
    db: &PgPool,
    id: i64,
    session: &mut Session,
    there: impl Fn(ReplanState) -> bool,
) -> Result<Replan, Failure> {
    let mut said = String::new();
    loop {
        match now(db, id).await {
            Ok(replan) => {
                let ended = matches!(replan.state, ReplanState::Failed | ReplanState::Withdrawn);
                if ended {
                    return Err(stopped(replan));
                }
                if there(replan.state) {
                    return Ok(replan);
                }
                let text = progress(&replan);
                if text != said {
                    session.out.say(&text);
                    said = text;
                }
            }
            Err(error) if error.may_pass() => session.out.say(format!("{error}; looking again")),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn progress(replan: &Replan) -> String {
    let name = &replan.dataset;
    if !replan.leader {
        return format!("{name}: no coordinator leads, it goes on when one does");
    }
    match (replan.state, replan.running) {
        (ReplanState::Asked, _) if replan.written > 0 => {
            format!("{name}: {} split", plural(replan.written, "chunk"))
        }
        (ReplanState::Asked, _) => format!("{name}: splitting beside the plan in force"),
        (_, 0) => format!("{name}: the new plan takes force"),
        (_, n) => format!(
            "{name}: {} still running, nothing new starts",
            plural(n, "chunk")
        ),
    }
}

fn stopped(replan: Replan) -> Failure {
    let exit = match (replan.state, replan.refused) {
        (ReplanState::Failed, false) => Exit::Error,
        _ => Exit::Refused,
    };
    let why = replan
        .error
        .unwrap_or_else(|| "somebody asked anew or gave it up".to_owned());
    let failure = Failure::new(
        exit,
        format!("{} is not planned again: {why}", replan.dataset),
    );
    failure.hint(
        replan
            .hint
            .unwrap_or_else(|| "the plan in force stays as it is".to_owned()),
    )
}

async fn withdraw_named(
    db: &PgPool,
    name: &str,
    reason: Option<&str>,
    session: &mut Session,
) -> Result<Exit, Failure> {
    let open: Vec<i64> = sqlx::query_scalar(
        "select r.replan_id from odf.replan r join odf.data_set d using (data_set_id) join odf.flow f using (flow_id) \
          where r.state in ('asked', 'prepared', 'confirmed') and $1 in (d.name, f.name || ':' || d.name) order by 1",
    )
    .bind(name)
    .fetch_all(db)
    .await
    .map_err(ReadError::from)?;
    let &[id] = open.as_slice() else {
        let message = match open.len() {
            0 => format!("{name} is not being planned again"),
            _ => format!("several flows plan a data set named {name} again"),
        };
        return Err(Failure::new(Exit::NotFound, message)
            .hint("name it as flow:dataset, as it was asked for; coordinator status shows it"));
    };
    let ended = withdraw(db, id, reason).await?;
    if ended.state == ReplanState::Done {
        return Err(Failure::new(
            Exit::Refused,
            "the new plan is in force already",
        ));
    }
    session
        .out
        .say(format!("{name}: given up, the plan in force stays"));
    show(session, ended, true)
}

async fn ask(
    db: &PgPool,
    name: &str,
    reason: Option<&str>,
    consent: bool,
    drain: bool,
) -> Result<Replan, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.ask_replan($1, $2, $3, $4)")
        .bind(name)
        .bind(reason)
        .bind(consent)
        .bind(drain)
        .fetch_one(db)
        .await?;
    Ok(answer)
}

async fn confirm(db: &PgPool, id: i64, drain: bool) -> Result<Replan, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.confirm_replan($1, $2)")
        .bind(id)
        .bind(drain)
        .fetch_one(db)
        .await?;
    Ok(answer)
}

async fn withdraw(db: &PgPool, id: i64, reason: Option<&str>) -> Result<Replan, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.withdraw_replan($1, $2)")
        .bind(id)
        .bind(reason)
        .fetch_one(db)
        .await?;
    Ok(answer)
}

async fn now(db: &PgPool, id: i64) -> Result<Replan, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.replan_now($1)")
        .bind(id)
        .fetch_one(db)
        .await?;
    Ok(answer)
}
