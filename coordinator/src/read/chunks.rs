//! The list of chunks, page by page.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// One chunk of a list.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct ChunkRow {
    /// Its flow.
    pub flow: String,
    /// Its data set.
    pub dataset: String,
    /// Its name there.
    pub key: String,
    /// Its number in the plan, from 1.
    pub ordinal: i64,
    /// Its identity.
    pub chunk_id: i64,
    /// The state that people see.
    pub status: String,
    /// Attempts that have ended.
    pub attempts: i32,
    /// Attempts that count against the job's limit.
    pub charged: i32,
    /// How often it was published.
    pub generation: i32,
    /// Rows of the current generation.
    pub rows: i64,
    /// Bytes of the current generation.
    pub bytes: i64,
    /// Why it failed, was held or cancelled.
    pub reason: Option<String>,
    /// When it is tried again.
    pub retry_at: Option<DateTime<Utc>>,
    /// When its state changed last.
    pub changed_at: DateTime<Utc>,
    /// Who runs it.
    pub worker: Option<String>,
    /// Since when.
    pub claimed_at: Option<DateTime<Utc>>,
    /// Rows reported so far by the running attempt.
    pub rows_done: Option<i64>,
    /// Bytes reported so far by the running attempt.
    pub bytes_done: Option<i64>,
    /// What it covers.
    pub bounds: Value,
}

/// What a list is narrowed down to; nothing set takes all.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// One flow.
    pub flow: Option<String>,
    /// Whole data sets.
    pub datasets: Vec<String>,
    /// Single chunks, data set and key.
    pub chunks: Vec<(String, String)>,
    /// States that people see.
    pub status: Vec<String>,
    /// A part of the message.
    pub error: Option<String>,
    /// `[[first, last, step], ...]`.
    pub ranges: Option<Value>,
    /// Who runs it.
    pub worker: Option<String>,
    /// Only what comes after this chunk, data set and key.
    pub after: Option<(String, String)>,
    /// At most so many.
    pub limit: i64,
}

/// Lists chunks in the order of their data sets and plans.
///
/// # Errors
/// [`ReadError::NotFound`] for a data set or a chunk to start after that is not there.
pub async fn list(db: &PgPool, filter: &ListFilter) -> Result<Vec<ChunkRow>, ReadError> {
    let flow = filter.flow.as_deref();
    let named = filter
        .datasets
        .iter()
        .chain(filter.chunks.iter().map(|(dataset, _)| dataset));
    for dataset in named {
        super::data_set::find(db, flow, dataset).await?;
    }
    let after = match &filter.after {
        Some((dataset, key)) => Some(super::chunk::find(db, flow, dataset, key).await?),
        None => None,
    };
    let all = filter.datasets.is_empty() && filter.chunks.is_empty();
    let (sets, keys): (Vec<&str>, Vec<&str>) = filter
        .chunks
        .iter()
        .map(|(set, key)| (set.as_str(), key.as_str()))
        .unzip();
    Ok(sqlx::query_as(include_str!("chunks.sql"))
        .bind(flow)
        .bind((!all).then_some(&filter.datasets))
        .bind(sets)
        .bind(keys)
        .bind((!filter.status.is_empty()).then_some(&filter.status))
        .bind(filter.error.as_deref())
        .bind(filter.ranges.as_ref())
        .bind(filter.worker.as_deref())
        .bind(after.as_ref().map(|after| after.data_set_id))
        .bind(after.as_ref().map(|after| after.ordinal))
        .bind(filter.limit)
        .fetch_all(db)
        .await?)
}
