//! The leader's loops: one idempotent, bounded pass each, its last result kept in the database.
//!
//! A loop does nothing while this process does not lead. No loop retries inside: its next tick is
//! the retry.

pub mod planning;
pub mod replanning;
pub mod sweep;
pub mod upkeep;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::runtime::{Every, Pass, Summary, Supervisor};
use common::store::{LeaderProof, StoreError};

use crate::leader::{Leader, TIME_TO_LIVE};

/// One leader-only pass.
#[async_trait]
pub trait LeaderPass: Send {
    /// Does one pass under this term; answers how much changed and what, in a few words.
    ///
    /// # Errors
    /// [`StoreError::TermOver`] ends the pass quietly; anything else is reported.
    async fn pass(&mut self, proof: &LeaderProof) -> Result<Summary, StoreError>;

    /// Called in place of a pass while this process does not lead: lets go of what runs beside the
    /// passes, if anything does.
    fn rest(&mut self) {}
}

/// How often an uneventful loop is reported to the database.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Runs a [`LeaderPass`] while this process leads and records what it did.
struct WhileLeading<P> {
    name: &'static str,
    leader: Leader,
    inner: P,
    /// When the last report was stored, and whether it told of success.
    reported: Option<(Instant, bool)>,
    /// Since when the database has not answered.
    away: Option<Instant>,
}

impl<P> WhileLeading<P> {
    /// Whether a pass is worth a row: the first of a term, one that did something, a change between
    /// good and bad, or one a while after the last report.
    fn worth_reporting(&self, result: &Result<Summary, StoreError>) -> bool {
        let changed = result.as_ref().is_ok_and(|summary| summary.changed > 0);
        changed
            || self
                .reported
                .is_none_or(|(at, was_ok)| was_ok != result.is_ok() || at.elapsed() >= REPORT_EVERY)
    }

    /// Whether this is the database being away, which the election tells for all loops. A loop that
    /// fails so for longer than leadership lasts without renewal has a trouble of its own.
    fn is_away(&mut self, result: &Result<Summary, StoreError>) -> bool {
        let silent = matches!(
            result,
            Err(StoreError::Unreachable { .. } | StoreError::Connect(_))
        );
        if !silent {
            self.away = None;
            return false;
        }
        self.away.get_or_insert_with(Instant::now).elapsed() < TIME_TO_LIVE
    }

    async fn report(
        &mut self,
        proof: &LeaderProof,
        took: Duration,
        result: &Result<Summary, StoreError>,
    ) {
        let text = match result {
            Ok(summary) => summary.text.clone(),
            Err(error) => error.to_string(),
        };
        let ok = result.is_ok();
        // The report is for people only; a pass that worked must not fail for it.
        match proof.report_loop(self.name, took, &text, ok).await {
            Ok(()) => self.reported = Some((Instant::now(), ok)),
            Err(error) => tracing::debug!(error = %error, "loop report was not stored"),
        }
    }
}

#[async_trait]
impl<P: LeaderPass> Pass for WhileLeading<P> {
    type Error = StoreError;

    async fn pass(&mut self) -> Result<Summary, StoreError> {
        let Some(proof) = self.leader.proof() else {
            (self.reported, self.away) = (None, None);
            self.inner.rest();
            return Ok(Summary::nothing());
        };
        let started = Instant::now();
        let result = self.inner.pass(&proof).await;
        if self.is_away(&result) || matches!(result, Err(StoreError::TermOver(_))) {
            return Ok(Summary::nothing());
        }
        if self.worth_reporting(&result) {
            self.report(&proof, started.elapsed(), &result).await;
        }
        result
    }
}

/// Starts a leader-only loop under the supervisor.
pub fn start<P: LeaderPass + 'static>(
    supervisor: &mut Supervisor,
    leader: &Leader,
    name: &'static str,
    interval: Duration,
    inner: P,
) {
    let pass = WhileLeading {
        name,
        leader: leader.clone(),
        inner,
        reported: None,
        away: None,
    };
    supervisor.spawn_loop(name, Every::new(interval), pass);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Idle;

    #[async_trait]
    impl LeaderPass for Idle {
        async fn pass(&mut self, _: &LeaderProof) -> Result<Summary, StoreError> {
            Ok(Summary::nothing())
        }
    }

    fn idle() -> WhileLeading<Idle> {
        WhileLeading {
            name: "idle",
            leader: Leader::nobody(),
            inner: Idle,
            reported: None,
            away: None,
        }
    }

    fn silent() -> Result<Summary, StoreError> {
        Err(StoreError::Unreachable {
            problem: "cut".to_owned(),
        })
    }

    fn bad() -> Result<Summary, StoreError> {
        Err(StoreError::Database {
            code: "55P03".to_owned(),
            message: "lock timeout".to_owned(),
        })
    }

    #[test]
    fn an_uneventful_pass_is_reported_now_and_then() {
        let mut pass = idle();
        let nothing = Ok(Summary::nothing());
        assert!(pass.worth_reporting(&nothing), "the first of a term");
        pass.reported = Some((Instant::now(), true));
        assert!(!pass.worth_reporting(&nothing));
        assert!(pass.worth_reporting(&Ok(Summary::new(1, "did something"))));
        assert!(pass.worth_reporting(&bad()), "good has become bad");
        pass.reported = Some((Instant::now(), false));
        assert!(!pass.worth_reporting(&bad()));
        assert!(pass.worth_reporting(&nothing), "bad has become good");
        pass.reported = Instant::now()
            .checked_sub(REPORT_EVERY)
            .map(|at| (at, true));
        assert!(pass.worth_reporting(&nothing), "a while ago");
    }

    #[test]
    fn a_database_that_is_away_is_not_every_loops_trouble_unless_it_lasts() {
        let mut pass = idle();
        assert!(!pass.is_away(&bad()));
        assert!(pass.is_away(&silent()));
        pass.away = Instant::now().checked_sub(TIME_TO_LIVE);
        assert!(!pass.is_away(&silent()), "leadership lasts, and this fails");
        assert!(!pass.is_away(&silent()), "and goes on failing");
        assert!(!pass.is_away(&Ok(Summary::nothing())));
        assert!(pass.is_away(&silent()), "counted anew");
    }
}
