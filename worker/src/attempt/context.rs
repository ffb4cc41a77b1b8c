//! What an attempt knows once it is prepared: its chunk, its places and its resolved connections.
//!
//! Built by `prepare`, read by jobs. Holds secrets, so it prints nothing of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::domain::{Bounds, InputChunk, JobSpec, WorkItem, rfc3339};
use serde::Serialize;
use serde_json::{Value, json};

use super::connections::Resolved;
use super::place::inside_root;
use super::{Failure, LogLimits, Mask};

/// The private files of an attempt, all below one directory that is removed after it.
#[derive(Debug, Clone)]
pub struct AttemptFiles {
    /// The directory of all the others, for its owner only.
    pub dir: PathBuf,
    /// The script's working directory, empty at its start.
    pub work: PathBuf,
    /// The JSON context file.
    pub context: PathBuf,
    /// All inputs, one JSON object a line.
    pub inputs: PathBuf,
    /// Where the script may write its result.
    pub result: PathBuf,
    /// Where the script may append its progress.
    pub progress: PathBuf,
    /// The FIFO through which its output comes.
    pub output: PathBuf,
}

/// Where an attempt's output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputPlace {
    /// A file, staged first and published by us.
    File {
        /// The connection's root.
        root: PathBuf,
        /// Where it is written, absolute.
        staging: PathBuf,
        /// Where it is published, below the root.
        relative: PathBuf,
    },
    /// A table, written by the job itself.
    Table {
        /// As declared.
        table: String,
    },
    /// Whatever only the job understands.
    Elsewhere,
}

/// A prepared attempt.
pub struct AttemptContext {
    /// The leased chunk.
    pub item: WorkItem,
    /// Its job.
    pub spec: JobSpec,
    /// Chunks of all-chunk inputs.
    pub fan_in: Vec<InputChunk>,
    /// Where the output goes.
    pub output: OutputPlace,
    /// The attempt's private files.
    pub files: AttemptFiles,
    /// The whole environment of a script, in the order in which it was set.
    pub env: Vec<(String, String)>,
    /// Hides the secrets of this attempt.
    pub mask: Mask,
    /// Scripts are looked up here.
    pub script_dir: PathBuf,
    /// Where the log goes; `None` when the terminal gets it.
    pub log_path: Option<PathBuf>,
    /// How much of the log is kept.
    pub log_limits: LogLimits,
    /// How long processes may outlive their script.
    pub linger: Duration,
    pub(crate) connections: BTreeMap<String, Resolved>,
}

impl fmt::Debug for AttemptContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptContext")
            .field("chunk", &self.item.key)
            .field("fence", &self.item.fence)
            .finish_non_exhaustive()
    }
}

/// An input as a script sees it. Holds a URL with its password.
#[derive(Serialize)]
pub(crate) struct InputView {
    pub(crate) dataset: String,
    pub(crate) chunk: String,
    pub(crate) ordinal: i64,
    pub(crate) generation: i32,
    pub(crate) connection: String,
    pub(crate) path: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) table: Option<String>,
    pub(crate) rows: Option<i64>,
    pub(crate) bytes: Option<i64>,
    pub(crate) checksum: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) mapping: Option<String>,
    pub(crate) bounds: Bounds,
}

/// The connection of that name.
pub(crate) fn connection<'a>(
    connections: &'a BTreeMap<String, Resolved>,
    name: &str,
) -> Result<&'a Resolved, Failure> {
    connections.get(name).ok_or_else(|| {
        Failure::permanent(format!(
            "connection {name} is not among those that came with the job (hint: apply the flow again)"
        ))
    })
}

/// One input, its place taken from its publication.
pub(crate) fn view_input(
    input: &InputChunk,
    connections: &BTreeMap<String, Resolved>,
) -> Result<InputView, Failure> {
    let resolved = connection(connections, &input.at.connection)?;
    let mut view = InputView {
        dataset: input.dataset.clone(),
        chunk: input.key.clone(),
        ordinal: input.ordinal,
        generation: input.generation,
        connection: input.at.connection.clone(),
        path: None,
        url: None,
        table: None,
        rows: input.rows,
        bytes: input.bytes,
        checksum: input.checksum.clone(),
        location: input.location.clone(),
        mapping: input.mapping.clone(),
        bounds: input.bounds.clone(),
    };
    match resolved {
        Resolved::Postgres { url, .. } => {
            view.url = Some(url.clone());
            view.table.clone_from(&input.at.table);
        }
        Resolved::Files { root, .. } => {
            if let Some(relative) = published_place(input) {
                view.path = Some(utf8(&root.join(inside_root(&relative)?))?);
            }
        }
        Resolved::Other { .. } => {}
    }
    Ok(view)
}

/// Where a chunk in a file tree is, below the root. A source has no publication: there its
/// bounds or a path without placeholders say it.
pub(crate) fn published_place(input: &InputChunk) -> Option<String> {
    if let Some(location) = &input.location {
        return Some(location.clone());
    }
    if let Bounds::File { path, .. } = &input.bounds {
        return Some(path.clone());
    }
    input.at.path.clone().filter(|path| !path.contains('{'))
}

/// The absolute path of a `file` chunk, where the root that it is relative to is known: only
/// the source itself, or the planned data set's own connection, says so.
pub(crate) fn bounds_file(
    item: &WorkItem,
    spec: &JobSpec,
    connections: &BTreeMap<String, Resolved>,
    path: &str,
) -> Result<String, Failure> {
    let source = item
        .inputs
        .iter()
        .find(|input| input.location.is_none() && input.bounds == item.bounds)
        .map(|input| &input.at.connection)
        .or_else(|| item.inputs.is_empty().then_some(&spec.output_at.connection));
    match source.and_then(|name| connections.get(name)) {
        Some(Resolved::Files { root, .. }) => utf8(&root.join(inside_root(path)?)),
        _ => Ok(path.to_owned()),
    }
}

/// A path as text: environment and JSON carry nothing else here.
pub(crate) fn utf8(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::host(format!(
            "the path {} is not UTF-8 (hint: use directories with plain names)",
            path.display()
        ))
    })
}

/// The content of the JSON context file. Secrets included.
pub(crate) fn context_json(
    context: &AttemptContext,
    inputs: &[InputView],
    fan_in: &[InputView],
    predicate: &str,
) -> Result<Value, Failure> {
    let item = &context.item;
    let connections: serde_json::Map<String, Value> = context
        .connections
        .iter()
        .map(|(name, resolved)| (name.clone(), connection_json(resolved)))
        .collect();
    let output = match &context.output {
        OutputPlace::File {
            root,
            staging,
            relative,
        } => json!({
            "kind": "file",
            "staging": utf8(staging)?,
            "path": utf8(&root.join(relative))?,
        }),
        OutputPlace::Table { table } => json!({"kind": "table", "table": table}),
        OutputPlace::Elsewhere => json!({"kind": "other"}),
    };
    Ok(json!({
        "flow": item.flow,
        "job": context.spec.name,
        "dataset": item.dataset,
        "chunk": item.key,
        "chunk_name": format!("{}/{}", item.dataset, item.key),
        "chunk_id": item.chunk_id,
        "ordinal": item.ordinal,
        "chunks": item.plan_chunks,
        "attempt": item.attempt,
        "fence": item.fence,
        "generation": item.generation,
        "bounds": item.bounds,
        "predicate": predicate,
        "window": item.bounds.window().map(|(start, end, zone, label)| json!({
            "start": rfc3339(start), "end": rfc3339(end), "zone": zone, "label": label,
        })),
        "output": {
            "dataset": context.spec.output,
            "connection": context.spec.output_at.connection,
            "place": output,
        },
        "inputs": inputs,
        "fan_in": fan_in,
        "connections": connections,
        "workdir": utf8(&context.files.work)?,
        "inputs_file": utf8(&context.files.inputs)?,
        "result": utf8(&context.files.result)?,
        "progress": utf8(&context.files.progress)?,
    }))
}

fn connection_json(resolved: &Resolved) -> Value {
    match resolved {
        Resolved::Postgres { url, parts } => json!({
            "kind": "postgres",
            "url": url,
            "host": parts.host,
            "port": parts.port,
            "user": parts.user,
            "password": parts.password,
            "database": parts.database,
        }),
        Resolved::Files { root, .. } => json!({"kind": "files", "root": root.to_string_lossy()}),
        Resolved::Other { settings } => json!({"kind": "other", "settings": settings}),
    }
}
