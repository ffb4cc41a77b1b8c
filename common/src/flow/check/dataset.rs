//! Data sets: where their chunks come from, and that partition, buffer and keeping fit that.

use std::collections::BTreeMap;

use super::{Context, checks, location, partition};
use crate::flow::model::{Buffer, Connection, ConnectionKind, DataSet, Keep, Partition, Verify};
use crate::flow::raw::{RawDataSet, RawInput, RawJob, RawLocation, RawPartition};
use crate::flow::raw_window::RawChunks;
use crate::flow::read::{At, NamedEntry, Place, Problems};
use crate::flow::scalar::{InputChunks, KeepFor, VerifyWord};
use crate::flow::tree::shorten;

/// Where a data set's chunks come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'r> {
    /// No job makes it.
    Source,
    /// A job makes it chunk by chunk from an input of the same keys.
    Derived { job: &'r str, input: &'r str },
    /// A job makes it from all chunks of its inputs.
    Gathered,
    /// A job makes it from chunks that it finds by time or by an expression; whether only a partition
    /// of its own can say which chunks it has.
    Linked { job: &'r str, needs: bool },
    /// A job that could not be read might make it.
    Unknown,
}

/// Builds every data set that can be built.
pub(super) fn build_all(
    context: &Context<'_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, DataSet> {
    let mut built = BTreeMap::new();
    for entry in context.datasets.entries {
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
    let kind = raw.at.as_ref().and_then(|at| kind_of(context, &at.value));
    let partition = match raw.partition.as_ref() {
        Some(written) if may_be_cut(written, role, problems) => {
            partition::build(written, kind, raw, role, problems)
        }
        Some(_) => None,
        None => unwritten_partition(entry, raw, role, kind, problems),
    };
    if let Role::Source = role {
        no_source_upkeep(raw, problems);
    }
    let buffer = buffer(raw, problems);
    let keep = keep(raw, problems);
    let checks = checks::build(context, &entry.name, raw, role, problems);
    let at = location::build(context, raw, role, problems)?;
    Some(DataSet {
        at,
        partition,
        buffer,
        keep,
        verify: raw
            .verify
            .as_ref()
            .map_or_else(Verify::default, |verify| match verify.value {
                VerifyWord::Checksum => Verify::Checksum,
                VerifyWord::Size => Verify::Size,
            }),
        checks,
    })
}

fn role<'r>(context: &Context<'r>, name: &str) -> Role<'r> {
    let Some(maker) = context.makers.get(name).and_then(|makers| makers.first()) else {
        return if context.jobs_are_known {
            Role::Source
        } else {
            Role::Unknown
        };
    };
    let Some(inputs) = inputs_of(maker) else {
        return Role::Unknown;
    };
    let job = &maker.name;
    let unreadable = |input: &At<RawInput>| {
        input.value.chunks.is_written() && input.value.chunks.as_ref().is_none()
    };
    if inputs.iter().any(unreadable) {
        return Role::Unknown;
    }
    if let Some(input) = inputs.iter().find(|input| is_same(input)) {
        let dataset = input.value.dataset.as_ref();
        let input = dataset.map_or("", |dataset| dataset.value.0.as_str());
        return Role::Derived { job, input };
    }
    if inputs.iter().all(|input| is(input, InputChunks::All)) {
        return Role::Gathered;
    }
    let names_outputs = |input: &At<RawInput>| match input.value.chunks.as_ref() {
        Some(At {
            value: RawChunks::Rewrite(rewrite),
            ..
        }) => rewrite.to.is_written(),
        _ => is(input, InputChunks::Previous),
    };
    let needs = !inputs.iter().any(names_outputs);
    Role::Linked { job, needs }
}

fn is(input: &At<RawInput>, word: InputChunks) -> bool {
    let chunks = input.value.chunks.as_ref();
    chunks.is_some_and(|chunks| matches!(chunks.value, RawChunks::Word(found) if found == word))
}

/// Whether an input is taken by equal keys, as it is unless it says otherwise.
fn is_same(input: &At<RawInput>) -> bool {
    !input.value.chunks.is_written() || is(input, InputChunks::Same)
}

pub(super) fn inputs_of(job: &NamedEntry<RawJob>) -> Option<&[At<RawInput>]> {
    let input = job.value.as_ref()?.input.as_ref()?;
    Some(&input.value.0)
}

/// The connection of a place, where it is declared and could be read.
pub(super) fn kind_of<'c>(
    context: &'c Context<'_>,
    at: &RawLocation,
) -> Option<&'c ConnectionKind> {
    let name = at.connection.as_ref()?;
    let connection: &Connection = context.built_connections.get(&name.value.0)?;
    Some(&connection.kind)
}

/// The word that a connection's kind is written with.
pub(super) fn kind_word(kind: &ConnectionKind) -> &'static str {
    match kind {
        ConnectionKind::Postgres { .. } => "postgres",
        ConnectionKind::Files { .. } => "files",
        ConnectionKind::Other { .. } => "other",
    }
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
    if let Some(buffer) = raw.buffer.as_ref() {
        problems
            .error(
                &buffer.place.at_key(),
                "no job makes this data set, so there is nothing to stop",
            )
            .hint("put the buffer on a data set that a job makes");
    }
}

fn buffer(raw: &RawDataSet, problems: &mut Problems<'_>) -> Buffer {
    let Some(buffer) = raw.buffer.as_ref() else {
        return Buffer::default();
    };
    let bytes = buffer.value.bytes.as_ref();
    if let Some(bytes) = bytes.filter(|bytes| bytes.value.0 == 0) {
        problems
            .error(&bytes.place, "a buffer of 0 bytes stops its job for ever")
            .hint("remove it for no bound, or set the job's pool to limit: 0");
    }
    Buffer {
        chunks: buffer.value.chunks.as_ref().map(|chunks| chunks.value.0),
        bytes: bytes.map(|bytes| bytes.value.0),
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

/// Whether a data set of that role may have the partition that is written.
fn may_be_cut(written: &At<RawPartition>, role: Role<'_>, problems: &mut Problems<'_>) -> bool {
    let place = written.place.at_key();
    match (role, &written.value) {
        (Role::Derived { job, input }, _) => {
            problems
                .error(
                    &place,
                    format!("job {job:?} makes this data set chunk by chunk from {input:?}"),
                )
                .expected("no partition here: it has the chunks of its input")
                .hint("remove partition, or read the input with chunks: all");
            false
        }
        (Role::Gathered | Role::Linked { .. }, scheme) if says_itself(scheme) => true,
        (Role::Gathered | Role::Linked { .. }, _) => {
            problems
                .error(
                    &place,
                    "a job makes this data set, so there is nothing to cut yet",
                )
                .expected("single, a list, windows or a product of these")
                .hint("write partition: single, or { list: [..] } for a chunk for each value");
            false
        }
        (Role::Source | Role::Unknown, _) => true,
    }
}

/// Whether a partition says which chunks there are without looking at anything.
fn says_itself(partition: &RawPartition) -> bool {
    match partition {
        RawPartition::Single | RawPartition::List(_) | RawPartition::Windows(_) => true,
        RawPartition::Product(product) => product
            .product
            .as_ref()
            .is_none_or(|parts| parts.value.iter().all(|part| says_itself(&part.value))),
        _ => false,
    }
}

/// The partition of a data set that declares none.
fn unwritten_partition(
    entry: &NamedEntry<RawDataSet>,
    raw: &RawDataSet,
    role: Role<'_>,
    kind: Option<&ConnectionKind>,
    problems: &mut Problems<'_>,
) -> Option<Partition> {
    match role {
        Role::Gathered => Some(Partition::Single),
        Role::Source if !raw.partition.is_written() => {
            missing_partition(&entry.place.at_key(), &entry.name, kind, problems);
            None
        }
        Role::Linked { job, needs: true } if !raw.partition.is_written() => {
            problems
                .error(
                    &entry.place.at_key(),
                    format!(
                        "job {job:?} finds its inputs by the chunks of {:?}, so that needs a partition",
                        shorten(&entry.name)
                    ),
                )
                .expected("which chunks it has: windows, a list, a product of these, or single")
                .hint("for example partition: { every: day, from: 2024-01-01, to: 2024-04-01, zone: UTC }");
            None
        }
        Role::Source | Role::Derived { .. } | Role::Linked { .. } | Role::Unknown => None,
    }
}

fn missing_partition(
    place: &Place,
    name: &str,
    kind: Option<&ConnectionKind>,
    problems: &mut Problems<'_>,
) {
    let example = match kind {
        Some(ConnectionKind::Postgres { .. }) => "partition: { key: primary, chunks: 100 }",
        Some(ConnectionKind::Files { .. }) => "partition: { files: \"in/*.csv\" }",
        _ => "partition: { list: [a, b] }",
    };
    problems
        .error(
            place,
            format!("no job makes {:?}, so it needs a partition", shorten(name)),
        )
        .expected(
            "how it is cut: by key, list, files, query, command, windows or product, or single",
        )
        .hint(format!(
            "for example {example}, or partition: single for one chunk"
        ));
}
