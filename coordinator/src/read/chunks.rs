//! The list of chunks, page by page.

use chrono::{DateTime, Utc};
use common::domain::ChunkStatus;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{FromRow, PgPool};

use super::error::ReadError;
use super::{chunk, data_set};

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
    /// Since when its newest generation is made from superseded data.
    pub stale_since: Option<DateTime<Utc>>,
    /// When a hold ends by itself.
    pub hold_until: Option<DateTime<Utc>>,
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
    pub status: Vec<ChunkStatus>,
    /// A part of the message.
    pub error: Option<String>,
    /// First and last number and the step between.
    pub ranges: Vec<(i64, i64, i64)>,
    /// Who runs it.
    pub worker: Option<String>,
    /// Only what comes after this chunk, data set and key.
    pub after: Option<(String, String)>,
    /// At most so many.
    pub limit: i64,
}

impl ListFilter {
    /// The stored states among those asked for, and whether a lease or a request may show before
    /// them; `None` where any state will do.
    fn stored(&self) -> (Option<Vec<&'static str>>, bool) {
        use ChunkStatus::{Cancelled, Held, Resubmit, Running};
        if self.worker.is_some() {
            return (Some(Vec::new()), true);
        }
        if self.status.is_empty() {
            return (None, false);
        }
        let words = self
            .status
            .iter()
            .filter(|status| !matches!(status, Running | Resubmit));
        let derived =
            |status: &ChunkStatus| matches!(status, Running | Resubmit | Held | Cancelled);
        (
            Some(words.map(|status| status.word()).collect()),
            self.status.iter().any(derived),
        )
    }
}

/// Where in the plans to look.
#[derive(Debug)]
struct Places {
    plans: Vec<i64>,
    chunks: Vec<i64>,
    /// Least and greatest plan; everything where nothing is named.
    span: (i64, i64),
    after: Option<(i64, i64)>,
}

/// Lists chunks in the order of their plans, inputs before what is made of them.
///
/// # Errors
/// [`ReadError::NotFound`] for a data set or a chunk that is named and not there.
pub async fn list(db: &PgPool, filter: &ListFilter) -> Result<Vec<ChunkRow>, ReadError> {
    let places = places(db, filter).await?;
    let named = !filter.datasets.is_empty() || !filter.chunks.is_empty();
    let (stored, derived) = filter.stored();
    let words: Vec<&str> = filter.status.iter().map(|status| status.word()).collect();
    let first = filter.ranges.iter().map(|range| range.0).min().unwrap_or(0);
    let last = filter
        .ranges
        .iter()
        .map(|range| range.1)
        .max()
        .unwrap_or(i64::MAX);
    let ranges: Value = filter
        .ranges
        .iter()
        .map(|(first, last, step)| json!([first, last, step]))
        .collect();
    Ok(sqlx::query_as(include_str!("chunks.sql"))
        .bind(filter.flow.as_deref())
        .bind(places.span.0)
        .bind(places.span.1)
        .bind(named.then_some(places.plans))
        .bind(places.chunks)
        .bind(stored)
        .bind(derived)
        .bind((!words.is_empty()).then_some(words))
        .bind(first)
        .bind(last)
        .bind((!filter.ranges.is_empty()).then_some(ranges))
        .bind(filter.error.as_deref())
        .bind(filter.worker.as_deref())
        .bind(places.after.map(|after| after.0))
        .bind(places.after.map(|after| after.1))
        .bind(filter.limit)
        .fetch_all(db)
        .await?)
}

async fn places(db: &PgPool, filter: &ListFilter) -> Result<Places, ReadError> {
    let flow = filter.flow.as_deref();
    let mut plans = Vec::new();
    for dataset in &filter.datasets {
        // A data set without a plan has no chunks; 0 is no plan.
        plans.push(
            data_set::find(db, flow, dataset)
                .await?
                .plan_id
                .unwrap_or(0),
        );
    }
    let (mut chunks, mut spans) = (Vec::new(), plans.clone());
    for (dataset, key) in &filter.chunks {
        let found = chunk::find(db, flow, dataset, key).await?;
        chunks.push(found.chunk_id);
        spans.push(found.plan_id);
    }
    let after = match &filter.after {
        Some((dataset, key)) => {
            let found = chunk::find(db, flow, dataset, key).await?;
            Some((found.plan_id, found.ordinal))
        }
        None => None,
    };
    let span = match (spans.iter().min(), spans.iter().max()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => (0, i64::MAX),
    };
    Ok(Places {
        plans,
        chunks,
        span,
        after,
    })
}
