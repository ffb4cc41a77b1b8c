//! A worker session's calls: register, beat, claim, settle, reconcile, end.
//!
//! The session's random key is its proof of identity and never leaves this file and the worker's
//! private state file.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_postgres::types::Type;

use super::{ControlDb, StoreError, read, without_nul};
use crate::domain::{AttemptResult, ChunkId, Fence, InputChunk, JobSpec, SessionId, WorkItem};

/// The protocol that this build speaks; `odf.register` refuses others.
pub const PROTOCOL: i32 = 1;

/// What a worker says of itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hello {
    /// Its name, unique among living workers.
    pub name: String,
    /// The host's name, for people.
    pub host: String,
    /// What tells this machine from others, for example `/etc/machine-id`.
    pub machine_id: String,
    /// Process id.
    pub pid: u32,
    /// Release of the worker.
    pub version: String,
    /// How many chunks it may run at once.
    pub slots: u32,
    /// What it offers to jobs that ask for labels.
    pub labels: Vec<String>,
}

/// A registered session.
#[derive(Clone)]
pub struct WorkerSession {
    db: ControlDb,
    id: SessionId,
    key: [u8; 16],
}

impl std::fmt::Debug for WorkerSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerSession")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a beat answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BeatAnswer {
    /// `active`, `dead` or `ended`.
    pub state: String,
    /// Why, where it is over.
    #[serde(default)]
    pub reason: Option<String>,
    /// Slots that it may use now.
    #[serde(default)]
    pub slots: u32,
    /// Whether a person asked it to drain.
    #[serde(default)]
    pub drain: bool,
    /// Whether a claim would probably find something.
    #[serde(default)]
    pub work: bool,
    /// Whether it was silent and must say what it holds before it claims.
    #[serde(default)]
    pub reconcile: bool,
    /// Attempts to stop: chunk, fence, `term` or `kill`, why.
    #[serde(default)]
    pub aborts: Vec<(ChunkId, Fence, String, Option<String>)>,
}

/// What a claim answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// Leases, possibly none, and the jobs they belong to.
    Leases {
        /// One for each chunk.
        items: Vec<WorkItem>,
        /// By `job_id`.
        jobs: HashMap<i32, JobSpec>,
    },
    /// The session is silent, dead or ended: beat first.
    NotActive,
}

/// What became of one settled attempt.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// Recorded now.
    Applied,
    /// Had been recorded by an earlier call whose answer was lost.
    AlreadyApplied,
    /// The lease is no longer this session's: whatever was made does not count.
    LeaseLost,
    /// An input was published again meanwhile: the chunk runs again, uncharged.
    StaleInput,
}

#[derive(Deserialize)]
struct Answer {
    chunk_id: ChunkId,
    fence: Fence,
    answer: Settled,
}

impl WorkerSession {
    /// Registers a new session under a fresh random key.
    ///
    /// A lost answer leaves a session that never beats; its name comes free by silence, so the
    /// caller may simply call again after [`StoreError::Unreachable`].
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] while another living worker has the name.
    pub async fn register(db: &ControlDb, hello: &Hello) -> Result<Self, StoreError> {
        let key: [u8; 16] = rand::random();
        Self::register_with_key(db, hello, key).await
    }

    /// As [`Self::register`] with a key that the caller has stored first, so that after a lost
    /// answer it can sign the unheard session off.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn register_with_key(
        db: &ControlDb,
        hello: &Hello,
        key: [u8; 16],
    ) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Registered {
            session_id: SessionId,
        }
        let mut said = serde_json::to_value(hello).unwrap_or_default();
        said["protocol"] = json!(PROTOCOL);
        said["key_sha256"] = json!(hex::encode(Sha256::digest(key)));
        let answer = db
            .call(
                "SELECT odf.register($1)",
                &[(&without_nul(said), Type::JSONB)],
            )
            .await?;
        let registered: Registered = read("register", answer)?;
        Ok(Self {
            db: db.clone(),
            id: registered.session_id,
            key,
        })
    }

    /// A session known from its stored id and key.
    #[must_use]
    pub fn resume(db: &ControlDb, id: SessionId, key: [u8; 16]) -> Self {
        Self {
            db: db.clone(),
            id,
            key,
        }
    }

    /// The session's number.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The session's key, for the worker's private state file.
    #[must_use]
    pub fn key(&self) -> [u8; 16] {
        self.key
    }

    /// Says that the process lives; `body` may carry `free`, `facts` and `progress`.
    ///
    /// # Errors
    /// [`StoreError::UnknownSession`] where the session was pruned.
    pub async fn beat(&self, beat_no: i64, body: Value) -> Result<BeatAnswer, StoreError> {
        let mut body = without_nul(body);
        body["beat_no"] = json!(beat_no);
        let answer = self
            .db
            .call(
                "SELECT odf.beat($1, $2, $3)",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                    (&body, Type::JSONB),
                ],
            )
            .await?;
        read("beat", answer)
    }

    /// Whether a claim would probably find something now; reads only.
    ///
    /// # Errors
    /// As every call.
    pub async fn look(&self) -> Result<bool, StoreError> {
        let answer = self
            .db
            .call(
                "SELECT to_jsonb(odf.look($1, $2))",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                ],
            )
            .await?;
        read("look", answer)
    }

    /// Claims up to `free` chunks. Repeating `request` answers the same leases again.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]: repeat with the same request number.
    pub async fn claim(&self, request: i64, free: u32) -> Result<Claimed, StoreError> {
        #[derive(Deserialize)]
        struct Raw {
            answer: String,
            #[serde(default)]
            leases: Vec<WorkItem>,
            #[serde(default)]
            jobs: HashMap<i32, JobSpec>,
        }
        let free = i32::try_from(free).unwrap_or(i32::MAX);
        let answer = self
            .db
            .call(
                "SELECT odf.claim($1, $2, $3, $4)",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                    (&request, Type::INT8),
                    (&free, Type::INT4),
                ],
            )
            .await?;
        let raw: Raw = read("claim", answer)?;
        Ok(match raw.answer.as_str() {
            "leases" => Claimed::Leases {
                items: raw.leases,
                jobs: raw.jobs,
            },
            _ => Claimed::NotActive,
        })
    }

    /// Settles a batch; one answer for each item, in any order.
    ///
    /// # Errors
    /// [`StoreError::Database`] where a row cannot be stored: settle one by one to find it.
    pub async fn settle(
        &self,
        batch: &[(ChunkId, Fence, AttemptResult)],
    ) -> Result<HashMap<(ChunkId, Fence), Settled>, StoreError> {
        let items: Vec<Value> = batch
            .iter()
            .map(|(chunk, fence, result)| {
                let mut item = serde_json::to_value(result).unwrap_or_default();
                item["chunk_id"] = json!(chunk);
                item["fence"] = json!(fence);
                without_nul(item)
            })
            .collect();
        let answer = self
            .db
            .call(
                "SELECT odf.settle($1, $2, $3)",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                    (&Value::Array(items), Type::JSONB),
                ],
            )
            .await?;
        let answers: Vec<Answer> = read("settle", answer)?;
        Ok(answers
            .into_iter()
            .map(|a| ((a.chunk_id, a.fence), a.answer))
            .collect())
    }

    /// Says which leases are held; answers those that are held no more.
    ///
    /// # Errors
    /// As every call; safe to repeat as long as no claim is under way.
    pub async fn reconcile(
        &self,
        held: &[(ChunkId, Fence)],
    ) -> Result<Vec<(ChunkId, Fence)>, StoreError> {
        #[derive(Deserialize)]
        struct Raw {
            lost: Vec<(ChunkId, Fence)>,
        }
        let held = json!(held);
        let answer = self
            .db
            .call(
                "SELECT odf.reconcile($1, $2, $3)",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                    (&held, Type::JSONB),
                ],
            )
            .await?;
        let raw: Raw = read("reconcile", answer)?;
        Ok(raw.lost)
    }

    /// One page of the chunks of inputs taken whole, after a chunk id (0 for the first page).
    ///
    /// # Errors
    /// As every call.
    pub async fn attempt_inputs(
        &self,
        chunk: ChunkId,
        fence: Fence,
        after: ChunkId,
        limit: i32,
    ) -> Result<Vec<InputChunk>, StoreError> {
        let answer = self
            .db
            .call(
                "SELECT odf.attempt_inputs($1, $2, $3, $4, $5, $6)",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                    (&chunk.0, Type::INT8),
                    (&fence.0, Type::INT8),
                    (&after.0, Type::INT8),
                    (&limit, Type::INT4),
                ],
            )
            .await?;
        read("attempt_inputs", answer)
    }

    /// Signs off: what is still leased goes back uncharged.
    ///
    /// # Errors
    /// [`StoreError::UnknownSession`] where there is no such session.
    pub async fn end(&self, reason: &str) -> Result<(), StoreError> {
        self.db
            .call(
                "SELECT to_jsonb(odf.end_session($1, $2, $3))",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                    (&reason, Type::TEXT),
                ],
            )
            .await
            .map(|_| ())
    }
}

/// One published output that may be deleted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Removal {
    /// Whose.
    pub chunk_id: ChunkId,
    /// Which generation.
    pub generation: i32,
    /// The fence that published it.
    pub fence: Fence,
    /// The data set's name.
    pub dataset: String,
    /// Where the publication says it is.
    pub location: Option<String>,
    /// The data set's declared place.
    pub at: crate::flow::model::Location,
    /// Its connection, secrets unresolved.
    pub connection: crate::flow::model::Connection,
}

impl WorkerSession {
    /// Takes up to `limit` outputs to delete; no claim reads them from here on.
    ///
    /// # Errors
    /// As every call. What was taken and not settled is offered again after ten minutes.
    pub async fn take_removals(&self, limit: i32) -> Result<Vec<Removal>, StoreError> {
        let answer = self
            .db
            .call(
                "SELECT odf.take_removals($1, $2, $3)",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                    (&limit, Type::INT4),
                ],
            )
            .await?;
        read("take_removals", answer)
    }

    /// Says what became of them: `None` deleted (or was not there), `Some` why not.
    ///
    /// # Errors
    /// As every call; safe to repeat.
    pub async fn settle_removals(
        &self,
        done: &[(ChunkId, i32, Option<String>)],
    ) -> Result<(), StoreError> {
        let done = without_nul(json!(done));
        self.db
            .call(
                "SELECT to_jsonb(true) FROM (SELECT odf.settle_removals($1, $2, $3)) done",
                &[
                    (&self.id.0, Type::INT8),
                    (&self.key.as_slice(), Type::BYTEA),
                    (&done, Type::JSONB),
                ],
            )
            .await
            .map(|_| ())
    }
}
