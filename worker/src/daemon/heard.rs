//! When the control database last heard this worker, by a clock that goes on while the machine sleeps.
//!
//! Measured from the moment a beat was *sent* whose answer arrived: the leader cannot have heard
//! it earlier, so this count is never shorter than the leader's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since the machine's start, suspension included, in milliseconds.
///
/// `Instant` stands still while a laptop or a virtual machine is suspended; the leases do not.
fn now_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC))
        .map_or(0, |now| {
            let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
            seconds * 1000 + u64::try_from(now.tv_nsec()).unwrap_or(0) / 1_000_000
        })
}

/// A moment of that clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Now.
    pub(crate) fn now() -> Self {
        Self(now_ms())
    }

    /// How long ago it was.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_millis(now_ms().saturating_sub(self.0))
    }
}

/// The last beat that was answered.
#[derive(Debug)]
pub(crate) struct Heard {
    last: AtomicU64,
}

impl Heard {
    /// Heard at this moment (a registration counts as a beat).
    pub(crate) fn at(moment: Moment) -> Self {
        Self {
            last: AtomicU64::new(moment.0),
        }
    }

    /// A beat sent at that moment was answered.
    pub(crate) fn answered(&self, sent: Moment) {
        self.last.fetch_max(sent.0, Ordering::AcqRel);
    }

    /// How long the worker has been unheard.
    pub(crate) fn age(&self) -> Duration {
        Moment(self.last.load(Ordering::Acquire)).elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_answer_does_not_shorten_the_age() {
        let heard = Heard::at(Moment(now_ms().saturating_sub(10_000)));
        assert!(heard.age() >= Duration::from_secs(10));
        heard.answered(Moment(now_ms().saturating_sub(20_000)));
        assert!(heard.age() >= Duration::from_secs(10));
        heard.answered(Moment::now());
        assert!(heard.age() < Duration::from_secs(10));
    }
}
