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
    /// Show how many would be approved and change nothing
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
    approved: i64,
    dry_run: bool,
}

impl Shown for Approval {
    fn human(&self, page: &mut Page) {
        let chunks = plural(self.approved, "chunk");
        page.line(match (self.approved, self.dry_run) {
            (0, _) => "no chunk waits for approval there".to_owned(),
            (_, true) => format!("would approve {chunks}"),
            (_, false) => format!("{chunks} approved"),
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
        session.out.show(&Approval {
            approved: waiting,
            dry_run: args.dry_run,
        })?;
        return Ok(Exit::Ok);
    }
    if waiting > 1 && session.out.interactive && !args.yes {
        let question = format!("approve {}?", plural(waiting, "chunk"));
        if !session.out.ask(&question)? {
            return Err(Failure::new(Exit::Refused, "nothing was changed"));
        }
    }
    let approved = operate::approve(&db, &selectors, args.reason.as_deref()).await?;
    session.out.show(&Approval {
        approved,
        dry_run: false,
    })?;
    Ok(Exit::Ok)
}
