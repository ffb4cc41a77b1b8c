//! Partitions: that the way of cutting is complete and fits the data set's connection.

use std::collections::BTreeSet;

use super::dataset::{Role, kind_word};
use super::{text, window};
use crate::flow::model::{ChunkSize, ConnectionKind, Partition};
use crate::flow::raw::{RawByKey, RawDataSet, RawPartition};
use crate::flow::read::{At, Place, Problems};
use crate::flow::scalar::{Text, Written};
use crate::flow::tree::shorten;

/// Builds a partition; `kind` is that of the data set's connection, where it is known.
pub(super) fn build(
    written: &At<RawPartition>,
    kind: Option<&ConnectionKind>,
    dataset: &RawDataSet,
    role: Role<'_>,
    problems: &mut Problems<'_>,
) -> Option<Partition> {
    let place = &written.place;
    match &written.value {
        RawPartition::Single => Some(Partition::Single),
        RawPartition::Key(by) => {
            needs_kind("postgres", "key", kind, place, problems);
            by_key(by, place, problems)
        }
        RawPartition::Query(by) => {
            needs_kind("postgres", "query", kind, place, problems);
            let key = by.name.as_ref().map(|name| name.value.0.clone());
            let sql = by.query.as_ref()?.value.0.clone();
            Some(Partition::Query { sql, key })
        }
        RawPartition::Files(by) => {
            needs_kind("files", "files", kind, place, problems);
            by_files(by.files.as_ref()?, dataset, problems)
        }
        RawPartition::List(by) => {
            let values = list_values(by.list.as_ref()?, problems);
            Some(Partition::List { values })
        }
        RawPartition::Command(by) => {
            let argv = command(by.command.as_ref()?, problems);
            Some(Partition::Command { argv })
        }
        RawPartition::Windows(by) => window::build(by, kind, role, place, problems),
        RawPartition::Product(by) => {
            let parts = by.product.as_ref()?;
            product(parts, kind, dataset, role, problems)
        }
    }
}

fn product(
    parts: &At<Vec<At<RawPartition>>>,
    kind: Option<&ConnectionKind>,
    dataset: &RawDataSet,
    role: Role<'_>,
    problems: &mut Problems<'_>,
) -> Option<Partition> {
    if parts.value.len() < 2 {
        problems
            .error(&parts.place, "a product of fewer than two dimensions")
            .expected("at least two partitions, for example [{ every: day, .. }, { list: [..] }]");
    }
    let mut built = Vec::new();
    for part in &parts.value {
        if let RawPartition::Product(_) = part.value {
            problems
                .error(&part.place, "a product stands in a product")
                .hint("put its dimensions into the outer one");
            return None;
        }
        built.push(build(part, kind, dataset, role, problems)?);
    }
    Some(Partition::Product { parts: built })
}

fn needs_kind(
    wanted: &str,
    by: &str,
    kind: Option<&ConnectionKind>,
    place: &Place,
    problems: &mut Problems<'_>,
) {
    let Some(found) = kind.map(kind_word).filter(|found| *found != wanted) else {
        return;
    };
    problems
        .error(
            &place.at_key(),
            format!("a partition by {by} needs a {wanted} connection, this one is of kind {found}"),
        )
        .hint("cut it by list or command, or put it on a connection of that kind");
}

fn by_files(
    pattern: &At<Text>,
    dataset: &RawDataSet,
    problems: &mut Problems<'_>,
) -> Option<Partition> {
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

/// A command is a program of the script directory, as a job's script is: whoever may write flow
/// files must not thereby run any program of the host.
pub(super) fn command(command: &At<Vec<At<Written>>>, problems: &mut Problems<'_>) -> Vec<String> {
    match command
        .value
        .first()
        .filter(|program| !program.value.0.is_empty())
    {
        None => {
            problems
                .error(&command.place, "the command is empty")
                .expected("a program and its arguments, for example [list-days, --year, 2024]");
        }
        Some(program) => {
            let path = At {
                value: Text(program.value.0.clone()),
                place: program.place.clone(),
            };
            text::relative_path(&path, "the command", "the script directory", problems);
        }
    }
    for argument in &command.value {
        text::argument(argument, problems);
    }
    command
        .value
        .iter()
        .map(|argument| argument.value.0.clone())
        .collect()
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
    let size = match (by.chunks.as_ref(), by.rows.as_ref()) {
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
        // An unreadable number was reported; its key is not missing.
        (None, None) if by.chunks.is_written() || by.rows.is_written() => return None,
        (None, None) => {
            problems
                .error(&place.at_key(), "a partition by key needs chunks or rows")
                .expected("chunks: how many, or rows: how many in each")
                .hint("for example { key: primary, chunks: 100 }");
            return None;
        }
    };
    Some(Partition::Key { columns, size })
}

fn list_values(list: &At<Vec<At<Written>>>, problems: &mut Problems<'_>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    if list.value.is_empty() {
        problems
            .error(&list.place, "the list is empty")
            .expected("at least one value");
    }
    for value in &list.value {
        let written = &value.value.0;
        if written.is_empty() || written.contains('\0') {
            problems
                .error(
                    &value.place,
                    "a value of the list is empty or holds a NUL character",
                )
                .expected("a value that a script can be given");
        }
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
