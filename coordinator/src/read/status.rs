//! The read model of `status`: every data set's facts and the fleet, in two bounded statements.
//!
//! Must never count chunks: a statement in here costs the same for ten chunks and for ten million.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;
use super::facts::{
    BufferFacts, Counts, DataSetFacts, FleetFacts, InputFacts, LaneFacts, PoolFacts, Sample,
    WorkerFacts,
};

#[derive(FromRow)]
struct DataSetRow {
    flow: String,
    name: String,
    data_set_id: i32,
    job: Option<String>,
    chunks: Option<i64>,
    notes: Vec<String>,
    outdated: bool,
    replan: Option<String>,
    plan_error: Option<String>,
    gap: Option<String>,
    writing_since: Option<DateTime<Utc>>,
    counts: Json<Counts>,
    running: i64,
    rows_out: i64,
    bytes_out: i64,
    lane: Option<Json<LaneFacts>>,
    pools: Json<Vec<PoolFacts>>,
    inputs: Json<Vec<InputFacts>>,
    buffer: Option<Json<BufferFacts>>,
    next_retry: Option<DateTime<Utc>>,
    reasons: Vec<String>,
    sample: Option<Json<Sample>>,
}

impl From<DataSetRow> for DataSetFacts {
    fn from(row: DataSetRow) -> Self {
        Self {
            flow: row.flow,
            name: row.name,
            data_set_id: row.data_set_id,
            job: row.job,
            chunks: row.chunks,
            notes: row.notes,
            outdated: row.outdated,
            replan: row.replan,
            plan_error: row.plan_error,
            gap: row.gap,
            writing_since: row.writing_since,
            counts: row.counts.0,
            running: row.running,
            rows_out: row.rows_out,
            bytes_out: row.bytes_out,
            lane: row.lane.map(|lane| lane.0),
            pools: row.pools.0,
            inputs: row.inputs.0,
            buffer: row.buffer.map(|buffer| buffer.0),
            next_retry: row.next_retry,
            reasons: row.reasons,
            sample: row.sample.map(|sample| sample.0),
        }
    }
}

/// What [`data_sets`] asks; its one parameter is a flow's name or NULL.
pub const DATA_SETS_SQL: &str = include_str!("status.sql");

/// Facts of every data set of a flow (of all flows with `None`), inputs before what is made of them.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn data_sets(db: &PgPool, flow: Option<&str>) -> Result<Vec<DataSetFacts>, ReadError> {
    let rows: Vec<DataSetRow> = sqlx::query_as(DATA_SETS_SQL)
        .bind(flow)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(DataSetFacts::from).collect())
}

#[derive(FromRow)]
struct FleetRow {
    now: DateTime<Utc>,
    term: i64,
    holder: String,
    leads: bool,
    since: Option<DateTime<Utc>>,
    workers: Json<Vec<WorkerFacts>>,
    running: i64,
    pending: i64,
    repairs: i64,
}

/// Who leads and who works.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn fleet(db: &PgPool) -> Result<FleetFacts, ReadError> {
    let row: FleetRow = sqlx::query_as(include_str!("fleet.sql"))
        .fetch_one(db)
        .await?;
    Ok(FleetFacts {
        now: row.now,
        leads: row.leads,
        holder: row.holder,
        term: row.term,
        since: row.since,
        workers: row.workers.0,
        running: row.running,
        pending: row.pending,
        repairs: row.repairs,
    })
}
