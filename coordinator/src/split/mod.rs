//! Cutting a data set into chunks: one file per scheme, each a function that pushes chunks into
//! a sink as it finds them.
//!
//! The invariant of this room: the chunks of one run tile the data set as the source showed it in
//! one snapshot, no gap and no overlap. It reads sources and never writes to them, knows nothing
//! of the store, and never puts a value into SQL text.

mod batcher;
pub mod check;
mod chunk_key;
mod command;
mod error;
pub mod figures;
mod files;
mod key_column;
mod key_range;
mod list;
mod product;
mod query;
mod single;
mod source;
mod windows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use common::domain::{KeyColumn, NewChunk};
use common::endpoint::{PgSession, SecretString, SessionSettings};
use common::flow::model::{Location, Partition};
use serde::Serialize;

pub use error::SplitError;
pub use figures::SizeFigures;

use batcher::Batcher;

/// The most chunks that one plan may have.
pub const MAX_CHUNKS: u64 = 10_000_000;
/// The most chunks in one push.
pub const BATCH: usize = 5_000;

/// Takes chunks in the order of the plan; the store's side of a split.
#[async_trait]
pub trait ChunkSink: Send {
    /// Takes the next chunks, at most [`BATCH`] of them.
    ///
    /// # Errors
    /// Anything; it ends the split, which then reports [`SplitError::Sink`].
    async fn push(&mut self, batch: Vec<NewChunk>) -> anyhow::Result<()>;
}

/// A data set's connection, its secrets resolved.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A PostgreSQL database.
    Postgres {
        /// The resolved url.
        url: SecretString,
    },
    /// A directory tree.
    Files {
        /// Its absolute root.
        root: PathBuf,
    },
    /// Anything that only scripts understand.
    Other,
}

/// How long planning may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitLimits {
    /// The longest one statement may run on the source.
    pub statement: Duration,
    /// The longest a statement may wait for a lock on the source.
    pub lock: Duration,
    /// The longest a planning command may run.
    pub command: Duration,
}

impl Default for SplitLimits {
    fn default() -> Self {
        Self {
            statement: Duration::from_secs(2 * 3600),
            lock: Duration::from_secs(10),
            command: Duration::from_secs(600),
        }
    }
}

/// All that a split needs to know.
#[derive(Debug, Clone)]
pub struct SplitRequest<'a> {
    /// The data set's name, for messages and for the session's name.
    pub dataset: &'a str,
    /// Its connection.
    pub endpoint: Endpoint,
    /// Its place there.
    pub location: &'a Location,
    /// How it is cut.
    pub partition: &'a Partition,
    /// Where planning commands are: nothing outside of it is run.
    pub script_dir: Option<&'a Path>,
    /// Variables for planning commands, besides a small inherited set.
    pub env: &'a BTreeMap<String, SecretString>,
    /// Time-outs.
    pub limits: SplitLimits,
}

/// What a split came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SplitSummary {
    /// Chunks pushed.
    pub chunks: u64,
    /// Rows in all of them, where the scheme knows.
    pub rows_estimate: Option<i64>,
    /// Bytes in all of them, where the scheme knows.
    pub bytes_estimate: Option<i64>,
    /// The key that was used, for key ranges.
    pub columns: Vec<KeyColumn>,
    /// The smallest and the largest key seen, for key ranges over at least one row.
    pub outer: Option<(Vec<String>, Vec<String>)>,
    /// Rows per chunk.
    pub rows: Option<SizeFigures>,
    /// Bytes per chunk.
    pub bytes: Option<SizeFigures>,
    /// What a person should know before sealing the plan, in whole sentences.
    pub notes: Vec<String>,
}

/// Cuts a data set into chunks and pushes them into the sink, in the order of the plan.
///
/// Reads the source in one read-only snapshot. Dropping the future ends the session, and the
/// server stops the statement within ten seconds.
///
/// # Errors
/// A [`SplitError`]; chunks already pushed are then worthless, for the plan is not whole.
pub async fn split(
    request: SplitRequest<'_>,
    sink: &mut dyn ChunkSink,
) -> Result<SplitSummary, SplitError> {
    let mut out = Batcher::new(sink);
    match request.partition {
        Partition::Key { columns, size } => {
            let mut session = open(&request).await?;
            let table = table_of(&request)?;
            key_range::split(
                &mut session,
                request.limits,
                table,
                columns,
                *size,
                &mut out,
            )
            .await?;
            session.close().await;
        }
        Partition::List { values } => list::split(values, &mut out).await?,
        Partition::Files { pattern } => {
            let Endpoint::Files { root } = &request.endpoint else {
                return Err(wrong_kind(&request, "files"));
            };
            files::split(root, pattern, &mut out).await?;
        }
        Partition::Query { sql, key } => {
            let mut session = open(&request).await?;
            query::split(&mut session, request.limits, sql, key.as_deref(), &mut out).await?;
            session.close().await;
        }
        Partition::Command { argv } => command::split(&request, argv, &mut out).await?,
        Partition::Windows {
            calendar,
            column: None,
            ..
        } => windows::split(calendar, &mut out).await?,
        Partition::Windows {
            calendar,
            column: Some(column),
            rest,
        } => {
            let mut session = open(&request).await?;
            let table = table_of(&request)?;
            let rows = (column.as_str(), *rest);
            windows::split_table(
                &mut session,
                request.limits,
                table,
                calendar,
                rows,
                &mut out,
            )
            .await?;
            session.close().await;
        }
        Partition::Product { parts } => product::split(&request, parts, &mut out).await?,
        Partition::Single => single::split(&mut out).await?,
    }
    out.finish().await
}

/// The session settings of everything that reads a source to plan or to check it.
#[must_use]
pub fn session_settings(dataset: &str, limits: SplitLimits) -> SessionSettings {
    SessionSettings {
        application_name: format!("odf plan {dataset}"),
        statement_timeout: Some(limits.statement),
        lock_timeout: Some(limits.lock),
        // The sink may be slow: the store takes its chunks while the source waits.
        idle_in_transaction_timeout: Some(Duration::from_secs(600)),
    }
}

async fn open(request: &SplitRequest<'_>) -> Result<PgSession, SplitError> {
    let Endpoint::Postgres { url } = &request.endpoint else {
        return Err(wrong_kind(request, "postgres"));
    };
    let settings = session_settings(request.dataset, request.limits);
    Ok(common::endpoint::connect(url, &settings).await?)
}

fn table_of<'a>(request: &'a SplitRequest<'_>) -> Result<&'a str, SplitError> {
    request
        .location
        .table
        .as_deref()
        .ok_or_else(|| SplitError::Refused {
            what: format!(
                "a partition by key or by a column needs a table, data set {:?} names none",
                request.dataset
            ),
            hint: "write at: { connection: NAME, table: schema.table }".to_owned(),
        })
}

fn wrong_kind(request: &SplitRequest<'_>, expected: &str) -> SplitError {
    SplitError::Refused {
        what: format!(
            "this partition needs a connection of kind {expected}, connection {:?} of data set {:?} is another",
            request.location.connection, request.dataset
        ),
        hint: format!("name a connection of kind {expected}, or choose another partition"),
    }
}
