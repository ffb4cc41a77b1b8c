//! Writing plans: begin, add in batches, seal; derive those of made data sets.
//!
//! The leader writes them through its [`LeaderProof`]: the term is proved in the transaction of every
//! write. The same calls on [`ControlDb`] ask for no term; they are for a plan written by hand where
//! no coordinator runs.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::{ControlDb, LeaderProof, Param, StoreError, read, without_nul};
use crate::domain::NewChunk;
use crate::flow::model::{Connection, DataSet};

/// A data set that has no sealed plan yet.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Unplanned {
    /// Which.
    pub data_set_id: i32,
    /// Its flow's name.
    pub flow: String,
    /// Its name.
    pub name: String,
    /// Whether a splitter cuts it (else it is derived from its inputs).
    pub split: bool,
    /// Whether its edges have to be drawn from its inputs' plans, which are all sealed.
    #[serde(default)]
    pub linked: bool,
    /// Its declaration.
    pub spec: DataSet,
    /// The connection it is on, secrets unresolved.
    pub connection: Option<Connection>,
}

impl ControlDb {
    /// Data sets without a plan, sources first.
    ///
    /// # Errors
    /// As every call.
    pub async fn unplanned(&self) -> Result<Vec<Unplanned>, StoreError> {
        read("unplanned", self.call("SELECT odf.unplanned()", &[]).await?)
    }

    /// Starts a plan; what an interrupted writer left is discarded. Answers the plan's id.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the data set has a sealed plan.
    pub async fn begin_plan(&self, data_set: i32) -> Result<i64, StoreError> {
        let sql = "SELECT to_jsonb(odf.begin_plan($1))";
        read(
            "begin_plan",
            self.call(sql, &[(&data_set, Type::INT4)]).await?,
        )
    }

    /// Appends a batch after the first `after` chunks of the plan; answers how many it held.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] where the plan is not this writer's any more,
    /// [`StoreError::Refused`] where a name stands twice.
    pub async fn add_chunks(
        &self,
        plan: i64,
        after: i64,
        batch: &[NewChunk],
    ) -> Result<i64, StoreError> {
        let batch = without_nul(json!(batch));
        let answer = self
            .call(
                "SELECT to_jsonb(odf.add_chunks($1, $2, $3))",
                &[
                    (&plan, Type::INT8),
                    (&after, Type::INT8),
                    (&batch, Type::JSONB),
                ],
            )
            .await?;
        read("add_chunks", answer)
    }

    /// Seals a plan of exactly `chunks` chunks.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the stored plan has another number.
    pub async fn seal_plan(
        &self,
        plan: i64,
        chunks: i64,
        notes: &[String],
    ) -> Result<(), StoreError> {
        self.call(
            "SELECT to_jsonb(true) FROM (SELECT odf.seal_plan($1, $2, $3)) done",
            &[
                (&plan, Type::INT8),
                (&chunks, Type::INT8),
                (&notes, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map(|_| ())
    }

    /// Plans a made data set from its inputs' plans. Answers whether it has a plan now.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where its inputs do not have the same chunks.
    pub async fn derive_plan(&self, data_set: i32) -> Result<bool, StoreError> {
        let sql = "SELECT to_jsonb(odf.derive_plan($1))";
        let answer = self.call(sql, &[(&data_set, Type::INT4)]).await?;
        Ok(answer == Value::Bool(true))
    }
}

/// As on [`ControlDb`], in one transaction with the proof of the term.
impl LeaderProof {
    /// Starts a plan; what an interrupted writer left is discarded. Answers the plan's id.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Refused`] where the data set has a sealed plan.
    pub async fn begin_plan(&self, data_set: i32) -> Result<i64, StoreError> {
        let sql = "SELECT to_jsonb(odf.begin_plan($2)) FROM odf.prove_term($1)";
        let answer = self
            .db()
            .call(sql, &[self.param(), (&data_set, Type::INT4)])
            .await?;
        read("begin_plan", answer)
    }

    /// Appends a batch after the first `after` chunks of the plan; answers how many it held.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Overtaken`] where the plan is not this writer's any
    /// more; [`StoreError::Refused`] where a name stands twice.
    pub async fn add_chunks(
        &self,
        plan: i64,
        after: i64,
        batch: &[NewChunk],
    ) -> Result<i64, StoreError> {
        let batch = without_nul(json!(batch));
        let params = [
            self.param(),
            (&plan, Type::INT8),
            (&after, Type::INT8),
            (&batch, Type::JSONB),
        ];
        let sql = "SELECT to_jsonb(odf.add_chunks($2, $3, $4)) FROM odf.prove_term($1)";
        read("add_chunks", self.db().call(sql, &params).await?)
    }

    /// Seals a plan of exactly `chunks` chunks.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Overtaken`]; [`StoreError::Refused`] where the stored
    /// plan has another number.
    pub async fn seal_plan(
        &self,
        plan: i64,
        chunks: i64,
        notes: &[String],
    ) -> Result<(), StoreError> {
        let params = [
            self.param(),
            (&plan, Type::INT8),
            (&chunks, Type::INT8),
            (&notes, Type::TEXT_ARRAY),
        ];
        let sql =
            "SELECT to_jsonb(true) FROM odf.prove_term($1), LATERAL odf.seal_plan($2, $3, $4)";
        self.db().call(sql, &params).await.map(|_| ())
    }

    /// Plans a made data set from its inputs' plans. Answers whether it has a plan now.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Refused`] where its inputs do not have the same chunks.
    pub async fn derive_plan(&self, data_set: i32) -> Result<bool, StoreError> {
        let sql = "SELECT to_jsonb(odf.derive_plan($2)) FROM odf.prove_term($1)";
        let params = [self.param(), (&data_set, Type::INT4)];
        let answer = self.db().call(sql, &params).await?;
        Ok(answer == Value::Bool(true))
    }

    /// Records why a data set could not be split, for `status`.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn plan_failed(&self, data_set: i32, error: &str) -> Result<(), StoreError> {
        let error = error.replace('\0', "\u{fffd}");
        let params: [Param<'_>; 3] = [self.param(), (&data_set, Type::INT4), (&error, Type::TEXT)];
        let sql = "SELECT to_jsonb(true) FROM odf.prove_term($1), LATERAL odf.plan_failed($2, $3)";
        self.db().call(sql, &params).await.map(|_| ())
    }
}
