//! `scale`: how much of a pool runs at once, in force at commit, without a restart.

use std::io;

use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::operate::{self, Scaled, WorkerScaled};
use super::output::{Page, Shown, Tone};
use super::wait::{self, WaitArgs};
use crate::read::{ReadError, obstacle::plural, running};

/// Arguments of `scale`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A pool (every job has one of its own name), or with --worker a worker
    pub name: String,
    /// 10, +5, -5, 50%, 0 (start nothing) or none (unlimited)
    #[arg(allow_hyphen_values = true)]
    pub limit: String,
    /// NAME is a worker: how many chunks it runs at once (none: what it was started with)
    #[arg(long)]
    pub worker: bool,
    /// Stop what runs above the new limit, youngest first; it is handed back uncharged
    #[arg(long, conflicts_with = "worker")]
    pub now: bool,
    /// Why, for whoever looks later
    #[arg(long)]
    pub reason: Option<String>,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

impl Shown for Scaled {
    fn human(&self, page: &mut Page) {
        let limit = |limit: Option<i32>| limit.map_or_else(|| "none".to_owned(), |n| n.to_string());
        let mut line = format!(
            "pool {}: limit {} -> {} (file {}), {} running",
            self.pool,
            limit(self.old),
            limit(self.new),
            limit(self.file),
            self.running
        );
        let above = self
            .new
            .map_or(0, |new| (self.running - i64::from(new)).max(0));
        if self.stopped > 0 {
            line.push_str(&format!(", {} told to stop", self.stopped));
        } else if above > 0 {
            line.push_str(&format!(", {above} above it will end by themselves"));
        }
        page.line(line);
        if self.paused {
            page.line(page.paint(
                Tone::Warn,
                "the pool is paused: the limit takes effect when it is resumed",
            ));
        }
    }
}

impl Shown for WorkerScaled {
    fn human(&self, page: &mut Page) {
        let own = match self.started_with {
            Some(n) => format!("its own {n}"),
            None => "its own".to_owned(),
        };
        let slots = |slots: Option<i32>| slots.map_or_else(|| own.clone(), |n| n.to_string());
        page.line(format!(
            "worker {}: slots {} -> {}",
            self.worker,
            slots(self.old),
            slots(self.new)
        ));
        if let (Some(new), Some(started)) = (self.new, self.started_with)
            && new > started
        {
            page.line(format!(
                "it was started with {}: more needs a restart with more slots",
                plural(started, "slot")
            ));
        }
    }
}

/// Runs `scale`.
///
/// # Errors
/// As the server answers.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let reason = args.reason.as_deref();
    if args.worker {
        let scaled = operate::scale_worker(&db, &args.name, &args.limit, reason).await?;
        show(session, &scaled)?;
        let target = scaled
            .new
            .or(scaled.started_with)
            .map_or(i64::MAX, i64::from);
        if let Some(limit) = args.wait.wait {
            let what = format!("worker {}", scaled.worker);
            wait::until_within(session, limit, target, &what, || {
                running::on_worker(&db, &scaled.worker)
            })
            .await?;
        }
        return Ok(Exit::Ok);
    }
    let name = session.qualified(&args.name);
    let scaled = match operate::scale(&db, &name, &args.limit, reason, args.now).await {
        Err(ReadError::NotFound { message, hint }) => {
            return Err(no_pool(&db, &args, message, hint).await);
        }
        other => other?,
    };
    show(session, &scaled)?;
    if let (Some(limit), Some(target)) = (args.wait.wait, scaled.new) {
        let what = format!("pool {}", scaled.pool);
        let looked_at = name.clone();
        wait::until_within(session, limit, i64::from(target), &what, || {
            running::in_pool(&db, &looked_at)
        })
        .await?;
    }
    Ok(Exit::Ok)
}

/// Somebody who names a worker means `--worker`.
async fn no_pool(db: &sqlx::PgPool, args: &Args, message: String, hint: Option<String>) -> Failure {
    let is_worker = running::on_worker(db, &args.name).await.is_ok();
    let failure = Failure::new(Exit::NotFound, message);
    match hint {
        _ if is_worker => failure.hint(format!(
            "coordinator scale --worker {} {}",
            args.name, args.limit
        )),
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn show<T: Serialize + Shown>(session: &mut Session, value: &T) -> io::Result<()> {
    session.out.show(value)
}
