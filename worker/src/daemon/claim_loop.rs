//! Claiming and reconciling, one at a time in one loop, so that no reconciliation can release what
//! a claim beside it has just leased.
//!
//! It starts attempts and forgets them; their ends come back through the table of what is held.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::domain::{JobSpec, SessionId, WorkItem};
use common::store::{Claimed, StoreError};
use tokio::time::Instant;

use super::Daemon;
use super::attempt_task;
use super::backoff::{Backoff, jittered};
use super::heard::Moment;
use super::running::{Firmness, Held};
use super::session::Session;

/// Shortest pause between two looks for work that found none.
const SHORTEST_POLL: Duration = Duration::from_millis(200);

/// Claims until the end is asked for.
pub(crate) async fn claim(daemon: Arc<Daemon>) -> Result<(), Infallible> {
    let liveness = daemon.config.liveness;
    let mut claims = Claims {
        session: SessionId(0),
        request: 1,
        pending: None,
        reconciled: Instant::now(),
        poll: Backoff::new(SHORTEST_POLL.min(liveness.poll), liveness.poll),
        trouble: Backoff::new(SHORTEST_POLL.min(liveness.poll), liveness.poll),
        said: None,
        due: Instant::now(),
        glance: Glance::default(),
        daemon: Arc::clone(&daemon),
    };
    let stop = daemon.stop_claims.clone();
    loop {
        let woken = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // After trouble a wake-up must not shorten the pause: every ended attempt is one.
            () = daemon.wake_claims.notified(), if claims.said.is_none() => true,
            () = tokio::time::sleep_until(claims.next()) => false,
        };
        if woken || Instant::now() >= claims.due || claims.glance().await {
            let pause = claims.one().await;
            claims.due = Instant::now() + pause;
        }
    }
    daemon.claims_stopped.cancel();
    daemon.end.graceful().cancelled().await;
    Ok(())
}

struct Claims {
    daemon: Arc<Daemon>,
    session: SessionId,
    /// The next request's number.
    request: i64,
    /// A request without an answer: repeated as it was.
    pending: Option<(i64, u32)>,
    reconciled: Instant,
    poll: Backoff,
    trouble: Backoff,
    said: Option<String>,
    /// When to look for work without being told of any.
    due: Instant,
    glance: Glance,
}

/// What comes of seeing that there is work. A claim may find none all the same, for instance while the
/// buffer behind its lane is full: then the next ones wait for the poll until the work is gone and back.
#[derive(Debug, Default)]
struct Glance {
    claiming: bool,
    futile: bool,
}

impl Glance {
    /// A glance was answered; answers whether to claim for it.
    fn answered(&mut self, work: bool) -> bool {
        self.futile &= work;
        self.claiming = work && !self.futile;
        self.claiming
    }

    /// A claim was answered.
    fn claimed(&mut self, found: usize) {
        self.futile = found == 0 && (self.futile || self.claiming);
        self.claiming = false;
    }
}

impl Claims {
    /// When the loop goes on by itself. Between two polls it only glances, and only where a chunk that
    /// came up could start.
    fn next(&self) -> Instant {
        let daemon = &self.daemon;
        let taken = daemon.running.len() >= daemon.config.slots as usize;
        if taken || self.said.is_some() || self.pending.is_some() {
            return self.due;
        }
        let glance = Instant::now() + jittered(daemon.config.liveness.look, 0.25);
        self.due.min(glance)
    }

    /// Whether rights or chunks have come since the last claim, so that a raised limit is used within a
    /// second or so. A glance that fails is no trouble: the next claim or beat will say what is wrong.
    async fn glance(&mut self) -> bool {
        let session = self.daemon.session();
        let work = session.main.look().await.unwrap_or(false);
        if !self.glance.answered(work) {
            return false;
        }
        tracing::debug!("work came up between two polls");
        if self.daemon.pauses.active() || self.daemon.free_slots() == 0 {
            // A drain or a limit of this worker may be over: the beat is told.
            self.glance.claimed(0);
            self.daemon.wake_beat.notify_one();
            return false;
        }
        true
    }

    /// One look; answers how long to wait for the next.
    async fn one(&mut self) -> Duration {
        let session = self.daemon.session();
        if session.id() != self.session {
            self.session = session.id();
            self.request = 1;
            self.pending = None;
            self.reconciled = Instant::now();
        }
        let free = self.daemon.free_slots();
        let unheard = session.heard.age() > self.daemon.config.liveness.beat * 3;
        if self.daemon.pauses.active() || unheard || free == 0 {
            // Leases of an unanswered request go back with the next reconciliation.
            if self.pending.take().is_some() {
                self.request += 1;
                self.daemon.ask_reconcile();
            }
        }
        if self.pending.is_none()
            && self.reconcile_is_due()
            && !unheard
            && let Err(error) = self.reconcile(&session).await
        {
            return self.failed("reconcile", &error);
        }
        if self.daemon.pauses.active() || unheard || free == 0 {
            return self.daemon.config.liveness.poll;
        }
        self.claim(&session, free).await
    }

    fn reconcile_is_due(&self) -> bool {
        self.daemon.reconcile_asked.load(Ordering::Acquire)
            || self.reconciled.elapsed() >= self.daemon.config.liveness.reconcile
    }

    /// Says what is held; what is held no more is ended.
    async fn reconcile(&mut self, session: &Session) -> Result<(), StoreError> {
        // Cleared first: what is asked for during the call is done once more.
        self.daemon.reconcile_asked.store(false, Ordering::Release);
        let held = self.daemon.running.held_by(session.id());
        let lost = match session.main.reconcile(&held).await {
            Ok(lost) => lost,
            Err(error) => {
                self.daemon.reconcile_asked.store(true, Ordering::Release);
                return Err(error);
            }
        };
        self.reconciled = Instant::now();
        self.well();
        for key in lost {
            // One that has ended is in the settle batcher, which hears the same by its own answer.
            let Some(held) = self.daemon.running.alive_one(key) else {
                continue;
            };
            tracing::warn!(chunk = %held.name(), fence = %held.item.fence, "the lease is gone: killing the attempt");
            held.fence_off(Firmness::Kill, "its lease is gone");
        }
        Ok(())
    }

    async fn claim(&mut self, session: &Arc<Session>, free: u32) -> Duration {
        let (request, free) = self.pending.unwrap_or((self.request, free));
        let sent = Moment::now();
        match session.main.claim(request, free).await {
            Ok(Claimed::Leases { items, jobs }) => {
                if self.pending.take().is_some() {
                    // Whatever else was under way when that answer was lost.
                    self.daemon.ask_reconcile();
                }
                self.request = request + 1;
                self.well();
                let found = items.len();
                self.glance.claimed(found);
                self.start(session, sent, items, &jobs);
                if found == 0 {
                    return self.poll.grow();
                }
                self.poll.reset();
                self.poll.grow()
            }
            Ok(Claimed::NotActive) => {
                self.pending = None;
                self.request = request + 1;
                self.daemon.wake_beat.notify_one();
                self.trouble.grow()
            }
            Err(error) => {
                if matches!(error, StoreError::Unreachable { .. }) {
                    self.pending = Some((request, free));
                }
                self.failed("claim", &error)
            }
        }
    }

    fn start(
        &self,
        session: &Arc<Session>,
        sent: Moment,
        items: Vec<WorkItem>,
        jobs: &HashMap<i32, JobSpec>,
    ) {
        if self.daemon.session().id() != session.id() {
            // Replaced while the claim was under way: its leases are gone with it.
            return;
        }
        if self.daemon.stop_claims.is_cancelled() {
            // The end came meanwhile: signing off hands them back, uncharged and never begun.
            return;
        }
        let jobs: HashMap<i32, Arc<JobSpec>> = jobs
            .iter()
            .map(|(id, spec)| (*id, Arc::new(spec.clone())))
            .collect();
        let beat = self.daemon.beat_interval();
        for item in items {
            let Some(spec) = jobs.get(&item.job_id) else {
                // Not held, so the next reconciliation hands it back.
                tracing::error!(job = item.job_id, chunk = %item.key, "a lease came without its job");
                self.daemon.ask_reconcile();
                continue;
            };
            self.daemon.roots.note(&item.flow, spec);
            let silence = self
                .daemon
                .config
                .liveness
                .silence(spec.job.silence_seconds);
            let held = Arc::new(Held::new(
                Arc::clone(session),
                sent,
                item,
                Arc::clone(spec),
                silence,
            ));
            if !self.daemon.running.insert(&held) {
                continue;
            }
            if self.daemon.stop_claims.is_cancelled() {
                attempt_task::hand_back(&self.daemon, held);
            } else {
                attempt_task::start(&self.daemon, held);
            }
        }
        if self.daemon.beat_interval() < beat {
            // The next beat would come too late for what was started just now.
            self.daemon.wake_beat.notify_one();
        }
    }

    fn failed(&mut self, verb: &str, error: &StoreError) -> Duration {
        self.daemon.ask_reconcile();
        if matches!(error, StoreError::UnknownSession(_)) {
            self.pending = None;
            self.daemon.wake_beat.notify_one();
        }
        let text = error.to_string();
        if self.said.as_ref() != Some(&text) {
            if error.may_pass() {
                tracing::warn!("{verb}: {text}");
            } else {
                tracing::error!("{verb}: {text}");
            }
            self.said = Some(text);
        }
        self.trouble.grow()
    }

    fn well(&mut self) {
        self.said = None;
        self.trouble.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::Glance;

    #[test]
    fn a_glance_claims_until_that_was_in_vain() {
        let mut glance = Glance::default();
        assert!(!glance.answered(false));
        assert!(glance.answered(true));
        glance.claimed(3);
        assert!(glance.answered(true), "there was some, there may be more");
        glance.claimed(0);
        assert!(!glance.answered(true), "seen, and nothing to be had");
        glance.claimed(0);
        assert!(!glance.answered(true), "a poll in vain changes nothing");
        glance.claimed(1);
        assert!(glance.answered(true), "a poll found some again");
        glance.claimed(0);
        assert!(!glance.answered(false));
        assert!(glance.answered(true), "gone and back");
    }

    #[test]
    fn a_poll_in_vain_does_not_stop_glances() {
        let mut glance = Glance::default();
        glance.claimed(0);
        assert!(glance.answered(true));
    }
}
