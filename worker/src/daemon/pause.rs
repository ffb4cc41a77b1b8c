//! Why this worker claims nothing at the moment, if there is a reason.
//!
//! Each cause is set and cleared by the part that watches it; each change is logged once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// First pause after a failure that is this host's fault.
const FIRST: Duration = Duration::from_secs(5);
/// Longest such pause.
const MOST: Duration = Duration::from_secs(600);

/// Who stops the claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The guard process is gone and a new one is being started.
    Guard,
    /// The state or log directory is nearly full.
    Disk,
    /// A person asked the worker to drain.
    Drain,
}

/// All reasons of the moment.
#[derive(Debug)]
pub(crate) struct Pauses {
    inner: Mutex<Inner>,
    scale: f64,
}

#[derive(Debug, Default)]
struct Inner {
    causes: BTreeMap<Cause, String>,
    host_failures: u32,
    host_until: Option<Instant>,
}

impl Pauses {
    /// None yet; pauses for host failures are divided by `scale`.
    pub(crate) fn new(scale: f64) -> Self {
        Self {
            inner: Mutex::default(),
            scale,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets or clears a cause; answers whether that is new.
    pub(crate) fn set(&self, cause: Cause, why: Option<&str>) -> bool {
        let mut inner = self.inner();
        match (why, inner.causes.contains_key(&cause)) {
            (Some(why), was) => {
                inner.causes.insert(cause, why.to_owned());
                if !was {
                    tracing::warn!("claiming nothing: {why}");
                }
                !was
            }
            (None, true) => {
                let was = inner.causes.remove(&cause).unwrap_or_default();
                tracing::info!("over: {was}");
                true
            }
            (None, false) => false,
        }
    }

    /// An attempt failed and this host is at fault: claims pause, longer each time in a row, so that
    /// a broken host does not draw chunk after chunk.
    pub(crate) fn host_failed(&self, error: &str) {
        let mut inner = self.inner();
        let pause = FIRST
            .saturating_mul(2_u32.saturating_pow(inner.host_failures))
            .min(MOST)
            .div_f64(self.scale);
        inner.host_failures = inner.host_failures.saturating_add(1).min(20);
        let until = Instant::now() + pause;
        inner.host_until = Some(inner.host_until.map_or(until, |before| before.max(until)));
        tracing::warn!(
            ?pause,
            "this host is at fault, claiming nothing for a while: {error}"
        );
    }

    /// An attempt succeeded here.
    pub(crate) fn host_works(&self) {
        let mut inner = self.inner();
        inner.host_failures = 0;
        inner.host_until = None;
    }

    /// Whether claims are paused.
    pub(crate) fn active(&self) -> bool {
        let inner = self.inner();
        !inner.causes.is_empty() || inner.host_until.is_some_and(|until| until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn host_failures_pause_longer_each_time_and_a_success_ends_it() {
        let pauses = Pauses::new(1.0);
        pauses.host_failed("no such script");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!pauses.active());
        pauses.host_failed("no such script");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(pauses.active());
        for _ in 0..40 {
            pauses.host_failed("no such script");
        }
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(pauses.active());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!pauses.active());
        pauses.host_failed("no such script");
        pauses.host_works();
        assert!(!pauses.active());
    }

    #[test]
    fn causes_are_independent() {
        let pauses = Pauses::new(1.0);
        assert!(pauses.set(Cause::Disk, Some("full")));
        assert!(!pauses.set(Cause::Disk, Some("fuller")));
        assert!(pauses.set(Cause::Drain, Some("asked")));
        assert!(pauses.set(Cause::Disk, None));
        assert!(pauses.active());
        assert!(pauses.set(Cause::Drain, None));
        assert!(!pauses.set(Cause::Drain, None));
        assert!(!pauses.active());
    }
}
