//! What happened: the audit trail, page by page and followed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// One event.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct EventRow {
    /// When.
    pub at: DateTime<Utc>,
    /// Its number; grows, with holes, not always in the order of `at`.
    pub event_id: i64,
    /// What kind of event, for example `pool.scaled`.
    pub kind: String,
    /// The login that did it.
    pub actor: String,
    /// What it is about.
    pub subject: Option<String>,
    /// A sentence.
    pub message: String,
    /// More, for programs.
    pub detail: Option<Value>,
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Kinds, or their first part: `pool` takes `pool.scaled`.
    pub kinds: Vec<String>,
    /// What they are about.
    pub subject: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// Not before this time.
    pub since: Option<DateTime<Utc>>,
    /// At most so many, the newest.
    pub limit: i64,
}

/// The newest events that a filter lets through, oldest of them first.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn list(db: &PgPool, filter: &EventFilter) -> Result<Vec<EventRow>, ReadError> {
    let mut rows: Vec<EventRow> = sqlx::query_as(
        "select at, event_id, kind, actor, subject, message, detail from odf.event \
          where ($1::timestamptz is null or at >= $1) \
            and ($2::text[] is null or kind = any ($2) or split_part(kind, '.', 1) = any ($2)) \
            and ($3::text is null or subject = $3) and ($4::text is null or actor = $4) \
          order by at desc, event_id desc limit $5",
    )
    .bind(filter.since)
    .bind((!filter.kinds.is_empty()).then_some(&filter.kinds))
    .bind(filter.subject.as_deref())
    .bind(filter.actor.as_deref())
    .bind(filter.limit)
    .fetch_all(db)
    .await?;
    rows.reverse();
    Ok(rows)
}

/// The control database's time, to start following from.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn now(db: &PgPool) -> Result<DateTime<Utc>, ReadError> {
    Ok(sqlx::query_scalar("select odf.clock()")
        .fetch_one(db)
        .await?)
}
