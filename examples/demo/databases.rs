//! One private PostgreSQL with three databases, and logins that may do no more than they need.
//!
//! The daemons get the narrow logins: the extract may only read its table, the load may change one
//! table, a worker may call the protocol's functions and read nothing of the control database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use common::endpoint::{PgSession, SecretString, SessionSettings, connect};
use common::private_pg::{self, Lifetime, PrivatePg, Settings, StopMode};
use common::runtime::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;

/// The databases.
pub(crate) const SOURCE: &str = "source";
/// Where the copy goes.
pub(crate) const TARGET: &str = "target";
/// Where OpenDataFlow keeps what it knows.
pub(crate) const CONTROL: &str = "control";

/// Login, database, and how its rights are given.
const LOGINS: [(&str, &str, &str); 5] = [
    ("demo_reader", SOURCE, "grant select on lineitem to {login}"),
    (
        "demo_writer",
        TARGET,
        "grant select, insert, delete on lineitem to {login}",
    ),
    (
        "demo_coordinator",
        CONTROL,
        "grant odf_coordinator to {login}",
    ),
    ("demo_worker", CONTROL, "grant odf_worker to {login}"),
    ("demo_operator", CONTROL, "grant odf_operator to {login}"),
];

/// The running server.
pub(crate) struct Databases {
    pg: PrivatePg,
    password: String,
}

impl Databases {
    /// A fresh server with three empty databases. An earlier demo's server is ended first.
    pub(crate) async fn start(place: &Place, keep: bool) -> Result<Self> {
        stop(place).await?;
        let pg = private_pg::start(Settings {
            // A demo's data need not survive a power cut.
            durable: false,
            lifetime: if keep {
                Lifetime::Keep
            } else {
                Lifetime::Throwaway
            },
            extra: [("shared_buffers", "256MB"), ("max_wal_size", "4GB")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..Settings::new(place.data_dir())
        })
        .await?;
        find_psql(pg.bin_dir())?;
        for database in [SOURCE, TARGET, CONTROL] {
            pg.ensure_database(database).await?;
        }
        let password = format!("{:032x}", rand::random::<u128>());
        Ok(Self { pg, password })
    }

    /// The URL of the database's owner.
    pub(crate) fn owner_url(&self, database: &str) -> String {
        self.pg.url(database)
    }

    /// The URL of one of the narrow logins.
    pub(crate) fn url(&self, login: &str) -> String {
        let database = LOGINS
            .iter()
            .find(|(name, ..)| *name == login)
            .map_or(CONTROL, |(_, database, _)| database);
        format!(
            "postgres://{login}:{}@127.0.0.1:{}/{database}",
            self.password,
            self.pg.port()
        )
    }

    /// The folder of the server's programs, where psql may be too.
    pub(crate) fn programs(&self) -> PathBuf {
        self.pg.bin_dir().to_owned()
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "PostgreSQL {} on 127.0.0.1:{}",
            self.pg.version(),
            self.pg.port()
        )
    }

    /// A session of the owner, with statements as long as they take.
    pub(crate) async fn open(&self, database: &str) -> Result<PgSession> {
        open(self.owner_url(database)).await
    }

    /// Makes the narrow logins. Their groups come with `coordinator init`.
    pub(crate) async fn make_logins(&self) -> Result<()> {
        for (login, database, rights) in LOGINS {
            let session = self.open(database).await?;
            let rights = rights.replace("{login}", login);
            session
                .batch_execute(&format!(
                    "create role {login} login password '{}'; {rights}",
                    self.password
                ))
                .await
                .with_context(|| format!("make the login {login}"))?;
            session.close().await;
        }
        Ok(())
    }

    /// Ends the server and removes its files.
    pub(crate) async fn remove(self) -> Result<()> {
        let data_dir = self.pg.data_dir().to_owned();
        self.pg.stop(StopMode::Immediate).await?;
        // A throw-away server has removed them already.
        remove_files(&data_dir)
    }
}

/// The demo's scripts need psql, which some servers come without.
fn find_psql(beside_the_server: &Path) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path);
    if beside_the_server.join("psql").is_file() || places.any(|place| place.join("psql").is_file())
    {
        return Ok(());
    }
    bail!(
        "psql, which the demo's scripts use, is neither in {} nor in PATH\n\
         hint: sudo apt-get install -y postgresql-client",
        beside_the_server.display()
    )
}

/// Opens a session as the demo itself.
pub(crate) async fn open(url: String) -> Result<PgSession> {
    let settings = SessionSettings {
        statement_timeout: None,
        ..SessionSettings::named("demo")
    };
    Ok(connect(&SecretString::from(url), &settings).await?)
}

/// Ends an earlier demo's server, if there is one, and removes its files. `true` when one was up.
pub(crate) async fn stop(place: &Place) -> Result<bool> {
    let data_dir = place.data_dir();
    let server = running(&data_dir);
    if let Some(pid) = server {
        end(pid, &data_dir).await?;
    }
    remove_files(&data_dir)?;
    Ok(server.is_some())
}

/// The server of that directory, if one runs, whatever its version.
fn running(data_dir: &Path) -> Option<Pid> {
    let file = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: i32 = file.lines().next()?.trim().parse().ok()?;
    // A number alone may be anybody's by now; a server's working directory is its data directory.
    let works_in = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let ours = works_in == std::fs::canonicalize(data_dir).ok()?;
    ours.then(|| Pid::from_raw(pid))
}

/// Ends a server at once: nobody needs its data any more.
async fn end(pid: Pid, data_dir: &Path) -> Result<()> {
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        // It may have ended by itself in the meantime.
        let _ = kill(pid, signal);
        let gone = wait::until(
            Duration::from_secs(10),
            Duration::from_millis(20),
            "it to end",
            async || running(data_dir).is_none().then_some(()),
        );
        if gone.await.is_ok() {
            return Ok(());
        }
    }
    bail!(
        "the server of {} (pid {pid}) does not end",
        data_dir.display()
    )
}

/// Removes the data directory and what stands beside it under the same name with an ending.
fn remove_files(data_dir: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (data_dir.parent(), data_dir.file_name()) else {
        return Ok(());
    };
    let name = name.to_string_lossy();
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if *found != *name && !found.starts_with(&format!("{name}.")) {
            continue;
        }
        let removed = if entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path())
        } else {
            std::fs::remove_file(entry.path())
        };
        removed.with_context(|| format!("remove {}", entry.path().display()))?;
    }
    Ok(())
}
