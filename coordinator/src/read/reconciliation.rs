//! What comparing a target with its source rests on: the way from one to the other, and what each
//! publication on it said about its content.
//!
//! Which figures count as "the source at its extract" is decided in `reconcile::expected`, not here.

use chrono::{DateTime, Utc};
use common::flow::model::{Connection, DataSet};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// A data set on the way from a source to a target.
#[derive(Debug, Clone)]
pub struct Station {
    /// Its identity.
    pub data_set_id: i32,
    /// Its flow.
    pub flow: String,
    /// Its name.
    pub name: String,
    /// Its declaration.
    pub spec: DataSet,
    /// Its connection, secrets unresolved; `None` where it is declared no more.
    pub connection: Option<Connection>,
    /// Its plan in force.
    pub plan_id: Option<i64>,
    /// Whether a job makes it; a source otherwise.
    pub made: bool,
}

#[derive(FromRow)]
struct StationRow {
    data_set_id: i32,
    flow: String,
    name: String,
    spec: Json<DataSet>,
    connection: Option<Json<Connection>>,
    plan_id: Option<i64>,
    made: bool,
}

/// A data set and all that it is made from, itself first, sources last.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn way(db: &PgPool, data_set_id: i32) -> Result<Vec<Station>, ReadError> {
    let rows: Vec<StationRow> = sqlx::query_as(include_str!("way.sql"))
        .bind(data_set_id)
        .fetch_all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Station {
            data_set_id: row.data_set_id,
            flow: row.flow,
            name: row.name,
            spec: row.spec.0,
            connection: row.connection.map(|connection| connection.0),
            plan_id: row.plan_id,
            made: row.made,
        })
        .collect())
}

/// One publication, with what it said about its content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Published {
    /// The chunk.
    pub chunk_id: i64,
    /// The chunk that was made from it; `None` for the one that the way leads to.
    pub parent: Option<i64>,
    /// Steps up from there.
    pub depth: i32,
    /// Its data set.
    pub data_set_id: i32,
    /// `flow:dataset`.
    pub dataset: String,
    /// Its name there.
    pub key: String,
    /// Which generation.
    pub generation: i32,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// Rows as the job reported them.
    pub rows_out: Option<i64>,
    /// Bytes.
    pub bytes_out: Option<i64>,
    /// `sha256:hex` of a file.
    pub checksum: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// Chunks that it was made from, taken one by one.
    pub inputs: i32,
    /// Rows as they were counted by us.
    pub rows: Option<i64>,
    /// The row sum, computed by us.
    pub row_sum: Option<String>,
    /// Whether its columns are named by their places, 1, 2, 3, ...
    pub by_place: bool,
}

/// A chunk that is to be compared.
#[derive(Debug, Clone, FromRow)]
pub struct Standing {
    /// Which.
    pub chunk_id: i64,
    /// Its published generation, 0 for none.
    pub generation: i32,
    /// Whether its data is gone under the keep rule.
    pub removed: bool,
    /// The attempt that is making it now.
    pub busy: Option<i32>,
    /// The generation that was compared last.
    pub seen_generation: Option<i32>,
    /// What that came to.
    pub seen_verdict: Option<String>,
    /// Under which cutoff.
    pub seen_cutoff: Option<String>,
    /// Whether the source of that moment was measured as well.
    pub seen_today: bool,
    /// The publications behind it, itself first.
    #[sqlx(json)]
    pub way: Vec<Published>,
}

/// Some chunks with what is known of their content, in no order.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn standings(db: &PgPool, chunks: &[i64]) -> Result<Vec<Standing>, ReadError> {
    Ok(sqlx::query_as(include_str!("reconciliation.sql"))
        .bind(chunks)
        .fetch_all(db)
        .await?)
}

/// What comparing one chunk with its source came to, as it is kept.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Compared {
    /// The generation that was looked at.
    pub generation: i32,
    /// `equal`, `rows_equal`, `differs` or `unknown`.
    pub verdict: String,
    /// Rows at the extract.
    pub expected_rows: Option<i64>,
    /// Whose figures these are.
    pub expected_from: Option<String>,
    /// Rows found.
    pub found_rows: Option<i64>,
    /// Why it is not equal, or what is known beside.
    pub reason: Option<String>,
    /// When it was looked at.
    pub checked_at: DateTime<Utc>,
    /// By whom.
    pub checked_by: String,
}

/// The newest look at a chunk; `None` where it was never compared.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn compared(db: &PgPool, chunk_id: i64) -> Result<Option<Compared>, ReadError> {
    Ok(sqlx::query_as(
        "select generation, verdict, expected_rows, expected_from, found_rows, reason, checked_at, checked_by \
           from odf.reconciliation where chunk_id = $1",
    )
    .bind(chunk_id)
    .fetch_optional(db)
    .await?)
}
