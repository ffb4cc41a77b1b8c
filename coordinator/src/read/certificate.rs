//! What a certificate says, as the control database knows it: all of it from one snapshot.
//!
//! Costs O(chunks): a certificate is written once, not looked at all day. Nothing in here judges.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Executor as _, FromRow, PgPool};

use super::data_set::Found;
use super::error::ReadError;
use super::reconciliation::{self, Station};

/// Chunks that are listed one by one; a larger data set is told in figures and exceptions.
pub const LISTED: i64 = 100_000;

/// Who and what stands behind a certificate.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Origin {
    /// When the figures were read, by the database's clock.
    pub made_at: DateTime<Utc>,
    /// The login that read them.
    pub made_by: String,
    /// Which installation.
    pub installation: String,
    /// The flow's version in force.
    pub flow_version: i32,
    /// SHA-256 or another digest of its document, as `apply` kept it.
    pub flow_digest: String,
    /// When that version was applied.
    pub applied_at: DateTime<Utc>,
    /// By whom.
    pub applied_by: String,
}

/// One data set on the way in figures.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct StationFigures {
    /// Its plan's version; `None` where no plan is sealed.
    pub plan_version: Option<i32>,
    /// Chunks when the plan was sealed.
    pub sealed_chunks: Option<i64>,
    /// The digest of names and bounds when the plan was sealed.
    pub sealed_digest: Option<String>,
    /// When that was.
    pub sealed_at: Option<DateTime<Utc>>,
    /// The same digest computed anew from the chunks as they are kept.
    pub computed_digest: String,
    /// Chunks as they are kept.
    pub chunks: i64,
    /// Published ones.
    pub published: i64,
    /// Published, checked and open to consumers.
    pub validated: i64,
    /// Published ones whose data is gone under the keep rule.
    pub removed: i64,
    /// Published without anything that vouches for the content.
    pub unvalidated: i64,
    /// Published though a rule had failed (severity warn).
    pub forced: i64,
    /// Made from a generation of an input that is not the published one any more.
    pub stale: i64,
    /// Rows as they were reported.
    pub rows: Option<i64>,
    /// Bytes as they were reported.
    pub bytes: Option<i64>,
    /// The first publication among the generations in force.
    pub first_published: Option<DateTime<Utc>>,
    /// The last.
    pub last_published: Option<DateTime<Utc>>,
}

/// A rule over all published generations of a data set.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct RuleFigures {
    /// The rule as people write it.
    pub rule: String,
    /// `fail` or `warn`.
    pub severity: String,
    /// Publications for which it held.
    pub held: i64,
    /// Publications for which it did not.
    pub failed: i64,
}

/// One chunk.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct ChunkLine {
    /// Its name in the data set.
    pub key: String,
    /// Its stored state.
    pub status: String,
    /// Its published generation.
    pub generation: i32,
    /// When that was published.
    pub published_at: Option<DateTime<Utc>>,
    /// By which worker.
    pub worker: Option<String>,
    /// Rows as they were reported.
    pub rows: Option<i64>,
    /// Bytes as they were reported.
    pub bytes: Option<i64>,
    /// What comparing it with its source came to.
    pub verdict: Option<String>,
    /// Rows at the extract.
    pub expected_rows: Option<i64>,
    /// Row sum at the extract.
    pub expected_sum: Option<String>,
    /// Whose figures these are.
    pub expected_from: Option<String>,
    /// Rows found in the target.
    pub found_rows: Option<i64>,
    /// Row sum found in the target.
    pub found_sum: Option<String>,
    /// Why it is not equal.
    pub reason: Option<String>,
    /// Keys that differed.
    pub keys: Option<Value>,
    /// When it was compared.
    pub checked_at: Option<DateTime<Utc>>,
    /// By whom.
    pub checked_by: Option<String>,
    /// What is not as it should be.
    pub exceptions: Vec<String>,
}

/// What comparing the target came to, over all of its chunks.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct ReconciledFigures {
    /// Chunks equal to the source at its extract.
    pub equal: i64,
    /// Chunks of which rows alone could be compared.
    pub rows_equal: i64,
    /// Chunks that differ.
    pub differs: i64,
    /// Chunks of which it could not be told.
    pub unknown: i64,
    /// Published chunks whose generation was never compared.
    pub not_compared: i64,
    /// Rows that were expected in those compared.
    pub expected_rows: Option<i64>,
    /// Rows that were found.
    pub found_rows: Option<i64>,
    /// The first look.
    pub first_checked: Option<DateTime<Utc>>,
    /// The last.
    pub last_checked: Option<DateTime<Utc>>,
    /// Who looked.
    pub checked_by: Vec<String>,
    /// Under which conditions, where there were any.
    pub cutoffs: Vec<String>,
}

/// One data set on the way with all that is told of it.
#[derive(Debug, Clone)]
pub struct StationRead {
    /// Which.
    pub station: Station,
    /// Its figures.
    pub figures: StationFigures,
    /// Its rules.
    pub rules: Vec<RuleFigures>,
    /// Chunks that are not as they should be, at most [`LISTED`].
    pub exceptions: Vec<ChunkLine>,
    /// Whether there are more of them.
    pub more: bool,
}

/// Everything, from one snapshot.
#[derive(Debug, Clone)]
pub struct Collected {
    /// Who and what.
    pub origin: Origin,
    /// Sources first.
    pub stations: Vec<StationRead>,
    /// The comparison.
    pub reconciled: ReconciledFigures,
    /// Every chunk, where there are at most [`LISTED`].
    pub chunks: Option<Vec<ChunkLine>>,
}

/// Reads what a certificate of a data set says.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn collect(db: &PgPool, found: &Found) -> Result<Collected, ReadError> {
    let way = reconciliation::way(db, found.data_set_id).await?;
    // A session of its own, that no error can give back to the pool with its transaction open.
    let mut session = db.acquire().await?.detach();
    session
        .execute("begin isolation level repeatable read, read only")
        .await?;
    let collected = read(&mut session, found, way).await?;
    session.execute("commit").await?;
    // What counts has been read; a failed good-bye changes nothing.
    sqlx::Connection::close(session).await.ok();
    Ok(collected)
}

async fn read(
    session: &mut PgConnection,
    found: &Found,
    way: Vec<Station>,
) -> Result<Collected, ReadError> {
    let origin: Origin = sqlx::query_as(
        "select odf.clock() as made_at, session_user::text as made_by, i.installation_id::text as installation, \
                v.version as flow_version, v.digest as flow_digest, v.applied_at, v.applied_by \
           from odf.installation i, odf.data_set d join odf.flow f using (flow_id) \
           join odf.flow_version v on v.flow_id = f.flow_id and v.version = f.current_version where d.data_set_id = $1",
    )
    .bind(found.data_set_id)
    .fetch_one(&mut *session)
    .await?;
    let mut stations = Vec::new();
    for station in way.into_iter().rev() {
        let id = station.data_set_id;
        let target = id == found.data_set_id;
        let mut exceptions = chunks(session, id, true, target).await?;
        let most = usize::try_from(LISTED).unwrap_or(usize::MAX);
        let more = exceptions.len() > most;
        exceptions.truncate(most);
        stations.push(StationRead {
            figures: sqlx::query_as(include_str!("certificate_station.sql"))
                .bind(id)
                .fetch_one(&mut *session)
                .await?,
            rules: sqlx::query_as(include_str!("certificate_rules.sql"))
                .bind(id)
                .fetch_all(&mut *session)
                .await?,
            exceptions,
            more,
            station,
        });
    }
    let reconciled: ReconciledFigures = sqlx::query_as(
        "select count(*) filter (where r.verdict = 'equal') as equal, count(*) filter (where r.verdict = 'rows_equal') as rows_equal, \
                count(*) filter (where r.verdict = 'differs') as differs, count(*) filter (where r.verdict = 'unknown') as unknown, \
                count(*) filter (where r.verdict is null and s.generation >= 1) as not_compared, \
                sum(r.expected_rows)::bigint as expected_rows, sum(r.found_rows)::bigint as found_rows, \
                min(r.checked_at) as first_checked, max(r.checked_at) as last_checked, \
                coalesce(array_agg(distinct r.checked_by) filter (where r.checked_by is not null), '{}') as checked_by, \
                coalesce(array_agg(distinct r.cutoff) filter (where r.cutoff is not null), '{}') as cutoffs \
           from odf.data_set d join odf.data_chunk c on c.plan_id = d.plan_id join odf.chunk_state s using (chunk_id) \
           left join odf.reconciliation r on r.chunk_id = c.chunk_id and r.generation = s.generation where d.data_set_id = $1",
    )
    .bind(found.data_set_id)
    .fetch_one(&mut *session)
    .await?;
    let few = stations
        .last()
        .is_some_and(|last| last.figures.chunks <= LISTED);
    let chunks = if few {
        Some(chunks(session, found.data_set_id, false, true).await?)
    } else {
        None
    };
    Ok(Collected {
        origin,
        stations,
        reconciled,
        chunks,
    })
}

async fn chunks(
    session: &mut PgConnection,
    data_set_id: i32,
    exceptions: bool,
    target: bool,
) -> Result<Vec<ChunkLine>, ReadError> {
    let mut lines: Vec<ChunkLine> = sqlx::query_as(include_str!("certificate_chunks.sql"))
        .bind(data_set_id)
        .bind(exceptions)
        .bind(target)
        .bind(LISTED + 1)
        .fetch_all(session)
        .await?;
    if exceptions {
        // The condition in SQL is a little wider than what is told.
        lines.retain(|line| !line.exceptions.is_empty());
    }
    Ok(lines)
}
