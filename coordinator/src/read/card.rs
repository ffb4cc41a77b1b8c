//! The five-question card of a chunk: what each input answered when the chunk was made, and now.
//!
//! Reads what was kept; looks at no file and no other database.

use chrono::{DateTime, Utc};
use common::domain::{Answer, Evidence, InputEvidence, Method, Question, Validation};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};

use super::error::ReadError;

/// Inputs that are shown; stale ones come first.
const SHOWN: i64 = 5;

/// One question about one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CardRow {
    /// Which question.
    pub question: Question,
    /// What was answered when the chunk was made; `None` where it never was or nothing was kept.
    pub then: Option<Answer>,
    /// How, expected against found.
    pub then_words: String,
    /// What the answer would be now, as far as the control database knows.
    pub now: Answer,
    /// Why.
    pub now_words: String,
}

/// One input's five answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputCard {
    /// `dataset/key`.
    pub name: String,
    /// The generation that was read.
    pub generation: Option<i32>,
    /// The five rows, in order.
    pub rows: Vec<CardRow>,
}

/// The card of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Card {
    /// The generation whose making is told; `None` where there is none yet.
    pub generation: Option<i32>,
    /// The attempt that made it.
    pub attempt: Option<i32>,
    /// The worker that asked the questions.
    pub asked_by: Option<String>,
    /// When it had asked the last one.
    pub asked_at: Option<DateTime<Utc>>,
    /// How many chunks were inputs one by one.
    pub inputs: i64,
    /// The first of them, stale ones before others.
    pub cards: Vec<InputCard>,
    /// Groups of chunks that answered alike, as kept.
    pub groups: Vec<InputEvidence>,
}

#[derive(FromRow)]
struct Row {
    made: Option<Json<Made>>,
    inputs: i64,
    cards: Json<Vec<Facts>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Made {
    generation: i32,
    attempt: i32,
    worker: String,
    claimed_at: DateTime<Utc>,
    evidence: Option<String>,
}

/// One input as the database knows it.
#[derive(Debug, Clone, Deserialize)]
struct Facts {
    n: i64,
    name: String,
    generation: Option<i32>,
    attempt: Option<i32>,
    worker: Option<String>,
    published_at: Option<DateTime<Utc>>,
    bytes: Option<i64>,
    checksum: Option<String>,
    location: Option<String>,
    connection: Option<String>,
    environment: Option<String>,
    validation: Option<String>,
    generation_now: i32,
    status_now: String,
    reason_now: Option<String>,
    removed_now: bool,
    connection_now: Option<String>,
    source: bool,
}

/// The card of a chunk.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn card(db: &PgPool, chunk_id: i64) -> Result<Card, ReadError> {
    let row: Row = sqlx::query_as(include_str!("card.sql"))
        .bind(chunk_id)
        .bind(SHOWN)
        .fetch_one(db)
        .await?;
    let made = row.made.map(|made| made.0);
    let evidence = made
        .as_ref()
        .and_then(|made| made.evidence.as_deref())
        .and_then(Evidence::decode);
    let groups = evidence
        .as_ref()
        .map(|evidence| evidence.inputs.clone())
        .unwrap_or_default();
    let asked_at = made
        .as_ref()
        .zip(evidence.as_ref())
        .map(|(made, evidence)| {
            let ms = i64::try_from(evidence.ms).unwrap_or(i64::MAX);
            made.claimed_at + chrono::TimeDelta::milliseconds(ms.min(1_000_000_000_000))
        });
    Ok(Card {
        generation: made.as_ref().map(|made| made.generation),
        attempt: made.as_ref().map(|made| made.attempt),
        asked_by: made.as_ref().map(|made| made.worker.clone()),
        asked_at,
        inputs: row.inputs,
        cards: row
            .cards
            .0
            .iter()
            .map(|facts| input_card(facts, group_of(&groups, facts.n)))
            .collect(),
        groups,
    })
}

/// The group that the n-th input (from 1) answered with.
fn group_of(groups: &[InputEvidence], n: i64) -> Option<&InputEvidence> {
    let mut left = u64::try_from(n).ok()?;
    groups.iter().find(|group| {
        let inside = left <= group.n;
        left = left.saturating_sub(group.n);
        inside
    })
}

fn input_card(facts: &Facts, group: Option<&InputEvidence>) -> InputCard {
    let answers = group.map(InputEvidence::answers).unwrap_or_default();
    let rows = Question::ALL
        .into_iter()
        .map(|question| {
            let then = answers.iter().find(|(asked, ..)| *asked == question);
            let (now, now_words) = now(facts, question);
            CardRow {
                question,
                then: then.map(|(_, answer, _)| *answer),
                then_words: then.map_or_else(String::new, |(_, _, method)| {
                    then_words(facts, group, question, *method)
                }),
                now,
                now_words,
            }
        })
        .collect();
    InputCard {
        name: facts.name.clone(),
        generation: facts.generation,
        rows,
    }
}

fn then_words(
    facts: &Facts,
    group: Option<&InputEvidence>,
    question: Question,
    method: Method,
) -> String {
    match question {
        Question::Ready => match (facts.attempt, &facts.worker, facts.published_at) {
            (Some(attempt), Some(worker), Some(at)) => format!(
                "generation {} by attempt {attempt} on {worker}, {}",
                facts.generation.unwrap_or_default(),
                at.format("%F %T UTC")
            ),
            _ => method.words().to_owned(),
        },
        Question::RightData => match (method, group) {
            (Method::Sha256 | Method::Size, Some(group)) => {
                let expected = bytes_and_sum(facts.bytes, facts.checksum.as_deref());
                // Of several inputs only the totals are kept.
                let found = if group.n == 1 {
                    let bytes = group.bytes.and_then(|bytes| i64::try_from(bytes).ok());
                    bytes_and_sum(bytes, group.sum.as_deref())
                } else {
                    format!("the same, one of {} that were", group.n)
                };
                format!("{}: expected {expected}, found {found}", method.words())
            }
            _ => method.words().to_owned(),
        },
        Question::RightLocation => {
            let place = facts.location.as_deref().unwrap_or("the declared place");
            let connection = facts
                .connection
                .as_ref()
                .or(facts.connection_now.as_ref())
                .map(|name| format!(" in {name}"))
                .unwrap_or_default();
            let environment = facts
                .environment
                .as_ref()
                .map(|label| format!(", environment {label}"))
                .unwrap_or_default();
            format!("{place}{connection}{environment}: {}", method.words())
        }
        Question::Validated => match method {
            Method::Rules => validation_words(facts.validation.as_deref()),
            _ => method.words().to_owned(),
        },
        Question::Safe => method.words().to_owned(),
    }
}

fn bytes_and_sum(bytes: Option<i64>, sum: Option<&str>) -> String {
    let mut parts: Vec<String> = bytes.iter().map(|bytes| format!("{bytes} bytes")).collect();
    if let Some(sum) = sum {
        let sum = sum.strip_prefix("sha256:").unwrap_or(sum);
        parts.push(format!("sha256 {}", sum.get(..16).unwrap_or(sum)));
    }
    if parts.is_empty() {
        return "nothing kept".to_owned();
    }
    parts.join(", ")
}

/// The rules that a publication passed, with their figures.
#[must_use]
pub fn validation_words(text: Option<&str>) -> String {
    let read: Option<Validation> = text.and_then(|text| serde_json::from_str(text).ok());
    let Some(validation) = read.filter(Validation::is_validated) else {
        return "published unvalidated".to_owned();
    };
    let mut parts: Vec<String> = validation.format.into_iter().collect();
    parts.extend(validation.rows.map(|rows| format!("{rows} rows counted")));
    parts.extend(validation.rules.iter().map(|rule| {
        let mark = if rule.ok { "" } else { "FAILED " };
        format!("{mark}{} = {}", rule.rule, rule.found)
    }));
    parts.join(", ")
}

fn now(facts: &Facts, question: Question) -> (Answer, String) {
    let published = facts.generation_now >= 1 && !facts.removed_now;
    match question {
        Question::Ready => match (published, facts.status_now.as_str()) {
            (true, "validated") => (Answer::Yes, format!("generation {}", facts.generation_now)),
            (_, status) => (Answer::No, format!("it is {status}")),
        },
        Question::RightData => match facts.generation {
            Some(read) if read != facts.generation_now => (
                Answer::No,
                format!("stale: generation {} is published", facts.generation_now),
            ),
            _ => (Answer::Yes, "the same generation".to_owned()),
        },
        Question::RightLocation => {
            if facts.removed_now {
                return (Answer::No, "its data was removed".to_owned());
            }
            match (&facts.connection, &facts.connection_now) {
                (Some(then), Some(now)) if then != now => {
                    (Answer::No, format!("declared in {now} since"))
                }
                _ => (
                    Answer::Waived,
                    "as declared; looked at again by the next attempt".to_owned(),
                ),
            }
        }
        Question::Validated if facts.source => (Answer::Waived, "a source".to_owned()),
        Question::Validated => {
            let words = validation_words(facts.validation.as_deref());
            let answer = if words == "published unvalidated" {
                Answer::Waived
            } else {
                Answer::Yes
            };
            (answer, words)
        }
        Question::Safe => match facts.status_now.as_str() {
            "running" => (Answer::No, "it is being made again".to_owned()),
            "resubmit" => (Answer::No, "it is asked to run again".to_owned()),
            "held" => {
                let reason = facts.reason_now.as_deref().unwrap_or("no reason given");
                (Answer::No, format!("held: {reason}"))
            }
            _ => (Answer::Yes, "no writer, no hold".to_owned()),
        },
    }
}
