//! Starting the server process of a cluster and waiting until it really answers.
//!
//! It knows nothing of reuse or of making clusters: its caller holds the start lock and has
//! found no running server.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use super::cluster::{Layout, SUPERUSER, tail};
use super::discover::PgBinaries;
use super::error::PrivatePgError;
use super::postmaster;
use super::privileges::RunAs;
use super::socket;
use crate::runtime::{error_text, wait};

/// How often a port that another program took in the meantime is replaced by another one.
const PORT_ATTEMPTS: u32 = 5;

/// The limit for one attempt to connect and ask.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What the server says when its port is taken.
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";

/// Everything one start needs.
pub(super) struct Launch<'a> {
    pub(super) layout: &'a Layout,
    pub(super) binaries: &'a PgBinaries,
    pub(super) run_as: &'a RunAs,
    pub(super) password: &'a SecretString,
    pub(super) durable: bool,
    pub(super) extra: &'a [(String, String)],
    pub(super) limit: Duration,
}

/// Why a question to the server got no answer.
pub(super) enum NoAnswer {
    /// It may answer later.
    NotYet(String),
    /// It will never answer us.
    Never(String),
}

impl Launch<'_> {
    /// Starts the server on `port` and on no other, or on a free one.
    pub(super) async fn run(&self, port: Option<u16>) -> Result<(Child, u16), PrivatePgError> {
        let mut preferred = port.or_else(|| self.layout.last_port().filter(|port| free(*port)));
        let mut attempt = 1;
        loop {
            let chosen = match preferred.take() {
                Some(port) => port,
                None => any_free_port()?,
            };
            match self.attempt(chosen).await {
                Ok(child) => {
                    self.layout.remember_port(chosen);
                    return Ok((child, chosen));
                }
                Err(PrivatePgError::Start { tail, .. })
                    if port.is_none() && tail.contains(PORT_TAKEN) && attempt < PORT_ATTEMPTS =>
                {
                    tracing::debug!(port = chosen, "port taken in the meantime: trying another");
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&self, port: u16) -> Result<Child, PrivatePgError> {
        let (log, log_start) = self.layout.open_log()?;
        let log_path = self.layout.log();
        let program = self.binaries.bin_dir.join("postgres");
        let mut command = self.run_as.command(&program);
        command
            .arg("-D")
            .arg(&self.layout.data_dir)
            .args(self.options(port, &self.socket_setting()))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(
                log.try_clone()
                    .map_err(PrivatePgError::io("open the log", &log_path))?,
            )
            .stderr(log);
        let child = command
            .spawn()
            .map_err(PrivatePgError::io("run", &program))?;
        let mut starting = Starting(Some(child));
        match self.ready(&mut starting, port).await {
            Ok(()) => starting.succeeded(),
            Err(why) => Err(why),
        }
        .map_err(|why| PrivatePgError::Start {
            why,
            log: log_path,
            tail: tail(&self.layout.log_since(log_start)),
        })
    }

    /// Waits until the server answers, or says why it does not.
    async fn ready(&self, starting: &mut Starting, port: u16) -> Result<(), String> {
        let last = Mutex::new(String::new());
        let last = &last;
        let pause = Duration::from_millis(25);
        let answer = wait::until(self.limit, pause, "an answer", || {
            let ended = starting.ended();
            async move {
                if let Some(why) = ended {
                    return Some(Err(why));
                }
                match ask(port, self.password, &self.layout.data_dir).await {
                    Ok(()) => Some(Ok(())),
                    Err(NoAnswer::Never(why)) => Some(Err(why)),
                    Err(NoAnswer::NotYet(why)) => {
                        *last.lock().unwrap_or_else(PoisonError::into_inner) = why;
                        None
                    }
                }
            }
        })
        .await;
        answer.unwrap_or_else(|timed_out| {
            let last = last.lock().unwrap_or_else(PoisonError::into_inner);
            Err(format!("{timed_out} ({last})"))
        })
    }

    /// Where its socket goes; nowhere when no safe folder is to be had: TCP is enough to live on.
    fn socket_setting(&self) -> String {
        let folder = self.layout.socket_folder();
        match socket::make(&folder, self.run_as) {
            Ok(()) => socket::setting(&folder),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "no Unix socket: its folder cannot be used");
                String::new()
            }
        }
    }

    /// The settings on the command line: there they win over postgresql.conf and ALTER SYSTEM.
    fn options(&self, port: u16, sockets: &str) -> Vec<String> {
        let port = port.to_string();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            ("unix_socket_directories", sockets),
            ("unix_socket_permissions", "0700"),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
            ("lc_messages", "C"),
        ];
        if !self.durable {
            settings.extend([
                ("fsync", "off"),
                ("synchronous_commit", "off"),
                ("full_page_writes", "off"),
            ]);
        }
        let extra = self.extra.iter().map(|(name, value)| (&**name, &**value));
        // The last of two equal settings wins.
        settings
            .into_iter()
            .chain(extra)
            .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
            .collect()
    }
}

/// A server that is not ready yet. Dropped like that (a failed start, or a start that nobody waits
/// for any more), it is told to end at once, children included.
struct Starting(Option<Child>);

impl Starting {
    /// How the server ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self.0.as_mut()?.try_wait() {
            Ok(Some(status)) => {
                self.0 = None;
                Some(format!("it ended at once ({status})"))
            }
            Ok(None) => None,
            Err(error) => Some(format!("its process was lost: {error}")),
        }
    }

    /// The server, which nobody ends any more.
    fn succeeded(mut self) -> Result<Child, String> {
        self.0.take().ok_or_else(|| "it has ended".into())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            // Not reaped yet, so its pid cannot belong to anybody else.
            postmaster::send(postmaster::pid_of(child), Signal::SIGQUIT);
        }
    }
}

/// How the superuser connects to a database of the server.
pub(super) fn config(port: u16, password: &SecretString, database: &str) -> Config {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(SUPERUSER)
        .password(password.expose_secret())
        .dbname(database)
        .application_name("opendataflow private-pg")
        .connect_timeout(ASK_LIMIT);
    config
}

/// Connects and checks that the server behind `port` is the one of `data_dir`.
pub(super) async fn ask(
    port: u16,
    password: &SecretString,
    data_dir: &Path,
) -> Result<(), NoAnswer> {
    let not_yet = |error: &tokio_postgres::Error| NoAnswer::NotYet(error_text(error));
    let question = async {
        let (client, connection) = match config(port, password, "postgres").connect(NoTls).await {
            Ok(pair) => pair,
            Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => {
                return Err(NoAnswer::Never(
                    "it refuses the password that is kept beside the data directory".into(),
                ));
            }
            // All seats taken by its users: it is up, and it was found by its process.
            Err(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => return Ok(()),
            Err(error) => return Err(not_yet(&error)),
        };
        let row = tokio::select! {
            row = client.query_one("SELECT current_setting('data_directory')", &[]) => row,
            ended = connection => {
                let why = ended.err().map_or_else(|| "it hung up".into(), |e| error_text(&e));
                return Err(NoAnswer::NotYet(why));
            }
        };
        let theirs: String = row.map_err(|error| not_yet(&error))?.get(0);
        if same_place(Path::new(&theirs), data_dir) {
            Ok(())
        } else {
            let why = format!("port {port} belongs to the server of {theirs}");
            Err(NoAnswer::NotYet(why))
        }
    };
    tokio::time::timeout(ASK_LIMIT, question)
        .await
        .unwrap_or_else(|_| Err(NoAnswer::NotYet(format!("no answer within {ASK_LIMIT:?}"))))
}

fn same_place(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(a) == real(b)
}

fn free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn any_free_port() -> Result<u16, PrivatePgError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| PrivatePgError::Io {
            what: "find a free port on",
            path: PathBuf::from("127.0.0.1"),
            source,
        })
}
