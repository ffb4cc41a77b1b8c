//! Plans of data sets whose edges are drawn from their inputs' plans: reading those, storing edges.

use serde::Deserialize;
use tokio_postgres::types::Type;

use super::{ControlDb, LeaderProof, StoreError, read};
use crate::domain::NewChunk;
use crate::flow::model::Mapping;

/// An input that is taken chunk by chunk, and its plan.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PlannedSide {
    /// Which.
    pub data_set_id: i32,
    /// Its name.
    pub name: String,
    /// Which of its chunks.
    pub mapping: Mapping,
    /// Its plan in force.
    pub plan_id: i64,
    /// How many chunks that has.
    pub chunks: i64,
}

/// A chunk of a sealed plan.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PlannedChunk {
    /// Its identity.
    pub chunk_id: i64,
    /// Its place in the plan, from 1.
    pub ordinal: i64,
    /// What it is.
    #[serde(flatten)]
    pub chunk: NewChunk,
}

impl ControlDb {
    /// The inputs of a made data set that are taken chunk by chunk; `None` while one has no plan.
    ///
    /// # Errors
    /// As every call.
    pub async fn plan_sides(&self, data_set: i32) -> Result<Option<Vec<PlannedSide>>, StoreError> {
        let sql = "SELECT coalesce(odf.plan_sides($1), 'null')";
        read(
            "plan_sides",
            self.call(sql, &[(&data_set, Type::INT4)]).await?,
        )
    }

    /// Up to `limit` chunks of a plan after a number, in order.
    ///
    /// # Errors
    /// As every call.
    pub async fn plan_chunks(
        &self,
        plan: i64,
        after: i64,
        limit: i64,
    ) -> Result<Vec<PlannedChunk>, StoreError> {
        let sql = "SELECT coalesce(jsonb_agg(to_jsonb(q) ORDER BY q.ordinal), '[]') FROM (\
                     SELECT chunk_id, ordinal, key, bounds, est_rows, est_bytes FROM odf.data_chunk \
                      WHERE plan_id = $1 AND ordinal > $2 ORDER BY ordinal LIMIT $3) q";
        let params = [
            (&plan as _, Type::INT8),
            (&after as _, Type::INT8),
            (&limit as _, Type::INT8),
        ];
        read("plan_chunks", self.call(sql, &params).await?)
    }
}

/// Each in one transaction with the proof of the term.
impl LeaderProof {
    /// Draws edges into a plan that is being written: the numbers of its chunks and, beside each, the
    /// input chunk.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Overtaken`].
    pub async fn add_edges(
        &self,
        plan: i64,
        mapping: &str,
        ordinals: &[i64],
        inputs: &[i64],
    ) -> Result<(), StoreError> {
        let params = [
            self.param(),
            (&plan, Type::INT8),
            (&mapping, Type::TEXT),
            (&ordinals, Type::INT8_ARRAY),
            (&inputs, Type::INT8_ARRAY),
        ];
        let sql =
            "SELECT to_jsonb(true) FROM odf.prove_term($1), LATERAL odf.add_edges($2, $3, $4, $5)";
        self.db().call(sql, &params).await.map(|_| ())
    }

    /// Records what the plan of an input lacks: the numbers of the chunks that need it, its key or
    /// what it is in words, and whether that is a key.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Overtaken`].
    pub async fn add_gaps(
        &self,
        plan: i64,
        side: &PlannedSide,
        (ordinals, wanted, is_key): (&[i64], &[String], &[bool]),
    ) -> Result<(), StoreError> {
        let mapping = side.mapping.word();
        let params = [
            self.param(),
            (&plan, Type::INT8),
            (&side.data_set_id, Type::INT4),
            (&mapping, Type::TEXT),
            (&ordinals, Type::INT8_ARRAY),
            (&wanted, Type::TEXT_ARRAY),
            (&is_key, Type::BOOL_ARRAY),
        ];
        let sql = "SELECT to_jsonb(true) FROM odf.prove_term($1), LATERAL odf.add_gaps($2, $3, $4, $5, $6, $7)";
        self.db().call(sql, &params).await.map(|_| ())
    }

    /// Seals a plan of exactly `chunks` chunks whose edges were drawn from these plans of its inputs.
    ///
    /// # Errors
    /// [`StoreError::TermOver`]; [`StoreError::Overtaken`], also where an input was planned anew;
    /// [`StoreError::Refused`] where the stored plan has another number.
    pub async fn seal_linked(
        &self,
        plan: i64,
        chunks: i64,
        notes: &[String],
        input_plans: &[i64],
    ) -> Result<(), StoreError> {
        let params = [
            self.param(),
            (&plan, Type::INT8),
            (&chunks, Type::INT8),
            (&notes, Type::TEXT_ARRAY),
            (&input_plans, Type::INT8_ARRAY),
        ];
        let sql = "SELECT to_jsonb(true) FROM odf.prove_term($1), LATERAL odf.seal_linked($2, $3, $4, $5)";
        self.db().call(sql, &params).await.map(|_| ())
    }
}
