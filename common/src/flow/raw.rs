//! A flow file as it is written: every key that may stand in one, and what may stand under it.
//!
//! The structs, their reading and their JSON Schema come from the same declarations. Whether the
//! parts fit each other is for `check` to say.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::raw_rules::{RawCsv, RawRejects, RawRule};
use super::raw_window::{RawByProduct, RawByWindows, RawChunks};
use super::read::{
    At, Fields, FromNode, Given, Named, Place, Problems, describe, mismatch, record,
};
use super::scalar::{
    Accept, Amount, Attempts, ChunkCount, Environments, FirstWindow, FormatWord, KeepFor, Kind,
    Limit, Priority, Size, Span, Text, VerifyWord, Written,
};
use super::tree::{Node, Value};

record! {
    /// An OpenDataFlow flow file.
    RawFlow, "a flow file" {
        /// The flow's name: letters, digits, _ and -, a letter first, at most 63.
        required flow: Text,
        /// The environment label of everything that does not name its own, for example prod.
        optional environment: Text,
        /// Named endpoints: databases, file trees and others.
        optional connections: Named<RawConnection>,
        /// Concurrency limits; every job has an unlimited pool of its own name unless declared here.
        optional pools: Named<RawPool>,
        /// The assets that jobs read and make.
        optional datasets: Named<RawDataSet>,
        /// How output data sets are made from input data sets.
        optional jobs: Named<RawJob>,
    }
}

record! {
    /// A PostgreSQL database.
    RawPostgres, "a postgres connection" {
        /// postgres.
        required kind: Kind,
        /// A libpq URL such as "${secret:ERP_URL}"; passwords only as ${secret:NAME}.
        required url: Text,
        /// Its environment label, the flow's unless given.
        optional environment: Text,
    }
}

record! {
    /// A directory tree that every worker reaches under the same path.
    RawFiles, "a files connection" {
        /// files.
        required kind: Kind,
        /// Absolute path of the tree; may hold ${env:NAME}.
        required root: Text,
        /// Claims stop while the file system has less free than this, for example 10GB.
        optional min_free: Size,
        /// Its environment label, the flow's unless given.
        optional environment: Text,
    }
}

record! {
    /// Anything else: its settings are handed to scripts as variables.
    RawOther, "a connection of kind other" {
        /// other.
        required kind: Kind,
        /// Name to value; secrets only as ${secret:NAME}.
        optional settings: Named<Written>,
        /// Its environment label, the flow's unless given.
        optional environment: Text,
    }
}

/// A named endpoint of one of the kinds.
#[derive(Debug, Clone)]
pub(crate) enum RawConnection {
    Postgres(RawPostgres),
    Files(RawFiles),
    Other(RawOther),
}

impl FromNode for RawConnection {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let Some(kind) = find(node, "kind") else {
            if !matches!(node.value, Value::Map(_)) {
                let expected = "a map such as { kind: postgres, url: \"${secret:NAME}\" }";
                mismatch(node, place, expected.to_owned(), problems);
                return None;
            }
            problems
                .error(&place.at_key(), "a connection needs the key \"kind\"")
                .expected(format!(
                    "kind: one of {}",
                    super::read::list_of(Kind::WORDS)
                ));
            return None;
        };
        let at = place.child(kind, "kind", kind);
        match Kind::read(kind, &at, problems)? {
            Kind::Postgres => RawPostgres::read(node, place, problems).map(Self::Postgres),
            Kind::Files => RawFiles::read(node, place, problems).map(Self::Files),
            Kind::Other => RawOther::read(node, place, problems).map(Self::Other),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let parts = [
            (RawPostgres::schema(generator), "postgres"),
            (RawFiles::schema(generator), "files"),
            (RawOther::schema(generator), "other"),
        ];
        let alternatives: Vec<Schema> = parts
            .into_iter()
            .map(|(mut schema, kind)| {
                if let Some(place) = schema.pointer_mut("/properties/kind") {
                    *place = serde_json::json!({ "const": kind });
                }
                schema
            })
            .collect();
        json_schema!({ "oneOf": alternatives })
    }
}

/// The value of a key of a map, unread.
fn find<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let named = |key: &Node| matches!(&key.value, Value::Text(text) if text == name);
    entries
        .iter()
        .find(|(key, _)| named(key))
        .map(|(_, value)| value)
}

record! {
    /// A concurrency limit.
    RawPool, "a pool" {
        /// How many chunks may run at once; none is unlimited, 0 runs nothing.
        required limit: Limit,
    }
}

record! {
    /// An asset: where it is, how it is cut, how long it is kept.
    RawDataSet, "a data set" {
        /// Where it is: a connection and a table or path.
        required at: RawLocation,
        /// How it is cut into chunks; not where a job makes it chunk by chunk from chunks of the same keys.
        optional partition: RawPartition,
        /// Stops its job while so much is published and not yet consumed.
        optional buffer: RawBuffer,
        /// How long published chunks stay: forever, until_consumed or a duration.
        optional keep: KeepFor,
        /// How a published file is looked at before a job reads it: checksum (the default) or size.
        optional verify: VerifyWord,
        /// How its files are read before they are published; by the end of its path unless given.
        optional format: FormatWord,
        /// How the fields of a csv file are written.
        optional csv: RawCsv,
        /// Rules that an output keeps before it is published.
        optional validate: Vec<At<RawRule>>,
        /// Where rows that break a rule go, and how many there may be.
        optional rejects: RawRejects,
    }
}

record! {
    /// A place.
    RawLocation, "a location" {
        /// The name of a connection of this file.
        required connection: Text,
        /// A table, schema.table; for postgres connections.
        optional table: Text,
        /// A path below the root with {chunk}, {ordinal}, {fence} and {generation}; for files connections.
        optional path: Text,
    }
}

record! {
    /// Back-pressure.
    RawBuffer, "a buffer" {
        /// At most so many chunks.
        optional chunks: Amount,
        /// At most so many bytes, for example 2TB.
        optional bytes: Size,
    }
}

record! {
    /// By ranges of a table's key.
    RawByKey, "a partition by key" {
        /// A column, a list of columns, or primary for the primary key.
        required key: RawKey,
        /// About so many chunks.
        optional chunks: ChunkCount,
        /// About so many rows in a chunk.
        optional rows: Amount,
    }
}

record! {
    /// One chunk for each value of a list.
    RawByList, "a partition by list" {
        /// The values, in order.
        required list: Vec<At<Written>>,
    }
}

record! {
    /// One chunk for each file that a pattern finds.
    RawByFiles, "a partition by files" {
        /// A pattern below the connection's root, for example "in/**/*.csv".
        required files: Text,
    }
}

record! {
    /// One chunk for each row of a query.
    RawByQuery, "a partition by query" {
        /// The query, run read-only on the data set's connection.
        required query: Text,
        /// The column that names the chunk; without it they are numbered.
        optional name: Text,
    }
}

record! {
    /// One chunk for each line that a command prints.
    RawByCommand, "a partition by command" {
        /// Program and arguments, for example [list-days, --year, 2024]; no shell.
        required command: Vec<At<Written>>,
    }
}

/// How a data set is cut.
#[derive(Debug, Clone)]
pub(crate) enum RawPartition {
    Key(RawByKey),
    List(RawByList),
    Files(RawByFiles),
    Query(RawByQuery),
    Command(RawByCommand),
    Windows(RawByWindows),
    Product(RawByProduct),
    Single,
}

/// The keys of which a partition has exactly one.
const SCHEMES: [&str; 7] = [
    "key", "list", "files", "query", "command", "every", "product",
];

const PARTITION_EXPECTED: &str =
    "single, or a map with one of key, list, files, query, command, every and product";

impl FromNode for RawPartition {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "single" => return Some(Self::Single),
            Value::Map(_) => {}
            other => {
                let problem = mismatch(node, place, PARTITION_EXPECTED.to_owned(), problems);
                if let Value::Text(text) = other {
                    problem.did_you_mean(text, ["single"]);
                }
                return None;
            }
        }
        let found: Vec<&str> = SCHEMES
            .into_iter()
            .filter(|scheme| find(node, scheme).is_some())
            .collect();
        match found.as_slice() {
            ["key"] => RawByKey::read(node, place, problems).map(Self::Key),
            ["list"] => RawByList::read(node, place, problems).map(Self::List),
            ["files"] => RawByFiles::read(node, place, problems).map(Self::Files),
            ["query"] => RawByQuery::read(node, place, problems).map(Self::Query),
            ["command"] => RawByCommand::read(node, place, problems).map(Self::Command),
            ["every"] => RawByWindows::read(node, place, problems).map(Self::Windows),
            ["product"] => RawByProduct::read(node, place, problems).map(Self::Product),
            [] => {
                unknown_scheme(node, place, problems);
                None
            }
            several => {
                let several = super::read::list_of(several);
                problems
                    .error(
                        &place.at_key(),
                        format!("a data set is cut in one way, not by {several}"),
                    )
                    .expected(PARTITION_EXPECTED)
                    .hint("keep one of them");
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schemes = simple_schemes(generator);
        let each = json_schema!({ "oneOf": schemes.clone() });
        schemes.push(json_schema!({
            "type": "object",
            "description": "One chunk for each combination of the chunks of several dimensions.",
            "properties": { "product": {
                "type": "array", "minItems": 2, "items": each,
                "description": "The dimensions, the slowest first, each a partition.",
            } },
            "required": ["product"],
            "additionalProperties": false,
        }));
        json_schema!({ "oneOf": schemes })
    }
}

/// The schemes that may be dimensions of a product.
fn simple_schemes(generator: &mut SchemaGenerator) -> Vec<Schema> {
    vec![
        describe(json_schema!({ "const": "single" }), "One chunk."),
        RawByKey::schema(generator),
        RawByList::schema(generator),
        RawByFiles::schema(generator),
        RawByQuery::schema(generator),
        RawByCommand::schema(generator),
        RawByWindows::schema(generator),
    ]
}

/// Reports a partition whose keys name no scheme, guessing which was meant.
fn unknown_scheme(node: &Node, place: &Place, problems: &mut Problems<'_>) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    let guess = entries.iter().find_map(|(key, _)| match &key.value {
        Value::Text(text) => {
            super::diagnostic::closest(text, SCHEMES).map(|scheme| (text.as_str(), scheme))
        }
        _ => None,
    });
    let problem = problems.error(&place.at_key(), "a partition does not say how to cut");
    problem.expected(PARTITION_EXPECTED);
    if let Some((written, scheme)) = guess {
        problem.hint(format!("did you mean {scheme:?} instead of {written:?}?"));
    }
}

/// The columns of a key; empty for the primary key.
#[derive(Debug, Clone)]
pub(crate) struct RawKey(pub(crate) Vec<At<Text>>);

impl FromNode for RawKey {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "primary" => Some(Self(Vec::new())),
            Value::List(items) if items.is_empty() => {
                mismatch(node, place, "at least one column".to_owned(), problems)
                    .hint("write primary for the primary key");
                None
            }
            _ => one_or_several(node, place, problems).map(Self),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        one_or_several_schema(generator)
    }
}

/// A name, or a list of names.
pub(crate) fn one_or_several(
    node: &Node,
    place: &Place,
    problems: &mut Problems<'_>,
) -> Option<Vec<At<Text>>> {
    if let Value::List(_) = &node.value {
        return Vec::read(node, place, problems);
    }
    let value = Text::read(node, place, problems)?;
    let place = place.clone();
    Some(vec![At { value, place }])
}

/// The JSON Schema of [`one_or_several`].
pub(crate) fn one_or_several_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [Text::schema(generator), Vec::<At<Text>>::schema(generator)] })
}

record! {
    /// How an output data set's chunks are made.
    RawJob, "a job" {
        /// A data set, { dataset: name, chunks: all }, or a list of these.
        required input: RawInputs,
        /// The data set that the job makes.
        required output: Text,
        /// What runs, for example { script: load.sh }.
        required run: RawRun,
        /// Pools it draws from besides the one of its own name.
        optional pools: Vec<At<Text>>,
        /// Connections it may use besides those of its input and output.
        optional connections: Vec<At<Text>>,
        /// Labels that a worker must have.
        optional labels: Vec<At<Text>>,
        /// Higher goes first; 0 unless given.
        optional priority: Priority,
        /// When a failure is tried again.
        optional retry: RawRetry,
        /// Wall time that an attempt may take, for example 2h; unlimited unless given.
        optional timeout: Span,
        /// How long an attempt may go on unheard before it must be dead; 25s unless given.
        optional silence: Span,
        /// Time between TERM and KILL; 10s unless given.
        optional kill_grace: Span,
        /// Wait for a person's approval before consumers may read.
        optional approve: bool,
        /// mixed where it may read one environment and write another; same unless given.
        optional environments: Environments,
    }
}

record! {
    /// An input of which the chunks are named.
    RawInput, "an input" {
        /// A data set of this file.
        required dataset: Text,
        /// same for the chunk of the same key, all for every chunk, windows for those inside the output's
        /// window, previous for the one before it, or an expression over keys.
        optional chunks: RawChunks,
        /// For previous: what becomes of a window that has none before it, ready, wait or skip.
        optional first: FirstWindow,
        /// unvalidated where the job may read what nothing vouches for.
        optional accept: Accept,
    }
}

/// A job's inputs, in order.
#[derive(Debug, Clone)]
pub(crate) struct RawInputs(pub(crate) Vec<At<RawInput>>);

const INPUT_EXPECTED: &str = "a data set, { dataset: name, chunks: all }, or a list of these";

impl RawInputs {
    fn one(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<At<RawInput>> {
        let value = match &node.value {
            Value::Map(_) => RawInput::read(node, place, problems)?,
            Value::Text(_) => {
                let value = Text::read(node, place, problems)?;
                RawInput {
                    dataset: Given::Is(At {
                        value,
                        place: place.clone(),
                    }),
                    chunks: Given::Missing,
                    accept: Given::Missing,
                    first: Given::Missing,
                }
            }
            _ => {
                mismatch(node, place, INPUT_EXPECTED.to_owned(), problems);
                return None;
            }
        };
        Some(At {
            value,
            place: place.clone(),
        })
    }
}

impl FromNode for RawInputs {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return Self::one(node, place, problems).map(|input| Self(vec![input]));
        };
        if items.is_empty() {
            mismatch(
                node,
                place,
                format!("{INPUT_EXPECTED}; at least one"),
                problems,
            );
            return None;
        }
        let mut inputs = Vec::new();
        for (index, item) in items.iter().enumerate() {
            inputs.extend(Self::one(item, &place.item(index, item), problems));
        }
        Some(Self(inputs))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = [Text::schema(generator), RawInput::schema(generator)];
        json_schema!({ "anyOf": [
            one[0], one[1],
            { "type": "array", "minItems": 1, "items": { "anyOf": one } },
        ] })
    }
}

record! {
    /// What a job runs.
    RawRun, "run" {
        /// A program, as a path below the worker's script directory.
        required script: Text,
        /// Arguments as written; no shell, no substitution.
        optional args: Vec<At<Written>>,
        /// Extra environment variables; secrets only as ${secret:NAME}.
        optional env: Named<Written>,
    }
}

record! {
    /// When a failed attempt is tried again.
    RawRetry, "retry" {
        /// Charged attempts before a chunk is exhausted; 5 unless given.
        optional attempts: Attempts,
        /// First delay, doubled with every charged attempt; 10s unless given.
        optional backoff: Span,
        /// Longest delay; 10m unless given.
        optional max_backoff: Span,
    }
}
