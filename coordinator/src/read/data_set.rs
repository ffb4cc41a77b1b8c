//! One data set: its plan, what is slowest, and how to find it by name.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// A data set by name.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Found {
    /// Its identity.
    pub data_set_id: i32,
    /// Its flow.
    pub flow: String,
    /// Its name.
    pub name: String,
    /// Its plan in force.
    pub plan_id: Option<i64>,
}

/// Finds a data set by its name.
///
/// # Errors
/// [`ReadError::NotFound`] with the names that there are; [`ReadError::Usage`] where several flows
/// have one of that name.
pub async fn find(db: &PgPool, flow: Option<&str>, name: &str) -> Result<Found, ReadError> {
    let mut found: Vec<Found> = sqlx::query_as(
        "select d.data_set_id, f.name as flow, d.name, d.plan_id from odf.data_set d join odf.flow f using (flow_id) \
          where not d.retired and d.name = $2 and ($1::text is null or f.name = $1) order by f.name",
    )
    .bind(flow)
    .bind(name)
    .fetch_all(db)
    .await?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            let flows: Vec<&str> = found
                .iter()
                .chain([&last])
                .map(|one| one.flow.as_str())
                .collect();
            Err(ReadError::Usage {
                message: format!("several flows have a data set named {name:?}"),
                hint: Some(format!("name one with --flow: {}", flows.join(", "))),
            })
        }
        (None, _) => Err(nothing(db, flow, name).await?),
    }
}

/// What is there instead.
async fn nothing(db: &PgPool, flow: Option<&str>, name: &str) -> Result<ReadError, ReadError> {
    let rows: Vec<(String, Option<String>)> = sqlx::query_as(
        "select f.name, d.name from odf.flow f left join odf.data_set d on d.flow_id = f.flow_id and not d.retired \
          order by f.name, d.name limit 1000",
    )
    .fetch_all(db)
    .await?;
    let mut flows: Vec<&str> = rows.iter().map(|(flow, _)| flow.as_str()).collect();
    flows.dedup();
    if let Some(flow) = flow.filter(|flow| !flows.contains(flow)) {
        let message = format!("no flow named {flow:?}");
        return Ok(ReadError::NotFound {
            message,
            hint: Some(format!("flows: {}", flows.join(", "))),
        });
    }
    let here = rows
        .iter()
        .filter(|(of, _)| flow.is_none_or(|flow| flow == of));
    let known: Vec<&str> = here
        .filter_map(|(_, name)| name.as_deref())
        .take(20)
        .collect();
    let hint = match known.as_slice() {
        [] => "no flow is applied yet: coordinator apply FLOW.yaml".to_owned(),
        known => format!("data sets: {}", known.join(", ")),
    };
    Ok(ReadError::NotFound {
        message: format!("no data set named {name:?}"),
        hint: Some(hint),
    })
}

/// A plan as it was sealed, or is being written.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct PlanRow {
    /// From 1.
    pub version: i32,
    /// `writing`, `sealed` or `retired`.
    pub state: String,
    /// How it was cut.
    pub partition: Value,
    /// Chunks, once sealed.
    pub chunks: i64,
    /// SHA-256 over names and bounds, in hex.
    pub digest: Option<String>,
    /// What the splitter remarked.
    pub notes: Vec<String>,
    /// When the writing began.
    pub started_at: DateTime<Utc>,
    /// When it was sealed.
    pub sealed_at: Option<DateTime<Utc>>,
}

/// The plan in force, or the one being written where none is.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn plan(db: &PgPool, data_set_id: i32) -> Result<Option<PlanRow>, ReadError> {
    Ok(sqlx::query_as(
        "select version, state, partition, chunks, digest, notes, started_at, sealed_at from odf.plan \
          where data_set_id = $1 and state <> 'retired' \
          order by plan_id = (select d.plan_id from odf.data_set d where d.data_set_id = $1) desc nulls last, version desc limit 1",
    )
    .bind(data_set_id)
    .fetch_optional(db)
    .await?)
}

/// Where a data set is declared to be, and what makes and takes it.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Declared {
    /// Connection with table or path.
    pub at: Value,
    /// Why the last split failed.
    pub plan_error: Option<String>,
    /// The flow's version in force.
    pub flow_version: i32,
    /// The job that makes it.
    pub job: Option<String>,
    /// Jobs that read it.
    pub consumers: Vec<String>,
}

/// The declaration of a data set.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn declared(db: &PgPool, data_set_id: i32) -> Result<Declared, ReadError> {
    Ok(sqlx::query_as(
        "select d.spec -> 'at' as at, d.plan_error, f.current_version as flow_version, \
                (select j.name from odf.job j where j.data_set_id = d.data_set_id and not j.retired) as job, \
                array(select j.name from odf.job_input i join odf.job j using (job_id) \
                       where i.data_set_id = d.data_set_id and not j.retired order by j.name) as consumers \
           from odf.data_set d join odf.flow f using (flow_id) where d.data_set_id = $1",
    )
    .bind(data_set_id)
    .fetch_one(db)
    .await?)
}

/// A chunk that took or takes long.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct SlowRow {
    /// Its name in the data set.
    pub key: String,
    /// Whether it is running now.
    pub running: bool,
    /// Who runs or ran it.
    pub worker: String,
    /// From claim to publication, or until now, in milliseconds.
    pub took_ms: i64,
    /// Rows so far or published.
    pub rows: Option<i64>,
    /// Bytes so far or published.
    pub bytes: Option<i64>,
}

/// The slowest of what runs now and of the last 2,000 publications, longest first.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn slowest(db: &PgPool, data_set_id: i32, limit: i64) -> Result<Vec<SlowRow>, ReadError> {
    Ok(sqlx::query_as(
        "with clock as materialized (select odf.clock() as now), \
         slow as ( \
           select * from (select l.chunk_id, true as running, w.name as worker, k.now - l.claimed_at as took, l.rows_done as rows, l.bytes_done as bytes \
             from clock k, odf.lease l join odf.worker_session s using (session_id) join odf.worker w using (worker_id) \
            where l.data_set_id = $1 order by l.claimed_at limit $2) r \
           union all \
           select * from (select p.chunk_id, false, p.worker, p.published_at - p.claimed_at, p.rows_out, p.bytes_out \
             from (select * from odf.publication order by published_at desc limit 2000) p \
             cross join lateral (select from odf.chunk_state x where x.chunk_id = p.chunk_id and x.data_set_id = $1 offset 0) c \
            order by p.published_at - p.claimed_at desc limit $2) d) \
         select c.key, s.running, s.worker, (extract(epoch from s.took) * 1000)::bigint as took_ms, s.rows, s.bytes \
           from slow s join odf.data_chunk c using (chunk_id) order by s.took desc limit $2",
    )
    .bind(data_set_id)
    .bind(limit)
    .fetch_all(db)
    .await?)
}
