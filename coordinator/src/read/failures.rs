//! What failed, grouped by cause: class and fingerprint of the message.
//!
//! An explicit listing: it looks at failing chunks alone, at most [`MOST`] of them, and says so
//! when there are more.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;
use super::fingerprint::fingerprint;

/// How many failing chunks are looked at.
pub const MOST: i64 = 10_000;

/// One failing chunk with its last attempt.
#[derive(Debug, Clone, FromRow)]
pub struct FailingRow {
    /// Its data set.
    pub dataset: String,
    /// Its name there.
    pub key: String,
    /// `failed` or `exhausted`.
    pub status: String,
    /// What went wrong.
    pub reason: String,
    /// When it failed.
    pub changed_at: DateTime<Utc>,
    /// When it is tried again.
    pub retry_at: Option<DateTime<Utc>>,
    /// The class of its last attempt; none where history was pruned.
    pub class: Option<String>,
    /// Who ran that attempt.
    pub worker: Option<String>,
    /// Its exit code.
    pub exit_code: Option<i32>,
}

/// Failing chunks of a flow, of some data sets of it, or of all.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn failing(
    db: &PgPool,
    flow: Option<&str>,
    datasets: &[String],
) -> Result<Vec<FailingRow>, ReadError> {
    Ok(sqlx::query_as(
        "with failing as materialized ( \
           select s.chunk_id, d.name as dataset, s.status, s.reason, s.changed_at, s.retry_at \
             from odf.data_set d join odf.flow f using (flow_id) join odf.chunk_state s using (data_set_id) \
            where not d.retired and s.status in ('failed', 'exhausted') \
              and ($1::text is null or f.name = $1) and ($2::text[] is null or d.name = any ($2)) \
            limit $3) \
         select f.dataset, c.key, f.status::text as status, coalesce(f.reason, '') as reason, f.changed_at, f.retry_at, \
                a.class, a.worker, a.exit_code \
           from failing f join odf.data_chunk c using (chunk_id) \
           left join lateral (select class, worker, exit_code from odf.attempt a \
                               where a.chunk_id = f.chunk_id order by a.attempt desc limit 1) a on true \
          order by f.chunk_id",
    )
    .bind(flow)
    .bind((!datasets.is_empty()).then_some(datasets))
    .bind(MOST)
    .fetch_all(db)
    .await?)
}

/// Failing chunks that share a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The message without what differs from chunk to chunk.
    pub pattern: String,
    /// The class of the failures; none where history was pruned.
    pub class: Option<String>,
    /// Failing chunks.
    pub chunks: i64,
    /// Those of them that will be retried.
    pub failed: i64,
    /// Those of them that wait for a person.
    pub exhausted: i64,
    /// How many of each data set.
    pub datasets: BTreeMap<String, i64>,
    /// Who ran them.
    pub workers: BTreeSet<String>,
    /// Exit codes of the programs.
    pub exit_codes: BTreeSet<i32>,
    /// The earliest failure among them.
    pub first_at: DateTime<Utc>,
    /// The latest failure among them.
    pub last_at: DateTime<Utc>,
    /// The next retry.
    pub next_retry: Option<DateTime<Utc>>,
    /// One of them, `dataset/key`.
    pub example: String,
    /// Its whole message.
    pub message: String,
}

/// Groups failing chunks by cause, the most frequent first.
#[must_use]
pub fn group(rows: Vec<FailingRow>) -> Vec<Cause> {
    let mut causes: HashMap<(Option<String>, String), Cause> = HashMap::new();
    for row in rows {
        let pattern = fingerprint(&row.reason);
        let cause = causes
            .entry((row.class.clone(), pattern.clone()))
            .or_insert_with(|| Cause {
                pattern,
                class: row.class.clone(),
                chunks: 0,
                failed: 0,
                exhausted: 0,
                datasets: BTreeMap::new(),
                workers: BTreeSet::new(),
                exit_codes: BTreeSet::new(),
                first_at: row.changed_at,
                last_at: row.changed_at,
                next_retry: None,
                example: format!("{}/{}", row.dataset, row.key),
                message: row.reason.clone(),
            });
        cause.chunks += 1;
        match row.status.as_str() {
            "exhausted" => cause.exhausted += 1,
            _ => cause.failed += 1,
        }
        *cause.datasets.entry(row.dataset).or_default() += 1;
        cause.workers.extend(row.worker);
        cause.exit_codes.extend(row.exit_code);
        cause.first_at = cause.first_at.min(row.changed_at);
        cause.last_at = cause.last_at.max(row.changed_at);
        cause.next_retry = [cause.next_retry, row.retry_at].into_iter().flatten().min();
    }
    let mut causes: Vec<Cause> = causes.into_values().collect();
    causes.sort_by(|a, b| (b.chunks, &a.class, &a.pattern).cmp(&(a.chunks, &b.class, &b.pattern)));
    causes
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::{FailingRow, group};

    fn row(key: &str, status: &str, reason: &str, class: &str, after: i64) -> FailingRow {
        FailingRow {
            dataset: "mid".to_owned(),
            key: key.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            changed_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(after),
            retry_at: None,
            class: Some(class.to_owned()),
            worker: Some("w1".to_owned()),
            exit_code: Some(1),
        }
    }

    #[test]
    fn failures_of_one_cause_make_one_group_and_the_largest_comes_first() {
        let causes = group(vec![
            row("1", "exhausted", "bad row 17", "permanent", 5),
            row(
                "2",
                "failed",
                "connection to h7:5432 refused",
                "transient",
                9,
            ),
            row(
                "3",
                "failed",
                "connection to h8:5432 refused",
                "transient",
                3,
            ),
            row("4", "failed", "connection to h8:5432 refused", "outage", 4),
        ]);
        let seen: Vec<_> = causes
            .iter()
            .map(|cause| (cause.pattern.as_str(), cause.chunks, cause.exhausted))
            .collect();
        assert_eq!(
            seen,
            [
                ("connection to hN:N refused", 2, 0),
                ("connection to hN:N refused", 1, 0),
                ("bad row N", 1, 1)
            ]
        );
        assert_eq!((causes[0].last_at - causes[0].first_at).num_seconds(), 6);
    }
}
