//! The beat: one call per process and interval that says "alive" and hears what is wanted.
//!
//! The only part that replaces a session that is over. It never claims and never settles.

use std::convert::Infallible;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::store::{BeatAnswer, StoreError};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Daemon;
use super::backoff::{Backoff, jittered};
use super::facts::Facts;
use super::heard::Moment;
use super::pause::Cause;
use super::running::{Firmness, Running};
use super::session::{RegisterError, Session};

/// Between two reports of facts, in beats (about a minute).
const FACTS_EVERY: u32 = 15;
/// Why attempts of a session that is over end.
const SESSION_OVER: &str = "the worker's session is over";

/// Beats until the loops end.
pub(crate) async fn beat(daemon: Arc<Daemon>) -> Result<(), Infallible> {
    let interval = daemon.config.liveness.beat;
    let mut heart = Heart {
        beat_no: 0,
        until_facts: 0,
        facts: Facts::new(&daemon.config),
        failing_since: None,
        said: None,
        refused: None,
        retry: Backoff::new(interval / 16, interval),
        daemon,
    };
    loop {
        let pause = heart.one().await;
        let woken = heart.daemon.wake_beat.notified();
        tokio::select! {
            biased;
            () = heart.daemon.end.graceful().cancelled() => return Ok(()),
            () = woken => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Heart {
    daemon: Arc<Daemon>,
    beat_no: i64,
    until_facts: u32,
    facts: Facts,
    failing_since: Option<Instant>,
    said: Option<String>,
    /// What kept the worker from registering again at the last try.
    refused: Option<Option<Discriminant<StoreError>>>,
    retry: Backoff,
}

impl Heart {
    /// One beat; answers how long to wait for the next one.
    async fn one(&mut self) -> Duration {
        let session = self.daemon.session();
        let with_facts = self.until_facts == 0;
        let progress = self.daemon.running.untold_progress();
        let body = self.body(with_facts, &progress).await;
        self.beat_no += 1;
        let sent = Moment::now();
        match self.send(&session, body).await {
            Ok(answer) if answer.state == "active" => {
                session.heard.answered(sent);
                Running::told(&progress);
                self.until_facts = if with_facts {
                    FACTS_EVERY
                } else {
                    self.until_facts - 1
                };
                self.recovered();
                self.hear(&session, &answer);
                jittered(self.daemon.beat_interval(), 0.1)
            }
            Ok(answer) => {
                let why = answer.reason.unwrap_or_else(|| answer.state.clone());
                self.replace(&session, &why).await
            }
            Err(StoreError::UnknownSession(said)) => self.replace(&session, &said.message).await,
            Err(error) => {
                self.failed(&error);
                self.retry.grow()
            }
        }
    }

    async fn body(
        &mut self,
        with_facts: bool,
        progress: &[(Arc<super::running::Held>, crate::attempt::Progress)],
    ) -> Value {
        let progress: Vec<Value> = progress
            .iter()
            .map(|(held, p)| json!([held.item.chunk_id, held.item.fence, p.rows, p.bytes]))
            .collect();
        let mut body = json!({"free": self.daemon.free_slots(), "progress": progress});
        if with_facts {
            body["facts"] = self.facts.gather(&self.daemon).await;
        }
        body
    }

    /// Sends a beat; one that takes longer than two beats in all is given up.
    async fn send(&self, session: &Session, body: Value) -> Result<BeatAnswer, StoreError> {
        let limit = (self.daemon.config.liveness.beat * 2).max(Duration::from_secs(2));
        tokio::time::timeout(limit, session.beats.beat(self.beat_no, body))
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::Unreachable {
                    problem: format!("no answer to a beat within {limit:?}"),
                })
            })
    }

    fn hear(&self, session: &Session, answer: &BeatAnswer) {
        let daemon = &self.daemon;
        daemon.slots.store(answer.slots, Ordering::Release);
        let drain = answer
            .drain
            .then_some("a person asked this worker to drain (coordinator resume ends it)");
        daemon.pauses.set(Cause::Drain, drain);
        for (chunk, fence, how, why) in &answer.aborts {
            let Some(held) = daemon.running.alive_one((*chunk, *fence)) else {
                continue;
            };
            let firmness = if how == "kill" {
                Firmness::Kill
            } else {
                Firmness::Term
            };
            let why = why.as_deref().unwrap_or("ended by a person");
            if !held.is_stopped() {
                tracing::info!(chunk = %held.name(), fence = %fence, "ending an attempt: {why}");
            }
            held.stop(firmness, why);
        }
        if answer.reconcile {
            tracing::warn!(session = %session.id(), "this worker was not heard for a time");
            daemon.ask_reconcile();
        }
        if answer.work {
            daemon.wake_claims.notify_one();
        }
    }

    /// The session is over: nothing that it leased is ours any more. Ends that and registers anew.
    async fn replace(&mut self, session: &Session, why: &str) -> Duration {
        let running = self.daemon.running.all_alive();
        if self.refused.is_none() {
            tracing::warn!(session = %session.id(), attempts = running.len(), "{SESSION_OVER}: {why}");
        }
        for held in running {
            if held.session.id() == session.id() {
                held.fence_off(Firmness::Kill, SESSION_OVER);
            }
        }
        if self.daemon.signals.graceful().is_cancelled() {
            // On its way out, a worker needs no other session.
            return self.retry.grow();
        }
        match self.daemon.registrar.register().await {
            Ok(fresh) => {
                tracing::info!(session = %fresh.id(), "registered again");
                self.beat_no = 0;
                self.until_facts = 0;
                self.recovered();
                self.daemon.current.send_replace(Arc::new(fresh));
                self.daemon.wake_claims.notify_one();
                Duration::ZERO
            }
            Err(error) => {
                self.not_registered(&error);
                self.retry.grow()
            }
        }
    }

    /// Tells a refusal once: the same one comes back at every try, as long as a namesake lives.
    fn not_registered(&mut self, error: &RegisterError) {
        let kind = match error {
            RegisterError::Store(error) => Some(discriminant(error)),
            RegisterError::State(_) => None,
        };
        if self.refused.replace(kind) == Some(kind) {
            tracing::debug!("cannot register again: {error}");
        } else {
            tracing::error!("cannot register again, trying on: {error}");
        }
    }

    fn failed(&mut self, error: &StoreError) {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let text = error.to_string();
        if self.said.as_ref() != Some(&text) {
            let running = self.daemon.running.alive();
            tracing::warn!(running, unheard = ?since.elapsed(), "beat: {text}");
            self.said = Some(text);
        }
        // Answers may have been lost elsewhere as well.
        self.daemon.ask_reconcile();
    }

    fn recovered(&mut self) {
        self.retry.reset();
        self.said = None;
        self.refused = None;
        if let Some(since) = self.failing_since.take() {
            tracing::info!(after = ?since.elapsed(), "the control database answers again");
            self.daemon.wake_claims.notify_one();
        }
    }
}
