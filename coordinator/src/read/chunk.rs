//! One chunk: finding it by name and all that its explanation rests on.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};

use super::data_set;
use super::error::ReadError;

/// A chunk by name.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Found {
    /// Its identity.
    pub chunk_id: i64,
    /// Its data set.
    pub data_set_id: i32,
    /// Its plan.
    pub plan_id: i64,
    /// Its number in the plan, from 1.
    pub ordinal: i64,
    /// Its flow.
    pub flow: String,
    /// Its data set's name.
    pub dataset: String,
    /// Its name there.
    pub key: String,
    /// Whether it left with a plan that was replaced.
    pub retired: bool,
}

/// Finds a chunk of the plan in force by its data set and key.
///
/// # Errors
/// [`ReadError::NotFound`] where there is none.
pub async fn find(
    db: &PgPool,
    flow: Option<&str>,
    dataset: &str,
    key: &str,
) -> Result<Found, ReadError> {
    let set = data_set::find(db, flow, dataset).await?;
    let found: Option<Found> = sqlx::query_as(
        "select c.chunk_id, c.data_set_id, c.plan_id, c.ordinal, f.name as flow, d.name as dataset, c.key, false as retired \
           from odf.data_set d join odf.flow f using (flow_id) join odf.data_chunk c on c.plan_id = d.plan_id \
          where d.data_set_id = $1 and c.key = $2 \
            and exists (select from odf.chunk_state s where s.chunk_id = c.chunk_id)",
    )
    .bind(set.data_set_id)
    .bind(key)
    .fetch_optional(db)
    .await?;
    if let Some(found) = found {
        return Ok(found);
    }
    let chunks: Option<(i64, Option<String>)> = sqlx::query_as(
        "select p.chunks, (select c.key from odf.data_chunk c where c.plan_id = p.plan_id and c.ordinal = 1) \
           from odf.data_set d join odf.plan p on p.plan_id = d.plan_id where d.data_set_id = $1",
    )
    .bind(set.data_set_id)
    .fetch_optional(db)
    .await?;
    let hint = match chunks {
        None => format!("{dataset} is not cut into chunks yet: coordinator explain {dataset}"),
        Some((chunks, Some(first))) => {
            format!(
                "it has {chunks} chunks, the first is {dataset}/{first}: coordinator chunks {dataset}"
            )
        }
        Some((chunks, None)) => format!("it has {chunks} chunks"),
    };
    Err(ReadError::NotFound {
        message: format!("no chunk {dataset}/{key}"),
        hint: Some(hint),
    })
}

/// Finds a chunk in any plan: of the version that is named, or else in force, or else the one of that
/// name that left last.
///
/// # Errors
/// [`ReadError::NotFound`] where there is none.
pub async fn find_anywhere(
    db: &PgPool,
    flow: Option<&str>,
    dataset: &str,
    key: &str,
    plan: Option<i32>,
) -> Result<Found, ReadError> {
    let in_force = find(db, flow, dataset, key).await;
    if plan.is_none() && !matches!(in_force, Err(ReadError::NotFound { .. })) {
        return in_force;
    }
    let set = data_set::find(db, flow, dataset).await?;
    let found: Option<Found> = sqlx::query_as(
        "select c.chunk_id, c.data_set_id, c.plan_id, c.ordinal, f.name as flow, d.name as dataset, c.key, p.state = 'retired' as retired \
           from odf.data_set d join odf.flow f using (flow_id) \
           join odf.plan p on p.data_set_id = d.data_set_id and (p.state = 'retired' or p.plan_id = d.plan_id) \
           join odf.data_chunk c on c.plan_id = p.plan_id and c.key = $2 \
          where d.data_set_id = $1 and ($3::int is null or p.version = $3) order by p.version desc limit 1",
    )
    .bind(set.data_set_id)
    .bind(key)
    .bind(plan)
    .fetch_optional(db)
    .await?;
    match (found, plan) {
        (Some(found), _) => Ok(found),
        (None, None) => in_force,
        (None, Some(version)) => Err(ReadError::NotFound {
            message: format!("no chunk {dataset}/{key} in plan {version}"),
            hint: Some(format!(
                "a chunk that a later plan kept is found there: coordinator explain {dataset}/{key}"
            )),
        }),
    }
}

/// A live lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFacts {
    /// Who runs it.
    pub worker: String,
    /// Where.
    pub host: String,
    /// `active` or `silent`.
    pub session_state: String,
    /// Which attempt it is.
    pub attempt: i32,
    /// What its writes carry.
    pub fence: i64,
    /// Since when.
    pub claimed_at: DateTime<Utc>,
    /// `term` or `kill` where it was told to stop.
    pub abort: Option<String>,
    /// Why.
    pub abort_why: Option<String>,
    /// Rows so far.
    pub rows: Option<i64>,
    /// Bytes so far.
    pub bytes: Option<i64>,
}

/// What a person asked for and what is not done yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFacts {
    /// `resubmit`, `held` or `cancelled`.
    pub verb: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// The job that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// Charged attempts before it gives up.
    pub max_attempts: i32,
    /// The script that it runs.
    pub script: Option<String>,
}

/// Another chunk that this one is made from or that is made from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourFacts {
    /// `dataset/key`.
    pub name: String,
    /// The state that people see.
    pub status: String,
    /// How often it was published.
    pub generation: i32,
    /// When it is tried again.
    pub retry_at: Option<DateTime<Utc>>,
    /// Why it failed, was held or cancelled.
    pub reason: Option<String>,
}

/// An input that a chunk needs and that no plan has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapFacts {
    /// The data set whose plan lacks it.
    pub dataset: String,
    /// Its key, or in words where several keys would do.
    pub wanted: String,
    /// Whether `wanted` is a key.
    pub is_key: bool,
    /// How many inputs the chunk lacks in all.
    pub of: i64,
}

impl GapFacts {
    /// `hours/2024-03-31T05+0200, which the plan of hours does not have`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self {
            dataset, wanted, ..
        } = self;
        let what = if self.is_key {
            format!("{dataset}/{wanted}")
        } else {
            format!("a chunk of {dataset} with {wanted}")
        };
        let more = match self.of {
            ..=1 => String::new(),
            of => format!(" (and {} more)", of - 1),
        };
        format!("{what}, which the plan of {dataset} does not have{more}")
    }
}

/// All that is known about one chunk but its history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChunkFacts {
    /// Its identity.
    pub chunk_id: i64,
    /// Its number in the plan, from 1.
    pub ordinal: i64,
    /// How many chunks the plan has.
    pub plan_chunks: i64,
    /// The plan's version.
    pub plan_version: i32,
    /// What it covers.
    pub bounds: Value,
    /// Rows expected.
    pub est_rows: Option<i64>,
    /// Bytes expected.
    pub est_bytes: Option<i64>,
    /// Its stored state; a lease or a request shows before it.
    pub stored: String,
    /// Attempts that have ended.
    pub attempts: i32,
    /// Attempts that count against the job's limit.
    pub charged: i32,
    /// Leases lost in a row.
    pub lost: i32,
    /// How often it was published.
    pub generation: i32,
    /// The fence that settled last.
    pub last_fence: Option<i64>,
    /// Rows of the current generation.
    pub rows: i64,
    /// Bytes of the current generation.
    pub bytes: i64,
    /// When it is tried again.
    pub retry_at: Option<DateTime<Utc>>,
    /// Why it failed, was held or cancelled.
    pub reason: Option<String>,
    /// When its state changed last.
    pub changed_at: DateTime<Utc>,
    /// Since when its newest generation is made from superseded data.
    pub stale_since: Option<DateTime<Utc>>,
    /// When a hold ends by itself.
    pub hold_until: Option<DateTime<Utc>>,
    /// Who runs it.
    pub lease: Option<LeaseFacts>,
    /// What was asked for it.
    pub request: Option<RequestFacts>,
    /// What makes it; none for a source.
    pub job: Option<JobFacts>,
    /// Inputs taken chunk by chunk: at most 20, missing ones first.
    pub inputs: Vec<NeighbourFacts>,
    /// The first input that no plan has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapFacts>,
    /// Chunks made from this one alone: at most 20.
    pub consumers: Vec<NeighbourFacts>,
    /// Jobs that take its whole data set.
    pub whole_consumers: Vec<String>,
    /// Retired plans that a chunk of the same name left with.
    pub earlier: Vec<i32>,
    /// Chunks before it in its lane's queue; none where it is not among the first 10,000.
    pub ahead: Option<i64>,
}

#[derive(FromRow)]
struct Row {
    chunk_id: i64,
    ordinal: i64,
    plan_chunks: i64,
    plan_version: i32,
    bounds: Value,
    est_rows: Option<i64>,
    est_bytes: Option<i64>,
    stored: String,
    attempt_no: i32,
    charged: i32,
    lost: i32,
    generation: i32,
    last_fence: Option<i64>,
    rows_out: i64,
    bytes_out: i64,
    retry_at: Option<DateTime<Utc>>,
    reason: Option<String>,
    changed_at: DateTime<Utc>,
    stale_since: Option<DateTime<Utc>>,
    hold_until: Option<DateTime<Utc>>,
    lease: Option<Json<LeaseFacts>>,
    request: Option<Json<RequestFacts>>,
    job: Option<Json<JobFacts>>,
    inputs: Json<Vec<NeighbourFacts>>,
    gap: Option<Json<GapFacts>>,
    consumers: Json<Vec<NeighbourFacts>>,
    whole_consumers: Vec<String>,
    earlier: Vec<i32>,
    ahead: Option<i64>,
}

/// Everything about a chunk but its history.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn facts(db: &PgPool, chunk_id: i64) -> Result<ChunkFacts, ReadError> {
    let row: Row = sqlx::query_as(include_str!("chunk.sql"))
        .bind(chunk_id)
        .fetch_one(db)
        .await?;
    Ok(ChunkFacts {
        chunk_id: row.chunk_id,
        ordinal: row.ordinal,
        plan_chunks: row.plan_chunks,
        plan_version: row.plan_version,
        bounds: row.bounds,
        est_rows: row.est_rows,
        est_bytes: row.est_bytes,
        stored: row.stored,
        attempts: row.attempt_no,
        charged: row.charged,
        lost: row.lost,
        generation: row.generation,
        last_fence: row.last_fence,
        rows: row.rows_out,
        bytes: row.bytes_out,
        retry_at: row.retry_at,
        reason: row.reason,
        changed_at: row.changed_at,
        stale_since: row.stale_since,
        hold_until: row.hold_until,
        lease: row.lease.map(|lease| lease.0),
        request: row.request.map(|request| request.0),
        job: row.job.map(|job| job.0),
        inputs: row.inputs.0,
        gap: row.gap.map(|gap| gap.0),
        consumers: row.consumers.0,
        whole_consumers: row.whole_consumers,
        earlier: row.earlier,
        ahead: row.ahead,
    })
}
