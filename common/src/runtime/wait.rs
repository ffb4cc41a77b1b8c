//! Waiting for a condition with a limit, instead of sleeping and hoping.
//!
//! It polls; it must never be used where an event can be awaited (a `Notify`, a channel, a child).

use std::time::Duration;

use tokio::time::Instant;

/// The awaited condition did not come true within the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited {limit:?} for {what}, in vain")]
pub struct TimedOut {
    /// What was awaited, in the caller's words.
    pub what: String,
    /// How long it was awaited.
    pub limit: Duration,
}

/// Polls `probe` every `interval` until it answers `Some`, for at most `limit`.
///
/// The first look is at once, and one more follows when the limit is reached, so that a condition
/// that comes true during the last pause is still seen. A probe that hangs is cut off at the limit.
///
/// The bound is `FnMut() -> Fut` and not `AsyncFnMut`, whose futures the compiler cannot yet prove
/// to be `Send` (1.95), so nothing that waits could be spawned. An `async ||` that only reads what
/// it captures fits; one that changes it does so before its `async move` block.
///
/// # Errors
/// [`TimedOut`], naming `what`, once `limit` has passed.
pub async fn until<T, F, Fut>(
    limit: Duration,
    interval: Duration,
    what: impl Into<String>,
    mut probe: F,
) -> Result<T, TimedOut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + limit;
    loop {
        let last_look = Instant::now() >= end;
        // The last look must be able to finish, so it is given a moment beyond the limit.
        let cut_off = if last_look { end + LAST_LOOK } else { end };
        if let Ok(Some(found)) = tokio::time::timeout_at(cut_off, probe()).await {
            return Ok(found);
        }
        if last_look {
            return Err(TimedOut {
                what: what.into(),
                limit,
            });
        }
        tokio::time::sleep_until(end.min(Instant::now() + interval)).await;
    }
}

/// How long the look after the limit may take.
const LAST_LOOK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_what_the_probe_found() {
        let mut looks = 0;
        let found = until(Duration::from_secs(10), Duration::from_secs(1), "x", || {
            looks += 1;
            let found = (looks == 4).then_some(looks);
            async move { found }
        })
        .await;
        assert_eq!(found, Ok(4));
    }

    #[tokio::test(start_paused = true)]
    async fn names_what_was_awaited() {
        let before = Instant::now();
        let answer: Result<(), _> = until(
            Duration::from_secs(3),
            Duration::from_secs(1),
            "the moon",
            async || None,
        )
        .await;
        let text = answer.unwrap_err().to_string();
        assert_eq!(text, "waited 3s for the moon, in vain");
        assert_eq!(before.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_off_a_probe_that_hangs() {
        let answer: Result<(), _> = until(
            Duration::from_secs(2),
            Duration::from_millis(10),
            "an answer",
            async || {
                std::future::pending::<()>().await;
                None
            },
        )
        .await;
        assert!(answer.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn looks_once_more_at_the_limit() {
        let start = Instant::now();
        let found = until(
            Duration::from_secs(5),
            Duration::from_secs(60),
            "late",
            async || (start.elapsed() >= Duration::from_secs(5)).then_some(()),
        )
        .await;
        assert_eq!(found, Ok(()));
    }

    #[tokio::test]
    async fn can_be_awaited_inside_a_task() {
        let mut tasks = tokio::task::JoinSet::new();
        let shared = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = shared.clone();
        tasks.spawn(async move {
            until(
                Duration::from_secs(10),
                Duration::from_millis(1),
                "the flag",
                async || {
                    tokio::task::yield_now().await;
                    seen.load(std::sync::atomic::Ordering::SeqCst).then_some(())
                },
            )
            .await
        });
        shared.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), Ok(()));
    }
}
