//! The hand on a running server: its URL, stopping it, killing it, bringing it up again.
//!
//! It never makes a cluster and never looks for binaries: [`start`](super::start) has done both.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::cluster::{Layout, SUPERUSER};
use super::discover::PgBinaries;
use super::error::PrivatePgError;
use super::guard::{Guard, Orders};
use super::off_thread;
use super::postmaster::{self, Postmaster, Presence};
use super::privileges::RunAs;
use super::server::{self, Launch, NoAnswer};
use super::settings::{Death, Lifetime, Settings, StopMode};
use crate::runtime::wait;

/// How often a state of the server is looked at while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running private server.
pub struct PrivatePg {
    pub(super) settings: Settings,
    pub(super) layout: Layout,
    pub(super) binaries: PgBinaries,
    pub(super) run_as: RunAs,
    pub(super) password: SecretString,
    pub(super) port: u16,
    pub(super) pid: i32,
    /// `None` when the server was started by somebody else and is reused.
    pub(super) child: Option<Child>,
    pub(super) guard: Option<Guard>,
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

    /// The folder of the server's Unix socket, for its user alone; `None` where no safe one was to be
    /// had. The password is asked for there as well.
    #[must_use]
    pub fn socket_folder(&self) -> Option<PathBuf> {
        postmaster::socket_folder(&self.layout.data_dir)
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
                Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(false),
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
    /// As [`start`](super::start).
    pub async fn restart(&mut self, mode: StopMode) -> Result<(), PrivatePgError> {
        let _lock = self.layout.lock(self.settings.start_limit).await?;
        self.halt(mode).await?;
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        self.bring_up(Some(self.port)).await
    }

    /// Reuses the running server or starts one. Our caller holds the start lock.
    pub(super) async fn bring_up(&mut self, port: Option<u16>) -> Result<(), PrivatePgError> {
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
            self.pid = postmaster::pid_of(&child);
            self.port = port;
            self.child = Some(child);
            if let Some(orders) = self.orders() {
                let guard = Guard::set(self.pid, &self.layout.data_dir, &orders);
                if guard.is_err() {
                    // Nobody would end it later.
                    postmaster::send(self.pid, Signal::SIGQUIT);
                }
                self.guard = Some(guard?);
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
                Err(match last {
                    Some((found, why)) => self.occupied(found, why),
                    None => PrivatePgError::Start {
                        why: timed_out.to_string(),
                        log: self.layout.log(),
                        tail: String::new(),
                    },
                })
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
