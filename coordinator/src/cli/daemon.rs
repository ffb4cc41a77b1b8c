//! How the commands that install, declare and serve fit into the command line: their arguments in,
//! their reports shown, their errors mapped to exit codes. What they do is in their own files.

use std::fmt;

use common::endpoint::SecretString;
use common::runtime::error_text;
use common::runtime::telemetry::{self, TelemetryError};
use common::store::StoreError;
use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Page, Shown};
use super::{apply, dev, init, plan, serve};
use crate::declare::DeclareError;
use crate::install::InstallError;

/// A report that prints itself.
#[derive(Serialize)]
#[serde(transparent)]
struct Printed<T>(T);

impl<T: fmt::Display + Serialize> Shown for Printed<T> {
    fn human(&self, page: &mut Page) {
        page.line(self.0.to_string());
    }
}

fn url(session: &Session) -> Result<SecretString, Failure> {
    session.url().map(|url| SecretString::from(url.to_owned()))
}

/// A daemon's log goes to stderr; the other commands say what they say themselves.
fn log() -> Result<(), Failure> {
    telemetry::init(None).map_err(|error| failure(&error.into()))
}

pub(super) async fn init(_: init::InitArgs, session: &mut Session) -> Result<Exit, Failure> {
    let report = init::run(&url(session)?)
        .await
        .map_err(|error| failure(&error.into()))?;
    session.out.show(&Printed(report))?;
    Ok(Exit::Ok)
}

pub(super) async fn dev(args: dev::DevArgs) -> Result<Exit, Failure> {
    log()?;
    dev::run(&args).await.map_err(|error| failure(&error))?;
    Ok(Exit::Ok)
}

pub(super) async fn serve(args: serve::ServeArgs, session: &Session) -> Result<Exit, Failure> {
    let url = url(session)?;
    log()?;
    serve::run(&args, url)
        .await
        .map_err(|error| failure(&error))?;
    Ok(Exit::Ok)
}

pub(super) async fn plan(args: plan::PlanArgs, session: &mut Session) -> Result<Exit, Failure> {
    if let Some(dataset) = &args.check {
        let report = plan::check(dataset, url(session)?)
            .await
            .map_err(|error| failure(&error))?;
        let tiles = report.tiling.tiles();
        session.out.show(&Printed(report))?;
        // A plan that does not tile its table is found, not failed: what is there is degraded.
        return Ok(if tiles { Exit::Ok } else { Exit::Degraded });
    } else {
        let report = plan::preview(&args)
            .await
            .map_err(|error| failure(&error))?;
        for warning in &report.warnings {
            session.out.say(warning.to_string());
        }
        session.out.show(&Printed(report))?;
    }
    Ok(Exit::Ok)
}

pub(super) async fn apply(args: apply::ApplyArgs, session: &mut Session) -> Result<Exit, Failure> {
    let preview = apply::preview(&args, url(session)?)
        .await
        .map_err(|error| failure(&error))?;
    for warning in preview.warnings() {
        session.out.say(warning.to_string());
    }
    let asks = preview.needs_consent() && session.out.interactive && !args.yes && !args.dry_run;
    if asks {
        for line in preview.report().lines() {
            session.out.say(line);
        }
        if !session.out.ask("apply these changes?")? {
            return Err(Failure::new(Exit::Refused, "nothing was changed"));
        }
    }
    let report = preview
        .apply(args.reset_limits)
        .await
        .map_err(|error| failure(&error))?;
    session.out.show(&Printed(report))?;
    Ok(Exit::Ok)
}

/// An error of these commands with the exit code of its kind and its hint apart.
fn failure(error: &anyhow::Error) -> Failure {
    let exit = error.chain().find_map(exit_of).unwrap_or(Exit::Error);
    let text = error_text(error.as_ref());
    let parts = text
        .rsplit_once("; hint: ")
        .or_else(|| text.rsplit_once("\nhint: "));
    match parts {
        Some((message, hint)) => Failure::new(exit, message).hint(hint),
        None => Failure::new(exit, text),
    }
}

fn exit_of(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(match error {
            StoreError::NotFound(_) => Exit::NotFound,
            StoreError::Refused(_) | StoreError::NameTaken(_) | StoreError::TermOver(_) => {
                Exit::Refused
            }
            StoreError::Usage(_) => Exit::Usage,
            _ => Exit::Error,
        });
    }
    if let Some(InstallError::Newer { .. }) = cause.downcast_ref::<InstallError>() {
        return Some(Exit::Refused);
    }
    let asked_wrongly = cause.is::<DeclareError>() || cause.is::<TelemetryError>();
    asked_wrongly.then_some(Exit::Usage)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use common::store::StoreError;
    use common::store::error::Said;

    use super::{Exit, failure};

    #[test]
    fn a_refusal_keeps_its_code_and_its_hint_through_its_contexts() {
        let said = Said {
            message: "job load has 3 running chunks".to_owned(),
            hint: Some("let them end".to_owned()),
        };
        let error = Err::<(), _>(StoreError::Refused(said))
            .context("apply flow sales")
            .unwrap_err();
        let failure = failure(&error);
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(
            failure.message.as_deref(),
            Some("apply flow sales: job load has 3 running chunks")
        );
        assert_eq!(failure.hint.as_deref(), Some("let them end"));
    }
}
