//! One attempt, from a claimed chunk to its published output: prepare, run, validate, publish.
//!
//! This room owns the files of an attempt (work directory, staging, log) and the order of its
//! steps. It must never talk to the control database, decide about retries, or publish after
//! its control said that the lease may be somebody else's.

mod connections;
mod context;
mod environment;
mod failure;
mod log;
mod mask;
mod pg_parts;
mod place;
mod prepare;
pub(crate) mod progress;
mod publish;
mod retention;
mod run;
mod staging;
mod validate;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::domain::Bounds;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::gate::Probes;

pub(crate) use connections::Resolved;
pub use context::{AttemptContext, AttemptFiles, OutputPlace};
pub(crate) use context::{connection, published_place};
pub use failure::Failure;
pub use log::{AttemptLog, LogEnd, LogLimits};
pub use mask::Mask;
pub(crate) use place::inside_root;
pub use place::{sanitise, staged_stem};
pub use retention::{LogRetention, clean_logs};
pub use run::{DryRun, run_attempt, run_attempt_with, try_attempt};
pub use staging::{Fate, STAGING_DIR, belongs_to, clean_staging, clean_work_dir};
pub use validate::read_result;
pub(crate) use validate::{read_figures, sha256_of};

/// Turns `${secret:NAME}` and `${env:NAME}` in a text into their values, and hides values in texts.
pub trait SecretResolver: Send + Sync {
    /// The text with every reference replaced. May block (a secret may come from a command).
    ///
    /// # Errors
    /// A sentence that names the reference and what to do; never a value.
    fn resolve(&self, text: &str) -> Result<SecretString, String>;

    /// As [`Self::resolve`] for a URL: what is put between `://` and `@` is percent-encoded, since a
    /// password may hold whatever a URL gives a meaning.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    fn resolve_url(&self, url: &str) -> Result<SecretString, String> {
        self.resolve(url)
    }

    /// The text with every value that was ever resolved replaced by `***`. An attempt masks
    /// the values that it resolved itself in any case.
    fn mask(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// What a worker process gives to every attempt.
#[derive(Clone)]
pub struct WorkerEnv {
    /// Scripts are looked up below this directory and nowhere else.
    pub script_dir: PathBuf,
    /// Private directories of attempts are made here; on a local disk.
    pub work_dir: PathBuf,
    /// Logs are `LOGDIR/<data set>/<key>/<fence>.log`.
    pub log_dir: PathBuf,
    /// How much of a log is kept.
    pub log_limits: LogLimits,
    /// Resolves secrets.
    pub secrets: Arc<dyn SecretResolver>,
    /// Writes bounds as a SQL boolean expression.
    pub predicate: fn(&Bounds) -> String,
    /// Looks at inputs before a job reads them.
    pub probes: Arc<dyn Probes>,
    /// How long processes may outlive their script before they are killed: enough for the end
    /// of a pipeline, not for a daemon.
    pub linger: Duration,
}

impl fmt::Debug for WorkerEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerEnv")
            .field("script_dir", &self.script_dir)
            .field("work_dir", &self.work_dir)
            .field("log_dir", &self.log_dir)
            .finish_non_exhaustive()
    }
}

/// How far an attempt has come, as its script says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows so far.
    pub rows: Option<i64>,
    /// Bytes so far.
    pub bytes: Option<i64>,
}

/// The worker's hand on a running attempt. Clones act on the same attempt.
#[derive(Clone)]
pub struct AttemptControl {
    /// Cancelled to end it politely: TERM to the tree, KILL after the job's grace.
    pub term: CancellationToken,
    /// Cancelled to end it at once.
    pub kill: CancellationToken,
    /// Asked right before publishing; `false` when the lease may have been given to another.
    pub may_publish: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Hears what the script says about its progress.
    pub progress: watch::Sender<Progress>,
    reason: Arc<OnceLock<String>>,
}

impl fmt::Debug for AttemptControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptControl")
            .field("term", &self.term.is_cancelled())
            .field("kill", &self.kill.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Default for AttemptControl {
    /// A control that lets the attempt run and publish.
    fn default() -> Self {
        Self::new(Arc::new(|| true))
    }
}

impl AttemptControl {
    /// A control with the given word on publishing.
    #[must_use]
    pub fn new(may_publish: Arc<dyn Fn() -> bool + Send + Sync>) -> Self {
        Self {
            term: CancellationToken::new(),
            kill: CancellationToken::new(),
            may_publish,
            progress: watch::channel(Progress::default()).0,
            reason: Arc::default(),
        }
    }

    /// Says why the attempt is being ended, in a few words; the first reason stays. Call it
    /// before cancelling `term` or `kill`.
    pub fn because(&self, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
    }

    /// The reason for ending it.
    #[must_use]
    pub fn reason(&self) -> String {
        self.reason
            .get()
            .cloned()
            .unwrap_or_else(|| "ended by the worker".to_owned())
    }
}
