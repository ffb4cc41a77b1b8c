//! A registered session as this process uses it: registering, taking over from a predecessor, being heard.
//!
//! Of its database sessions some are left for beats whatever else goes on, so that neither a slow
//! claim nor a large settle can make the worker seem dead. Idle, it keeps one.

use std::time::Duration;

use common::domain::SessionId;
use common::store::{ControlDb, Hello, StoreError, WorkerSession};

use super::backoff::Backoff;
use super::config::Config;
use super::heard::{Heard, Moment};
use super::state::{SessionFile, StateError, StoredSession};

/// Database sessions of a worker at most, and how many of them may be used for all but beats.
const SESSIONS: (usize, usize) = (6, 4);

/// A registered session, as beats and as all else reach it.
#[derive(Debug)]
pub(crate) struct Session {
    /// For everything but beats.
    pub(crate) main: WorkerSession,
    /// For beats alone.
    pub(crate) beats: WorkerSession,
    /// When it was last heard.
    pub(crate) heard: Heard,
}

impl Session {
    /// Its number.
    pub(crate) fn id(&self) -> SessionId {
        self.main.id()
    }
}

/// The ways to the control database and what is said at a registration.
#[derive(Debug)]
pub(crate) struct Registrar {
    /// For everything but beats.
    pub(crate) main: ControlDb,
    beats: ControlDb,
    hello: Hello,
    file: SessionFile,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// The control database's word.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The session file.
    #[error("keep the session's key: {0}")]
    State(#[from] StateError),
}

/// How long a name is waited for that our own unanswered registration may hold.
const OWN_NAME: Duration = Duration::from_secs(90);

impl Registrar {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// Where the url cannot be read.
    pub(crate) fn new(config: &Config) -> Result<Self, StoreError> {
        let name = format!("odf-worker {}", config.name);
        let application: String = name.chars().take(63).collect();
        // A beat that is not answered within a beat is sent again over another connection.
        let limit = config.liveness.beat.max(Duration::from_secs(1));
        let (all, for_work) = SESSIONS;
        let db = ControlDb::new(config.database_url.clone(), all, &application)?;
        Ok(Self {
            main: db.clone().at_most(for_work),
            beats: db.answering_within(limit),
            hello: Hello {
                name: config.name.clone(),
                host: super::config::host_name(),
                machine_id: machine_id(),
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                slots: config.slots,
                labels: config.labels.clone(),
            },
            file: SessionFile::new(&config.state_dir, &config.name),
        })
    }

    /// Signs off the session that a predecessor on this machine left; nothing of it lives any more.
    ///
    /// # Errors
    /// Where the control database cannot be asked.
    pub(crate) async fn end_predecessor(&self) -> Result<(), RegisterError> {
        let Some(stored) = self.file.load()? else {
            return Ok(());
        };
        let Some(key) = stored.key() else {
            return Ok(());
        };
        let session = WorkerSession::resume(&self.main, stored.session, key);
        match session.end("restarted on the same machine").await {
            Ok(()) => {
                tracing::info!(session = %stored.session, "the predecessor's session is over")
            }
            Err(StoreError::UnknownSession(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.file.remove();
        Ok(())
    }

    /// Registers and keeps the key.
    ///
    /// # Errors
    /// The control database's; [`StoreError::NameTaken`] while another living worker has the name.
    pub(crate) async fn register(&self) -> Result<Session, RegisterError> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let started = Moment::now();
        let mut unanswered = false;
        loop {
            let sent = Moment::now();
            let error = match WorkerSession::register(&self.main, &self.hello).await {
                Ok(main) => {
                    self.file
                        .store(&StoredSession::new(main.id(), main.key()))?;
                    let beats = WorkerSession::resume(&self.beats, main.id(), main.key());
                    return Ok(Session {
                        main,
                        beats,
                        heard: Heard::at(sent),
                    });
                }
                Err(error) => error,
            };
            // A registration without an answer may have taken the name for us.
            unanswered |= matches!(error, StoreError::Unreachable { .. });
            let ours = unanswered && matches!(error, StoreError::NameTaken(_));
            if !(ours || unanswered && error.may_pass()) || started.elapsed() > OWN_NAME {
                return Err(error.into());
            }
            tracing::warn!(%error, "not registered yet");
            backoff.pause().await;
        }
    }

    /// Signs off for good.
    pub(crate) async fn end(&self, session: &Session, why: &str) -> Result<(), StoreError> {
        session.main.end(why).await?;
        self.file.remove();
        Ok(())
    }
}

/// What tells this machine from others.
fn machine_id() -> String {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(super::config::host_name)
}
