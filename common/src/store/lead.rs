//! Leadership and the passes that only a leader may run.
//!
//! A pass is reachable only through a [`LeaderProof`], which carries the term; the database checks
//! the term again in the pass's own transaction, so a paused old leader's writes are refused.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::{ControlDb, StoreError, read};
use crate::domain::SessionId;

/// What asking for leadership answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Leadership {
    /// Whether the asker leads now.
    pub leader: bool,
    /// The term in force.
    pub term: i64,
    /// Who leads.
    pub holder: String,
    /// How long that lasts unless renewed, in milliseconds.
    pub expires_ms: u64,
}

/// That this process led when it last asked; every leader-only call demands one.
#[derive(Debug, Clone)]
pub struct LeaderProof {
    db: ControlDb,
    term: i64,
}

/// The sessions that should be heard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Beats {
    /// When the server was started, as it prints it: a change starts every count of silence again.
    pub server_start: String,
    /// How far the movable clock is ahead, in milliseconds; moves only in tests.
    pub clock_offset_ms: i64,
    /// Session and beat number.
    pub sessions: Vec<(SessionId, i64)>,
    /// The shortest silence that any job allows, in milliseconds.
    pub shortest_silence_ms: u64,
}

/// A session that was not heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    /// Which session.
    pub session: SessionId,
    /// The beat number that did not change.
    pub beat_no: i64,
    /// For how long, in milliseconds of the leader's own clock.
    pub unheard_ms: u64,
}

impl ControlDb {
    /// Renews leadership, takes it over where it expired, or says who leads.
    ///
    /// # Errors
    /// As every call; safe to repeat.
    pub async fn lead(&self, holder: &str, ttl: Duration) -> Result<Leadership, StoreError> {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let answer = self
            .call(
                "SELECT odf.lead($1, $2 * interval '1 millisecond')",
                &[(&holder, Type::TEXT), (&(ttl_ms as f64), Type::FLOAT8)],
            )
            .await?;
        read("lead", answer)
    }

    /// The version of the protocol functions that are installed.
    ///
    /// # Errors
    /// [`StoreError::NoSchema`] where nothing is installed.
    pub async fn api_version(&self) -> Result<i32, StoreError> {
        let sql = "SELECT to_jsonb(api_version) FROM odf.installation";
        read("api_version", self.call(sql, &[]).await?)
    }

    /// The proof for a term that [`Self::lead`] granted.
    #[must_use]
    pub fn proof(&self, term: i64) -> LeaderProof {
        LeaderProof {
            db: self.clone(),
            term,
        }
    }
}

impl LeaderProof {
    /// The term that it proves.
    #[must_use]
    pub fn term(&self) -> i64 {
        self.term
    }

    /// The term as a call's first parameter.
    pub(super) fn param(&self) -> super::Param<'_> {
        (&self.term, Type::INT8)
    }

    /// The database that it leads.
    #[must_use]
    pub fn db(&self) -> &ControlDb {
        &self.db
    }

    /// Steps down.
    ///
    /// # Errors
    /// As every call.
    pub async fn resign(&self) -> Result<(), StoreError> {
        self.db
            .call(
                "SELECT to_jsonb(odf.resign($1))",
                &[(&self.term, Type::INT8)],
            )
            .await
            .map(|_| ())
    }

    /// The sessions to listen for.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn beats(&self) -> Result<Beats, StoreError> {
        read(
            "beats",
            self.db
                .call("SELECT odf.beats($1)", &[(&self.term, Type::INT8)])
                .await?,
        )
    }

    /// Takes the leases that unheard sessions hold beyond their jobs' silence plus `slack`.
    /// Answers how many sessions died and how many leases were taken.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn sweep(
        &self,
        unheard: &[Unheard],
        slack: Duration,
    ) -> Result<(i64, i64), StoreError> {
        let list: Vec<Value> = unheard
            .iter()
            .map(|u| json!({"session_id": u.session, "beat_no": u.beat_no, "unheard_ms": u.unheard_ms}))
            .collect();
        let answer = self
            .db
            .call(
                "SELECT odf.sweep($1, $2, $3 * interval '1 second')",
                &[
                    (&self.term, Type::INT8),
                    (&Value::Array(list), Type::JSONB),
                    (&slack.as_secs_f64(), Type::FLOAT8),
                ],
            )
            .await?;
        Ok((
            answer["dead"].as_i64().unwrap_or(0),
            answer["lost"].as_i64().unwrap_or(0),
        ))
    }

    /// Moves failed chunks whose time has come back to their lanes; answers how many.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn retry_due(&self, limit: i32) -> Result<i64, StoreError> {
        self.count(
            "SELECT to_jsonb(odf.retry_due($1, $2))",
            &[(&self.term, Type::INT8), (&limit, Type::INT4)],
        )
        .await
    }

    /// Releases what waited for whole data sets and applies pending requests; answers how many.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn promote(&self) -> Result<i64, StoreError> {
        self.by_term("SELECT to_jsonb(odf.promote($1))").await
    }

    /// Gives out rights to run again where they would change; answers how many changed.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn allot(&self) -> Result<i64, StoreError> {
        self.by_term("SELECT to_jsonb(odf.allot_if_needed($1))")
            .await
    }

    /// Moves the lanes' floors up; answers how many moved.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn move_floors(&self) -> Result<i64, StoreError> {
        self.by_term("SELECT to_jsonb(odf.move_floors($1))").await
    }

    /// Looks for rows below the floors; answers how many lanes were repaired.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn look_below_floors(&self) -> Result<i64, StoreError> {
        self.by_term("SELECT to_jsonb(odf.look_below_floors($1))")
            .await
    }

    /// Folds progress deltas; answers how many were folded.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn fold_progress(&self) -> Result<i64, StoreError> {
        self.by_term("SELECT to_jsonb(odf.fold_progress($1))").await
    }

    /// Repairs chunks that no queue holds; answers how many.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn find_stranded(&self, older_than: Duration) -> Result<i64, StoreError> {
        self.count(
            "SELECT to_jsonb(odf.find_stranded($1, $2 * interval '1 second'))",
            &[
                (&self.term, Type::INT8),
                (&older_than.as_secs_f64(), Type::FLOAT8),
            ],
        )
        .await
    }

    /// Makes and drops history partitions; answers what was done.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn prune(&self) -> Result<Value, StoreError> {
        self.db
            .call("SELECT odf.prune($1)", &[(&self.term, Type::INT8)])
            .await
    }

    /// Stops lanes whose disk is too full and opens those that have room again; answers how many changed.
    ///
    /// # Errors
    /// [`StoreError::TermOver`].
    pub async fn watch_space(&self) -> Result<i64, StoreError> {
        self.by_term("SELECT to_jsonb(odf.watch_space($1))").await
    }

    /// Records what a loop did, for `coordinator status --loops`.
    ///
    /// # Errors
    /// As every call.
    pub async fn report_loop(
        &self,
        name: &str,
        took: Duration,
        result: &str,
        ok: bool,
    ) -> Result<(), StoreError> {
        let ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        self.db
            .call(
                "SELECT to_jsonb(true) FROM odf.prove_term($1), LATERAL odf.report_loop($1, $2, $3, $4, $5)",
                &[
                    (&self.term, Type::INT8),
                    (&name, Type::TEXT),
                    (&ms, Type::INT8),
                    (&result, Type::TEXT),
                    (&ok, Type::BOOL),
                ],
            )
            .await
            .map(|_| ())
    }

    async fn by_term(&self, sql: &'static str) -> Result<i64, StoreError> {
        self.count(sql, &[(&self.term, Type::INT8)]).await
    }

    async fn count(
        &self,
        sql: &'static str,
        params: &[super::Param<'_>],
    ) -> Result<i64, StoreError> {
        Ok(self.db.call(sql, params).await?.as_i64().unwrap_or(0))
    }
}
