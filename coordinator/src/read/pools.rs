//! Pools: their limits, who set them, what runs and what waits under them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// One pool.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct PoolRow {
    /// Its flow.
    pub flow: String,
    /// Its name.
    pub name: String,
    /// What is in force; none is unlimited.
    pub limit: Option<i32>,
    /// The flow file's limit.
    pub file_limit: Option<i32>,
    /// Whether `scale` rather than the file says the limit.
    pub operator_set: bool,
    /// The limit without the pause.
    pub base_limit: Option<i32>,
    /// A person stopped it.
    pub paused: bool,
    /// Why, as that person wrote.
    pub reason: Option<String>,
    /// Who changed it last.
    pub changed_by: Option<String>,
    /// When.
    pub changed_at: Option<DateTime<Utc>>,
    /// Leases under it.
    pub running: i64,
    /// Claimable chunks under it.
    pub ready: i64,
    /// Jobs that draw from it.
    pub jobs: Vec<String>,
}

/// Pools by flow and name, all or those of one name.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn all(
    db: &PgPool,
    flow: Option<&str>,
    name: Option<&str>,
) -> Result<Vec<PoolRow>, ReadError> {
    Ok(sqlx::query_as(
        "with per_lane as materialized ( \
           select l.lane_id, j.name as job, \
                  (select count(*) from odf.lease x where x.lane_id = l.lane_id) as running, \
                  coalesce((select n from odf.progress_now p where p.data_set_id = j.data_set_id and p.status = 'ready'), 0) as ready \
             from odf.lane l join odf.job j using (job_id) where not j.retired) \
         select f.name as flow, p.name, odf.pool_limit(p) as \"limit\", p.file_limit, p.operator_set, \
                case when p.operator_set then p.operator_limit else p.file_limit end as base_limit, \
                p.paused, p.reason, p.changed_by, p.changed_at, \
                coalesce(sum(a.running), 0)::bigint as running, greatest(coalesce(sum(a.ready - a.running), 0), 0)::bigint as ready, \
                coalesce(array_agg(a.job order by a.job) filter (where a.job is not null), '{}') as jobs \
           from odf.pool p join odf.flow f using (flow_id) \
           left join odf.lane_pool m using (pool_id) left join per_lane a using (lane_id) \
          where not p.retired and ($1::text is null or f.name = $1) and ($2::text is null or p.name = $2) \
          group by f.name, p.pool_id order by f.name, p.name",
    )
    .bind(flow)
    .bind(name)
    .fetch_all(db)
    .await?)
}
