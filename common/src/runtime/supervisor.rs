//! The long-running parts of a daemon, each under its name, all or none.
//!
//! A part that ends early, fails or panics takes all the others down, and the daemon's `main`
//! learns which one and why, so that the process exits with 1 and its manager restarts it. A
//! supervisor never restarts a part: a half-working daemon is worse than a dead one.

use std::any::Any;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument as _;

use super::error_text;
use super::periodic::{Every, LoopHandle, Pass, periodic};
use super::shutdown::Shutdown;

/// How long parts may clean up after a forced end before they are dropped.
const FORCED_GRACE: Duration = Duration::from_secs(10);

type BoxError = Box<dyn Error + Send + Sync>;

/// A set of named parts that live and die together.
pub struct Supervisor {
    shutdown: Shutdown,
    parts: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, String>,
    loops: Vec<LoopHandle>,
    grace: Option<Duration>,
    forced_grace: Duration,
}

/// One part's bad end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The part's name.
    pub name: String,
    /// What happened to it.
    pub how: How,
}

/// How a part ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It returned although nobody had asked for the end.
    EndedEarly,
    /// It returned an error.
    Failed(String),
    /// It panicked.
    Panicked(String),
    /// It did not end in time after a forced end and was dropped.
    Dropped,
}

/// At least one part ended badly: the first one is the cause, the others may be consequences.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct SupervisorError {
    /// The bad ends in the order in which they happened; never empty.
    pub failures: Vec<Failure>,
}

impl Supervisor {
    /// A supervisor without parts that follows and triggers `shutdown`.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            parts: JoinSet::new(),
            names: HashMap::new(),
            loops: Vec::new(),
            grace: None,
            forced_grace: FORCED_GRACE,
        }
    }

    /// Forces the end when the parts have not ended `grace` after they were asked to. Without it
    /// they are waited for until somebody forces the end.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Starts a part. It must watch [`Shutdown::graceful`] and return `Ok` soon after.
    pub fn spawn<E>(
        &mut self,
        name: impl Into<String>,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<BoxError> + 'static,
    {
        let name = name.into();
        let span = tracing::info_span!("part", part.name = %name);
        let part = async move { part.await.map_err(Into::into) };
        let task = self.parts.spawn(part.instrument(span));
        self.names.insert(task.id(), name);
    }

    /// Starts a loop of passes and answers the handle on its status and wake-up.
    pub fn spawn_loop<P: Pass + 'static>(
        &mut self,
        name: impl Into<String>,
        every: Every,
        pass: P,
    ) -> LoopHandle {
        let name = name.into();
        let (handle, driver) = periodic(name.clone(), every, pass);
        let shutdown = self.shutdown.clone();
        self.spawn(name, async move {
            driver.run(shutdown).await;
            Ok::<(), BoxError>(())
        });
        self.loops.push(handle.clone());
        handle
    }

    /// The handles of all loops started so far.
    #[must_use]
    pub fn loops(&self) -> &[LoopHandle] {
        &self.loops
    }

    /// Waits until all parts have ended. The first early end, error or panic asks all others to end.
    ///
    /// # Errors
    /// [`SupervisorError`] naming every part that ended badly.
    pub async fn run(mut self) -> Result<(), SupervisorError> {
        let mut failures = Vec::new();
        let mut limits =
            std::pin::pin!(limits(self.shutdown.clone(), self.grace, self.forced_grace));
        loop {
            tokio::select! {
                // A part that has ended is heard before the limit that would drop it.
                biased;
                ended = self.parts.join_next_with_id() => match ended {
                    Some(ended) => failures.extend(judge(&mut self.names, &self.shutdown, ended)),
                    None => break,
                },
                () = &mut limits => {
                    failures.extend(self.drop_all().await);
                    break;
                }
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(SupervisorError { failures })
        }
    }

    /// Drops the parts that are left.
    async fn drop_all(&mut self) -> Vec<Failure> {
        self.parts.abort_all();
        let mut failures = Vec::new();
        while let Some(ended) = self.parts.join_next_with_id().await {
            failures.extend(judge(&mut self.names, &self.shutdown, ended));
        }
        failures
    }
}

/// Returns when the parts have had all the time they get.
async fn limits(shutdown: Shutdown, grace: Option<Duration>, forced_grace: Duration) {
    shutdown.graceful().cancelled().await;
    if let Some(grace) = grace {
        let forced = shutdown.forced().cancelled();
        if tokio::time::timeout(grace, forced).await.is_err() {
            tracing::warn!(?grace, "the grace is over: ending at once");
            shutdown.force();
        }
    }
    shutdown.forced().cancelled().await;
    tokio::time::sleep(forced_grace).await;
}

/// Tells a good end from a bad one, and lets a bad one end everything.
fn judge(
    names: &mut HashMap<Id, String>,
    shutdown: &Shutdown,
    ended: Result<(Id, Result<(), BoxError>), JoinError>,
) -> Option<Failure> {
    let (id, how) = match ended {
        Ok((id, Ok(()))) if shutdown.graceful().is_cancelled() => {
            names.remove(&id);
            return None;
        }
        Ok((id, Ok(()))) => (id, How::EndedEarly),
        Ok((id, Err(error))) => (id, How::Failed(error_text(&*error))),
        Err(lost) => {
            let id = lost.id();
            let how = match lost.try_into_panic() {
                Ok(panic) => How::Panicked(panic_text(&*panic)),
                Err(_) => How::Dropped,
            };
            (id, how)
        }
    };
    let name = names.remove(&id).unwrap_or_default();
    let failure = Failure { name, how };
    tracing::error!(part.name = %failure.name, "{failure}: ending everything");
    shutdown.begin();
    Some(failure)
}

/// The words of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(ToString::to_string);
    literal
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".into())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.how {
            How::EndedEarly => write!(f, "{name} ended although nobody had asked it to"),
            How::Failed(error) => write!(f, "{name} failed: {error}"),
            How::Panicked(words) => write!(f, "{name} panicked: {words}"),
            How::Dropped => write!(f, "{name} did not end in time and was dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    async fn obedient(shutdown: Shutdown) -> Result<(), Infallible> {
        shutdown.graceful().cancelled().await;
        Ok(())
    }

    fn with_obedient() -> (Shutdown, Supervisor) {
        let shutdown = Shutdown::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        supervisor.spawn("obedient", obedient(shutdown.clone()));
        (shutdown, supervisor)
    }

    fn only_failure(result: Result<(), SupervisorError>) -> (String, How) {
        let mut failures = result.unwrap_err().failures;
        assert_eq!(failures.len(), 1, "{failures:?}");
        let failure = failures.remove(0);
        (failure.name, failure.how)
    }

    #[tokio::test]
    async fn an_asked_for_end_is_good() {
        let (shutdown, supervisor) = with_obedient();
        shutdown.begin();
        assert_eq!(supervisor.run().await, Ok(()));
    }

    #[tokio::test]
    async fn an_early_end_takes_the_others_down() {
        let (shutdown, mut supervisor) = with_obedient();
        supervisor.spawn("short", async { Ok::<(), Infallible>(()) });
        let failure = only_failure(supervisor.run().await);
        assert_eq!(failure, ("short".into(), How::EndedEarly));
        assert!(shutdown.graceful().is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_is_told_with_the_name() {
        let (_shutdown, mut supervisor) = with_obedient();
        supervisor.spawn("sweep", async {
            if tokio::task::try_id().is_some() {
                panic!("no row {}", 7);
            }
            Ok::<(), Infallible>(())
        });
        let error = supervisor.run().await.unwrap_err();
        assert_eq!(error.to_string(), "sweep panicked: no row 7");
    }

    #[tokio::test]
    async fn an_error_is_told_even_at_the_end() {
        let (shutdown, mut supervisor) = with_obedient();
        let end = shutdown.clone();
        supervisor.spawn("heartbeat", async move {
            end.graceful().cancelled().await;
            Err("no farewell")
        });
        shutdown.begin();
        let failure = only_failure(supervisor.run().await);
        assert_eq!(
            failure,
            ("heartbeat".into(), How::Failed("no farewell".into()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_deaf_part_is_dropped_after_grace_and_force() {
        let (shutdown, supervisor) = with_obedient();
        let mut supervisor = supervisor.with_grace(Duration::from_secs(60));
        supervisor.spawn("deaf", std::future::pending::<Result<(), Infallible>>());
        shutdown.begin();
        let start = tokio::time::Instant::now();
        let failure = only_failure(supervisor.run().await);
        assert_eq!(failure, ("deaf".into(), How::Dropped));
        assert!(shutdown.forced().is_cancelled());
        assert_eq!(start.elapsed(), Duration::from_secs(60) + FORCED_GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_may_use_the_forced_grace_to_clean_up() {
        let (shutdown, mut supervisor) = with_obedient();
        let end = shutdown.clone();
        supervisor.spawn("attempts", async move {
            end.forced().cancelled().await;
            tokio::time::sleep(FORCED_GRACE / 2).await;
            Ok::<(), Infallible>(())
        });
        shutdown.force();
        assert_eq!(supervisor.run().await, Ok(()));
    }
}
