//! `drain`: a worker finishes what it runs and takes nothing new.

use super::Session;
use super::failure::{Exit, Failure};
use super::operate::{self, Drained};
use super::output::{Page, Shown};
use super::wait::{self, WaitArgs};
use crate::read::running;

/// Arguments of `drain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The worker's name
    pub worker: String,
    /// Take it back: the worker takes work again
    #[arg(long, conflicts_with = "wait")]
    pub off: bool,
    /// Why, for whoever looks later
    #[arg(long)]
    pub reason: Option<String>,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

impl Shown for Drained {
    fn human(&self, page: &mut Page) {
        page.line(match (self.draining, self.running) {
            (true, 0) => format!("worker {} is drained, nothing is running", self.worker),
            (true, n) => format!("worker {} is draining, {n} still running", self.worker),
            (false, _) => format!("worker {} takes work again", self.worker),
        });
    }
}

/// Runs `drain`.
///
/// # Errors
/// As the server answers.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let drained = operate::drain(&db, &args.worker, !args.off, args.reason.as_deref()).await?;
    session.out.show(&drained)?;
    if let Some(limit) = args.wait.wait {
        let what = format!("worker {}", args.worker);
        wait::until_within(session, limit, 0, &what, || {
            running::on_worker(&db, &args.worker)
        })
        .await?;
        session.out.say(format!("{what}: nothing is running"));
    }
    Ok(Exit::Ok)
}
