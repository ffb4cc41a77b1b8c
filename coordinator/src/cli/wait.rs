//! `--wait`: looking again until what was ordered has come into effect, with progress on stderr.
//!
//! Must never change anything: what is waited for was ordered before and stays ordered.

use std::future::Future;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::Session;
use super::failure::{Exit, Failure};
use crate::read::ReadError;

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(500);

/// The option that commands with a lasting effect share.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct WaitArgs {
    /// Wait until what runs is within the limit, at most so long (`--wait=10m`; no time: forever)
    #[arg(long, value_name = "TIMEOUT", num_args = 0..=1, require_equals = true, default_missing_value = "forever", value_parser = limit)]
    pub wait: Option<Limit>,
}

/// How long to wait at most; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<Duration>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "forever" {
        return Ok(Limit(None));
    }
    duration(text).map(|limit| Limit(Some(limit)))
}

/// A duration such as `90s`, `10m` or `2h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("expected a duration such as 90s, 10m or 2h, found {text:?}"))
}

/// Looks until `running` is at most `target`; says what still runs whenever that changes.
///
/// # Errors
/// [`Exit::TimedOut`] when the time is over; what was ordered stays in force.
pub(crate) async fn until_within<F, Fut>(
    session: &mut Session,
    limit: Limit,
    target: i64,
    what: &str,
    running: F,
) -> Result<(), Failure>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<i64, ReadError>>,
{
    let start = Instant::now();
    let mut last = None;
    loop {
        match running().await {
            Ok(n) if n <= target => return Ok(()),
            Ok(n) => {
                if last != Some(n) {
                    let allowed = if target == 0 {
                        String::new()
                    } else {
                        format!(", {target} may")
                    };
                    session.out.say(format!("{what}: {n} running{allowed}"));
                    last = Some(n);
                }
            }
            Err(error) if error.may_pass() => session.out.say(format!("{error}; looking again")),
            Err(error) => return Err(error.into()),
        }
        if limit.0.is_some_and(|limit| start.elapsed() >= limit) {
            let n = last.unwrap_or_default();
            return Err(Failure::new(
                Exit::TimedOut,
                format!("{what}: {n} still running when the wait was over"),
            )
            .hint("what was ordered stays in force; nothing new starts above it"));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Limit, limit};

    #[test]
    fn a_wait_may_have_a_limit() {
        assert_eq!(limit("forever"), Ok(Limit(None)));
        assert_eq!(limit("10m"), Ok(Limit(Some(Duration::from_secs(600)))));
        assert!(limit("soon").is_err());
    }
}
