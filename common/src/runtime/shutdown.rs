//! The end of a process, in two stages: asked for, then demanded.
//!
//! A handle carries two cancellation tokens. It never ends the process itself, except when the
//! user asks a third time and nothing has happened.

use tokio_util::sync::CancellationToken;

/// The exit code of a process that was interrupted (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// A handle on the process's end; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    graceful: CancellationToken,
    forced: CancellationToken,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nobody asked.
    Running,
    /// Finish what runs, take nothing new.
    Graceful,
    /// Drop what runs, clean up, end.
    Forced,
}

/// The signal handler could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for Ctrl-C and SIGTERM: {0}")]
pub struct InstallError(#[from] ctrlc::Error);

impl Shutdown {
    /// A handle that nothing triggers yet; enough for a test.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects this handle with SIGINT, SIGTERM and SIGHUP: the first asks for a graceful end,
    /// the second forces it, a third ends the process on the spot with code 130. Once per process.
    ///
    /// # Errors
    /// [`InstallError`] when a handler is there already or the system refuses.
    pub fn install(&self) -> Result<(), InstallError> {
        let handle = self.clone();
        ctrlc::set_handler(move || {
            if handle.stage() == Stage::Forced {
                // The runtime may hang, so nothing but this is certain to work.
                std::process::exit(INTERRUPTED);
            }
            match handle.request() {
                Stage::Forced => tracing::warn!("second signal: ending at once"),
                _ => tracing::info!("signal: finishing what runs (a second one ends at once)"),
            }
        })?;
        Ok(())
    }

    /// Goes one stage further, as a signal does, and answers the stage reached.
    pub fn request(&self) -> Stage {
        match self.stage() {
            Stage::Running => self.graceful.cancel(),
            Stage::Graceful | Stage::Forced => self.forced.cancel(),
        }
        self.stage()
    }

    /// Asks for a graceful end; changes nothing when the end is under way.
    pub fn begin(&self) {
        self.graceful.cancel();
    }

    /// Forces the end. A forced end is also a graceful one for those who only look at that.
    pub fn force(&self) {
        self.graceful.cancel();
        self.forced.cancel();
    }

    /// The stage reached.
    #[must_use]
    pub fn stage(&self) -> Stage {
        if self.forced.is_cancelled() {
            Stage::Forced
        } else if self.graceful.is_cancelled() {
            Stage::Graceful
        } else {
            Stage::Running
        }
    }

    /// Cancelled when the end was asked for: take nothing new.
    #[must_use]
    pub fn graceful(&self) -> &CancellationToken {
        &self.graceful
    }

    /// Cancelled when the end was forced: drop what runs.
    #[must_use]
    pub fn forced(&self) -> &CancellationToken {
        &self.forced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_request_asks_and_the_second_forces() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert_eq!(other.stage(), Stage::Running);
        assert_eq!(shutdown.request(), Stage::Graceful);
        other.graceful().cancelled().await;
        assert!(!other.forced().is_cancelled());
        assert_eq!(shutdown.request(), Stage::Forced);
        other.forced().cancelled().await;
        assert_eq!(shutdown.request(), Stage::Forced);
    }

    #[test]
    fn begin_is_no_second_request_and_force_is_both() {
        let shutdown = Shutdown::new();
        shutdown.begin();
        shutdown.begin();
        assert_eq!(shutdown.stage(), Stage::Graceful);
        let shutdown = Shutdown::new();
        shutdown.force();
        assert!(shutdown.graceful().is_cancelled());
        assert_eq!(shutdown.stage(), Stage::Forced);
    }
}
