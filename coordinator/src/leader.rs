//! Leadership of this process: any number of coordinators run, one leads.
//!
//! The election asks the database every third of the time to live. The proof it hands out expires by
//! this process's own clock before the database would give the term to somebody else, and the
//! database checks the term once more in every pass.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::runtime::{Pass, Summary};
use common::store::{ControlDb, LeaderProof, StoreError};
use tokio::sync::watch;

/// How long leadership lasts without renewal; a takeover comes within this time and a third.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(6);

#[derive(Debug, Clone)]
struct Held {
    proof: LeaderProof,
    until: Instant,
}

/// A view on whether this process leads, for the loops.
#[derive(Debug, Clone)]
pub struct Leader(watch::Receiver<Option<Held>>);

impl Leader {
    /// A view on a process that never leads.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self(watch::channel(None).1)
    }

    /// The proof while this process leads.
    #[must_use]
    pub fn proof(&self) -> Option<LeaderProof> {
        self.0
            .borrow()
            .as_ref()
            .filter(|held| Instant::now() < held.until)
            .map(|held| held.proof.clone())
    }
}

/// The loop that stands for election and renews.
#[derive(Debug)]
pub struct Election {
    db: ControlDb,
    passes_db: ControlDb,
    holder: String,
    ttl: Duration,
    held: watch::Sender<Option<Held>>,
    seen: Option<(i64, String)>,
}

impl Election {
    /// An election over `db` in which this process stands under `holder`, which must be unique to it.
    /// The proof that it hands out makes its calls over `passes_db`.
    #[must_use]
    pub fn new(
        db: ControlDb,
        passes_db: ControlDb,
        holder: String,
        ttl: Duration,
    ) -> (Self, Leader) {
        let (held, receiver) = watch::channel(None);
        (
            Self {
                db,
                passes_db,
                holder,
                ttl,
                held,
                seen: None,
            },
            Leader(receiver),
        )
    }

    /// How often to run its pass.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.ttl / 3
    }
}

#[async_trait]
impl Pass for Election {
    type Error = StoreError;

    async fn pass(&mut self) -> Result<Summary, StoreError> {
        let asked = Instant::now();
        let answer = self.db.lead(&self.holder, self.ttl).await?;
        let news = self.seen.replace((answer.term, answer.holder.clone())) != self.seen;
        if !answer.leader {
            self.held.send_replace(None);
            return Ok(if news {
                Summary::new(
                    1,
                    format!("{} leads term {}; standing by", answer.holder, answer.term),
                )
            } else {
                Summary::nothing()
            });
        }
        // Counted from when the question was sent, and short of the whole by a fifth.
        let until = asked + self.ttl.mul_f64(0.8);
        self.held.send_replace(Some(Held {
            proof: self.passes_db.proof(answer.term),
            until,
        }));
        Ok(if news {
            Summary::new(1, format!("leading term {}", answer.term))
        } else {
            Summary::nothing()
        })
    }
}

/// Gives leadership back at the end of the process, so that a successor need not wait.
pub async fn resign(leader: &Leader) {
    if let Some(proof) = leader.proof()
        && let Err(error) = proof.resign().await
    {
        tracing::info!(error = %error, "could not resign; leadership expires by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::endpoint::SecretString;

    fn election() -> (Election, Leader) {
        let url = SecretString::from("postgres://nobody@127.0.0.1:1/none".to_owned());
        let db = ControlDb::new(url, 1, "test").unwrap();
        Election::new(db.clone(), db, "me".to_owned(), TIME_TO_LIVE)
    }

    fn hold(election: &Election, until: Instant) {
        let proof = election.passes_db.proof(3);
        election.held.send_replace(Some(Held { proof, until }));
    }

    #[test]
    fn the_proof_ends_by_the_own_clock() {
        let (election, leader) = election();
        assert!(leader.proof().is_none());
        hold(&election, Instant::now() + Duration::from_secs(60));
        assert_eq!(leader.proof().map(|proof| proof.term()), Some(3));
        hold(&election, Instant::now());
        assert!(leader.proof().is_none(), "without asking anybody");
    }

    #[tokio::test]
    async fn a_question_that_is_not_answered_does_not_prolong_anything() {
        let (mut election, leader) = election();
        let until = Instant::now() + Duration::from_secs(60);
        hold(&election, until);
        assert!(election.pass().await.is_err(), "nobody listens there");
        assert_eq!(
            leader.0.borrow().as_ref().map(|held| held.until),
            Some(until)
        );
    }
}
