//! Data sets: that their place fits their connection and their partition fits who makes them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, text};
use crate::flow::diagnostic::Diagnostic;
use crate::flow::model::{Buffer, ChunkSize, ConnectionKind, DataSet, Keep, Location, Partition};
use crate::flow::raw::{RawByKey, RawDataSet, RawJob, RawLocation, RawPartition};
use crate::flow::read::{At, NamedEntry, Place, Problems};
use crate::flow::scalar::{InputChunks, KeepFor, Text};
use crate::flow::tree::shorten;

/// Where a data set's chunks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// No job makes it.
    Source,
    /// A job makes it chunk by chunk from an input of the same keys.
    Derived,
    /// A job makes it from all chunks of its inputs.
    Gathered,
    /// A job that could not be read might make it.
    Unknown,
}

/// Builds every data set that can be built.
pub(super) fn build_all(
    context: &Context<'_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, DataSet> {
    let mut built = BTreeMap::new();
    for entry in context.datasets {
        if let Some(dataset) = build(context, entry, problems) {
            built.insert(entry.name.clone(), dataset);
        }
    }
    built
}

fn build(
    context: &Context<'_>,
    entry: &NamedEntry<RawDataSet>,
    problems: &mut Problems<'_>,
) -> Option<DataSet> {
    let raw = entry.value.as_ref()?;
    let role = role(context, &entry.name);
    let partition = partition(context, entry, raw, role, problems);
    if role == Role::Source {
        no_source_upkeep(raw, problems);
    }
    let location = raw.at.as_ref()?;
    let at = place(context, location, raw, role, problems)?;
    let buffer = raw.buffer.as_ref().map(|buffer| Buffer {
        chunks: buffer.value.chunks.as_ref().map(|chunks| chunks.value.0),
        bytes: buffer.value.bytes.as_ref().map(|bytes| bytes.value.0),
    });
    if let Some(bytes) = raw
        .buffer
        .as_ref()
        .and_then(|buffer| buffer.value.bytes.as_ref())
        && bytes.value.0 == 0
    {
        problems
            .error(&bytes.place, "a buffer of 0 bytes stops its job for ever")
            .hint("remove it for no bound, or set the job's pool to limit: 0");
    }
    Some(DataSet {
        at,
        partition,
        buffer: buffer.unwrap_or_default(),
        keep: keep(raw, problems),
    })
}

fn role(context: &Context<'_>, name: &str) -> Role {
    let maker = context.makers.get(name).and_then(|makers| makers.first());
    let Some(maker) = maker else {
        return if context.jobs_are_known {
            Role::Source
        } else {
            Role::Unknown
        };
    };
    let inputs = maker.value.as_ref().and_then(|job| job.input.as_ref());
    match inputs {
        None => Role::Unknown,
        Some(inputs) => {
            let all = |input: &At<_>| is_all(input);
            if inputs.value.0.iter().all(all) {
                Role::Gathered
            } else {
                Role::Derived
            }
        }
    }
}

fn is_all(input: &At<crate::flow::raw::RawInput>) -> bool {
    let chunks = input.value.chunks.as_ref();
    chunks.is_some_and(|chunks| chunks.value == InputChunks::All)
}

/// A source is nobody's output: nothing stops its making, and nothing of it may be removed.
fn no_source_upkeep(raw: &RawDataSet, problems: &mut Problems<'_>) {
    if let Some(keep) = raw
        .keep
        .as_ref()
        .filter(|keep| keep.value != KeepFor::Forever)
    {
        problems
            .error(
                &keep.place,
                "no job makes this data set, so nothing of it may be removed",
            )
            .hint("remove keep: sources are never deleted");
    }
    if let Some(buffer) = &raw.buffer {
        problems
            .error(
                &buffer.place.at_key(),
                "no job makes this data set, so there is nothing to stop",
            )
            .hint("put the buffer on a data set that a job makes");
    }
}

fn keep(raw: &RawDataSet, problems: &mut Problems<'_>) -> Keep {
    match raw.keep.as_ref().map(|keep| (&keep.value, &keep.place)) {
        None | Some((KeepFor::Forever, _)) => Keep::Forever,
        Some((KeepFor::UntilConsumed, _)) => Keep::UntilConsumed,
        Some((KeepFor::Time(span), place)) => {
            Keep::Seconds(super::job::whole_seconds(*span, place, 1, problems))
        }
    }
}

fn partition(
    context: &Context<'_>,
    entry: &NamedEntry<RawDataSet>,
    raw: &RawDataSet,
    role: Role,
    problems: &mut Problems<'_>,
) -> Option<Partition> {
    let kind = raw
        .at
        .as_ref()
        .and_then(|at| connection_kind(context, &at.value));
    let Some(written) = &raw.partition else {
        match role {
            Role::Source => {
                missing_partition(&entry.place.at_key(), &entry.name, kind, problems);
                None
            }
            Role::Gathered => Some(Partition::Single),
            Role::Derived | Role::Unknown => None,
        }?;
        return Some(Partition::Single);
    };
    let maker = context
        .makers
        .get(entry.name.as_str())
        .and_then(|makers| makers.first());
    if let (Role::Derived, Some(maker)) = (role, maker) {
        let job = &maker.name;
        let input = same_key_input(maker).unwrap_or_default();
        problems
            .error(
                &written.place.at_key(),
                format!("job {job:?} makes this data set chunk by chunk from {input:?}"),
            )
            .expected("no partition here: it has the chunks of its input")
            .hint("remove partition, or read the input with chunks: all");
        return None;
    }
    if role == Role::Gathered
        && !matches!(written.value, RawPartition::Single | RawPartition::List(_))
    {
        problems
            .error(
                &written.place.at_key(),
                "a job makes this data set from all chunks of its inputs, so nothing is there to be cut",
            )
            .expected("single or a list")
            .hint("write partition: single, or { list: [..] } for one chunk for each value");
        return None;
    }
    build_partition(&written.value, &written.place, kind, raw, problems)
}

fn same_key_input(maker: &NamedEntry<RawJob>) -> Option<&str> {
    let inputs = maker.value.as_ref()?.input.as_ref()?;
    let input = inputs.value.0.iter().find(|input| !is_all(input))?;
    input
        .value
        .dataset
        .as_ref()
        .map(|dataset| dataset.value.0.as_str())
}

fn missing_partition(
    place: &Place,
    name: &str,
    kind: Option<&ConnectionKind>,
    problems: &mut Problems<'_>,
) {
    let hint = match kind {
        Some(ConnectionKind::Postgres { .. }) => "partition: { key: primary, chunks: 100 }",
        Some(ConnectionKind::Files { .. }) => "partition: { files: \"in/*.csv\" }",
        _ => "partition: { list: [a, b] }",
    };
    problems
        .error(
            place,
            format!("no job makes {:?}, so it needs a partition", shorten(name)),
        )
        .expected("how it is cut: by key, list, files, query or command, or single")
        .hint(format!(
            "for example {hint}, or partition: single for one chunk"
        ));
}

fn connection_kind<'c>(context: &'c Context<'_>, at: &RawLocation) -> Option<&'c ConnectionKind> {
    let name = at.connection.as_ref()?;
    context
        .built_connections
        .get(&name.value.0)
        .map(|connection| &connection.kind)
}

fn kind_word(kind: &ConnectionKind) -> &'static str {
    match kind {
        ConnectionKind::Postgres { .. } => "postgres",
        ConnectionKind::Files { .. } => "files",
        ConnectionKind::Other { .. } => "other",
    }
}

fn build_partition(
    raw: &RawPartition,
    place: &Place,
    kind: Option<&ConnectionKind>,
    dataset: &RawDataSet,
    problems: &mut Problems<'_>,
) -> Option<Partition> {
    let needs = |wanted: &str, by: &str, problems: &mut Problems<'_>| {
        if let Some(kind) = kind.filter(|kind| kind_word(kind) != wanted) {
            let found = kind_word(kind);
            problems
                .error(
                    &place.at_key(),
                    format!("a partition by {by} needs a {wanted} connection, this one is of kind {found}"),
                )
                .hint("cut it by list or command, or put it on a connection of that kind");
        }
    };
    match raw {
        RawPartition::Single => Some(Partition::Single),
        RawPartition::Key(by) => {
            needs("postgres", "key", problems);
            by_key(by, place, problems)
        }
        RawPartition::Query(by) => {
            needs("postgres", "query", problems);
            let key = by.name.as_ref().map(|name| name.value.0.clone());
            Some(Partition::Query {
                sql: by.query.as_ref()?.value.0.clone(),
                key,
            })
        }
        RawPartition::Files(by) => {
            needs("files", "files", problems);
            let pattern = by.files.as_ref()?;
            file_pattern(pattern, problems);
            if let Some(path) = dataset.at.as_ref().and_then(|at| at.value.path.as_ref()) {
                problems
                    .error(
                        &path.place.at_key(),
                        "the files pattern says which files, so a path says it twice",
                    )
                    .hint("remove path: the pattern is relative to the connection's root");
            }
            Some(Partition::Files {
                pattern: pattern.value.0.clone(),
            })
        }
        RawPartition::List(by) => {
            let list = by.list.as_ref()?;
            Some(Partition::List {
                values: list_values(list, problems),
            })
        }
        RawPartition::Command(by) => {
            let command = by.command.as_ref()?;
            let argv: Vec<String> = command
                .value
                .iter()
                .map(|arg| arg.value.0.clone())
                .collect();
            if argv.first().is_none_or(String::is_empty) {
                problems
                    .error(&command.place, "the command is empty")
                    .expected("a program and its arguments, for example [list-days, --year, 2024]");
            } else if let Some(first) = command.value.first() {
                let program = At {
                    value: Text(first.value.0.clone()),
                    place: first.place.clone(),
                };
                text::relative_path(&program, "the command", "the script directory", problems);
            }
            Some(Partition::Command { argv })
        }
    }
}

fn by_key(by: &RawByKey, place: &Place, problems: &mut Problems<'_>) -> Option<Partition> {
    let key = by.key.as_ref()?;
    let mut columns = Vec::new();
    for column in &key.value.0 {
        let name = column.value.0.clone();
        if columns.contains(&name) {
            problems.error(
                &column.place,
                format!("the column {:?} stands here twice", shorten(&name)),
            );
        }
        columns.push(name);
    }
    let size = match (&by.chunks, &by.rows) {
        (Some(chunks), None) => ChunkSize::Chunks(chunks.value.0),
        (None, Some(rows)) => ChunkSize::Rows(rows.value.0),
        (Some(_), Some(rows)) => {
            problems
                .error(
                    &rows.place.at_key(),
                    "a partition has chunks or rows, not both",
                )
                .hint("keep the one that you mean, the other follows from it");
            return None;
        }
        (None, None) => {
            // An unreadable number was reported; its key is not missing.
            problems
                .error(&place.at_key(), "a partition by key needs chunks or rows")
                .expected("chunks: how many, or rows: how many in each")
                .hint("for example { key: primary, chunks: 100 }");
            return None;
        }
    };
    Some(Partition::Key { columns, size })
}

fn list_values(
    list: &At<Vec<At<crate::flow::scalar::Written>>>,
    problems: &mut Problems<'_>,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    if list.value.is_empty() {
        problems
            .error(&list.place, "the list is empty")
            .expected("at least one value");
    }
    for value in &list.value {
        let written = &value.value.0;
        text::name(written, &value.place, "chunk", problems);
        if !seen.insert(written) {
            problems.error(
                &value.place,
                format!("the value {:?} stands here twice", shorten(written)),
            );
        }
        values.push(written.clone());
    }
    values
}

fn file_pattern(pattern: &At<Text>, problems: &mut Problems<'_>) {
    if !text::relative_path(pattern, "the pattern", "the connection's root", problems) {
        return;
    }
    if let Err(error) = glob::Pattern::new(&pattern.value.0) {
        problems
            .error(
                &pattern.place,
                format!("the pattern cannot be read: {}", error.msg),
            )
            .expected("a pattern such as in/*.csv or in/**/*.csv");
    }
}

fn place(
    context: &Context<'_>,
    location: &At<RawLocation>,
    dataset: &RawDataSet,
    role: Role,
    problems: &mut Problems<'_>,
) -> Option<Location> {
    let raw = &location.value;
    let connection = raw.connection.as_ref()?;
    if context.connection_exists(connection, problems)
        && let Some(kind) = connection_kind(context, raw)
    {
        fits_kind(location, kind, &connection.value.0, dataset, problems);
    }
    if let Some(table) = &raw.table {
        text::table(table, problems);
    }
    if let Some(path) = &raw.path {
        let by_list =
            matches!(&dataset.partition, Some(by) if matches!(by.value, RawPartition::List(_)));
        path_template(path, role, role == Role::Derived || by_list, problems);
    }
    Some(Location {
        connection: connection.value.0.clone(),
        table: raw.table.as_ref().map(|table| table.value.0.clone()),
        path: raw.path.as_ref().map(|path| path.value.0.clone()),
    })
}

fn fits_kind(
    location: &At<RawLocation>,
    kind: &ConnectionKind,
    name: &str,
    dataset: &RawDataSet,
    problems: &mut Problems<'_>,
) {
    let raw = &location.value;
    let has_pattern = dataset
        .partition
        .as_ref()
        .is_some_and(|by| matches!(by.value, RawPartition::Files(_)));
    let (wanted, unwanted) = match kind {
        ConnectionKind::Postgres { .. } => ("table", &raw.path),
        ConnectionKind::Files { .. } => ("path", &raw.table),
        ConnectionKind::Other { .. } => return,
    };
    let word = kind_word(kind);
    if let Some(unwanted) = unwanted {
        let key = if wanted == "table" { "path" } else { "table" };
        problems
            .error(
                &unwanted.place.at_key(),
                format!("connection {name:?} is of kind {word} and has no {key}"),
            )
            .expected(example(wanted));
        return;
    }
    let given = if wanted == "table" {
        raw.table.is_some()
    } else {
        raw.path.is_some()
    };
    let pattern_says_it = wanted == "path" && has_pattern;
    if !given && !pattern_says_it {
        let message = format!("a data set on connection {name:?} of kind {word} needs a {wanted}");
        say_example(problems.error(&location.place.at_key(), message), wanted);
    }
}

fn say_example<'d>(problem: &'d mut Diagnostic, wanted: &str) -> &'d mut Diagnostic {
    problem.expected(example(wanted))
}

fn example(wanted: &str) -> &'static str {
    match wanted {
        "table" => "table: schema.table",
        _ => "path: \"orders/{chunk}.{fence}.csv\"",
    }
}

/// `many` says whether the data set may have more than one chunk.
fn path_template(path: &At<Text>, role: Role, many: bool, problems: &mut Problems<'_>) {
    if !text::relative_path(path, "the path", "the connection's root", problems) {
        return;
    }
    let found = text::placeholders(path, problems);
    match role {
        Role::Source
            if found
                .iter()
                .any(|word| ["fence", "generation"].contains(word)) =>
        {
            problems
                .error(
                    &path.place,
                    "no job makes this data set, so it has no {fence} and no {generation}",
                )
                .expected("{chunk} and {ordinal} only");
        }
        Role::Derived | Role::Gathered
            if many && !found.iter().any(|word| ["chunk", "ordinal"].contains(word)) =>
        {
            problems
                .error(
                    &path.place,
                    "every chunk of this data set would be written to the same file",
                )
                .expected("{chunk} or {ordinal} in the path")
                .hint("for example \"orders/{chunk}.{fence}.csv\"");
        }
        _ => {}
    }
}
