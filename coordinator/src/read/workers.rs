//! Workers: the last start of each, what it offers and what it runs.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// One worker and its last start.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct WorkerRow {
    /// Its name.
    pub name: String,
    /// `active`, `silent`, `dead` or `ended`; none where it never started (its sessions are pruned).
    pub state: Option<String>,
    /// Told to take nothing new.
    pub draining: bool,
    /// Why, as the person wrote who drained or scaled it.
    pub reason: Option<String>,
    /// Who drained or scaled it last.
    pub changed_by: Option<String>,
    /// What `scale --worker` says.
    pub slots_limit: Option<i32>,
    /// What it was started with.
    pub slots: Option<i32>,
    /// Where it runs.
    pub host: Option<String>,
    /// Its process there.
    pub pid: Option<i32>,
    /// Its release.
    pub version: Option<String>,
    /// What it offers.
    pub labels: Option<Vec<String>>,
    /// When it was heard last.
    pub beat_at: Option<DateTime<Utc>>,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// Leases that it holds.
    pub running: i64,
    /// What it last reported about its machine.
    pub facts: Option<Value>,
    /// The control database's time.
    pub now: DateTime<Utc>,
}

/// Workers that are at work, or all that ever were. One that has not beaten for a minute is silent,
/// also where no coordinator leads that would say so.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn list(db: &PgPool, all: bool) -> Result<Vec<WorkerRow>, ReadError> {
    Ok(sqlx::query_as(
        "select w.name, case when s.state = 'active' and s.beat_at < odf.clock() - interval '1 minute' then 'silent' else s.state end as state, w.draining, w.reason, w.changed_by, w.slots_limit, s.slots, s.host, s.pid, s.version, s.labels, \
                s.beat_at, s.started_at, s.ended_at, s.end_reason, \
                (select count(*) from odf.lease l where l.session_id = s.session_id) as running, f.facts, odf.clock() as now \
           from odf.worker w \
           left join (select distinct on (worker_id) worker_id, session_id, state, slots, host, pid, version, labels, beat_at, \
                             started_at, ended_at, end_reason \
                        from odf.worker_session order by worker_id, session_id desc) s using (worker_id) \
           left join odf.session_facts f using (session_id) \
          where $1 or s.state in ('active', 'silent') order by w.name",
    )
    .bind(all)
    .fetch_all(db)
    .await?)
}
