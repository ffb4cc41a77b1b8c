//! What was made from data that has been superseded since, and what is made from that.
//!
//! Costs what is stale, not what there is: both statements start from an index of stale chunks.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// Counts of stale chunks; the page is [`LIST_SQL`].
pub const COUNTS_SQL: &str = include_str!("stale_counts.sql");
/// One page of stale chunks.
pub const LIST_SQL: &str = include_str!("stale.sql");

/// How much of a data set is stale.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct StaleCount {
    /// The data set's number.
    #[serde(skip)]
    pub data_set_id: i32,
    /// Its flow.
    pub flow: String,
    /// Its name.
    pub dataset: String,
    /// Stale chunks.
    pub chunks: i64,
    /// Since when the first of them is.
    pub since: DateTime<Utc>,
}

/// An input of which a newer generation is published than was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// `dataset/key`.
    pub name: String,
    /// The generation that was read; `None` where it was not there yet.
    pub read: Option<i32>,
    /// The generation that there is now.
    pub now: i32,
    /// When that was published; `None` for a source.
    pub published_at: Option<DateTime<Utc>>,
    /// By which attempt.
    pub attempt: Option<i32>,
    /// By whom.
    pub worker: Option<String>,
    /// Where it is.
    pub location: Option<String>,
}

/// A whole input that was published again since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupersededSet {
    /// The data set.
    pub dataset: String,
    /// Its publications when it was read.
    pub read: i64,
    /// Its publications now.
    pub now: i64,
}

/// A stale chunk.
#[derive(Debug, Clone, Serialize)]
pub struct StaleRow {
    /// `dataset/key`.
    pub name: String,
    /// The state that people see.
    pub status: String,
    /// Since when it is stale.
    pub since: DateTime<Utc>,
    /// The generation that is stale.
    pub generation: i32,
    /// The attempt that made it.
    pub attempt: Option<i32>,
    /// Who made it.
    pub worker: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// When it was published.
    pub published_at: Option<DateTime<Utc>>,
    /// How many of its inputs were superseded.
    pub superseded_n: i64,
    /// The first of them.
    pub superseded: Vec<Superseded>,
    /// Whole inputs that were superseded.
    pub whole: Vec<SupersededSet>,
    /// Where the next page goes on.
    #[serde(skip)]
    pub place: (i32, i64),
}

#[derive(FromRow)]
struct Row {
    chunk_id: i64,
    data_set_id: i32,
    dataset: String,
    key: String,
    status: String,
    since: DateTime<Utc>,
    generation: i32,
    attempt: Option<i32>,
    worker: Option<String>,
    location: Option<String>,
    published_at: Option<DateTime<Utc>>,
    superseded_n: i64,
    superseded: Json<Vec<Superseded>>,
    whole: Json<Vec<SupersededSet>>,
}

impl From<Row> for StaleRow {
    fn from(row: Row) -> Self {
        Self {
            name: format!("{}/{}", row.dataset, row.key),
            status: row.status,
            since: row.since,
            generation: row.generation,
            attempt: row.attempt,
            worker: row.worker,
            location: row.location,
            published_at: row.published_at,
            superseded_n: row.superseded_n,
            superseded: row.superseded.0,
            whole: row.whole.0,
            place: (row.data_set_id, row.chunk_id),
        }
    }
}

/// Stale chunks by data set: of one, of a flow, or of all.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn counts(
    db: &PgPool,
    flow: Option<&str>,
    data_set_id: Option<i32>,
) -> Result<Vec<StaleCount>, ReadError> {
    Ok(sqlx::query_as(COUNTS_SQL)
        .bind(flow)
        .bind(data_set_id)
        .fetch_all(db)
        .await?)
}

/// A page of stale chunks in the order of their data sets, after a place.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn list(
    db: &PgPool,
    flow: Option<&str>,
    data_set_id: Option<i32>,
    after: (i32, i64),
    limit: i64,
) -> Result<Vec<StaleRow>, ReadError> {
    let rows: Vec<Row> = sqlx::query_as(LIST_SQL)
        .bind(flow)
        .bind(data_set_id)
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(StaleRow::from).collect())
}

/// What is made from stale chunks and will be stale when they are made again.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct WillBeStale {
    /// The data set.
    pub dataset: String,
    /// Chunks of it.
    pub chunks: i64,
    /// The first of them, by key.
    pub first: Vec<String>,
}

/// By data set what is made, at whatever distance, from the stale chunks of a flow or a data set.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn below(
    db: &PgPool,
    flow: Option<&str>,
    data_set_id: Option<i32>,
) -> Result<Vec<WillBeStale>, ReadError> {
    Ok(sqlx::query_as(
        "select d.name as dataset, count(*) as chunks, (array_agg(c.key order by c.ordinal))[1:10] as first \
           from odf.made_from(array(select s.chunk_id from odf.chunk_state s join odf.data_set x using (data_set_id) join odf.flow f using (flow_id) \
                                     where s.stale_since is not null and not x.retired \
                                       and ($1::text is null or f.name = $1) and ($2::int is null or x.data_set_id = $2))) m \
           join odf.chunk_state t on t.chunk_id = m.chunk_id and t.stale_since is null \
           join odf.data_chunk c on c.chunk_id = m.chunk_id join odf.data_set d on d.data_set_id = c.data_set_id \
          group by d.name order by min(m.level), d.name",
    )
    .bind(flow)
    .bind(data_set_id)
    .fetch_all(db)
    .await?)
}
