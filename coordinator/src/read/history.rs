//! What is kept about the attempts and publications of one chunk.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// An attempt that has ended.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct AttemptRow {
    /// From 1.
    pub attempt: i32,
    /// What its writes carried.
    pub fence: i64,
    /// Who ran it.
    pub worker: String,
    /// Where.
    pub host: String,
    /// When it was claimed.
    pub claimed_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// `validated`, `failed`, `released` or `lost`.
    pub outcome: String,
    /// The class of a failure.
    pub class: Option<String>,
    /// Whether it counts against the job's limit.
    pub charged: bool,
    /// What went wrong.
    pub error: Option<String>,
    /// The program's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Rows made.
    pub rows_out: Option<i64>,
    /// Bytes made.
    pub bytes_out: Option<i64>,
    /// How long the job itself ran, in milliseconds.
    pub duration_ms: Option<i64>,
    /// The script that ran.
    pub script_sha256: Option<String>,
    /// Where the whole log is on the worker.
    pub log_path: Option<String>,
    /// The log's last lines.
    pub log_tail: Option<String>,
}

/// Attempts of a chunk, newest first: all of the last `limit`, or the one of a number.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn attempts(
    db: &PgPool,
    chunk_id: i64,
    number: Option<i32>,
    limit: i64,
) -> Result<Vec<AttemptRow>, ReadError> {
    Ok(sqlx::query_as(
        "select attempt, fence, worker, host, claimed_at, ended_at, outcome, class, charged, error, exit_code, signal, \
                rows_out, bytes_out, duration_ms, script_sha256, log_path, log_tail \
           from odf.attempt where chunk_id = $1 and ($2::int is null or attempt = $2) \
          order by attempt desc, ended_at desc limit $3",
    )
    .bind(chunk_id)
    .bind(number)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// That a generation of a chunk exists.
#[derive(Debug, Clone, Serialize)]
pub struct PublicationRow {
    /// From 1.
    pub generation: i32,
    /// Which attempt made it.
    pub attempt: i32,
    /// What its writes carried.
    pub fence: i64,
    /// Who made it.
    pub worker: String,
    /// Where it is.
    pub location: Option<String>,
    /// Rows.
    pub rows: Option<i64>,
    /// Bytes.
    pub bytes: Option<i64>,
    /// `algorithm:hex`.
    pub checksum: Option<String>,
    /// What it was made from.
    pub inputs: Vec<ReadInput>,
    /// When its attempt was claimed.
    pub claimed_at: DateTime<Utc>,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// When its data was deleted.
    pub removed_at: Option<DateTime<Utc>>,
}

/// An input chunk as a publication read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ReadInput {
    /// `dataset/key`.
    pub name: String,
    /// The generation that was read.
    pub generation: i32,
    /// The generation that there is now.
    pub now: i32,
}

#[derive(FromRow)]
struct Row {
    generation: i32,
    attempt: i32,
    fence: i64,
    worker: String,
    location: Option<String>,
    rows_out: Option<i64>,
    bytes_out: Option<i64>,
    checksum: Option<String>,
    inputs: Json<Vec<ReadInput>>,
    claimed_at: DateTime<Utc>,
    published_at: DateTime<Utc>,
    removed_at: Option<DateTime<Utc>>,
}

/// Publications of a chunk, newest first.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn publications(
    db: &PgPool,
    chunk_id: i64,
    limit: i64,
) -> Result<Vec<PublicationRow>, ReadError> {
    let rows: Vec<Row> = sqlx::query_as(
        "select p.generation, p.attempt, p.fence, p.worker, p.location, p.rows_out, p.bytes_out, p.checksum, p.claimed_at, \
                p.published_at, p.removed_at, \
                (select coalesce(jsonb_agg(jsonb_build_object('name', d.name || '/' || c.key, 'generation', u.gen, 'now', coalesce(s.generation, g.generation, u.gen)) order by u.n), '[]') \
                   from unnest(p.input_ids, p.input_gens) with ordinality u(id, gen, n) \
                   join odf.data_chunk c on c.chunk_id = u.id join odf.data_set d on d.data_set_id = c.data_set_id \
                   left join odf.chunk_state s on s.chunk_id = u.id left join odf.retired_chunk g on g.chunk_id = u.id) as inputs \
           from odf.publication p where p.chunk_id = $1 order by p.generation desc limit $2",
    )
    .bind(chunk_id)
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(publication).collect())
}

fn publication(row: Row) -> PublicationRow {
    PublicationRow {
        generation: row.generation,
        attempt: row.attempt,
        fence: row.fence,
        worker: row.worker,
        location: row.location,
        rows: row.rows_out,
        bytes: row.bytes_out,
        checksum: row.checksum,
        inputs: row.inputs.0,
        claimed_at: row.claimed_at,
        published_at: row.published_at,
        removed_at: row.removed_at,
    }
}
