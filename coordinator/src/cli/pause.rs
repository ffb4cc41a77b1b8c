//! `pause` and `resume`: starting nothing new of something, and taking that back.
//!
//! A pause never ends what runs; `--wait` waits for it.

use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::operate::{self, Paused};
use super::output::{Page, Shown};
use super::wait::{self, WaitArgs};
use crate::read::running;

/// Arguments of `pause`.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// Pools, jobs, data sets that a job makes, or all
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Why, for whoever looks later
    #[arg(long)]
    pub reason: Option<String>,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// Pools, jobs, data sets that a job makes, or all
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Why, for whoever looks later
    #[arg(long)]
    pub reason: Option<String>,
}

/// What came of it, name by name.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Changed(Vec<Paused>);

impl Shown for Changed {
    fn human(&self, page: &mut Page) {
        for one in &self.0 {
            page.line(match (one.paused, one.running) {
                (true, 0) => format!("{} paused, nothing is running", one.name),
                (true, n) => format!("{} paused, {n} still running", one.name),
                (false, n) => format!("{} resumed, {n} running", one.name),
            });
        }
    }
}

/// Runs `pause`.
///
/// # Errors
/// As the server answers; names before the one that failed are paused.
pub async fn pause(args: PauseArgs, session: &mut Session) -> Result<Exit, Failure> {
    let names = change(&args.names, true, args.reason.as_deref(), session).await?;
    let Some(limit) = args.wait.wait else {
        return Ok(Exit::Ok);
    };
    let db = session.db().await?;
    let what = names.join(", ");
    wait::until_within(session, limit, 0, &what, || running::under(&db, &names)).await?;
    session.out.say(format!("{what}: nothing is running"));
    Ok(Exit::Ok)
}

/// Runs `resume`.
///
/// # Errors
/// As the server answers; names before the one that failed are resumed.
pub async fn resume(args: ResumeArgs, session: &mut Session) -> Result<Exit, Failure> {
    change(&args.names, false, args.reason.as_deref(), session).await?;
    Ok(Exit::Ok)
}

async fn change(
    names: &[String],
    on: bool,
    reason: Option<&str>,
    session: &mut Session,
) -> Result<Vec<String>, Failure> {
    let db = session.db().await?;
    let names: Vec<String> = names.iter().map(|name| session.qualified(name)).collect();
    let mut changed = Vec::new();
    for name in &names {
        match operate::pause(&db, name, on, reason).await {
            Ok(one) => changed.push(one),
            Err(error) => {
                if !changed.is_empty() {
                    session.out.show(&Changed(changed))?;
                }
                return Err(error.into());
            }
        }
    }
    session.out.show(&Changed(changed))?;
    Ok(names)
}
