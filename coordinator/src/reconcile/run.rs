//! One run over the chunks of a data set: each compared, each answer kept as it comes, so that an
//! interrupted run goes on where it stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use common::domain::Bounds;
use common::endpoint::PgSession;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use sqlx::PgPool;
use tokio::sync::Mutex;

use super::expected::expected;
use super::file;
use super::keys::{self, KeyList, Side};
use super::place::{Place, TablePlace};
use super::table::{self, Look, TableError};
use super::verdict::{Figures, Verdict, of_file, of_rows};
use crate::read::ReadError;
use crate::read::chunks::{self, ChunkRow, ListFilter};
use crate::read::reconciliation::{Standing, standings};

/// Chunks that are looked up together.
const PAGE: i64 = 500;

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Chunks at a time, each with a session of its own at either side.
    pub concurrency: usize,
    /// Keys listed for a chunk; 0 lists none and does not read the source for it.
    pub keys: usize,
    /// Measure the source of today as well.
    pub today: bool,
    /// Compare what is known to be equal again.
    pub again: bool,
    /// How both sides are looked at.
    pub look: Look,
}

/// Both ends.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The data set's number.
    pub data_set_id: i32,
    /// Where it is.
    pub target: Place,
    /// Where its one source is.
    pub source: Place,
}

/// What one chunk came to, as it is kept.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Which chunk.
    pub chunk_id: i64,
    /// Its name in the data set.
    pub key: String,
    /// The generation that was looked at; 0 was never published and is not kept.
    pub generation: i32,
    /// What it came to.
    pub verdict: Verdict,
    /// Rows at the extract.
    pub expected_rows: Option<i64>,
    /// Row sum at the extract, or a file's `sha256:hex`.
    pub expected_sum: Option<String>,
    /// Whose figures these are.
    pub expected_from: Option<String>,
    /// When they were published.
    pub expected_at: Option<DateTime<Utc>>,
    /// Rows in the target.
    pub found_rows: Option<i64>,
    /// Row sum of the target, or a file's `sha256:hex`.
    pub found_sum: Option<String>,
    /// Rows in the source of today; no part of the verdict.
    pub today_rows: Option<i64>,
    /// Row sum of the source of today.
    pub today_sum: Option<String>,
    /// Which rows belonged.
    pub cutoff: Option<String>,
    /// Why it is not equal, or what is known beside.
    pub reason: Option<String>,
    /// Keys that differ between the target and the source of today.
    pub keys: Option<KeyList>,
}

/// A run's counts.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// Chunks that were compared, by what it came to.
    pub verdicts: BTreeMap<Verdict, i64>,
    /// Chunks known to be equal from an earlier run and not compared again.
    pub known_equal: i64,
    /// Chunks whose source has changed since its extract.
    pub changed_since: i64,
}

impl Tally {
    /// Chunks with that verdict.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> i64 {
        self.verdicts.get(&verdict).copied().unwrap_or(0)
    }

    /// Chunks that were looked at or known.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.verdicts.values().sum::<i64>() + self.known_equal
    }

    /// Whether nothing differs and nothing is unknown.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.of(Verdict::Differs) == 0 && self.of(Verdict::Unknown) == 0
    }
}

/// Compares chunks and keeps what it comes to.
#[derive(Debug)]
pub struct Run {
    db: PgPool,
    ends: Ends,
    options: Options,
    targets: Mutex<Vec<PgSession>>,
    sources: Mutex<Vec<PgSession>>,
}

impl Run {
    /// A run between two ends; the target of a table is connected at once, so that what is wrong with
    /// it is said once and not for every chunk.
    ///
    /// # Errors
    /// [`TableError`] where the target cannot be connected.
    pub async fn new(db: PgPool, ends: Ends, options: Options) -> Result<Self, TableError> {
        let mut targets = Vec::new();
        if let Place::Table(place) = &ends.target {
            targets.push(table::open(place, &options.look).await?);
        }
        Ok(Self {
            db,
            ends,
            options,
            targets: Mutex::new(targets),
            sources: Mutex::default(),
        })
    }

    /// Compares all chunks that the filter takes; `seen` hears every outcome and the counts so far.
    ///
    /// # Errors
    /// [`ReadError`] where the control database fails; what was kept before stays.
    pub async fn all(
        &self,
        mut filter: ListFilter,
        mut seen: impl FnMut(&Outcome, &Tally) + Send,
    ) -> Result<Tally, ReadError> {
        let mut tally = Tally::default();
        filter.limit = PAGE;
        loop {
            let rows = chunks::list(&self.db, &filter).await?;
            let Some(last) = rows.last() else { break };
            filter.after = Some((last.dataset.clone(), last.key.clone()));
            let ids: Vec<i64> = rows.iter().map(|row| row.chunk_id).collect();
            let mut known: BTreeMap<i64, Standing> = standings(&self.db, &ids)
                .await?
                .into_iter()
                .map(|standing| (standing.chunk_id, standing))
                .collect();
            let mut open = Vec::new();
            for row in rows {
                match known.remove(&row.chunk_id) {
                    Some(standing) if self.is_done(&standing) => tally.known_equal += 1,
                    Some(standing) => open.push((row, standing)),
                    None => {}
                }
            }
            let mut outcomes = stream::iter(open)
                .map(|(row, standing)| async move {
                    let outcome = self.one(&row, &standing).await?;
                    self.keep(&outcome).await?;
                    Ok::<_, ReadError>(outcome)
                })
                .buffer_unordered(self.options.concurrency.max(1));
            while let Some(outcome) = outcomes.next().await {
                let outcome = outcome?;
                *tally.verdicts.entry(outcome.verdict).or_default() += 1;
                if changed_since(&outcome) {
                    tally.changed_since += 1;
                }
                seen(&outcome, &tally);
            }
        }
        Ok(tally)
    }

    /// Writes the audit row of the run and says good-bye to both sides.
    ///
    /// # Errors
    /// [`ReadError`] as the server answers.
    pub async fn close(self, summary: &str) -> Result<(), ReadError> {
        for session in self
            .targets
            .into_inner()
            .into_iter()
            .chain(self.sources.into_inner())
        {
            session.close().await;
        }
        record(&self.db, self.ends.data_set_id, &[], Some(summary)).await
    }

    fn is_done(&self, standing: &Standing) -> bool {
        !self.options.again
            && standing.seen_verdict.as_deref() == Some("equal")
            && standing.seen_generation == Some(standing.generation)
            && standing.seen_cutoff == self.options.look.cutoff
            && (standing.seen_today || !self.options.today)
            && !standing.removed
    }

    async fn keep(&self, outcome: &Outcome) -> Result<(), ReadError> {
        if outcome.generation == 0 {
            return Ok(());
        }
        record(
            &self.db,
            self.ends.data_set_id,
            std::slice::from_ref(outcome),
            None,
        )
        .await
    }

    async fn one(&self, row: &ChunkRow, standing: &Standing) -> Result<Outcome, ReadError> {
        let mut outcome = blank(row, standing, self.options.look.cutoff.clone());
        if let Some(why) = untouchable(standing) {
            return Ok(unknown(outcome, why));
        }
        match &self.ends.target {
            Place::Nowhere(why) => return Ok(unknown(outcome, why.clone())),
            Place::Files { root } => {
                let Some(own) = standing.way.first() else {
                    return Ok(unknown(outcome, "it has no publication".to_owned()));
                };
                outcome.expected_sum.clone_from(&own.checksum);
                outcome.expected_from = Some(format!(
                    "{}/{} generation {}",
                    own.dataset, own.key, own.generation
                ));
                outcome.expected_at = Some(own.published_at);
                match file::measure(root, own.location.as_deref().unwrap_or_default()).await {
                    Ok((bytes, sum)) => {
                        let (verdict, reason) =
                            of_file(own.bytes_out, own.checksum.as_deref(), bytes, &sum);
                        (outcome.verdict, outcome.reason) = (verdict, reason);
                        // As the publication spells it, so that equal is equal to the letter.
                        outcome.found_sum = match verdict {
                            Verdict::Equal => own.checksum.clone(),
                            _ => Some(sum),
                        };
                    }
                    Err(why) => outcome = unknown(outcome, why),
                }
            }
            Place::Table(place) => self.table(&mut outcome, place, row, standing).await,
        }
        if outcome.verdict == Verdict::Differs {
            // What is made again meanwhile has not gone wrong.
            let now = standings(&self.db, &[row.chunk_id]).await?;
            if let Some(now) = now.first() {
                if now.generation != standing.generation {
                    return Ok(unknown(
                        outcome,
                        "it was published again meanwhile".to_owned(),
                    ));
                }
                if let Some(why) = untouchable(now) {
                    return Ok(unknown(outcome, why));
                }
            }
        }
        Ok(outcome)
    }

    async fn table(
        &self,
        outcome: &mut Outcome,
        place: &TablePlace,
        row: &ChunkRow,
        standing: &Standing,
    ) {
        let bounds: Bounds = match serde_json::from_value(row.bounds.clone()) {
            Ok(bounds) => bounds,
            Err(error) => {
                *outcome = unknown(
                    outcome.clone(),
                    format!("its bounds cannot be read: {error}"),
                );
                return;
            }
        };
        let expected = expected(&standing.way);
        let by_place = expected.as_ref().is_some_and(|expected| expected.by_place);
        if let Some(expected) = &expected {
            outcome.expected_rows = Some(expected.rows);
            outcome.expected_sum.clone_from(&expected.sum);
            outcome.expected_from = Some(expected.from.clone());
            outcome.expected_at = Some(expected.at);
        }
        match self.measured(&self.targets, place, &bounds, by_place).await {
            Ok(found) => {
                (outcome.verdict, outcome.reason) = of_rows(expected.as_ref(), &found);
                outcome.found_rows = found.rows;
                outcome.found_sum = Some(found.sum);
            }
            Err(error) => {
                *outcome = unknown(outcome.clone(), format!("target: {error}"));
                return;
            }
        }
        self.today(outcome, place, &bounds, by_place).await;
    }

    /// The source of today, where it was asked for; the keys that differ, where the target is not as
    /// expected or the source has changed.
    async fn today(
        &self,
        outcome: &mut Outcome,
        target: &TablePlace,
        bounds: &Bounds,
        by_place: bool,
    ) {
        let differs = outcome.verdict == Verdict::Differs;
        let source = match &self.ends.source {
            Place::Table(source) => source,
            Place::Files { .. } | Place::Nowhere(_) if !differs && !self.options.today => return,
            Place::Files { .. } => {
                return note(
                    outcome,
                    "the source is no table: nothing to compare keys with",
                );
            }
            Place::Nowhere(why) => return note(outcome, why),
        };
        if self.options.today {
            match self.measured(&self.sources, source, bounds, by_place).await {
                Ok(today) => keep_today(outcome, today),
                Err(error) => return note(outcome, &format!("source of today: {error}")),
            }
        }
        if (differs || changed_since(outcome)) && self.options.keys > 0 {
            match self.keys(target, source, bounds, by_place).await {
                Ok(list) => {
                    keep_today(outcome, list.source.clone());
                    outcome.keys = Some(list);
                }
                Err(error) => note(outcome, &format!("keys that differ: {error}")),
            }
        }
        if outcome.today_sum.is_some() && outcome.expected_sum.is_some() {
            match (differs, changed_since(outcome)) {
                (true, false) => note(outcome, "the source is as it was at its extract"),
                (_, true) => note(outcome, "the source has changed since its extract"),
                (false, false) => {}
            }
        }
    }

    async fn measured(
        &self,
        stash: &Mutex<Vec<PgSession>>,
        place: &TablePlace,
        bounds: &Bounds,
        by_place: bool,
    ) -> Result<Figures, TableError> {
        let mut session = self.session(stash, place).await?;
        let found =
            table::measure(&mut session, place, &self.options.look, bounds, by_place).await?;
        stash.lock().await.push(session);
        Ok(found)
    }

    async fn keys(
        &self,
        target: &TablePlace,
        source: &TablePlace,
        bounds: &Bounds,
        by_place: bool,
    ) -> Result<KeyList, TableError> {
        let mut left = self.session(&self.targets, target).await?;
        let mut right = self.session(&self.sources, source).await?;
        let sides = (
            Side {
                place: target,
                session: &mut left,
            },
            Side {
                place: source,
                session: &mut right,
            },
        );
        let look = &self.options.look;
        let list =
            keys::differing(sides.0, sides.1, look, bounds, by_place, self.options.keys).await?;
        self.targets.lock().await.push(left);
        self.sources.lock().await.push(right);
        Ok(list)
    }

    /// A session that is free, or a new one; one that failed is never used again.
    async fn session(
        &self,
        stash: &Mutex<Vec<PgSession>>,
        place: &TablePlace,
    ) -> Result<PgSession, TableError> {
        let free = stash.lock().await.pop();
        match free.filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => table::open(place, &self.options.look).await,
        }
    }
}

fn blank(row: &ChunkRow, standing: &Standing, cutoff: Option<String>) -> Outcome {
    Outcome {
        chunk_id: row.chunk_id,
        key: row.key.clone(),
        generation: standing.generation,
        verdict: Verdict::Unknown,
        expected_rows: None,
        expected_sum: None,
        expected_from: None,
        expected_at: None,
        found_rows: None,
        found_sum: None,
        today_rows: None,
        today_sum: None,
        cutoff,
        reason: None,
        keys: None,
    }
}

fn unknown(mut outcome: Outcome, why: String) -> Outcome {
    outcome.verdict = Verdict::Unknown;
    outcome.reason = Some(why);
    outcome
}

fn note(outcome: &mut Outcome, what: &str) {
    outcome.reason = Some(match outcome.reason.take() {
        Some(reason) => format!("{reason}; {what}"),
        None => what.to_owned(),
    });
}

fn keep_today(outcome: &mut Outcome, today: Figures) {
    outcome.today_rows = today.rows;
    outcome.today_sum = Some(today.sum);
}

/// Why a chunk cannot be looked at now.
fn untouchable(standing: &Standing) -> Option<String> {
    if standing.generation == 0 {
        return Some("it is not published yet".to_owned());
    }
    if standing.removed {
        return Some("its data was removed under the keep rule".to_owned());
    }
    standing
        .busy
        .map(|attempt| format!("attempt {attempt} is making it again"))
}

/// Whether the source holds something else than at its extract.
fn changed_since(outcome: &Outcome) -> bool {
    matches!((&outcome.today_sum, &outcome.expected_sum), (Some(today), Some(then)) if today != then)
}

/// Keeps outcomes, and the audit row where there is a summary.
async fn record(
    db: &PgPool,
    data_set_id: i32,
    outcomes: &[Outcome],
    summary: Option<&str>,
) -> Result<(), ReadError> {
    sqlx::query("select odf.record_reconciliation($1, $2, $3)")
        .bind(data_set_id)
        .bind(sqlx::types::Json(outcomes))
        .bind(summary)
        .execute(db)
        .await?;
    Ok(())
}

/// How long reading one chunk may take, unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(1800);
