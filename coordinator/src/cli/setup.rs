//! From arguments to answers for the commands that set things up and keep them running: init, dev,
//! serve, plan, apply. What they do is in the file of each; here is how it is shown and ends.

use common::endpoint::{ConnectError, SecretString};
use common::runtime::telemetry;
use common::store::StoreError;

use super::failure::{Exit, Failure};
use super::output::{Page, Shown};
use super::{Session, apply, dev, init, plan, serve};

impl Shown for init::InitReport {
    fn human(&self, page: &mut Page) {
        page.line(self.to_string());
    }
}

impl Shown for plan::PlanReport {
    fn human(&self, page: &mut Page) {
        page.line(self.to_string());
    }
}

impl Shown for plan::CheckReport {
    fn human(&self, page: &mut Page) {
        page.line(self.to_string());
    }
}

impl Shown for apply::ApplyReport {
    fn human(&self, page: &mut Page) {
        page.line(self.to_string());
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::NotFound(_) => Exit::NotFound,
            StoreError::Refused(_) => Exit::Refused,
            StoreError::Usage(_) => Exit::Usage,
            _ => Exit::Error,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let exit = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<StoreError>())
            .map_or(Exit::Error, |error| Self::from(error.clone()).exit);
        // Our errors carry their hint behind "; hint: ".
        let text = format!("{error:#}");
        match text.split_once("; hint: ") {
            Some((message, hint)) => Self::new(exit, message).hint(hint),
            None => Self::new(exit, text),
        }
    }
}

fn url(session: &Session) -> Result<SecretString, Failure> {
    session
        .global
        .database_url
        .as_ref()
        .map(|url| SecretString::from(url.expose()))
        .ok_or_else(|| {
            Failure::usage("no control database is named")
                .hint("set ODF_DATABASE_URL or give --database-url postgresql://user@host/database")
        })
}

/// `coordinator init`
pub(super) async fn init(session: &mut Session) -> Result<Exit, Failure> {
    let report = init::run(&url(session)?)
        .await
        .map_err(anyhow::Error::from)?;
    session.out.show(&report)?;
    Ok(Exit::Ok)
}

/// `coordinator dev`
pub(super) async fn dev(args: dev::DevArgs) -> Result<Exit, Failure> {
    log()?;
    dev::run(&args).await?;
    Ok(Exit::Ok)
}

/// `coordinator serve`
pub(super) async fn serve(args: serve::ServeArgs, session: &Session) -> Result<Exit, Failure> {
    let url = url(session)?;
    log()?;
    serve::run(&args, url).await?;
    Ok(Exit::Ok)
}

/// `coordinator plan`
pub(super) async fn plan(args: plan::PlanArgs, session: &mut Session) -> Result<Exit, Failure> {
    let Some(dataset) = &args.check else {
        let report = plan::preview(&args).await?;
        session.out.show(&report)?;
        return Ok(Exit::Ok);
    };
    let report = plan::check(dataset, url(session)?).await?;
    session.out.show(&report)?;
    Ok(if report.tiling.tiles() {
        Exit::Ok
    } else {
        Exit::Degraded
    })
}

/// `coordinator apply`
pub(super) async fn apply(args: apply::ApplyArgs, session: &mut Session) -> Result<Exit, Failure> {
    let preview = apply::preview(&args, url(session)?).await?;
    for warning in preview.warnings() {
        session.out.say(warning.to_string());
    }
    if preview.needs_consent() && !args.yes && !args.dry_run && session.out.interactive {
        for change in &preview.report().changes {
            session.out.say(format!("  {change}"));
        }
        if !session.out.ask("Apply these changes?")? {
            return Err(Failure::new(Exit::Refused, "nothing was applied"));
        }
    }
    let report = preview.apply(args.reset_limits).await?;
    session.out.show(&report)?;
    Ok(Exit::Ok)
}

fn log() -> Result<(), Failure> {
    telemetry::init(None).map_err(|error| Failure::usage(error.to_string()))
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        anyhow::Error::from(error).into()
    }
}
