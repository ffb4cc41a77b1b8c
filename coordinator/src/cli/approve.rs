//! `approve`: letting consumers take chunks that a job published for a person to look at.

use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::operate;
use super::output::{Page, Shown};
use super::selector::Selection;
use crate::read::obstacle::plural;

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which chunks.
    #[command(flatten)]
    pub selection: Selection,
    /// Send them back to be made again instead
    #[arg(long, requires = "reason")]
    pub reject: bool,
    /// Show how many it would be and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Why, for whoever looks later
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Approval {
    #[serde(skip_serializing_if = "Option::is_none")]
    approved: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<i64>,
    dry_run: bool,
}

impl Approval {
    fn of(n: i64, reject: bool, dry_run: bool) -> Self {
        Self {
            approved: (!reject).then_some(n),
            rejected: reject.then_some(n),
            dry_run,
        }
    }
}

impl Shown for Approval {
    fn human(&self, page: &mut Page) {
        let (n, verb, done) = match self.rejected {
            Some(n) => (n, "reject", "rejected and to be made again"),
            None => (self.approved.unwrap_or_default(), "approve", "approved"),
        };
        let chunks = plural(n, "chunk");
        page.line(match (n, self.dry_run) {
            (0, _) => "no chunk waits for approval there".to_owned(),
            (_, true) => format!("would {verb} {chunks}"),
            (_, false) => format!("{chunks} {done}"),
        });
    }
}

/// Runs `approve`.
///
/// # Errors
/// As the server answers, or refused by the person who was asked.
pub async fn run(mut args: Args, session: &mut Session) -> Result<Exit, Failure> {
    args.selection.filters.status = vec![common::domain::ChunkStatus::Complete];
    let selectors = args.selection.to_json(session.global.flow.as_deref())?;
    let db = session.db().await?;
    let waiting = operate::count(&db, &selectors).await?;
    if args.dry_run || waiting == 0 {
        session
            .out
            .show(&Approval::of(waiting, args.reject, args.dry_run))?;
        return Ok(Exit::Ok);
    }
    if waiting > 1 && session.out.interactive && !args.yes {
        let verb = if args.reject { "reject" } else { "approve" };
        let question = format!("{verb} {}?", plural(waiting, "chunk"));
        if !session.out.ask(&question)? {
            return Err(Failure::new(Exit::Refused, "nothing was changed"));
        }
    }
    let reason = args.reason.as_deref();
    let n = if args.reject {
        operate::reject(&db, &selectors, reason).await?
    } else {
        operate::approve(&db, &selectors, reason).await?
    };
    session.out.show(&Approval::of(n, args.reject, false))?;
    Ok(Exit::Ok)
}
