//! The leader's loops: one idempotent, bounded pass each, its last result kept in the database.
//!
//! A loop does nothing while this process does not lead. No loop retries inside: its next tick is
//! the retry.

pub mod planning;
pub mod sweep;
pub mod upkeep;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::runtime::{Every, Pass, Summary, Supervisor};
use common::store::{LeaderProof, StoreError};

use crate::leader::Leader;

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
}

#[async_trait]
impl<P: LeaderPass> Pass for WhileLeading<P> {
    type Error = StoreError;

    async fn pass(&mut self) -> Result<Summary, StoreError> {
        let Some(proof) = self.leader.proof() else {
            self.reported = None;
            self.inner.rest();
            return Ok(Summary::nothing());
        };
        let started = Instant::now();
        let result = self.inner.pass(&proof).await;
        if matches!(result, Err(StoreError::TermOver(_))) {
            return Ok(Summary::nothing());
        }
        if self.worth_reporting(&result) {
            let text = match &result {
                Ok(summary) => summary.text.clone(),
                Err(error) => error.to_string(),
            };
            let ok = result.is_ok();
            // The report is for people only; a pass that worked must not fail for it.
            match proof
                .report_loop(self.name, started.elapsed(), &text, ok)
                .await
            {
                Ok(()) => self.reported = Some((Instant::now(), ok)),
                Err(error) => tracing::debug!(error = %error, "loop report was not stored"),
            }
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
    };
    supervisor.spawn_loop(name, Every::new(interval), pass);
}
