//! Places: that table and path fit the kind of their connection, and that a path can hold chunks.

use super::dataset::{Role, kind_of, kind_word};
use super::{Context, text};
use crate::flow::model::{ConnectionKind, Location};
use crate::flow::raw::{RawDataSet, RawLocation, RawPartition};
use crate::flow::read::{At, Problems};
use crate::flow::scalar::Text;

/// Builds a data set's place.
pub(super) fn build(
    context: &Context<'_>,
    dataset: &RawDataSet,
    role: Role<'_>,
    problems: &mut Problems<'_>,
) -> Option<Location> {
    let location = dataset.at.as_ref()?;
    let raw = &location.value;
    let connection = raw.connection.as_ref()?;
    let known = context.connection_exists(connection, problems);
    let kind = kind_of(context, raw).filter(|_| known);
    let fits = kind.is_none_or(|kind| fits_kind(location, kind, dataset, problems));
    if let Some(table) = raw.table.as_ref().filter(|_| fits) {
        text::table(table, problems);
    }
    if let Some(path) = raw.path.as_ref().filter(|_| fits) {
        let partition = dataset.partition.as_ref().map(|partition| &partition.value);
        let many = !matches!(partition, None | Some(RawPartition::Single));
        path_template(path, role, many, problems);
    }
    let written = |text: Option<&At<Text>>| text.map(|text| text.value.0.clone());
    Some(Location {
        connection: connection.value.0.clone(),
        table: written(raw.table.as_ref()),
        path: written(raw.path.as_ref()),
    })
}

/// What a place on a connection of some kind needs.
struct Need<'r> {
    key: &'static str,
    is_given: bool,
    example: &'static str,
    not: &'static str,
    not_given: Option<&'r At<Text>>,
}

fn fits_kind(
    location: &At<RawLocation>,
    kind: &ConnectionKind,
    dataset: &RawDataSet,
    problems: &mut Problems<'_>,
) -> bool {
    let raw = &location.value;
    let partition = dataset.partition.as_ref().map(|partition| &partition.value);
    let has_pattern = matches!(partition, Some(RawPartition::Files(_)));
    let need = match kind {
        ConnectionKind::Other { .. } => return true,
        ConnectionKind::Postgres { .. } => Need {
            key: "table",
            is_given: raw.table.is_written(),
            example: "table: schema.table",
            not: "path",
            not_given: raw.path.as_ref(),
        },
        ConnectionKind::Files { .. } => Need {
            key: "path",
            is_given: raw.path.is_written() || has_pattern,
            example: "path: \"orders/{chunk}.{fence}.csv\"",
            not: "table",
            not_given: raw.table.as_ref(),
        },
    };
    let connection = raw
        .connection
        .as_ref()
        .map_or("", |name| name.value.0.as_str());
    let word = kind_word(kind);
    if let Some(wrong) = need.not_given {
        let not = need.not;
        problems
            .error(
                &wrong.place.at_key(),
                format!("connection {connection:?} is of kind {word} and has no {not}"),
            )
            .expected(need.example);
        return false;
    }
    if !need.is_given {
        let key = need.key;
        problems
            .error(
                &location.place.at_key(),
                format!("a data set on {connection:?} of kind {word} needs a {key}"),
            )
            .expected(need.example);
    }
    true
}

/// A path that every chunk must find its own file by.
fn path_template(path: &At<Text>, role: Role<'_>, cut: bool, problems: &mut Problems<'_>) {
    if !text::relative_path(path, "the path", "the connection's root", problems) {
        return;
    }
    let Some(found) = text::placeholders(path, problems) else {
        return;
    };
    let has = |words: [&str; 2]| found.iter().any(|word| words.contains(word));
    let many = cut
        || matches!(
            role,
            Role::Derived { .. } | Role::Linked { needs: false, .. }
        );
    match role {
        Role::Source if has(["fence", "generation"]) => {
            problems
                .error(
                    &path.place,
                    "no job makes this data set, so it has no {fence} and no {generation}",
                )
                .expected("{chunk} and {ordinal} only");
        }
        Role::Derived { .. } | Role::Linked { .. } | Role::Gathered
            if many && !has(["chunk", "ordinal"]) =>
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
