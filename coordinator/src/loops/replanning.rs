//! Planning data sets again: what somebody asked for is split beside the plans in force and, with
//! consent, takes force.
//!
//! A split runs beside the passes, as a first one does. Until the one transaction of the switch the
//! old plans are whole and in force, whatever is interrupted; what was begun is begun again by the
//! next pass or the next leader.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use common::runtime::Summary;
use common::store::error::Said;
use common::store::replan::{OpenReplan, ReplanState, Split};
use common::store::{ControlDb, LeaderProof, StoreError};
use tokio::task::JoinSet;

use super::LeaderPass;
use crate::planner::{Planner, Written};

/// How often to look: somebody waits at a command line.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// How many are prepared at once.
const AT_ONCE: usize = 2;
/// Sessions that it needs: one for each preparation, one for the passes.
pub const SESSIONS: usize = AT_ONCE + 1;

/// The replanning loop: what it prepares now.
#[derive(Debug)]
pub struct Replanning {
    planner: Planner,
    db: ControlDb,
    term: i64,
    preparing: JoinSet<(OpenReplan, Result<(), Stopped>)>,
    busy: HashSet<i64>,
}

/// Why a replan went no further.
#[derive(Debug)]
enum Stopped {
    /// Nobody's fault here: the next pass begins again.
    ForNow(StoreError),
    /// As things are it cannot be done.
    Failed(Said),
    /// It may not be done.
    Refused(Said),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(said) => Self::Refused(said),
            StoreError::Overtaken(_) | StoreError::TermOver(_) => Self::ForNow(error),
            error if error.may_pass() => Self::ForNow(error),
            error => Self::Failed(Said {
                message: error.to_string(),
                hint: None,
            }),
        }
    }
}

impl Replanning {
    /// A loop that splits with `planner` and stores through `db`, whose calls may take long.
    #[must_use]
    pub fn new(planner: Planner, db: ControlDb) -> Self {
        Self {
            planner,
            db,
            term: 0,
            preparing: JoinSet::new(),
            busy: HashSet::new(),
        }
    }

    fn prepare(&mut self, proof: &LeaderProof, replan: OpenReplan) {
        if self.preparing.len() >= AT_ONCE || !self.busy.insert(replan.replan_id) {
            return;
        }
        tracing::info!(dataset = %replan.dataset, "planning again");
        let (planner, proof) = (self.planner.clone(), proof.clone());
        self.preparing.spawn(async move {
            let end = prepare(&planner, &proof, replan.replan_id).await;
            (replan, end)
        });
    }

    async fn record_ended(&mut self, proof: &LeaderProof) -> Result<(), StoreError> {
        while let Some(joined) = self.preparing.try_join_next() {
            match joined {
                Ok((replan, end)) => {
                    self.busy.remove(&replan.replan_id);
                    if let Err(stopped) = end {
                        stop(proof, &replan, stopped).await?;
                    }
                }
                Err(error) => {
                    tracing::error!(error = %error, "a preparation panicked");
                    self.rest();
                }
            }
        }
        Ok(())
    }

    /// Takes one replan as far as it goes now; answers what to say about it.
    async fn advance(
        &mut self,
        proof: &LeaderProof,
        replan: OpenReplan,
    ) -> Result<Option<String>, StoreError> {
        let advanced = match (replan.state, replan.consent) {
            (ReplanState::Asked, _) => {
                self.prepare(proof, replan);
                return Ok(None);
            }
            (ReplanState::Prepared, true) => {
                proof.confirm_replan(replan.replan_id).await.map(|()| None)
            }
            (ReplanState::Confirmed, _) => {
                proof.switch_plans(replan.replan_id).await.map(|switched| {
                    let text = || format!("{}: the new plan is in force", replan.dataset);
                    (switched.state == ReplanState::Done).then(text)
                })
            }
            _ => return Ok(None),
        };
        match advanced {
            Ok(text) => {
                if let Some(text) = &text {
                    tracing::info!("{text}");
                }
                Ok(text)
            }
            Err(error @ (StoreError::TermOver(_) | StoreError::Unreachable { .. })) => Err(error),
            Err(error) => {
                stop(proof, &replan, error.into()).await?;
                Ok(None)
            }
        }
    }
}

#[async_trait]
impl LeaderPass for Replanning {
    async fn pass(&mut self, proof: &LeaderProof) -> Result<Summary, StoreError> {
        if proof.term() != self.term {
            self.rest();
            self.term = proof.term();
        }
        let proof = &self.db.proof(proof.term());
        self.record_ended(proof).await?;
        let mut done = Vec::new();
        for replan in proof.open_replans().await? {
            done.extend(self.advance(proof, replan).await?);
        }
        Ok(Summary::new(done.len() as u64, done.join("; ")))
    }

    /// Preparations of a term that is over could store nothing any more.
    fn rest(&mut self) {
        self.preparing = JoinSet::new();
        self.busy.clear();
    }
}

async fn stop(
    proof: &LeaderProof,
    replan: &OpenReplan,
    stopped: Stopped,
) -> Result<(), StoreError> {
    let (said, refused) = match stopped {
        Stopped::ForNow(error) => {
            tracing::info!(dataset = %replan.dataset, error = %error, "planning again is begun anew");
            return Ok(());
        }
        Stopped::Failed(said) => (said, false),
        Stopped::Refused(said) => (said, true),
    };
    tracing::warn!(dataset = %replan.dataset, error = %said, "cannot plan again; the plan in force stays");
    let hint = said.hint.as_deref();
    proof
        .fail_replan(replan.replan_id, &said.message, hint, refused)
        .await
}

async fn prepare(planner: &Planner, proof: &LeaderProof, replan: i64) -> Result<(), Stopped> {
    let mut split = Vec::new();
    for set in proof.begin_replan(replan).await? {
        let written = planner
            .write(
                proof,
                set.plan_id,
                &set.name,
                &set.spec,
                set.connection.as_ref(),
            )
            .await?;
        match written {
            Written::Whole { chunks, notes } => split.push(Split {
                plan_id: set.plan_id,
                chunks,
                notes,
            }),
            Written::Failed(text) => {
                return Err(Stopped::Failed(Said {
                    message: format!("split {}: {text}", set.name),
                    hint: None,
                }));
            }
        }
    }
    Ok(proof.prepare_replan(replan, &split).await?)
}
