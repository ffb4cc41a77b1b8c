//! Looking at a chunk's work without claiming it, for `worker try`, and at what a login may do.
//!
//! Nothing here writes.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::Type;

use super::{ControlDb, StoreError, read};
use crate::domain::{ChunkId, ChunkStatus, InputChunk, JobSpec, WorkItem};

/// A chunk as a claim would hand it out, with a fence of epoch 0 that no claim hands out.
#[derive(Debug, Clone, PartialEq)]
pub struct Peeked {
    /// The chunk.
    pub item: WorkItem,
    /// Its job.
    pub spec: JobSpec,
    /// What the chunk has come to.
    pub status: ChunkStatus,
}

/// What the control database says of itself and of the login.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Introduction {
    /// The login.
    pub user: String,
    /// The server's time, in milliseconds since 1970.
    pub now_ms: f64,
    /// The server's version, as `server_version_num`.
    pub server_version: i32,
    /// Whether there is a schema `odf`.
    pub schema: bool,
    /// Whether the login may call the worker's functions; `None` where they are not there.
    pub may_claim: Option<bool>,
    /// Whether the login may read the tables behind them: a worker's should not.
    pub may_read: bool,
}

impl ControlDb {
    /// Looks at one chunk, `dataset/key` or `flow:dataset/key`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Refused`] for a source's chunk.
    pub async fn peek(&self, name: &str) -> Result<Peeked, StoreError> {
        #[derive(Deserialize)]
        struct Raw {
            leases: Vec<WorkItem>,
            jobs: HashMap<i32, JobSpec>,
            status: ChunkStatus,
        }
        let answer = self
            .call("SELECT odf.peek($1)", &[(&name, Type::TEXT)])
            .await?;
        let mut raw: Raw = read("peek", answer)?;
        let missing = || StoreError::Answer {
            verb: "peek",
            problem: "no chunk or no job in it".to_owned(),
        };
        let item = raw.leases.pop().ok_or_else(missing)?;
        let spec = raw.jobs.remove(&item.job_id).ok_or_else(missing)?;
        Ok(Peeked {
            item,
            spec,
            status: raw.status,
        })
    }

    /// One page of the chunks of inputs taken whole, after a chunk id (0 for the first page).
    ///
    /// # Errors
    /// As every call.
    pub async fn peek_inputs(
        &self,
        chunk: ChunkId,
        after: ChunkId,
        limit: i32,
    ) -> Result<Vec<InputChunk>, StoreError> {
        let answer = self
            .call(
                "SELECT odf.peek_inputs($1, $2, $3)",
                &[
                    (&chunk.0, Type::INT8),
                    (&after.0, Type::INT8),
                    (&limit, Type::INT4),
                ],
            )
            .await?;
        read("peek_inputs", answer)
    }

    /// Who we are there and what is installed. Works for any login and without our schema.
    ///
    /// # Errors
    /// [`StoreError::Connect`].
    pub async fn introduce(&self) -> Result<Introduction, StoreError> {
        let answer: Value = self
            .call(
                "SELECT jsonb_build_object('user', current_user, \
                 'now_ms', extract(epoch FROM clock_timestamp()) * 1000, \
                 'server_version', current_setting('server_version_num')::int, \
                 'schema', to_regnamespace('odf') IS NOT NULL, \
                 'may_claim', (SELECT has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE') \
                    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
                    WHERE n.nspname = 'odf' AND p.proname = 'claim'), \
                 'may_read', coalesce((SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
                    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE n.nspname = 'odf' AND c.relname = 'lease'), false))",
                &[],
            )
            .await?;
        read("introduction", answer)
    }
}
