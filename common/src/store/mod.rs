//! The control plane's side of the database: the only room with its SQL.
//!
//! Every call here is one `select odf.verb(...)`, so a dropped future or a lost answer leaves
//! nothing half done, and every call is safe to repeat. Statements are sent unnamed
//! (`query_typed`), which works through a pooler in transaction mode.

pub mod apply;
pub mod error;
pub mod lead;
pub mod link;
pub mod peek;
pub mod plan;
pub mod replan;
pub mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;
use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_postgres::types::{ToSql, Type};

use crate::endpoint::{self, PoolSettings};

pub use error::StoreError;
pub use lead::{LeaderProof, Leadership};
pub use session::{BeatAnswer, Claimed, Hello, Settled, WorkerSession};

/// How long a protocol call may take before its outcome counts as unknown.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The same for calls that write whole plans.
const PLAN_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long a call waits while its handle's share of the sessions is in use.
const SHARE_LIMIT: Duration = Duration::from_secs(10);
/// How often a call that the server aborted for a deadlock or a serialization conflict is repeated.
const CONFLICT_TRIES: usize = 5;

/// One parameter of a protocol call: a value and its SQL type.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// The control database.
#[derive(Clone)]
pub struct ControlDb {
    pool: Pool,
    url: SecretString,
    limit: Duration,
    /// Bounds what this handle and its clones take of the pool.
    share: Option<Arc<Semaphore>>,
    usage: Arc<Usage>,
}

/// How many calls are under way, and the most since somebody last asked.
#[derive(Default)]
struct Usage {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One call under way.
struct InUse<'a>(&'a Usage);

impl Usage {
    fn one_more(&self) -> InUse<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        InUse(self)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for ControlDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlDb")
            .field("pool", &self.pool.status())
            .finish_non_exhaustive()
    }
}

impl ControlDb {
    /// A pool of at most `size` sessions under `application_name`; opens none yet.
    ///
    /// # Errors
    /// [`StoreError::Connect`] where the url cannot be read.
    pub fn new(url: SecretString, size: usize, application_name: &str) -> Result<Self, StoreError> {
        let mut settings = PoolSettings::new(size, application_name);
        settings.session.statement_timeout = Some(CALL_LIMIT);
        Ok(Self {
            pool: endpoint::pool(&url, &settings)?,
            url,
            limit: CALL_LIMIT,
            share: None,
            usage: Arc::default(),
        })
    }

    /// As [`Self::new`] with calls that may take long: for sealing and deriving plans of millions of
    /// chunks.
    ///
    /// # Errors
    /// [`StoreError::Connect`] where the url cannot be read.
    pub fn patient(
        url: SecretString,
        size: usize,
        application_name: &str,
    ) -> Result<Self, StoreError> {
        let mut settings = PoolSettings::new(size, application_name);
        settings.session.statement_timeout = Some(PLAN_LIMIT);
        Ok(Self {
            pool: endpoint::pool(&url, &settings)?,
            url,
            limit: PLAN_LIMIT,
            share: None,
            usage: Arc::default(),
        })
    }

    /// The same, with another limit than 30 s on the time that a call may take.
    #[must_use]
    pub fn answering_within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same sessions, of which calls by way of this handle and its clones use at most `most` at
    /// once, so that some are left for others.
    #[must_use]
    pub fn at_most(mut self, most: usize) -> Self {
        self.share = Some(Arc::new(Semaphore::new(most)));
        self
    }

    /// Closes idle sessions beyond as many as were in use at once since the last time; one stays.
    pub fn close_unneeded(&self) {
        let needed = self.usage.most.swap(0, Ordering::Relaxed).max(1);
        let mut kept = 0;
        // Those that are in use are not asked about, and go back to the pool.
        drop(self.pool.retain(|_, _| {
            kept += 1;
            kept <= needed
        }));
    }

    /// Runs one function that answers one JSON value.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] where the outcome is unknown: repeat the call as it was.
    pub(crate) async fn call(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Value, StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.call_once(sql, params).await {
                Err(StoreError::Conflict { .. }) if tries < CONFLICT_TRIES => {}
                other => return other,
            }
        }
    }

    async fn call_once(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Value, StoreError> {
        let _share = match &self.share {
            Some(share) => Some(
                tokio::time::timeout(SHARE_LIMIT, share.acquire())
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .ok_or_else(|| StoreError::Unreachable {
                        problem: format!("all sessions were busy for {} s", SHARE_LIMIT.as_secs()),
                    })?,
            ),
            None => None,
        };
        let _in_use = self.usage.one_more();
        let client = self
            .pool
            .get()
            .await
            .map_err(|error| StoreError::from_pool(&self.url, &error))?;
        let answer = tokio::time::timeout(self.limit, client.query_typed(sql, params)).await;
        let rows = match answer {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                if error.is_closed() {
                    // The session is gone: it must not go back to the pool.
                    drop(deadpool_postgres::Object::take(client));
                }
                return Err(StoreError::from_driver(&error));
            }
            Err(_) => {
                drop(deadpool_postgres::Object::take(client));
                // What lost this answer (a network path that is gone) most likely struck the idle
                // sessions as well: they must not cost the next calls as much time each.
                drop(self.pool.retain(|_, _| false));
                return Err(StoreError::Unreachable {
                    problem: format!("no answer within {} s", self.limit.as_secs()),
                });
            }
        };
        let value: Option<Value> = rows
            .first()
            .map(|row| row.try_get(0))
            .transpose()
            .map_err(|error| StoreError::from_driver(&error))?
            .flatten();
        Ok(value.unwrap_or(Value::Null))
    }
}

/// JSON that PostgreSQL can hold: it refuses the NUL character in text.
pub(crate) fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nul).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, item)| (key, without_nul(item)))
                .collect(),
        ),
        other => other,
    }
}

/// Reads a protocol answer into its type; a mismatch means that the two sides are of different releases.
pub(crate) fn read<T: serde::de::DeserializeOwned>(
    verb: &'static str,
    value: Value,
) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::Answer {
        verb,
        problem: error.to_string(),
    })
}
