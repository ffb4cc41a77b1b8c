//! Planning again: the leader's part. New plans are written beside those in force and take force in
//! one transaction; see `docs/adr/0009`.
//!
//! Every call proves the term in its own transaction, and every one may be repeated.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::{LeaderProof, Param, StoreError, read, without_nul};
use crate::flow::model::{Connection, DataSet};

/// Where a replan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplanState {
    /// To be split and derived beside the plans in force.
    Asked,
    /// Counted; waits for consent.
    Prepared,
    /// Consented to: claims are stopped, what runs is waited for.
    Confirmed,
    /// The new plans are in force.
    Done,
    /// It broke, or may not be done; the old plans are in force.
    Failed,
    /// Given up; the old plans are in force.
    Withdrawn,
}

/// A replan that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OpenReplan {
    /// Which.
    pub replan_id: i64,
    /// The data set that was named.
    pub dataset: String,
    /// Where it stands.
    pub state: ReplanState,
    /// Whether it takes force as soon as it is prepared.
    pub consent: bool,
}

/// A data set to be split into a plan that was just begun.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ToSplit {
    /// The new plan.
    pub plan_id: i64,
    /// The data set's name.
    pub name: String,
    /// Its declaration in the flow's current version.
    pub spec: DataSet,
    /// The connection it is on, secrets unresolved.
    pub connection: Option<Connection>,
}

/// One plan as its splitter left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Split {
    /// The plan.
    pub plan_id: i64,
    /// How many chunks were written.
    pub chunks: i64,
    /// What to know about it.
    pub notes: Vec<String>,
}

/// How far a switch came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Switched {
    /// `Done`, `Confirmed` while something runs, or what it has become meanwhile.
    pub state: ReplanState,
    /// What still runs.
    pub running: i64,
}

impl LeaderProof {
    /// Replans that have not ended, after tidying up behind those that were given up.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn open_replans(&self) -> Result<Vec<OpenReplan>, StoreError> {
        let answer = self
            .db()
            .call("SELECT odf.open_replans($1)", &[self.param()])
            .await?;
        read("open_replans", answer)
    }

    /// Begins to write a replan's plans, anew where an interrupted writer left some.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Overtaken`] where it ended meanwhile.
    pub async fn begin_replan(&self, replan: i64) -> Result<Vec<ToSplit>, StoreError> {
        let params = [self.param(), (&replan, Type::INT8)];
        let answer = self
            .db()
            .call("SELECT odf.begin_replan($1, $2)", &params)
            .await?;
        read("begin_replan", answer)
    }

    /// Seals what was split, derives what follows from it and counts what would become of the chunks.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Overtaken`] where it is to be begun again;
    /// [`StoreError::Refused`] where the new plans do not fit together.
    pub async fn prepare_replan(&self, replan: i64, split: &[Split]) -> Result<(), StoreError> {
        let split = without_nul(json!(split));
        let params = [
            self.param(),
            (&replan, Type::INT8),
            (&split as _, Type::JSONB),
        ];
        let sql = "SELECT odf.prepare_replan($1, $2, $3)";
        self.db().call(sql, &params).await.map(|_| ())
    }

    /// Stops claims for a prepared replan that has consent already.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Refused`] while something runs that is not waited for.
    pub async fn confirm_replan(&self, replan: i64) -> Result<(), StoreError> {
        let params = [self.param(), (&replan, Type::INT8)];
        let sql = "SELECT odf.confirm_replan($2, false) FROM odf.prove_term($1)";
        self.db().call(sql, &params).await.map(|_| ())
    }

    /// Lets the new plans take force, if nothing of them runs any more: one transaction.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn switch_plans(&self, replan: i64) -> Result<Switched, StoreError> {
        let params = [self.param(), (&replan, Type::INT8)];
        let answer: Value = self
            .db()
            .call("SELECT odf.switch_plans($1, $2)", &params)
            .await?;
        read("switch_plans", answer)
    }

    /// Ends a replan that cannot be prepared or, with `refused`, may not take force.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn fail_replan(
        &self,
        replan: i64,
        error: &str,
        hint: Option<&str>,
        refused: bool,
    ) -> Result<(), StoreError> {
        let error = error.replace('\0', "\u{fffd}");
        let params: [Param<'_>; 5] = [
            self.param(),
            (&replan, Type::INT8),
            (&error, Type::TEXT),
            (&hint, Type::TEXT),
            (&refused, Type::BOOL),
        ];
        let sql = "SELECT to_jsonb(true) FROM (SELECT odf.fail_replan($1, $2, $3, $4, $5)) done";
        self.db().call(sql, &params).await.map(|_| ())
    }
}
