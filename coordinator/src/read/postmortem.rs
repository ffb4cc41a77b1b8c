//! What went wrong in a window of time: causes, chunks, actions, the course of it, and the five questions.
//!
//! An explicit report: it looks at the attempts of the window that published nothing, at most [`MOST`]
//! of them, and says so when there are more. It reads history, which is pruned after its time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use common::domain::{Answer, Evidence, Question};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;
use super::events::EventRow;
use super::fingerprint::fingerprint;

/// How many attempts and events are looked at.
pub const MOST: i64 = 20_000;

/// Buckets of the course.
const BUCKETS: i64 = 24;

/// An attempt of the window that published nothing.
#[derive(Debug, Clone, FromRow)]
pub struct BadRow {
    /// Its chunk.
    pub chunk_id: i64,
    /// Its data set.
    pub dataset: String,
    /// Its name there.
    pub key: String,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// `failed`, `lost` or `released`.
    pub outcome: String,
    /// The class of a failure.
    pub class: Option<String>,
    /// Whether it counted against the job's limit.
    pub charged: bool,
    /// Who ran it.
    pub worker: String,
    /// Where.
    pub host: String,
    /// What went wrong.
    pub error: Option<String>,
    /// What its inputs answered.
    pub evidence: Option<String>,
    /// The chunk's state now.
    pub status_now: String,
    /// Its generation now.
    pub generation_now: i32,
    /// What the inputs of that generation answered.
    pub evidence_now: Option<String>,
}

/// Failures that share a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The message without what differs from chunk to chunk.
    pub pattern: String,
    /// `lost`, `released` or the class of the failures.
    pub class: String,
    /// Attempts that ended so.
    pub attempts: i64,
    /// Chunks they were of.
    pub chunks: usize,
    /// Attempts that counted against a retry limit.
    pub charged: i64,
    /// Where they ran.
    pub hosts: BTreeSet<String>,
    /// The first of them.
    pub first_at: DateTime<Utc>,
    /// The last of them.
    pub last_at: DateTime<Utc>,
    /// One of them, `dataset/key`.
    pub example: String,
    /// Its whole message.
    pub message: String,
}

/// The affected chunks of a data set, by what has become of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// How many.
    pub chunks: usize,
    /// Of them by state now.
    pub now: BTreeMap<String, usize>,
}

/// Answers to one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Attempts of the window that it stopped.
    pub refused: usize,
    /// Affected chunks published since, whose inputs answered yes.
    pub yes: usize,
    /// ... for whose inputs it was waived by declaration.
    pub waived: usize,
    /// ... of which nothing is kept (no inputs, or made before answers were kept).
    pub unknown: usize,
}

/// One step of the course.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct Step {
    /// Its start.
    pub at: DateTime<Utc>,
    /// Attempts that published.
    pub validated: i64,
    /// Attempts that failed.
    pub failed: i64,
    /// Leases that were lost.
    pub lost: i64,
    /// Attempts handed back.
    pub released: i64,
}

/// The story of a window.
#[derive(Debug, Clone, Serialize)]
pub struct Postmortem {
    /// Its start.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
    /// When it was written.
    pub written_at: DateTime<Utc>,
    /// Whether there was more than was looked at.
    pub cut: bool,
    /// Causes, the most frequent first.
    pub causes: Vec<Cause>,
    /// Affected chunks by data set.
    pub affected: BTreeMap<String, Affected>,
    /// The five questions, in order.
    pub questions: Vec<(Question, Asked)>,
    /// How it went.
    pub course: Vec<Step>,
    /// What people did.
    pub actions: Vec<EventRow>,
    /// What the system noticed and did.
    pub notices: Vec<EventRow>,
}

/// Collects the story of a window.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn postmortem(
    db: &PgPool,
    flow: Option<&str>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Postmortem, ReadError> {
    let written_at = super::events::now(db).await?;
    let bad: Vec<BadRow> = sqlx::query_as(include_str!("postmortem.sql"))
        .bind(from)
        .bind(to)
        .bind(flow)
        .bind(MOST)
        .fetch_all(db)
        .await?;
    let step = ((to - from).num_seconds() / BUCKETS).max(60);
    let course = sqlx::query_as(
        "select date_bin(make_interval(secs => $3), ended_at, $1) as at, \
                count(*) filter (where outcome = 'validated') as validated, count(*) filter (where outcome = 'failed') as failed, \
                count(*) filter (where outcome = 'lost') as lost, count(*) filter (where outcome = 'released') as released \
           from odf.attempt where ended_at >= $1 and ended_at < $2 group by 1 order by 1",
    )
    .bind(from)
    .bind(to)
    .bind(step as f64)
    .fetch_all(db)
    .await?;
    let events: Vec<EventRow> = sqlx::query_as(
        "select at, event_id, kind, actor, subject, message, detail from odf.event \
          where at >= $1 and at < $2 order by at, event_id limit $3",
    )
    .bind(from)
    .bind(to)
    .bind(MOST)
    .fetch_all(db)
    .await?;
    let full = |n: usize| i64::try_from(n).unwrap_or(i64::MAX) >= MOST;
    let cut = full(bad.len()) || full(events.len());
    let (actions, notices) = events.into_iter().partition(|event| is_action(&event.kind));
    Ok(Postmortem {
        from,
        to,
        written_at,
        cut,
        causes: causes(&bad),
        affected: affected(&bad),
        questions: questions(&bad),
        course,
        actions,
        notices,
    })
}

/// Whether a person decided it.
fn is_action(kind: &str) -> bool {
    let (first, _) = kind.split_once('.').unwrap_or((kind, ""));
    matches!(
        first,
        "chunks" | "pool" | "paused" | "resumed" | "flow" | "dataset"
    ) || matches!(kind, "worker.scaled" | "worker.draining" | "worker.resumed")
}

/// Groups attempts by cause, the most frequent first.
#[must_use]
pub fn causes(rows: &[BadRow]) -> Vec<Cause> {
    let mut grouped: HashMap<(String, String), (Cause, BTreeSet<i64>)> = HashMap::new();
    for row in rows {
        let class = match row.outcome.as_str() {
            "failed" => row.class.clone().unwrap_or_else(|| "failed".to_owned()),
            outcome => outcome.to_owned(),
        };
        let message = row.error.clone().unwrap_or_default();
        let pattern = match row.outcome.as_str() {
            "lost" if message.is_empty() => "the worker was not heard of any more".to_owned(),
            _ => fingerprint(&message),
        };
        let (cause, chunks) = grouped
            .entry((class.clone(), pattern.clone()))
            .or_insert_with(|| {
                let cause = Cause {
                    pattern,
                    class,
                    attempts: 0,
                    chunks: 0,
                    charged: 0,
                    hosts: BTreeSet::new(),
                    first_at: row.ended_at,
                    last_at: row.ended_at,
                    example: format!("{}/{}", row.dataset, row.key),
                    message,
                };
                (cause, BTreeSet::new())
            });
        cause.attempts += 1;
        cause.charged += i64::from(row.charged);
        cause.hosts.insert(row.host.clone());
        cause.first_at = cause.first_at.min(row.ended_at);
        cause.last_at = cause.last_at.max(row.ended_at);
        chunks.insert(row.chunk_id);
        cause.chunks = chunks.len();
    }
    let mut causes: Vec<Cause> = grouped.into_values().map(|(cause, _)| cause).collect();
    causes.sort_by(|a, b| {
        (b.attempts, &a.class, &a.pattern).cmp(&(a.attempts, &b.class, &b.pattern))
    });
    causes
}

/// One row a chunk.
fn by_chunk(rows: &[BadRow]) -> impl Iterator<Item = &BadRow> {
    let mut seen = BTreeSet::new();
    rows.iter().filter(move |row| seen.insert(row.chunk_id))
}

/// What has become of the chunks.
#[must_use]
pub fn affected(rows: &[BadRow]) -> BTreeMap<String, Affected> {
    let mut sets: BTreeMap<String, Affected> = BTreeMap::new();
    for row in by_chunk(rows) {
        let set = sets.entry(row.dataset.clone()).or_default();
        set.chunks += 1;
        *set.now.entry(row.status_now.clone()).or_default() += 1;
    }
    sets
}

/// What the five questions stopped, and what they answer of what was published since.
#[must_use]
pub fn questions(rows: &[BadRow]) -> Vec<(Question, Asked)> {
    let mut asked: BTreeMap<Question, Asked> = Question::ALL
        .map(|question| (question, Asked::default()))
        .into();
    let decode = |text: &Option<String>| text.as_deref().and_then(Evidence::decode);
    for row in rows {
        for group in decode(&row.evidence).map_or(Vec::new(), |evidence| evidence.inputs) {
            for (question, answer, _) in group.answers() {
                if answer == Answer::No {
                    asked.entry(question).or_default().refused += 1;
                }
            }
        }
    }
    for row in by_chunk(rows).filter(|row| row.generation_now > 0) {
        let groups = decode(&row.evidence_now).map_or(Vec::new(), |evidence| evidence.inputs);
        let answers: Vec<_> = groups.iter().flat_map(|group| group.answers()).collect();
        for question in Question::ALL {
            let of: Vec<Answer> = answers
                .iter()
                .filter(|(about, ..)| *about == question)
                .map(|(_, answer, _)| *answer)
                .collect();
            let count = asked.entry(question).or_default();
            if of.is_empty() {
                count.unknown += 1;
            } else if of.contains(&Answer::Waived) {
                count.waived += 1;
            } else {
                count.yes += 1;
            }
        }
    }
    asked.into_iter().collect()
}
