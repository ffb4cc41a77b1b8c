//! A declared flow, normalised: names resolved to be known, every default filled in.
//!
//! The JSON form of these types is what the database keeps for an applied version, so a field
//! may be added with a default but never renamed. Secrets are kept as the `${...}` references
//! that were written; nothing in here ever holds a secret's value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rules::Checks;
use crate::calendar::Calendar;

/// One flow: what one YAML file declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Its name, unique in an installation.
    pub name: String,
    /// The environment label of everything that does not name its own, for example `prod`.
    pub environment: Option<String>,
    /// Named endpoints.
    pub connections: BTreeMap<String, Connection>,
    /// Concurrency limits, each job's implicit pool of its own name included.
    pub pools: BTreeMap<String, Pool>,
    /// Data sets by name.
    pub datasets: BTreeMap<String, DataSet>,
    /// Jobs by name.
    pub jobs: BTreeMap<String, Job>,
}

/// A named endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// What it is.
    #[serde(flatten)]
    pub kind: ConnectionKind,
    /// Its environment label (the flow's, unless it names its own).
    #[serde(default)]
    pub environment: Option<String>,
}

/// The kinds of endpoint, each with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ConnectionKind {
    /// A PostgreSQL database.
    Postgres {
        /// A libpq URL; may be or contain `${secret:NAME}`.
        url: String,
    },
    /// A directory tree that every worker of the job reaches under the same path.
    Files {
        /// Absolute path of the root; may contain `${env:NAME}`.
        root: String,
        /// Claims stop while the file system has less free than this, in bytes; 0 never stops.
        #[serde(default)]
        min_free_bytes: u64,
    },
    /// Anything else that only scripts understand: handed to them as variables, secrets resolved.
    Other {
        /// Setting name to value; values may contain `${secret:NAME}`.
        #[serde(default)]
        settings: BTreeMap<String, String>,
    },
}

/// A concurrency limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// How many chunks may run at once; `None` is unlimited, 0 runs nothing.
    pub limit: Option<u32>,
}

/// An asset: where it is, how it is cut, how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSet {
    /// Where it is.
    pub at: Location,
    /// How it is cut; `None` for a data set that a job makes chunk by chunk from its inputs.
    #[serde(default)]
    pub partition: Option<Partition>,
    /// Stops the producer while so much is published and not yet consumed.
    #[serde(default)]
    pub buffer: Buffer,
    /// How long published intermediates stay.
    #[serde(default)]
    pub keep: Keep,
    /// How its published files are looked at before a job reads them.
    #[serde(default, skip_serializing_if = "Verify::is_default")]
    pub verify: Verify,
    /// What is checked about it before it is published.
    #[serde(flatten)]
    pub checks: Checks,
}

/// How a published file is held against its publication before a job reads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Every byte is read and its SHA-256 compared.
    #[default]
    Checksum,
    /// Only the size is compared: for files so large that reading them twice is too dear.
    Size,
}

impl Verify {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A place: a connection and what to look for there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The connection's name.
    pub connection: String,
    /// A table, `schema.table`, each part quoted as SQL quotes it where needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// A path below the root, with the placeholders `{chunk}`, `{fence}`, `{ordinal}`, `{generation}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// How a data set is cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Partition {
    /// By ranges of a table's key.
    Key {
        /// Column names, most significant first; empty means the primary key.
        columns: Vec<String>,
        /// How many or how large.
        size: ChunkSize,
    },
    /// One chunk for each declared value.
    List {
        /// The values, in order.
        values: Vec<String>,
    },
    /// One chunk for each file that a pattern finds below the connection's root.
    Files {
        /// A glob relative to the root, for example `in/**/*.csv`.
        pattern: String,
    },
    /// One chunk for each row of a query.
    Query {
        /// The query, run read-only on the data set's connection.
        sql: String,
        /// The column that names the chunk; `None` numbers them.
        key: Option<String>,
    },
    /// One chunk for each line (JSON object or plain text) that a command prints.
    Command {
        /// Program and arguments; no shell.
        argv: Vec<String>,
    },
    /// One chunk for each window of a calendar.
    Windows {
        /// Which windows.
        #[serde(flatten)]
        calendar: Calendar,
        /// The column whose time says in which window a row lies; `None` where only scripts know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<String>,
        /// What becomes of rows outside of all windows.
        #[serde(default)]
        rest: Rest,
    },
    /// One chunk for each combination of the chunks of several dimensions.
    Product {
        /// The dimensions, the slowest first; none of them a product.
        parts: Vec<Partition>,
    },
    /// One chunk.
    Single,
}

/// What becomes of rows that lie outside of all windows, or whose time is NULL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// The data set is not planned while there are any.
    #[default]
    Error,
    /// They are a chunk of their own, the last.
    Chunk,
    /// They are left where they are, and told by number.
    Ignore,
}

/// How many chunks, or how many rows in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkSize {
    /// About this many chunks.
    Chunks(u32),
    /// About this many rows in a chunk.
    Rows(u64),
}

/// Back-pressure: how much may be published and not yet consumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Chunks; `None` is unlimited.
    #[serde(default)]
    pub chunks: Option<u64>,
    /// Bytes; `None` is unlimited.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// How long a published chunk's data stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Until somebody removes it.
    #[default]
    Forever,
    /// Until every consumer has published what it makes from it.
    UntilConsumed,
    /// So many seconds after publication, consumed or not.
    Seconds(u64),
}

/// How an output data set's chunks are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What it reads, in order.
    pub inputs: Vec<Input>,
    /// The data set it makes.
    pub output: String,
    /// What runs.
    pub run: Run,
    /// Pools it draws from besides the one of its own name.
    pub pools: Vec<String>,
    /// Connections that the job may use besides those of its inputs and output.
    #[serde(default)]
    pub connections: Vec<String>,
    /// Labels that a worker must have.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Higher goes first; 0 by default.
    #[serde(default)]
    pub priority: i32,
    /// When a failure is tried again.
    pub retry: Retry,
    /// Wall time that an attempt may take, in seconds; `None` is unlimited.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
    /// How long an attempt may go on unheard before it must be dead, in seconds (25).
    pub silence_seconds: u64,
    /// Time between TERM and KILL at a time-out or a drain, in seconds (10).
    pub kill_grace_seconds: u64,
    /// Publish as `complete` and wait for `coordinator approve`.
    #[serde(default)]
    pub approve: bool,
    /// Whether it may read one environment and write another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixed_environments: bool,
}

/// One input of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The data set's name.
    pub dataset: String,
    /// Which of its chunks.
    pub mapping: Mapping,
    /// Whether what was published unvalidated may be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_unvalidated: bool,
}

/// Which chunks of an input an output chunk is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// The one of the same key.
    #[default]
    SameKey,
    /// All of them.
    All,
    /// Every window that lies inside the output's window.
    Windows,
    /// The window that ends where the output's window begins.
    Previous {
        /// What becomes of an output window before which the input has none.
        first: First,
    },
    /// Those whose keys an expression turns into the output's key: N to 1.
    To(Rewrite),
    /// The one whose key an expression makes of the output's key: 1 to N.
    From(Rewrite),
}

impl Mapping {
    /// The word that the control database keeps for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::SameKey => "same_key",
            Self::All => "all",
            Self::Windows => "windows",
            Self::Previous { .. } => "previous",
            Self::To(_) => "to",
            Self::From(_) => "from",
        }
    }

    /// Whether its edges follow from more than equal keys, so that `link` has to draw them.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        !matches!(self, Self::SameKey | Self::All)
    }
}

/// What becomes of an output window before which its input has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// It is made without that input.
    Ready,
    /// It waits until there is one.
    Wait,
    /// It is not a chunk of the output.
    Skip,
}

/// A key made of another key: what a regular expression finds, put into a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// A regular expression; every key must match.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The key that is made, with `$1` or `${name}` for what the groups found.
    pub template: String,
}

/// What a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// A program in the worker's script directory.
    Script {
        /// Path below the script directory.
        script: String,
        /// Arguments, as written; no shell, no substitution.
        args: Vec<String>,
        /// Extra environment variables; values may hold `${secret:NAME}` and `${env:NAME}`.
        env: BTreeMap<String, String>,
    },
}

/// When a failed attempt is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Charged attempts before a chunk is exhausted (5).
    pub attempts: u32,
    /// First delay, in milliseconds (10,000); doubles with every charged attempt, full jitter.
    pub backoff_ms: u64,
    /// Longest delay, in milliseconds (600,000).
    pub max_backoff_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            backoff_ms: 10_000,
            max_backoff_ms: 600_000,
        }
    }
}
