//! What a private server shall be like: plain values, nothing is done here.

use std::path::PathBuf;
use std::time::Duration;

/// What becomes of the server when its [`PrivatePg`](super::PrivatePg) is dropped or its process ends.
///
/// It binds the one who started the server. Whoever reuses it leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// It keeps running; the next [`start`](super::start) reuses it.
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

/// What kind of sudden death [`PrivatePg::kill_hard`](super::PrivatePg::kill_hard) inflicts.
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
    /// be open to the server's user: see [`reachable_place`](super::reachable_place).
    pub data_dir: PathBuf,
    /// The folder of `initdb` and `postgres`; `None` searches (see [`discover`](super::discover())).
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
