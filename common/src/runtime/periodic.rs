//! The driver of a loop: an idempotent pass, again and again, its state readable elsewhere.
//!
//! A pass runs at every interval and whenever somebody wakes the loop. The driver never retries
//! (the next tick is the retry), never runs two passes at once and never changes what they do.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rand::RngExt as _;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::error_text;
use super::shutdown::Shutdown;

/// One bounded, idempotent look at the world, and what follows from it.
#[async_trait]
pub trait Pass: Send {
    /// Why a pass can fail.
    type Error: Into<Box<dyn Error + Send + Sync>>;

    /// Does one pass. It is dropped in the middle only when the end of the process is forced.
    async fn pass(&mut self) -> Result<Summary, Self::Error>;
}

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many things it changed; 0 is not worth a line in the log.
    pub changed: u64,
    /// What it did, in a few words; may be empty.
    pub text: String,
}

impl Summary {
    /// Nothing was to be done.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// `changed` things were done, described by `text`.
    #[must_use]
    pub fn new(changed: u64, text: impl Into<String>) -> Self {
        Self {
            changed,
            text: text.into(),
        }
    }
}

/// When passes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    /// From the end of a pass to the next one.
    pub interval: Duration,
    /// The first pass comes at a random moment within this time, so that a fleet that starts
    /// together does not look together. Default: the interval, at most 5 s.
    pub first_within: Duration,
    /// The least time between two passes when wake-ups come in a storm. Default: none.
    pub rest: Duration,
}

impl Every {
    /// Passes at this interval, defaults for the rest.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            first_within: interval.min(Duration::from_secs(5)),
            rest: Duration::ZERO,
        }
    }

    /// The first pass at once.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.first_within = Duration::ZERO;
        self
    }

    /// At least `rest` between two passes.
    #[must_use]
    pub fn with_rest(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }
}

/// Why a pass ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The first one.
    Start,
    /// The interval was over.
    Interval,
    /// Somebody woke the loop.
    Wake,
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LastResult {
    /// It did its work.
    Done(Summary),
    /// It failed with this text.
    Failed(String),
}

/// What is known about a loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoopStatus {
    /// The loop's name.
    pub name: String,
    /// From the end of a pass to the next, in milliseconds.
    pub interval_ms: u64,
    /// How many passes have ended.
    pub iteration: u64,
    /// Since when the present pass runs; `None` between passes.
    pub running_since: Option<DateTime<Utc>>,
    /// Why the last pass ran.
    pub reason: Option<Reason>,
    /// When the last pass ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How long the last pass took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// How the last pass ended.
    pub last: Option<LastResult>,
    /// When a pass last succeeded.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// How many passes have failed since then.
    pub failures: u64,
}

/// A hand on a running loop; clones share it.
#[derive(Debug, Clone)]
pub struct LoopHandle {
    wake: Arc<Notify>,
    status: watch::Receiver<LoopStatus>,
}

impl LoopHandle {
    /// Makes the loop look soon: now, or after the present pass. Many calls make one look.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The `Notify` behind [`LoopHandle::wake`], for whoever cannot hold the handle.
    #[must_use]
    pub fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// The loop's status now.
    #[must_use]
    pub fn status(&self) -> LoopStatus {
        self.status.borrow().clone()
    }

    /// Waits until the status satisfies `wanted` and answers it; `None` when the loop has ended
    /// before.
    pub async fn when(&mut self, wanted: impl FnMut(&LoopStatus) -> bool) -> Option<LoopStatus> {
        self.status
            .wait_for(wanted)
            .await
            .ok()
            .map(|status| status.clone())
    }
}

/// A loop that is ready to run.
pub struct Periodic<P> {
    every: Every,
    pass: P,
    wake: Arc<Notify>,
    status: watch::Sender<LoopStatus>,
}

/// Makes a loop and the hand on it. Supervised daemons use
/// [`Supervisor::spawn_loop`](super::Supervisor::spawn_loop).
pub fn periodic<P: Pass>(
    name: impl Into<String>,
    every: Every,
    pass: P,
) -> (LoopHandle, Periodic<P>) {
    let (sender, receiver) = watch::channel(LoopStatus {
        name: name.into(),
        interval_ms: millis(every.interval),
        iteration: 0,
        running_since: None,
        reason: None,
        ended_at: None,
        duration_ms: None,
        last: None,
        succeeded_at: None,
        failures: 0,
    });
    let wake = Arc::new(Notify::new());
    let handle = LoopHandle {
        wake: wake.clone(),
        status: receiver,
    };
    let driver = Periodic {
        every,
        pass,
        wake,
        status: sender,
    };
    (handle, driver)
}

impl<P: Pass> Periodic<P> {
    /// Runs passes until the end is asked for; the present pass is finished unless it is forced.
    pub async fn run(mut self, shutdown: Shutdown) {
        let wake = self.wake.clone();
        let mut next = Instant::now() + random_up_to(self.every.first_within);
        let mut may_wake = Instant::now();
        let mut reason = Reason::Start;
        let mut woken = std::pin::pin!(wake.notified());
        loop {
            let wake_up = async {
                woken.as_mut().await;
                sleep_until(may_wake).await;
            };
            tokio::select! {
                biased;
                () = shutdown.graceful().cancelled() => return,
                () = wake_up => reason = if reason == Reason::Start { reason } else { Reason::Wake },
                () = sleep_until(next) => {}
            }
            // Armed before the look: what changes during the look causes another one.
            woken.set(wake.notified());
            if woken.as_mut().enable() {
                // That wake-up came before the look, which therefore answers it.
                woken.set(wake.notified());
                woken.as_mut().enable();
            }
            tokio::select! {
                () = self.one_pass(reason) => {}
                () = shutdown.forced().cancelled() => return,
            }
            reason = Reason::Interval;
            next = Instant::now() + self.every.interval;
            may_wake = Instant::now() + self.every.rest;
        }
    }

    async fn one_pass(&mut self, reason: Reason) {
        self.status
            .send_modify(|status| status.running_since = Some(Utc::now()));
        let started = Instant::now();
        let result = match self.pass.pass().await {
            Ok(summary) => LastResult::Done(summary),
            Err(error) => LastResult::Failed(error_text(&*error.into())),
        };
        let duration_ms = millis(started.elapsed());
        self.tell(&result, reason, duration_ms);
        self.status.send_modify(|status| {
            let now = Utc::now();
            status.iteration += 1;
            status.running_since = None;
            status.reason = Some(reason);
            status.ended_at = Some(now);
            status.duration_ms = Some(duration_ms);
            match &result {
                LastResult::Done(_) => {
                    status.succeeded_at = Some(now);
                    status.failures = 0;
                }
                LastResult::Failed(_) => status.failures += 1,
            }
            status.last = Some(result);
        });
    }

    /// Logs what is new: an error when it changes, a recovery, a pass that did something.
    fn tell(&self, result: &LastResult, reason: Reason, duration_ms: u64) {
        let before = self.status.borrow();
        let name = &before.name;
        let failed_before = matches!(before.last, Some(LastResult::Failed(_)));
        match result {
            LastResult::Failed(_) if before.last.as_ref() == Some(result) => {
                tracing::debug!(loop.name = %name, ?reason, "pass failed as before");
            }
            LastResult::Failed(error) => {
                tracing::error!(loop.name = %name, ?reason, duration_ms, "pass failed: {error}");
            }
            LastResult::Done(summary) => {
                if failed_before {
                    let failures = before.failures;
                    tracing::info!(loop.name = %name, failures, "passes succeed again");
                }
                if summary.changed > 0 {
                    tracing::info!(loop.name = %name, ?reason, duration_ms, changed = summary.changed, "{summary}");
                } else {
                    tracing::debug!(loop.name = %name, ?reason, duration_ms, "{summary}");
                }
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.text, self.changed) {
            ("", 0) => f.write_str("nothing to do"),
            ("", changed) => write!(f, "{changed} changed"),
            (text, _) => f.write_str(text),
        }
    }
}

fn random_up_to(limit: Duration) -> Duration {
    limit.mul_f64(rand::rng().random_range(0.0..=1.0))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Mutex;
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A pass that follows a list of results, then succeeds; each pass needs a permit.
    struct Scripted {
        results: Vec<Result<Summary, io::Error>>,
        permits: Arc<Semaphore>,
    }

    #[async_trait]
    impl Pass for Scripted {
        type Error = io::Error;

        async fn pass(&mut self) -> Result<Summary, io::Error> {
            self.permits.acquire().await.unwrap().forget();
            if self.results.is_empty() {
                return Ok(Summary::nothing());
            }
            self.results.remove(0)
        }
    }

    struct Bench {
        handle: LoopHandle,
        shutdown: Shutdown,
        permits: Arc<Semaphore>,
        tasks: JoinSet<()>,
    }

    fn bench(every: Every, permits: usize, results: Vec<Result<Summary, io::Error>>) -> Bench {
        let permits = Arc::new(Semaphore::new(permits));
        let pass = Scripted {
            results,
            permits: permits.clone(),
        };
        let (handle, driver) = periodic("promote", every, pass);
        let shutdown = Shutdown::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run(shutdown.clone()));
        Bench {
            handle,
            shutdown,
            permits,
            tasks,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn passes_follow_the_interval() {
        let start = Instant::now();
        let mut bench = bench(Every::new(HOUR).at_once(), 100, vec![]);
        let status = bench.handle.when(|s| s.iteration == 3).await.unwrap();
        assert_eq!(start.elapsed(), 2 * HOUR);
        assert_eq!(status.reason, Some(Reason::Interval));
        assert_eq!(status.last, Some(LastResult::Done(Summary::nothing())));
        bench.shutdown.begin();
        bench.tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_pass_comes_within_the_offset() {
        let mut every = Every::new(HOUR);
        every.first_within = Duration::from_secs(10);
        let mut waits = Vec::new();
        for _ in 0..20 {
            let start = Instant::now();
            let mut bench = bench(every, 1, vec![]);
            let status = bench.handle.when(|s| s.iteration == 1).await.unwrap();
            assert_eq!(status.reason, Some(Reason::Start));
            waits.push(start.elapsed());
        }
        assert!(
            waits
                .iter()
                .all(|wait| *wait <= Duration::from_millis(10_001))
        );
        waits.dedup();
        assert!(waits.len() > 10, "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_during_a_pass_causes_one_more() {
        let start = Instant::now();
        let mut bench = bench(Every::new(HOUR).at_once(), 0, vec![]);
        bench
            .handle
            .when(|s| s.running_since.is_some())
            .await
            .unwrap();
        for _ in 0..5 {
            bench.handle.wake();
        }
        bench.permits.add_permits(100);
        let status = bench.handle.when(|s| s.iteration == 2).await.unwrap();
        assert_eq!(status.reason, Some(Reason::Wake));
        assert!(start.elapsed() < HOUR);
        // Five wake-ups, one look: the third pass is the interval's.
        let status = bench.handle.when(|s| s.iteration == 3).await.unwrap();
        assert_eq!(status.reason, Some(Reason::Interval));
        assert!(start.elapsed() >= HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_between_passes_comes_at_once_and_a_storm_rests() {
        let rest = Duration::from_secs(7);
        let every = Every::new(HOUR).at_once().with_rest(rest);
        let mut bench = bench(every, 100, vec![]);
        bench.handle.when(|s| s.iteration == 1).await.unwrap();
        let after_first = Instant::now();
        bench.handle.wake();
        let status = bench.handle.when(|s| s.iteration == 2).await.unwrap();
        assert_eq!(status.reason, Some(Reason::Wake));
        assert_eq!(after_first.elapsed(), rest);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_cuts_the_first_offset_short() {
        let mut every = Every::new(HOUR);
        every.first_within = 100_000 * HOUR;
        let start = Instant::now();
        let mut bench = bench(every, 1, vec![]);
        bench.handle.wake();
        bench.handle.when(|s| s.iteration == 1).await.unwrap();
        assert!(start.elapsed() < HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_and_forgotten() {
        let failed = || Err(io::Error::other("no disk"));
        let results = vec![failed(), failed(), Ok(Summary::new(3, "promoted 3 chunks"))];
        let mut bench = bench(Every::new(HOUR).at_once(), 100, results);
        let status = bench.handle.when(|s| s.iteration == 2).await.unwrap();
        assert_eq!(status.failures, 2);
        assert_eq!(status.succeeded_at, None);
        assert_eq!(status.last, Some(LastResult::Failed("no disk".into())));
        let status = bench.handle.when(|s| s.iteration == 3).await.unwrap();
        assert_eq!(status.failures, 0);
        assert!(status.succeeded_at.is_some());
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["last"]["done"]["changed"], 3);
        assert_eq!(json["reason"], "interval");
    }

    #[tokio::test(start_paused = true)]
    async fn a_graceful_end_finishes_the_pass_and_a_forced_one_does_not() {
        for forced in [false, true] {
            let mut bench = bench(Every::new(HOUR).at_once(), 0, vec![]);
            bench
                .handle
                .when(|s| s.running_since.is_some())
                .await
                .unwrap();
            bench.shutdown.begin();
            if forced {
                bench.shutdown.force();
            } else {
                tokio::task::yield_now().await;
                assert!(bench.tasks.try_join_next().is_none(), "still in its pass");
                bench.permits.add_permits(1);
            }
            bench.tasks.join_next().await.unwrap().unwrap();
            let iteration = bench.handle.status().iteration;
            assert_eq!(iteration, u64::from(!forced));
        }
    }

    /// Counts the lines of the log by level.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_logged_when_it_changes() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let failed = |text: &'static str| Err(io::Error::other(text));
        let results = vec![failed("a"), failed("a"), failed("a"), failed("b")];
        let mut bench = bench(Every::new(HOUR).at_once(), 100, results);
        bench.handle.when(|s| s.iteration == 6).await.unwrap();
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let said: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("promote"))
            .collect();
        assert_eq!(said.len(), 3, "{text}");
        assert!(said[0].contains("ERROR") && said[0].contains("pass failed: a"));
        assert!(said[1].contains("ERROR") && said[1].contains("pass failed: b"));
        assert!(said[2].contains("INFO") && said[2].contains("succeed again"));
    }
}
