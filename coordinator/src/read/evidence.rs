//! The evidence of a data set, summed up: how its published chunks answered the five questions, how
//! many are unvalidated or stale, and what comparing them with their source came to.
//!
//! Bounded: it looks at [`LOOKED`] chunks taken evenly from the plan, unless all are asked for.

use std::collections::BTreeMap;

use common::domain::{Answer, InputEvidence, Question};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// Chunks that are looked at unless all are asked for.
pub const LOOKED: i64 = 2_000;

/// The statement behind [`sum`]; parameters: the data set, and at most how many chunks.
pub const SUM_SQL: &str = include_str!("evidence.sql");

/// How many publications gave one answer to one question in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// The question.
    pub question: Question,
    /// The answer.
    pub answer: Answer,
    /// How it was found.
    pub method: &'static str,
    /// Publications with at least one input that answered so.
    pub publications: i64,
}

/// The sum of the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvidenceSum {
    /// Chunks of the plan.
    pub chunks: i64,
    /// Chunks that were looked at: all of them, or evenly taken from the plan.
    pub looked: i64,
    /// Those of them that are published.
    pub published: i64,
    /// Publications of which no evidence is kept.
    pub without: i64,
    /// Publications that nothing vouches for.
    pub unvalidated: i64,
    /// Publications though a rule had failed (severity warn).
    pub forced: i64,
    /// Publications made from what is not the published generation any more.
    pub stale: i64,
    /// Compared with their source: equal.
    pub equal: i64,
    /// Compared by rows alone: equal.
    pub rows_equal: i64,
    /// Compared: different.
    pub differs: i64,
    /// Compared without an answer.
    pub unknown: i64,
    /// Questions in their order, frequent answers first.
    pub answers: Vec<Answered>,
}

#[derive(FromRow)]
struct Row {
    chunks: i64,
    looked: i64,
    published: i64,
    without: i64,
    unvalidated: i64,
    forced: i64,
    stale: i64,
    equal: i64,
    rows_equal: i64,
    differs: i64,
    unknown: i64,
    answers: Json<Vec<Group>>,
}

/// Publications whose inputs answered alike.
#[derive(Deserialize)]
struct Group {
    how: Vec<String>,
    n: i64,
}

/// Sums up the evidence of a data set; `None` for a source and where no plan is in force.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn sum(
    db: &PgPool,
    data_set_id: i32,
    all: bool,
) -> Result<Option<EvidenceSum>, ReadError> {
    let most = if all { i64::MAX } else { LOOKED };
    let row: Option<Row> = sqlx::query_as(SUM_SQL)
        .bind(data_set_id)
        .bind(most)
        .fetch_optional(db)
        .await?;
    Ok(row.map(|row| EvidenceSum {
        chunks: row.chunks,
        looked: row.looked,
        published: row.published,
        without: row.without,
        unvalidated: row.unvalidated,
        forced: row.forced,
        stale: row.stale,
        equal: row.equal,
        rows_equal: row.rows_equal,
        differs: row.differs,
        unknown: row.unknown,
        answers: by_question(&row.answers.0),
    }))
}

fn by_question(groups: &[Group]) -> Vec<Answered> {
    let mut counts: BTreeMap<(Question, &str), (Answer, &'static str, i64)> = BTreeMap::new();
    let mut codes: Vec<Vec<(Question, Answer, &'static str, String)>> = Vec::new();
    for group in groups {
        let mut seen: Vec<(Question, Answer, &'static str, String)> = Vec::new();
        for how in &group.how {
            let input = InputEvidence {
                how: how.clone(),
                n: 1,
                bytes: None,
                sum: None,
            };
            for (question, answer, method) in input.answers() {
                let key = format!("{answer:?} {}", method.code());
                if !seen
                    .iter()
                    .any(|(asked, .., known)| *asked == question && *known == key)
                {
                    seen.push((question, answer, method.words(), key));
                }
            }
        }
        codes.push(seen);
    }
    for (seen, group) in codes.iter().zip(groups) {
        for (question, answer, method, key) in seen {
            counts
                .entry((*question, key.as_str()))
                .or_insert((*answer, *method, 0))
                .2 += group.n;
        }
    }
    let mut answers: Vec<Answered> = counts
        .into_iter()
        .map(|((question, _), (answer, method, publications))| Answered {
            question,
            answer,
            method,
            publications,
        })
        .collect();
    answers.sort_by_key(|answered| (answered.question, -answered.publications));
    answers
}

#[cfg(test)]
mod tests {
    use common::domain::{Answer, Question};

    use super::{Group, by_question};

    #[test]
    fn publications_are_counted_once_for_each_answer() {
        let group = |how: &[&str], n| Group {
            how: how.iter().map(|how| (*how).to_owned()).collect(),
            n,
        };
        let answers = by_question(&[
            group(&["pub sum stat rules share", "pub sum stat rules share"], 5),
            group(&["pub -size stat -acc share"], 2),
        ]);
        let of = |question: Question| -> Vec<(Answer, i64)> {
            answers
                .iter()
                .filter(|answered| answered.question == question)
                .map(|answered| (answered.answer, answered.publications))
                .collect()
        };
        assert_eq!(of(Question::Ready), [(Answer::Yes, 7)]);
        assert_eq!(
            of(Question::RightData),
            [(Answer::Yes, 5), (Answer::Waived, 2)]
        );
        assert_eq!(
            of(Question::Validated),
            [(Answer::Yes, 5), (Answer::Waived, 2)]
        );
    }
}
