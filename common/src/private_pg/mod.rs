//! A PostgreSQL server of our own: for `coordinator dev`, the demo and the tests.
//!
//! [`start`] makes a cluster if there is none, reuses a server that runs already, and otherwise
//! starts one on 127.0.0.1 with a password that nobody typed. It uses an installed PostgreSQL
//! (see [`mod@discover`]), works as root (the server then runs as another user) and survives crashes
//! of anything at any moment. It must never touch a server or a data directory that it did not make.
//!
//! The server outlives its [`PrivatePg`] unless [`Settings::lifetime`] says otherwise.

mod cluster;
pub mod discover;
mod error;
mod guard;
mod postmaster;
mod privileges;
mod server;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::NoTls;

pub use cluster::SUPERUSER;
pub use discover::{PgBinaries, discover};
pub use error::{INSTALL_HINT, PrivatePgError};
pub use privileges::reachable_place;

use crate::runtime::wait;
use cluster::Layout;
use guard::{Guard, Orders};
use postmaster::{Postmaster, Presence};
use privileges::RunAs;
use server::{Launch, NoAnswer};

/// How often a state of the server is looked at while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What becomes of the server when its [`PrivatePg`] is dropped or its process ends.
///
/// It binds the one who started the server. Whoever reuses it leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// It keeps running; the next [`start`] reuses it.
    #[default]
    Keep,
    /// It is stopped (fast) on drop and when this process ends in any way, even by kill -9.
    Process,
    /// As `Process`, but at once, and then the data directory and all files beside it are removed.
    Throwaway,
}

/// How the server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Sessions are ended, transactions rolled back, a checkpoint written.
    Fast,
    /// As after a crash: the next start recovers from the log.
    Immediate,
}

/// What kind of sudden death [`PrivatePg::kill_hard`] inflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL of the postmaster alone: its children notice later.
    Kill,
    /// SIGQUIT: the postmaster takes its children with it.
    Quit,
}

/// What server to have.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster's directory; made when it does not exist. Its parent holds the log, the
    /// password and the lock under the same name with an ending. As root, every folder above must
    /// be open to the server's user: see [`reachable_place`].
    pub data_dir: PathBuf,
    /// The folder of `initdb` and `postgres`; `None` searches (see [`discover()`]).
    pub bin_dir: Option<PathBuf>,
    /// `false` trades crash safety of the data for speed: fsync, synchronous_commit and
    /// full_page_writes off. A test that kills the server and counts its commits afterwards sets
    /// `synchronous_commit` on again in `extra`; fsync only matters when the machine crashes.
    /// Ignored when a running server is reused.
    pub durable: bool,
    /// More server settings (name, value); they win. Ignored when a running server is reused.
    /// They are visible in the process list.
    pub extra: Vec<(String, String)>,
    /// This port and no other; `None` is the cluster's last port if it is free, else any free one.
    pub port: Option<u16>,
    /// What becomes of the server after us.
    pub lifetime: Lifetime,
    /// How long a start may take, recovery included. Default 60 s.
    pub start_limit: Duration,
    /// How long a stop may take before it is escalated. Default 20 s.
    pub stop_limit: Duration,
}

impl Settings {
    /// A durable server in `data_dir` that is kept running, with all defaults.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            durable: true,
            extra: Vec::new(),
            port: None,
            lifetime: Lifetime::Keep,
            start_limit: Duration::from_secs(60),
            stop_limit: Duration::from_secs(20),
        }
    }
}

/// A running private server.
pub struct PrivatePg {
    settings: Settings,
    layout: Layout,
    binaries: PgBinaries,
    run_as: RunAs,
    password: SecretString,
    port: u16,
    pid: i32,
    /// `None` when the server was started by somebody else and is reused.
    child: Option<Child>,
    guard: Option<Guard>,
}

/// Gives a running server: reuses the one of `data_dir`, or starts one, making the cluster first
/// if there is none. Starts of one `data_dir` in several processes follow each other.
///
/// # Errors
/// [`PrivatePgError`]; a failed start shows the last lines of the server's log.
pub async fn start(settings: Settings) -> Result<PrivatePg, PrivatePgError> {
    let layout = Layout::new(&settings.data_dir)?;
    let run_as = RunAs::choose(&layout.data_dir)?;
    run_as.can_reach(&layout.data_dir)?;
    let _lock = layout.lock(settings.start_limit).await?;
    let data_major = layout.major()?;
    let binaries = find_binaries(&settings, &layout, data_major).await?;
    run_as.can_reach(&binaries.bin_dir.join("postgres"))?;

    let password = match (data_major, layout.password()?) {
        (Some(_), Some(password)) => password,
        (Some(_), None) => {
            return Err(PrivatePgError::NotOurs {
                data_dir: layout.data_dir.clone(),
                why: "there is no password beside it, so OpenDataFlow did not make it".into(),
            });
        }
        (None, _) => make_cluster(&layout, &binaries, &run_as, settings.durable).await?,
    };
    let mut pg = PrivatePg {
        // Only now that the directory exists can links in its path be resolved.
        layout: Layout::new(&settings.data_dir)?,
        settings,
        binaries,
        run_as,
        password,
        port: 0,
        pid: 0,
        child: None,
        guard: None,
    };
    pg.bring_up(pg.settings.port).await?;
    Ok(pg)
}

impl PrivatePg {
    /// The superuser's URL of a database, password included: for connecting, never for printing.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let password = percent_encoded(self.password.expose_secret());
        let database = percent_encoded(database);
        format!(
            "postgres://{SUPERUSER}:{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// The TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The major version, such as 15.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.binaries.major
    }

    /// The folder of the server's programs; `psql` and `pg_dump` may be there too.
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.binaries.bin_dir
    }

    /// The data directory, absolute.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.layout.data_dir
    }

    /// The server's log file.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.layout.log()
    }

    /// Whether the server ran already when we came.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.child.is_none()
    }

    /// Whether the server's process is alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        postmaster::serves(self.pid, &self.layout.data_dir)
    }

    /// Makes an empty database unless it exists. `true` when it was made.
    ///
    /// # Errors
    /// [`PrivatePgError::Sql`].
    pub async fn ensure_database(&self, name: &str) -> Result<bool, PrivatePgError> {
        let sql = |what: &str| {
            let what = format!("{what} database {name:?}");
            move |source| PrivatePgError::Sql { what, source }
        };
        let config = server::config(self.port, &self.password, "postgres");
        let (client, connection) = config
            .connect(NoTls)
            .await
            .map_err(sql("connect to make"))?;
        let work = async {
            let known = client
                .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
                .await?;
            if known.is_some() {
                return Ok(false);
            }
            let quoted = name.replace('"', "\"\"");
            let made = client
                .batch_execute(&format!("CREATE DATABASE \"{quoted}\""))
                .await;
            match made {
                // Somebody else was faster.
                Err(error)
                    if error.code()
                        == Some(&tokio_postgres::error::SqlState::DUPLICATE_DATABASE) =>
                {
                    Ok(false)
                }
                other => other.map(|()| true),
            }
        };
        tokio::select! {
            made = work => made.map_err(sql("make")),
            ended = connection => match ended {
                Err(error) => Err(sql("make")(error)),
                // The connection ends cleanly only after its client.
                Ok(()) => Ok(false),
            },
        }
    }

    /// Stops the server and waits until it has ended; a fast stop that takes too long becomes an
    /// immediate one, then a kill.
    ///
    /// # Errors
    /// [`PrivatePgError::Stop`] when nothing helped.
    pub async fn stop(mut self, mode: StopMode) -> Result<(), PrivatePgError> {
        self.halt(mode).await?;
        let Some(guard) = self.guard.take() else {
            return Ok(());
        };
        let throw_away = self.settings.lifetime == Lifetime::Throwaway;
        off_thread(move || {
            if throw_away {
                guard.finish();
            } else {
                guard.dismiss();
            }
            Ok(())
        })
        .await
    }

    /// Lets the server die as in a crash and waits until the postmaster is gone. Its orphaned
    /// children may live a little longer; [`PrivatePg::restart`] copes with them.
    ///
    /// # Errors
    /// [`PrivatePgError::Stop`] when it does not die.
    pub async fn kill_hard(&mut self, death: Death) -> Result<(), PrivatePgError> {
        let signal = match death {
            Death::Kill => Signal::SIGKILL,
            Death::Quit => Signal::SIGQUIT,
        };
        if self.signal_and_wait(signal).await {
            return Ok(());
        }
        Err(PrivatePgError::Stop {
            pid: self.pid,
            limit: self.settings.stop_limit,
        })
    }

    /// Brings the server up again **on the same port**, so that URLs stay true: stops it first if
    /// it runs.
    ///
    /// # Errors
    /// As [`start`].
    pub async fn restart(&mut self, mode: StopMode) -> Result<(), PrivatePgError> {
        let _lock = self.layout.lock(self.settings.start_limit).await?;
        self.halt(mode).await?;
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        self.bring_up(Some(self.port)).await
    }

    /// Reuses the running server or starts one. Our caller holds the start lock.
    async fn bring_up(&mut self, port: Option<u16>) -> Result<(), PrivatePgError> {
        if let Some(running) = self.running().await? {
            (self.pid, self.port, self.child) = (running.pid, running.port, None);
            tracing::debug!(
                pid = self.pid,
                port = self.port,
                "reusing the private PostgreSQL"
            );
        } else {
            let launch = Launch {
                layout: &self.layout,
                binaries: &self.binaries,
                run_as: &self.run_as,
                password: &self.password,
                durable: self.settings.durable,
                extra: &self.settings.extra,
                limit: self.settings.start_limit,
            };
            let (child, port) = launch.run(port).await?;
            self.pid = i32::try_from(child.id()).unwrap_or_default();
            self.port = port;
            self.child = Some(child);
            if let Some(orders) = self.orders() {
                self.guard = Some(Guard::set(self.pid, &self.layout.data_dir, &orders)?);
            }
            tracing::debug!(pid = self.pid, port, "started a private PostgreSQL");
        }
        Ok(())
    }

    /// The usable running server. Waits for one that is starting or stopping.
    async fn running(&self) -> Result<Option<Postmaster>, PrivatePgError> {
        let data_dir = &self.layout.data_dir;
        let last = Mutex::new(None);
        let limit = self.settings.start_limit;
        let seen =
            wait::until(
                limit,
                LOOK_EVERY,
                "the running server",
                async || match postmaster::look(data_dir) {
                    Ok(Presence::None) => Some(Ok(None)),
                    Ok(Presence::Stale) => {
                        Some(postmaster::clear_stale(data_dir).await.map(|()| None))
                    }
                    Ok(Presence::Unclear) => None,
                    Ok(Presence::Running(found)) => {
                        match server::ask(found.port, &self.password, data_dir).await {
                            Ok(()) => Some(Ok(Some(found))),
                            Err(NoAnswer::Never(why)) => Some(Err(self.occupied(found, why))),
                            Err(NoAnswer::NotYet(why)) => {
                                *last.lock().unwrap_or_else(PoisonError::into_inner) =
                                    Some((found, why));
                                None
                            }
                        }
                    }
                    Err(error) => Some(Err(error)),
                },
            )
            .await;
        match seen {
            Ok(answer) => answer,
            Err(timed_out) => {
                let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
                let nobody = Postmaster { pid: 0, port: 0 };
                let (found, why) = last.unwrap_or((nobody, timed_out.to_string()));
                Err(self.occupied(found, why))
            }
        }
    }

    fn occupied(&self, found: Postmaster, why: String) -> PrivatePgError {
        PrivatePgError::Occupied {
            data_dir: self.layout.data_dir.clone(),
            pid: found.pid,
            port: found.port,
            why,
        }
    }

    fn orders(&self) -> Option<Orders> {
        match self.settings.lifetime {
            Lifetime::Keep => None,
            Lifetime::Process => Some(Orders {
                immediate: false,
                remove: Vec::new(),
            }),
            Lifetime::Throwaway => Some(Orders {
                immediate: true,
                remove: self.layout.everything(),
            }),
        }
    }

    /// Stops the server, with more and more force.
    async fn halt(&mut self, mode: StopMode) -> Result<(), PrivatePgError> {
        let gentle = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL];
        let signals = match mode {
            StopMode::Fast => &gentle[..],
            StopMode::Immediate => &gentle[1..],
        };
        for signal in signals {
            if self.signal_and_wait(*signal).await {
                return Ok(());
            }
            tracing::warn!(pid = self.pid, %signal, "PostgreSQL does not stop: using more force");
        }
        Err(PrivatePgError::Stop {
            pid: self.pid,
            limit: self.settings.stop_limit,
        })
    }

    /// `true` when the server has ended within the limit, or had before.
    async fn signal_and_wait(&mut self, signal: Signal) -> bool {
        if self.is_alive() {
            postmaster::send(self.pid, signal);
        }
        let (pid, data_dir, child) = (self.pid, &self.layout.data_dir, &mut self.child);
        let limit = self.settings.stop_limit;
        wait::until(limit, LOOK_EVERY / 5, "PostgreSQL to stop", || {
            // Reaping our own child frees its pid; the server of another process is only watched.
            let gone = match child.as_mut().map(Child::try_wait) {
                Some(Ok(status)) => status.is_some(),
                _ => !postmaster::serves(pid, data_dir),
            };
            std::future::ready(gone.then_some(()))
        })
        .await
        .is_ok()
    }
}

impl fmt::Debug for PrivatePg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivatePg")
            .field("data_dir", &self.layout.data_dir)
            .field("port", &self.port)
            .field("pid", &self.pid)
            .field("version", &self.binaries.version)
            .finish_non_exhaustive()
    }
}

async fn find_binaries(
    settings: &Settings,
    layout: &Layout,
    data_major: Option<u32>,
) -> Result<PgBinaries, PrivatePgError> {
    let search = discover::Search::from_environment(settings.bin_dir.clone());
    let data_dir = layout.data_dir.clone();
    off_thread(move || match data_major {
        Some(major) => search.find_for(&data_dir, major),
        None => search.find(),
    })
    .await
}

async fn make_cluster(
    layout: &Layout,
    binaries: &PgBinaries,
    run_as: &RunAs,
    durable: bool,
) -> Result<SecretString, PrivatePgError> {
    let (layout, binaries, run_as) = (layout.clone(), binaries.clone(), run_as.clone());
    off_thread(move || layout.init(&binaries, &run_as, durable)).await
}

/// Runs blocking work beside the runtime's threads.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrivatePgError> + Send + 'static,
) -> Result<T, PrivatePgError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(PrivatePgError::Thread(error.to_string())))
}

/// Encodes everything but unreserved characters, so that any text fits into a URL.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_fits_into_a_url() {
        assert_eq!(percent_encoded("a-Z_0.~"), "a-Z_0.~");
        assert_eq!(percent_encoded("p@s:/ü %"), "p%40s%3A%2F%C3%BC%20%25");
    }
}
