//! What a claim hands to a worker: everything an attempt needs, in one value.
//!
//! The shapes here are the JSON that `odf.claim` answers. Secrets are never in them: a
//! connection's settings keep their `${secret:NAME}` references until the worker resolves them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bounds, ChunkId, Fence};
use crate::flow::model::{Connection, Location};
use crate::flow::rules::Checks;

/// A job as the database keeps it for its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name in the flow.
    pub name: String,
    /// The declaration, normalised, with every default filled in.
    pub job: crate::flow::model::Job,
    /// SHA-256 (hex) of the script, pinned at `apply`; `None` pins nothing.
    #[serde(default)]
    pub script_sha256: Option<String>,
    /// Where its output goes.
    pub output_at: Location,
    /// The output data set's name.
    pub output: String,
    /// What is checked about an output before it is published; specs of before there were rules check nothing.
    #[serde(default)]
    pub checks: Checks,
    /// The connections that the job may use, by name: those of its inputs, its output and those it names.
    pub connections: BTreeMap<String, ConnectionSpec>,
}

/// A connection as declared, secrets unresolved.
pub type ConnectionSpec = Connection;

/// One input chunk of an attempt, with what its publication says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputChunk {
    /// The data set's name.
    pub dataset: String,
    /// The data set's declared place.
    pub at: Location,
    /// The chunk's identity.
    pub chunk_id: ChunkId,
    /// The chunk's name inside its data set.
    pub key: String,
    /// Its place in the plan, from 1.
    pub ordinal: i64,
    /// What it covers.
    pub bounds: Bounds,
    /// The generation that this attempt reads.
    pub generation: i32,
    /// Where the publication says it is (a path below its root, a table); `None` for a source.
    #[serde(default)]
    pub location: Option<String>,
    /// Rows published.
    #[serde(default)]
    pub rows: Option<i64>,
    /// Bytes published.
    #[serde(default)]
    pub bytes: Option<i64>,
    /// Checksum published.
    #[serde(default)]
    pub checksum: Option<String>,
    /// The connection it was published under; `None` for a source.
    #[serde(default)]
    pub connection: Option<String>,
    /// That connection's environment label then.
    #[serde(default)]
    pub environment: Option<String>,
    /// What was checked before it was published, as JSON of [`super::Validation`]; `None` for a source and for
    /// what was published unvalidated.
    #[serde(default)]
    pub validation: Option<String>,
    /// The attempt that published it; `None` for a source.
    #[serde(default)]
    pub attempt: Option<u32>,
    /// The worker that published it; `None` for a source.
    #[serde(default)]
    pub published_by: Option<String>,
    /// How its file is held against its publication before it is read.
    #[serde(default)]
    pub verify: crate::flow::model::Verify,
    /// The word of the mapping by which it was found ([`crate::flow::model::Mapping::word`]).
    #[serde(default)]
    pub mapping: Option<String>,
}

/// A leased chunk: the only way to reach work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkItem {
    /// The chunk to produce.
    pub chunk_id: ChunkId,
    /// The flow's name.
    pub flow: String,
    /// The data set it belongs to.
    pub dataset: String,
    /// Its name there.
    pub key: String,
    /// Its place in the plan, from 1: the job's sequence number.
    pub ordinal: i64,
    /// How many chunks the plan has.
    pub plan_chunks: i64,
    /// What it covers.
    pub bounds: Bounds,
    /// From 1.
    pub attempt: u32,
    /// Carried by every write about this attempt.
    pub fence: Fence,
    /// The generation that it will publish.
    pub generation: i32,
    /// The lane it was claimed from.
    pub lane_id: i32,
    /// Which job makes it; resolves in [`crate::domain::JobSpec`]s that came with the claim.
    pub job_id: i32,
    /// Which version of that job.
    pub job_version: i32,
    /// One chunk for every one-to-one input. All-chunk inputs come by [`WorkItem::fan_in`].
    pub inputs: Vec<InputChunk>,
    /// Data sets whose chunks are all inputs, to be paged in with `odf.attempt_inputs`.
    #[serde(default)]
    pub fan_in: Vec<String>,
}
