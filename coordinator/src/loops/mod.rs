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
}

/// Runs a [`LeaderPass`] while this process leads and records what it did.
struct WhileLeading<P> {
    name: &'static str,
    leader: Leader,
    inner: P,
    reported: Option<Instant>,
    was_ok: bool,
}

/// How often an uneventful loop is reported to the database.
const REPORT_EVERY: Duration = Duration::from_secs(10);

#[async_trait]
impl<P: LeaderPass> Pass for WhileLeading<P> {
    type Error = StoreError;

    async fn pass(&mut self) -> Result<Summary, StoreError> {
        let Some(proof) = self.leader.proof() else {
            self.reported = None;
            return Ok(Summary::nothing());
        };
        let started = Instant::now();
        let result = self.inner.pass(&proof).await;
        if matches!(result, Err(StoreError::TermOver(_))) {
            return Ok(Summary::nothing());
        }
        let ok = result.is_ok();
        let text = match &result {
            Ok(summary) => summary.text.clone(),
            Err(error) => error.to_string(),
        };
        let changed = result.as_ref().map_or(1, |summary| summary.changed);
        let due = self.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        if due || ok != self.was_ok || (changed > 0 && !text.is_empty() && self.name != "allot") {
            // The report is for people only; a pass that worked must not fail for it.
            if let Err(error) = proof
                .report_loop(self.name, started.elapsed(), &text, ok)
                .await
            {
                tracing::debug!(error = %error, "loop report was not stored");
            }
            self.reported = Some(Instant::now());
            self.was_ok = ok;
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
        was_ok: true,
    };
    supervisor.spawn_loop(name, Every::new(interval), pass);
}
