//! Giving every data set a plan: sources are split, made data sets follow their inputs.
//!
//! A split may take as long as its source needs, so it runs beside the passes: a pass starts splits,
//! looks at those that have ended and never waits for one. A plan is written in batches and sealed at
//! the end; a split that was interrupted, here or by a change of leader, leaves nothing usable and is
//! begun again.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::runtime::Summary;
use common::store::plan::Unplanned;
use common::store::{ControlDb, LeaderProof, StoreError};
use tokio::task::JoinSet;

use super::LeaderPass;
use crate::linker;
use crate::planner::{Planner, Written};

/// How often to look for data sets without a plan.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long a data set that could not be split is left alone at first, unless its declaration
/// changes. A source may be away for days, so the time doubles up to `RETRY_DOUBLINGS` times.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Up to 32 times as long: about five minutes.
const RETRY_DOUBLINGS: u32 = 5;
/// How many sources are read at once.
const SPLITS_AT_ONCE: usize = 4;
/// Sessions that it needs: one for each split, one for deriving.
pub const SESSIONS: usize = SPLITS_AT_ONCE + 1;

/// The planning loop: what it splits now and what failed.
#[derive(Debug)]
pub struct Planning {
    planner: Planner,
    db: ControlDb,
    retry_after: Duration,
    term: i64,
    splits: JoinSet<(Unplanned, End)>,
    splitting: HashSet<i32>,
    failed: HashMap<i32, Failed>,
}

/// What is remembered of a data set that could not be planned.
#[derive(Debug)]
struct Failed {
    set: Unplanned,
    text: String,
    times: u32,
    at: Instant,
}

/// How a split ended.
#[derive(Debug)]
enum End {
    /// Its plan is sealed; what to say about it.
    Planned(String),
    /// The control database said no, or nothing: nobody's fault here, the next pass looks again.
    NotStored(StoreError),
    /// It cannot be split as things are.
    Failed(String),
}

impl Planning {
    /// A loop that splits with `planner`, stores through `db`, whose calls may take long, and leaves
    /// what failed alone for `retry_after`.
    #[must_use]
    pub fn new(planner: Planner, db: ControlDb, retry_after: Duration) -> Self {
        Self {
            planner,
            db,
            retry_after,
            term: 0,
            splits: JoinSet::new(),
            splitting: HashSet::new(),
            failed: HashMap::new(),
        }
    }

    fn left_alone(&self, set: &Unplanned) -> bool {
        self.failed.get(&set.data_set_id).is_some_and(|failed| {
            let doublings = (failed.times - 1).min(RETRY_DOUBLINGS);
            failed.set == *set && failed.at.elapsed() < self.retry_after * 2_u32.pow(doublings)
        })
    }

    /// Starts a split, unless it runs already or enough others do.
    fn split(&mut self, proof: &LeaderProof, set: Unplanned) {
        if self.splits.len() >= SPLITS_AT_ONCE || !self.splitting.insert(set.data_set_id) {
            return;
        }
        if self.failed.contains_key(&set.data_set_id) {
            tracing::debug!(dataset = %set.name, "splitting once more");
        } else {
            tracing::info!(dataset = %set.name, "splitting");
        }
        let (planner, proof) = (self.planner.clone(), proof.clone());
        self.splits.spawn(async move {
            let end = split_source(&planner, &proof, set.data_set_id).await;
            (set, end)
        });
    }

    /// The splits that have ended since the last pass.
    fn ended(&mut self) -> Vec<(Unplanned, End)> {
        let mut ended = Vec::new();
        while let Some(joined) = self.splits.try_join_next() {
            match joined {
                Ok((set, end)) => {
                    self.splitting.remove(&set.data_set_id);
                    ended.push((set, end));
                }
                // Which one it was died with it: all are begun again, and those that still run are
                // overtaken by that.
                Err(error) => {
                    tracing::error!(error = %error, "a split panicked");
                    self.rest();
                }
            }
        }
        ended
    }

    async fn record(
        &mut self,
        proof: &LeaderProof,
        set: Unplanned,
        end: End,
    ) -> Result<Option<String>, StoreError> {
        match end {
            End::Planned(text) => {
                self.failed.remove(&set.data_set_id);
                tracing::info!(dataset = %set.name, "{text}");
                Ok(Some(format!("{}: {text}", set.name)))
            }
            End::NotStored(error) => {
                tracing::info!(dataset = %set.name, error = %error, "plan not stored; begun again");
                Ok(None)
            }
            End::Failed(text) => {
                let id = set.data_set_id;
                self.remember(set, &text);
                proof.plan_failed(id, &text).await?;
                Ok(None)
            }
        }
    }

    /// Keeps a failure, and says it where it is news.
    fn remember(&mut self, set: Unplanned, text: &str) {
        let before = self
            .failed
            .remove(&set.data_set_id)
            .filter(|failed| failed.set == set);
        if before.as_ref().is_none_or(|failed| failed.text != text) {
            tracing::warn!(dataset = %set.name, error = %text, "cannot plan; tried again later");
        }
        let failed = Failed {
            text: text.to_owned(),
            times: before.map_or(1, |failed| failed.times.saturating_add(1)),
            at: Instant::now(),
            set,
        };
        self.failed.insert(failed.set.data_set_id, failed);
    }
}

#[async_trait]
impl LeaderPass for Planning {
    async fn pass(&mut self, proof: &LeaderProof) -> Result<Summary, StoreError> {
        if proof.term() != self.term {
            self.rest();
            self.failed.clear();
            self.term = proof.term();
        }
        let proof = &self.db.proof(proof.term());
        let mut done = Vec::new();
        for (set, end) in self.ended() {
            done.extend(self.record(proof, set, end).await?);
        }
        for set in proof.db().unplanned().await? {
            if self.left_alone(&set) {
                continue;
            }
            if set.split || set.linked {
                self.split(proof, set);
                continue;
            }
            let end = match proof.derive_plan(set.data_set_id).await {
                // An input is not planned yet.
                Ok(false) => continue,
                Ok(true) => End::Planned("planned from its inputs".to_owned()),
                Err(StoreError::Refused(why)) => End::Failed(why.to_string()),
                Err(error) => return Err(error),
            };
            done.extend(self.record(proof, set, end).await?);
        }
        Ok(Summary::new(0, done.join("; ")))
    }

    /// Splits of a term that is over could store nothing any more.
    fn rest(&mut self) {
        self.splits = JoinSet::new();
        self.splitting.clear();
    }
}

async fn split_source(planner: &Planner, proof: &LeaderProof, id: i32) -> End {
    match try_split(planner, proof, id).await {
        Ok(end) => end,
        Err(error) => End::NotStored(error),
    }
}

async fn try_split(planner: &Planner, proof: &LeaderProof, id: i32) -> Result<End, StoreError> {
    let started = Instant::now();
    let plan = match proof.begin_plan(id).await {
        // Planned meanwhile.
        Err(error @ StoreError::Refused(_)) => return Ok(End::NotStored(error)),
        other => other?,
    };
    // Read after the plan was begun: whoever changes the declaration from here on discards the plan.
    let now = proof.db().unplanned().await?;
    let Some(set) = now.into_iter().find(|set| set.data_set_id == id) else {
        return Ok(End::Failed("it was retired while it was split".to_owned()));
    };
    if set.linked {
        return Ok(
            match linker::plan_linked(planner, proof, &set, plan).await? {
                Ok(text) => End::Planned(text),
                Err(text) => End::Failed(text),
            },
        );
    }
    let connection = set.connection.as_ref();
    let written = planner
        .write(proof, plan, &set.name, &set.spec, connection)
        .await?;
    let (chunks, notes) = match written {
        Written::Whole { chunks, notes } => (chunks, notes),
        Written::Failed(text) => return Ok(End::Failed(text)),
    };
    proof.seal_plan(plan, chunks, &notes).await?;
    Ok(End::Planned(format!(
        "{chunks} chunks planned in {:.1} s",
        started.elapsed().as_secs_f64()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::endpoint::SecretString;
    use common::secret::SecretSource;
    use serde_json::json;

    fn planning() -> Planning {
        let url = SecretString::from("postgres://nobody@127.0.0.1:1/none".to_owned());
        let db = ControlDb::new(url, 1, "test").unwrap();
        let planner = Planner::new(SecretSource::from_variables([]), None);
        Planning::new(planner, db, Duration::from_secs(10))
    }

    fn set(table: &str) -> Unplanned {
        serde_json::from_value(json!({
            "data_set_id": 1, "flow": "f", "name": "items", "split": true,
            "spec": { "at": { "connection": "src", "table": table } },
            "connection": null
        }))
        .unwrap()
    }

    /// Lets time pass since the failure.
    fn pass(planning: &mut Planning, seconds: u64) {
        let failed = planning.failed.get_mut(&1).unwrap();
        failed.at = failed.at.checked_sub(Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn what_failed_is_left_alone_for_longer_and_longer_up_to_a_limit() {
        let mut planning = planning();
        assert!(!planning.left_alone(&set("a")));
        for wait in [10, 20, 40, 80, 160, 320, 320, 320] {
            planning.remember(set("a"), "away");
            pass(&mut planning, wait - 1);
            assert!(planning.left_alone(&set("a")), "{wait} s have not passed");
            pass(&mut planning, 1);
            assert!(!planning.left_alone(&set("a")), "{wait} s have passed");
        }
    }

    #[test]
    fn a_new_declaration_is_looked_at_once() {
        let mut planning = planning();
        planning.remember(set("a"), "no table a");
        planning.remember(set("a"), "no table a");
        assert!(!planning.left_alone(&set("b")));
        planning.remember(set("b"), "no table b");
        assert_eq!(planning.failed[&1].times, 1, "and its failures count anew");
    }
}
