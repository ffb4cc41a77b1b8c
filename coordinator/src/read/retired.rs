//! Chunks that are in no plan in force any more: how they stood when their plan was replaced.
//!
//! Read for people alone: nothing that decides looks at them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// A retired chunk.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct RetiredFacts {
    /// Its identity.
    pub chunk_id: i64,
    /// Its number in its plan, from 1.
    pub ordinal: i64,
    /// The version of the last plan that it was in.
    pub plan_version: i32,
    /// The version of the plan in force; `None` where there is none.
    pub plan_in_force: Option<i32>,
    /// What it covered.
    pub bounds: Value,
    /// How it stood.
    pub status: String,
    /// Attempts that had ended.
    pub attempts: i32,
    /// How often it was published.
    pub generation: i32,
    /// The fence that settled last.
    pub last_fence: Option<i64>,
    /// Rows of its last generation.
    pub rows: i64,
    /// Bytes of its last generation.
    pub bytes: i64,
    /// Why it had failed, was held or cancelled.
    pub reason: Option<String>,
    /// When another plan took force.
    pub retired_at: DateTime<Utc>,
    /// Where planning again was asked for, why.
    pub replan_reason: Option<String>,
    /// Who asked for the new plan.
    pub replanned_by: Option<String>,
}

/// How a retired chunk stood.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn facts(db: &PgPool, chunk_id: i64) -> Result<RetiredFacts, ReadError> {
    Ok(sqlx::query_as(
        "select c.chunk_id, c.ordinal, p.version as plan_version, f.version as plan_in_force, c.bounds, g.status::text as status, \
                g.attempt_no - c.attempt_base as attempts, g.generation, g.last_fence, g.rows_out as rows, g.bytes_out as bytes, \
                g.reason, g.retired_at, r.reason as replan_reason, r.requested_by as replanned_by \
           from odf.retired_chunk g join odf.data_chunk c using (chunk_id) join odf.plan p using (plan_id) \
           join odf.data_set d on d.data_set_id = c.data_set_id left join odf.plan f on f.plan_id = d.plan_id \
           left join odf.replan_plan x on x.old_plan_id = p.plan_id and x.data_set_id = c.data_set_id \
             and exists (select from odf.replan y where y.replan_id = x.replan_id and y.state = 'done') \
           left join odf.replan r on r.replan_id = x.replan_id \
          where g.chunk_id = $1",
    )
    .bind(chunk_id)
    .fetch_one(db)
    .await?)
}
