//! The operators' verbs as the database takes them: one call each, audited there.
//!
//! Nothing in here decides: what is allowed, what is refused and what it comes to is the answer of
//! the SQL function, the same for every client.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::types::Json;

use crate::read::ReadError;

/// What `odf.scale` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaled {
    /// The pool.
    pub pool: String,
    /// The limit before; `None` is unlimited.
    pub old: Option<i32>,
    /// The limit from now on.
    pub new: Option<i32>,
    /// The flow file's limit.
    pub file: Option<i32>,
    /// Leases under it at that moment.
    pub running: i64,
    /// Attempts that were told to stop.
    pub stopped: i64,
    /// Whether the pool is paused, so that the limit does not matter yet.
    pub paused: bool,
}

/// Sets the limit of a pool: `10`, `+5`, `-5`, `50%`, `0` or `none`.
///
/// # Errors
/// As the server answers.
pub async fn scale(
    db: &PgPool,
    pool: &str,
    change: &str,
    reason: Option<&str>,
    at_once: bool,
) -> Result<Scaled, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.scale($1, $2, $3, $4)")
        .bind(pool)
        .bind(change)
        .bind(reason)
        .bind(at_once)
        .fetch_one(db)
        .await?;
    Ok(answer)
}

/// What `odf.scale_worker` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerScaled {
    /// The worker.
    pub worker: String,
    /// Its slots before.
    pub old: Option<i32>,
    /// Its slots from now on; `None` is what it was started with.
    pub new: Option<i32>,
    /// What it was started with, where it ever started.
    pub started_with: Option<i32>,
}

/// Sets the slots of a worker, in the same words as a pool's limit.
///
/// # Errors
/// As the server answers.
pub async fn scale_worker(
    db: &PgPool,
    worker: &str,
    change: &str,
    reason: Option<&str>,
) -> Result<WorkerScaled, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.scale_worker($1, $2, $3)")
        .bind(worker)
        .bind(change)
        .bind(reason)
        .fetch_one(db)
        .await?;
    Ok(answer)
}

/// What `odf.pause` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Paused {
    /// As it was named.
    pub name: String,
    /// Paused or resumed.
    pub paused: bool,
    /// Leases under it at that moment.
    pub running: i64,
}

/// Pauses or resumes a pool, a job, a data set or all.
///
/// # Errors
/// As the server answers.
pub async fn pause(
    db: &PgPool,
    name: &str,
    on: bool,
    reason: Option<&str>,
) -> Result<Paused, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.pause($1, $2, $3)")
        .bind(name)
        .bind(on)
        .bind(reason)
        .fetch_one(db)
        .await?;
    Ok(answer)
}

/// What `odf.drain_worker` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drained {
    /// The worker.
    pub worker: String,
    /// Whether it takes nothing new from now on.
    pub draining: bool,
    /// Leases that it still holds.
    pub running: i64,
}

/// Tells a worker to take nothing new, or to take work again.
///
/// # Errors
/// As the server answers.
pub async fn drain(
    db: &PgPool,
    worker: &str,
    on: bool,
    reason: Option<&str>,
) -> Result<Drained, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.drain_worker($1, $2, $3)")
        .bind(worker)
        .bind(on)
        .bind(reason)
        .fetch_one(db)
        .await?;
    Ok(answer)
}

/// What `odf.request_chunks` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    /// `resubmit`, `held` or `cancelled`.
    pub verb: String,
    /// Chunks that are meant: by a selector, or because they are made from such.
    pub matched: i64,
    /// Those that the verb fits.
    pub accepted: i64,
    /// Matched chunks by state.
    pub states: BTreeMap<String, i64>,
    /// Refused chunks by state.
    pub refused: BTreeMap<String, i64>,
    /// Accepted chunks that wait for a running attempt or reader to end.
    pub pending: i64,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Running attempts that read what is to be made again.
    pub readers_n: i64,
    /// The first of them: chunk and worker.
    pub readers: Vec<String>,
    /// When a hold ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// By data set, inputs first.
    pub sets: Vec<RequestedSet>,
    /// Why some can never be asked for.
    pub causes: Vec<String>,
}

/// A data set's part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedSet {
    /// Its name.
    pub dataset: String,
    /// Whether it is there only because it is made from what was selected.
    pub below: bool,
    /// Chunks that are meant.
    pub chunks: i64,
    /// Those that the verb fits.
    pub accepted: i64,
    /// Chunks made from the others that a person held or cancelled: they stay so.
    pub kept: i64,
}

/// What to do about running attempts that read what is to be made again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Readers {
    /// Make it again when they have ended
    #[default]
    Wait,
    /// Change nothing and name them
    Refuse,
    /// Stop them; they are not charged
    Cancel,
}

/// How a request is meant, in the words of `odf.request_chunks`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Options {
    /// Only tell what it would come to.
    pub dry_run: bool,
    /// Stop attempts that make these chunks.
    pub now: bool,
    /// What becomes of attempts that read them.
    pub readers: Readers,
    /// Take in what is made from them.
    pub downstream: bool,
    /// Seconds after which a hold ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_s: Option<f64>,
    /// When a hold ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// Asks for chunks to be resubmitted, held or cancelled: all selectors in one transaction.
///
/// # Errors
/// As the server answers; then nothing was changed.
pub async fn request(
    db: &PgPool,
    verb: &str,
    selectors: &[Value],
    reason: Option<&str>,
    options: &Options,
) -> Result<Requested, ReadError> {
    let Json(answer) = sqlx::query_scalar("select odf.request_chunks($1, $2, $3, $4)")
        .bind(verb)
        .bind(Json(selectors))
        .bind(reason)
        .bind(Json(options))
        .fetch_one(db)
        .await?;
    Ok(answer)
}

/// Sends published chunks that wait for approval back to be made again.
///
/// # Errors
/// As the server answers; then nothing was changed.
pub async fn reject(
    db: &PgPool,
    selectors: &[Value],
    reason: Option<&str>,
) -> Result<i64, ReadError> {
    let Json(answer): Json<Requested> = sqlx::query_scalar("select odf.reject($1, $2)")
        .bind(Json(selectors))
        .bind(reason)
        .fetch_one(db)
        .await?;
    Ok(answer.accepted)
}

/// How many chunks selectors match.
///
/// # Errors
/// As the server answers.
pub async fn count(db: &PgPool, selectors: &[Value]) -> Result<i64, ReadError> {
    let n = sqlx::query_scalar(
        "select count(*) from unnest($1::jsonb[]) s cross join lateral odf.select_chunks(s) c",
    )
    .bind(selectors)
    .fetch_one(db)
    .await?;
    Ok(n)
}

#[derive(Deserialize)]
struct Approved {
    approved: i64,
}

/// Approves published chunks that wait for it; answers how many.
///
/// # Errors
/// As the server answers; then nothing was changed.
pub async fn approve(
    db: &PgPool,
    selectors: &[Value],
    reason: Option<&str>,
) -> Result<i64, ReadError> {
    let answers: Vec<Json<Approved>> =
        sqlx::query_scalar("select odf.approve(s, $2) from unnest($1::jsonb[]) s")
            .bind(selectors)
            .bind(reason)
            .fetch_all(db)
            .await?;
    Ok(answers.iter().map(|answer| answer.approved).sum())
}
