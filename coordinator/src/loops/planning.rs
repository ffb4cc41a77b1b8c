//! Giving every data set a plan: sources are split, made data sets follow their inputs.
//!
//! A plan is written in batches and sealed at the end; a split that was interrupted, here or by a
//! change of leader, leaves nothing usable and is begun again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::runtime::Summary;
use common::store::plan::Unplanned;
use common::store::{ControlDb, LeaderProof, StoreError};

use super::LeaderPass;
use crate::planner::{PlanSink, Planner};

/// How often to look for data sets without a plan.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long a data set that could not be split is left alone, unless its declaration changes.
const RETRY_AFTER: Duration = Duration::from_secs(15);

/// The planning loop's memory of what failed.
#[derive(Debug)]
pub struct Planning {
    planner: Planner,
    db: ControlDb,
    failed: HashMap<i32, (Instant, Unplanned)>,
}

impl Planning {
    /// A loop that splits with `planner` and stores through `db`, whose calls may take long.
    #[must_use]
    pub fn new(planner: Planner, db: ControlDb) -> Self {
        Self {
            planner,
            db,
            failed: HashMap::new(),
        }
    }

    fn left_alone(&self, set: &Unplanned) -> bool {
        self.failed
            .get(&set.data_set_id)
            .is_some_and(|(at, before)| before == set && at.elapsed() < RETRY_AFTER)
    }
}

#[async_trait]
impl LeaderPass for Planning {
    async fn pass(&mut self, _proof: &LeaderProof) -> Result<Summary, StoreError> {
        let db = &self.db;
        let mut done = Vec::new();
        for set in db.unplanned().await? {
            if self.left_alone(&set) {
                continue;
            }
            let result = if set.split {
                plan_source(&self.planner, db, &set).await
            } else {
                derive(db, &set).await
            };
            match result {
                Ok(None) => {}
                Ok(Some(text)) => {
                    self.failed.remove(&set.data_set_id);
                    tracing::info!(dataset = %set.name, "{text}");
                    done.push(format!("{}: {text}", set.name));
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    tracing::warn!(dataset = %set.name, error = %text, "cannot plan; tried again later");
                    db.plan_failed(set.data_set_id, &text).await?;
                    self.failed.insert(set.data_set_id, (Instant::now(), set));
                }
            }
        }
        Ok(Summary::new(0, done.join("; ")))
    }
}

async fn plan_source(
    planner: &Planner,
    db: &ControlDb,
    set: &Unplanned,
) -> anyhow::Result<Option<String>> {
    let Some(connection) = &set.connection else {
        anyhow::bail!(
            "its connection {:?} is not declared",
            set.spec.at.connection
        )
    };
    tracing::info!(dataset = %set.name, "splitting");
    let started = Instant::now();
    let plan = db.begin_plan(set.data_set_id).await?;
    let mut sink = PlanSink::new(db, plan);
    let summary = planner
        .split(&set.name, &set.spec, connection, &mut sink)
        .await?;
    let written = sink.written();
    db.seal_plan(plan, written, &summary.notes).await?;
    Ok(Some(format!(
        "{written} chunks planned in {:.1} s",
        started.elapsed().as_secs_f64()
    )))
}

async fn derive(db: &ControlDb, set: &Unplanned) -> anyhow::Result<Option<String>> {
    Ok(db
        .derive_plan(set.data_set_id)
        .await?
        .then(|| "planned from its inputs".to_owned()))
}
