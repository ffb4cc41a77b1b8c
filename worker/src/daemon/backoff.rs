//! Pauses that double up to a limit, jittered so that a fleet does not come back in step.

use std::time::Duration;

use rand::RngExt;

/// The next pause and its bounds.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from about `first` to about `most`.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// Starts again from the first pause.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause: the doubled one before, give or take a quarter.
    pub(crate) fn grow(&mut self) -> Duration {
        let pause = jittered(self.next, 0.25);
        self.next = (self.next * 2).min(self.most);
        pause
    }

    /// Waits for the next pause.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.grow()).await;
    }
}

/// A duration, give or take that part of it.
pub(crate) fn jittered(duration: Duration, part: f64) -> Duration {
    duration.mul_f64(rand::rng().random_range(1.0 - part..=1.0 + part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_limit_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for expected in [100, 200, 350, 350] {
            let pause = backoff.grow().as_millis() as f64;
            let expected = f64::from(expected);
            assert!(
                (expected * 0.74..expected * 1.26).contains(&pause),
                "{pause}"
            );
        }
        backoff.reset();
        assert!(backoff.grow() < Duration::from_millis(126));
    }
}
