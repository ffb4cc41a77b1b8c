//! `coordinator init`: installs or upgrades the control schema.

use std::fmt;

use common::endpoint::{ExposeSecret as _, SecretString};

use crate::install::{self, InstallError, Installed};

/// Install or upgrade the control schema in the database that the url names
///
/// Safe to repeat. Needs a superuser, or a role with CREATEROLE and CREATE on the database; the
/// daemons then log in with roles that may do much less.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {}

/// What `init` did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct InitReport(Installed);

/// Installs the schema.
///
/// # Errors
/// [`InstallError`], nothing changed.
pub async fn run(url: &SecretString) -> Result<InitReport, InstallError> {
    install::install(url.expose_secret()).await.map(InitReport)
}

impl fmt::Display for InitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.migrations.is_empty() {
            writeln!(f, "schema is up to date")?;
        }
        for migration in &self.0.migrations {
            writeln!(f, "applied {migration}")?;
        }
        writeln!(f, "protocol functions: version {}", self.0.api_now)?;
        writeln!(f)?;
        writeln!(
            f,
            "Next, make logins for the daemons and for people, for example:"
        )?;
        writeln!(
            f,
            "  create role odf_coordinator_1 login password '...' in role odf_coordinator;"
        )?;
        writeln!(
            f,
            "  create role etl_host_1        login password '...' in role odf_worker;"
        )?;
        write!(
            f,
            "  create role alice             login password '...' in role odf_operator;"
        )
    }
}
