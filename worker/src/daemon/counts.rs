//! How many attempts were settled, told in the log once a minute where there were any.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::domain::{AttemptResult, Outcome};

use super::Daemon;

/// Between two summaries.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Attempts settled since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    released: AtomicU64,
}

impl Counts {
    /// One more was recorded.
    pub(crate) fn settled(&self, result: &AttemptResult) {
        let counter = match &result.outcome {
            Outcome::Validated(_) => &self.done,
            Outcome::Failed { .. } => &self.failed,
            Outcome::Released { .. } => &self.released,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Published.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Summarises until the loops end.
pub(crate) async fn tell(daemon: Arc<Daemon>) -> Result<(), Infallible> {
    let mut before = (0, 0);
    while daemon.sleep(TELL_EVERY).await {
        let now = (daemon.counts.done(), daemon.counts.failed());
        if now != before {
            tracing::info!(
                published = now.0 - before.0,
                failed = now.1 - before.1,
                running = daemon.running.alive(),
                "last minute"
            );
            before = now;
        }
    }
    Ok(())
}
