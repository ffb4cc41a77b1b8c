//! Writing plans: begin, add in batches, seal; derive those of made data sets.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::{ControlDb, StoreError, read, without_nul};
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
        let answer = self
            .call(
                "SELECT to_jsonb(odf.begin_plan($1))",
                &[(&data_set, Type::INT4)],
            )
            .await?;
        read("begin_plan", answer)
    }

    /// Appends a batch after the first `after` chunks of the plan.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the plan was taken over, or a name stands twice.
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
        let answer = self
            .call(
                "SELECT to_jsonb(odf.derive_plan($1))",
                &[(&data_set, Type::INT4)],
            )
            .await?;
        Ok(answer == Value::Bool(true))
    }

    /// Records why a data set could not be split, for `status`.
    ///
    /// # Errors
    /// As every call.
    pub async fn plan_failed(&self, data_set: i32, error: &str) -> Result<(), StoreError> {
        self.call(
            "SELECT to_jsonb(true) FROM (SELECT odf.plan_failed($1, $2)) done",
            &[
                (&data_set, Type::INT4),
                (&error.replace('\0', "\u{fffd}"), Type::TEXT),
            ],
        )
        .await
        .map(|_| ())
    }
}
