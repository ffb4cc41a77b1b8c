//! Hearing the workers: sessions whose beat number stands still lose their leases in time.
//!
//! The count is this leader's own ([`common::policy::silence`]); the database takes a lease only
//! when the silence reported covers the job's `silence` plus the slack, and spares a session that
//! beat in between.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::policy::silence::{Look, Silence};
use common::runtime::Summary;
use common::store::lead::{Beats, Unheard};
use common::store::{LeaderProof, StoreError};

use super::LeaderPass;

/// How often the beats are looked at.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Beyond a job's silence: one missed beat and two looks (4 s + 2 x 2 s), rounded up.
pub const SLACK: Duration = Duration::from_secs(9);

/// The sweep's memory.
#[derive(Debug)]
pub struct Sweep {
    silence: Silence,
    term: i64,
    scale: f64,
}

impl Sweep {
    /// A sweep in which time runs `scale` times as fast (1 outside tests).
    #[must_use]
    pub fn new(scale: f64) -> Self {
        Self {
            silence: Silence::default(),
            term: 0,
            scale,
        }
    }
}

impl Sweep {
    /// The sessions that have been silent longer than any job allows, by what was seen at `at`.
    fn unheard(&mut self, term: i64, beats: &Beats, at: Instant) -> Vec<Unheard> {
        if term != self.term {
            self.silence.forget();
            self.term = term;
        }
        let look = Look {
            at,
            server_start: &beats.server_start,
            // Divided here because every silence is multiplied below, and a moved clock is exact.
            moved: Duration::from_millis(beats.clock_offset_ms.max(0).unsigned_abs())
                .div_f64(self.scale),
            beats: &beats.sessions,
        };
        let gap = INTERVAL.div_f64(self.scale) * 3 + Duration::from_secs(1);
        let shortest = Duration::from_millis(beats.shortest_silence_ms) + SLACK;
        self.silence
            .look(look, gap)
            .into_iter()
            .map(|(session, beat_no, silent)| (session, beat_no, silent.mul_f64(self.scale)))
            .filter(|(_, _, silent)| *silent >= shortest)
            .map(|(session, beat_no, silent)| Unheard {
                session,
                beat_no,
                unheard_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            })
            .collect()
    }
}

#[async_trait]
impl LeaderPass for Sweep {
    async fn pass(&mut self, proof: &LeaderProof) -> Result<Summary, StoreError> {
        let beats = proof.beats().await?;
        let unheard = self.unheard(proof.term(), &beats, Instant::now());
        if unheard.is_empty() {
            return Ok(Summary::new(
                0,
                format!("{} sessions heard", beats.sessions.len()),
            ));
        }
        let (dead, lost) = proof.sweep(&unheard, SLACK).await?;
        let text = format!(
            "{} silent, {dead} declared dead, {lost} leases taken",
            unheard.len()
        );
        Ok(Summary::new((dead + lost).unsigned_abs(), text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::domain::SessionId;

    fn beats(beat_no: i64, moved_s: i64) -> Beats {
        Beats {
            server_start: "then".to_owned(),
            clock_offset_ms: moved_s * 1000,
            sessions: vec![(SessionId(7), beat_no)],
            shortest_silence_ms: 25_000,
        }
    }

    /// Looks every interval for so long and answers after how long the session was first unheard.
    fn unheard_after(sweep: &mut Sweep, term: i64, start: Instant, looks: u32) -> Option<Duration> {
        let step = INTERVAL.div_f64(sweep.scale);
        (0..looks)
            .map(|n| step * n)
            .find(|after| !sweep.unheard(term, &beats(1, 0), start + *after).is_empty())
    }

    #[test]
    fn a_session_is_unheard_after_the_shortest_silence_and_the_slack() {
        let mut sweep = Sweep::new(1.0);
        let after = unheard_after(&mut sweep, 1, Instant::now(), 40);
        assert_eq!(after, Some(Duration::from_secs(34)));
    }

    #[test]
    fn a_scale_shortens_the_count_and_tells_the_length_in_life() {
        let mut sweep = Sweep::new(10.0);
        let start = Instant::now();
        let after = unheard_after(&mut sweep, 1, start, 40).unwrap();
        assert_eq!(after, Duration::from_millis(3400));
        let told = sweep.unheard(1, &beats(1, 0), start + Duration::from_millis(3600));
        assert_eq!(told[0].unheard_ms, 36_000);
    }

    #[test]
    fn a_moved_clock_counts_once_whatever_the_scale() {
        let mut sweep = Sweep::new(10.0);
        let start = Instant::now();
        assert_eq!(sweep.unheard(1, &beats(1, 0), start), []);
        let told = sweep.unheard(1, &beats(1, 60), start + Duration::from_millis(100));
        assert_eq!(told[0].unheard_ms, 61_000);
        assert_eq!(told[0].beat_no, 1);
    }

    #[test]
    fn a_new_term_begins_to_count_anew() {
        let mut sweep = Sweep::new(1.0);
        let start = Instant::now();
        assert_eq!(unheard_after(&mut sweep, 1, start, 17), None);
        let later = start + Duration::from_secs(34);
        assert_eq!(sweep.unheard(2, &beats(1, 0), later), []);
    }
}
