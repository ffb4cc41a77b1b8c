//! The coordinator daemon: stands for election and runs the leader's loops until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use common::endpoint::SecretString;
use common::runtime::{Every, Shutdown, Supervisor};
use common::secret::SecretSource;
use common::store::{ControlDb, StoreError};

use crate::install::API_VERSION;
use crate::leader::{self, Election, TIME_TO_LIVE};
use crate::loops::{planning, replanning, start, sweep, upkeep};
use crate::planner::Planner;

/// The most sessions that the short loops use at once.
const SESSIONS: usize = 6;

/// What a coordinator daemon needs.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// The control database, as a login in `odf_coordinator`.
    pub url: SecretString,
    /// Where planning commands are.
    pub script_dir: Option<PathBuf>,
    /// Shortens every interval by this factor; 1 outside tests.
    pub time_scale: f64,
}

/// Runs until `shutdown`.
///
/// # Errors
/// Where the control database cannot be used at the start, or a loop ends or panics. A database
/// that goes away later is waited for.
pub async fn serve(settings: ServeSettings, shutdown: Shutdown) -> anyhow::Result<()> {
    let holder = holder_name();
    // The server cuts names at 63 bytes.
    let application_name: String = format!("odf-coordinator {holder}")
        .chars()
        .take(63)
        .collect();
    let db = ControlDb::new(settings.url.clone(), SESSIONS, &application_name)?;
    check(&db).await?;

    let scaled = |interval: Duration| interval.div_f64(settings.time_scale);
    // A session of its own, so that no pass, however slow, keeps leadership from being renewed.
    let election_db = ControlDb::new(settings.url.clone(), 1, &application_name)?;
    let (election, leader) = Election::new(election_db, db, holder, scaled(TIME_TO_LIVE));
    let every = Every::new(election.interval()).at_once();
    let mut supervisor = Supervisor::new(shutdown).with_grace(Duration::from_secs(20));
    supervisor.spawn_loop("election", every, election);
    let planner = Planner::new(SecretSource::from_process(), settings.script_dir);
    let sessions = planning::SESSIONS + replanning::SESSIONS;
    let patient = ControlDb::patient(settings.url, sessions, &application_name)?;
    start(
        &mut supervisor,
        &leader,
        "replan",
        scaled(replanning::INTERVAL),
        replanning::Replanning::new(planner.clone(), patient.clone()),
    );
    start(
        &mut supervisor,
        &leader,
        "plan",
        scaled(planning::INTERVAL),
        planning::Planning::new(planner, patient, scaled(planning::RETRY_AFTER)),
    );
    start(
        &mut supervisor,
        &leader,
        "sweep",
        scaled(sweep::INTERVAL),
        sweep::Sweep::new(settings.time_scale),
    );
    for pass in upkeep::Upkeep::ALL {
        start(
            &mut supervisor,
            &leader,
            pass.name(),
            scaled(pass.interval()),
            pass,
        );
    }
    let outcome = supervisor.run().await;
    leader::resign(&leader).await;
    outcome.context("coordinator")
}

/// Asks two harmless questions, so that a wrong url, role or schema is said at once and plainly.
async fn check(db: &ControlDb) -> anyhow::Result<()> {
    let asked = async {
        let installed = db.api_version().await?;
        db.unplanned().await?;
        Ok(installed)
    };
    match asked.await {
        Ok(installed) if installed < API_VERSION => anyhow::bail!(
            "the control schema has functions of version {installed}, this coordinator needs version {API_VERSION}; hint: run 'coordinator init' of this release"
        ),
        Ok(_) => Ok(()),
        Err(StoreError::Denied { problem }) => {
            anyhow::bail!(
                "{problem}; hint: the coordinator's login must be in role odf_coordinator"
            )
        }
        Err(error) => Err(error.into()),
    }
}

/// Who stands for election: host, process and a random part, so that no two are alike.
fn holder_name() -> String {
    let host = nix::unistd::gethostname().map_or_else(
        |_| "host".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    let random: u16 = rand::random();
    format!("{host}:{}:{random:04x}", std::process::id())
}
