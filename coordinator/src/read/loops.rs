//! What the coordinator's loops reported last.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// One loop.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct LoopRow {
    /// Its name.
    #[serde(rename = "loop")]
    pub name: String,
    /// The term of the leader that ran it last.
    pub term: i64,
    /// Passes since the installation.
    pub passes: i64,
    /// When it ended last.
    pub last_at: Option<DateTime<Utc>>,
    /// How long that took, in milliseconds.
    pub last_ms: Option<i64>,
    /// What it did.
    pub result: Option<String>,
    /// Since when every pass has failed.
    pub failing_since: Option<DateTime<Utc>>,
}

/// All loops by name.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn all(db: &PgPool) -> Result<Vec<LoopRow>, ReadError> {
    Ok(sqlx::query_as(
        "select loop as name, term, passes, last_at, last_ms, result, failing_since from odf.loop_status order by loop",
    )
    .fetch_all(db)
    .await?)
}
