//! Hearing the workers: sessions whose beat number stands still lose their leases in time.
//!
//! The count is this leader's own ([`common::policy::silence`]); the database takes a lease only
//! when the silence reported covers the job's `silence` plus the slack, and spares a session that
//! beat in between.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::policy::silence::{Look, Silence};
use common::runtime::Summary;
use common::store::lead::Unheard;
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

#[async_trait]
impl LeaderPass for Sweep {
    async fn pass(&mut self, proof: &LeaderProof) -> Result<Summary, StoreError> {
        if proof.term() != self.term {
            self.silence.forget();
            self.term = proof.term();
        }
        let beats = proof.beats().await?;
        let look = Look {
            at: Instant::now(),
            server_start: &beats.server_start,
            // Divided here because every silence is multiplied below, and a moved clock is exact.
            moved: Duration::from_millis(beats.clock_offset_ms.max(0).unsigned_abs())
                .div_f64(self.scale),
            beats: &beats.sessions,
        };
        let gap = INTERVAL.div_f64(self.scale) * 3 + Duration::from_secs(1);
        let shortest = Duration::from_millis(beats.shortest_silence_ms) + SLACK;
        let unheard: Vec<Unheard> = self
            .silence
            .look(look, gap)
            .into_iter()
            .map(|(session, beat_no, silent)| (session, beat_no, silent.mul_f64(self.scale)))
            .filter(|(_, _, silent)| *silent >= shortest)
            .map(|(session, beat_no, silent)| Unheard {
                session,
                beat_no,
                unheard_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            })
            .collect();
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
