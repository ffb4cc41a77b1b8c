//! Installing and upgrading the control schema: roles, migrations, protocol functions, grants.
//!
//! The one place that writes DDL. Everything here is idempotent and, in one database, serialised by
//! an advisory lock, so two installers, or one that was interrupted, end in the same place. Roles
//! belong to the whole cluster: there an installer of another database may be faster.

use common::endpoint::{self, ConnectError, SecretString, SessionSettings};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

/// Version of the protocol functions in this build. Raise it with every change below `migrations/api`.
pub const API_VERSION: i32 = 1;

/// The tables, embedded; `sqlx` keeps their hashes and refuses an edited one.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

const ROLES: &str = include_str!("../../migrations/roles.sql");

macro_rules! api {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../migrations/api/", $name, ".sql")))),+]
    };
}

/// The protocol functions in the order in which they are installed: types and helpers first, the
/// view after what it calls, grants last.
pub const API: &[(&str, &str)] = api![
    "clock",
    "epoch",
    "read_committed",
    "log_event",
    "count_states",
    "session_of",
    "allot",
    "has_work",
    "promote_chunks",
    "readers",
    "staleness",
    "apply_requests",
    "hold",
    "space",
    "settle",
    "reconcile",
    "work_items",
    "claim",
    "register",
    "beat",
    "end_session",
    "lead",
    "sweep",
    "passes",
    "link",
    "plan",
    "replan",
    "prepare_plans",
    "switch_plans",
    "apply_flow",
    "operate",
    "select_chunks",
    "request_chunks",
    "chunk_view",
    "peek",
    "record_reconciliation",
    "grants",
];

/// What an installation came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Installed {
    /// Migrations that were applied now.
    pub migrations: Vec<String>,
    /// The functions' version before, 0 in a new schema.
    pub api_before: i32,
    /// The functions' version now.
    pub api_now: i32,
}

/// Why the schema was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The database was made by a newer build.
    #[error(
        "the control schema has version {found} and this build knows version {known}; nothing was changed; hint: use the newer release's coordinator, older workers keep working with it"
    )]
    Newer {
        /// What is installed.
        found: i64,
        /// What this build knows.
        known: i64,
    },
    /// The login may not create roles or the schema.
    #[error(
        "the login may not install the schema: {problem}; hint: run 'coordinator init' once as a superuser or as a role with CREATEROLE and CREATE on the database; the daemons then need only odf_coordinator and odf_worker"
    )]
    Denied {
        /// The server's words.
        problem: String,
    },
    /// The server is too old or too new to be known to work.
    #[error(
        "the server is PostgreSQL {found}; 15 to 18 were expected; hint: use a server of those majors for the control database"
    )]
    ServerVersion {
        /// Its major version.
        found: i32,
    },
    /// The database cannot be reached, or lets nobody in.
    #[error("open the control database: {0}")]
    Connect(#[from] ConnectError),
    /// The tables were made by a build whose migrations differ, which no released one does.
    #[error(
        "migration {version} of this database is not the one of this build; nothing was changed; hint: use the build that made it; what 'coordinator dev' keeps in its folder may be removed and made anew"
    )]
    Altered {
        /// The first that differs.
        version: i64,
    },
    /// A migration failed.
    #[error("migrate the control schema: {0}")]
    Migrate(MigrateError),
    /// Anything else the database said.
    #[error("install the control schema: {0}")]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for InstallError {
    fn from(error: sqlx::Error) -> Self {
        let denied = error
            .as_database_error()
            .filter(|db| db.code().as_deref() == Some("42501"))
            .map(|db| db.message().to_owned());
        match denied {
            Some(problem) => Self::Denied { problem },
            None => Self::Database(error),
        }
    }
}

impl From<MigrateError> for InstallError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMismatch(version) | MigrateError::VersionMissing(version) => {
                Self::Altered { version }
            }
            other => Self::Migrate(other),
        }
    }
}

/// Installs or upgrades the schema in the database that `url` names.
///
/// # Errors
/// [`InstallError::Newer`] where the schema is newer than this build; nothing is changed then.
pub async fn install(url: &str) -> Result<Installed, InstallError> {
    let settings = SessionSettings::named("odf-init");
    // Our own client first: it says best what is wrong with a url, a server or a login.
    let session = endpoint::connect(&SecretString::from(url.to_owned()), &settings).await?;
    session.close().await;
    let options: PgConnectOptions =
        crate::read::url::parsed(url)?.map_err(InstallError::Database)?;
    let mut connection = options
        .application_name("odf-init")
        .disable_statement_logging()
        .connect()
        .await?;
    let outcome = install_on(&mut connection).await;
    // The answer is what counts; a failed good-bye changes nothing.
    let _closed = connection.close().await;
    outcome
}

/// Refuses a server of a major version that we have never tried.
fn known_server(major: i32) -> Result<(), InstallError> {
    match major {
        15..=18 => Ok(()),
        found => Err(InstallError::ServerVersion { found }),
    }
}

async fn install_on(connection: &mut PgConnection) -> Result<Installed, InstallError> {
    let major: i32 = sqlx::query("select current_setting('server_version_num')::int / 10000")
        .fetch_one(&mut *connection)
        .await?
        .get(0);
    known_server(major)?;
    for setting in [
        "set lock_timeout = '30s'",
        "set statement_timeout = '10min'",
        "set client_min_messages = warning",
        "select pg_advisory_lock(7305808869231650369)",
    ] {
        connection.execute(setting).await?;
    }
    if let Some(found) = newest_migration(connection).await? {
        let known = MIGRATIONS
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0);
        if found > known {
            return Err(InstallError::Newer { found, known });
        }
    }
    connection.execute(ROLES).await?;
    for setting in ["set role odf_owner", "set search_path = odf"] {
        connection.execute(setting).await?;
    }
    let before = newest_migration(connection).await?.unwrap_or(0);
    MIGRATIONS.run_direct(None, &mut *connection, false).await?;
    let migrations = MIGRATIONS
        .iter()
        .filter(|migration| migration.version > before)
        .map(|migration| format!("{:04} {}", migration.version, migration.description))
        .collect();
    let api_before = install_api(connection).await?;
    Ok(Installed {
        migrations,
        api_before,
        api_now: api_before.max(API_VERSION),
    })
}

/// Replaces the functions in one transaction, unless they are of a newer build.
async fn install_api(connection: &mut PgConnection) -> Result<i32, InstallError> {
    let before: i32 = sqlx::query("select api_version from odf.installation")
        .fetch_one(&mut *connection)
        .await?
        .get(0);
    if before > API_VERSION {
        return Ok(before);
    }
    let mut script = String::from("begin;\n");
    for (_, sql) in API {
        script.push_str(sql);
        script.push('\n');
    }
    script.push_str(&format!(
        "update odf.installation set api_version = {API_VERSION};\ncommit;\n"
    ));
    // One simple query: the server rolls all of it back where a part fails or the session ends.
    if let Err(error) = connection.execute(AssertSqlSafe(script)).await {
        // Where even that fails the session is gone, and its transaction with it.
        let _undone = connection.execute("rollback").await;
        return Err(error.into());
    }
    Ok(before)
}

/// The newest applied migration, `None` where there is no schema yet.
async fn newest_migration(connection: &mut PgConnection) -> Result<Option<i64>, InstallError> {
    let exists: bool = sqlx::query("select to_regclass('odf._sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await?
        .get(0);
    if !exists {
        return Ok(None);
    }
    Ok(
        sqlx::query("select max(version) from odf._sqlx_migrations where success")
            .fetch_one(&mut *connection)
            .await?
            .get(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_other_majors_are_refused_with_what_was_expected() {
        for major in 15..=18 {
            assert!(known_server(major).is_ok());
        }
        for major in [9, 14, 19] {
            let text = known_server(major).unwrap_err().to_string();
            assert!(text.contains(&format!("PostgreSQL {major}")), "{text}");
            assert!(text.contains("15 to 18"), "{text}");
        }
    }

    #[test]
    fn every_function_file_is_installed() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/api");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
            .collect();
        files.sort();
        let mut listed: Vec<&str> = API.iter().map(|(name, _)| *name).collect();
        listed.sort_unstable();
        assert_eq!(files, listed);
        assert_eq!(API.last().map(|(name, _)| *name), Some("grants"));
    }
}
