//! How much runs under something: what `--wait` looks at, counted from live leases alone.

use sqlx::PgPool;

use super::error::ReadError;

/// Leases under a pool, by its name or `flow:name`.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn in_pool(db: &PgPool, name: &str) -> Result<i64, ReadError> {
    let n = sqlx::query_scalar(
        "select count(*) from odf.lease l join odf.lane_pool m using (lane_id) \
         join odf.pool p using (pool_id) join odf.flow f using (flow_id) \
         where not p.retired and $1 in (p.name, f.name || ':' || p.name)",
    )
    .bind(name)
    .fetch_one(db)
    .await?;
    Ok(n)
}

/// Leases under pools, jobs or data sets by their names or `flow:name`, or under `all`.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn under(db: &PgPool, names: &[String]) -> Result<i64, ReadError> {
    let n = sqlx::query_scalar(
        "select count(*) from odf.lease x \
         where x.lane_id in ( \
           select l.lane_id from odf.lane l join odf.job j using (job_id) \
             join odf.data_set d using (data_set_id) join odf.flow f on f.flow_id = j.flow_id \
            where array['all', j.name, d.name, f.name || ':' || j.name, f.name || ':' || d.name] && $1 \
           union \
           select m.lane_id from odf.lane_pool m join odf.pool p using (pool_id) join odf.flow f using (flow_id) \
            where not p.retired and array[p.name, f.name || ':' || p.name] && $1)",
    )
    .bind(names)
    .fetch_one(db)
    .await?;
    Ok(n)
}

/// Leases that a worker holds.
///
/// # Errors
/// [`ReadError::NotFound`] for a worker that never registered.
pub async fn on_worker(db: &PgPool, name: &str) -> Result<i64, ReadError> {
    let n: Option<i64> = sqlx::query_scalar(
        "select (select count(*) from odf.lease join odf.worker_session s using (session_id) \
                  where s.worker_id = w.worker_id) \
           from odf.worker w where w.name = $1",
    )
    .bind(name)
    .fetch_optional(db)
    .await?;
    n.ok_or_else(|| ReadError::NotFound {
        message: format!("no worker named {name:?}"),
        hint: None,
    })
}
