//! How the parts of a model are shown in a change.
//!
//! Changes are found by comparing what is shown, so two different values must never look alike.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::calendar::Calendar;
use crate::flow::duration::format_duration;
use crate::flow::model::{
    Buffer, ChunkSize, Connection, ConnectionKind, First, Input, Keep, Location, Mapping,
    Partition, Rest, Retry, Rewrite, Run, Verify,
};
use crate::flow::rules::Checks;

/// Shows a part of what is checked.
type Shows = fn(&Checks) -> String;

/// What is checked, by key.
pub(super) const CHECKS: [(&str, Shows); 3] = [
    ("format", |checks| as_json(checks.format.as_ref())),
    ("validate", |checks| {
        as_json(Some(&checks.validate).filter(|rules| !rules.is_empty()))
    }),
    ("rejects", |checks| as_json(checks.rejects.as_ref())),
];

fn as_json<T: serde::Serialize>(value: Option<&T>) -> String {
    value
        .and_then(|value| serde_json::to_string(value).ok())
        .unwrap_or_else(|| "none".to_owned())
}

pub(super) fn or_none(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "none".to_owned())
}

pub(super) fn kind_word(connection: &Connection) -> String {
    match connection.kind {
        ConnectionKind::Postgres { .. } => "postgres",
        ConnectionKind::Files { .. } => "files",
        ConnectionKind::Other { .. } => "other",
    }
    .to_owned()
}

pub(super) fn limit(limit: Option<u32>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

pub(super) fn place(at: &Location) -> String {
    match (&at.table, &at.path) {
        (Some(table), _) => format!("{}:{table}", at.connection),
        (None, Some(path)) => format!("{}:{path}", at.connection),
        (None, None) => at.connection.clone(),
    }
}

pub(super) fn list(items: &[String]) -> String {
    // Quoted, so that ["a, b"] and ["a", "b"] differ.
    let quoted: Vec<String> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A text as it is where it cannot be misread, quoted otherwise.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=${}".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}

pub(super) fn map(entries: &BTreeMap<String, String>) -> String {
    let shown: Vec<String> = entries
        .iter()
        .map(|(name, value)| format!("{}: {}", quote(name), quote(value)))
        .collect();
    format!("{{{}}}", shown.join(", "))
}

pub(super) fn partition(cut: Option<&Partition>) -> String {
    match cut {
        None => "that of its input".to_owned(),
        Some(Partition::Single) => "single".to_owned(),
        Some(Partition::Key { columns, size }) => {
            let columns = if columns.is_empty() {
                "primary".to_owned()
            } else {
                list(columns)
            };
            match size {
                ChunkSize::Chunks(chunks) => format!("key {columns}, {chunks} chunks"),
                ChunkSize::Rows(rows) => format!("key {columns}, {rows} rows a chunk"),
            }
        }
        Some(Partition::List { values }) => format!("list {}", list(values)),
        Some(Partition::Files { pattern }) => format!("files {pattern}"),
        Some(Partition::Query { sql, key }) => match key {
            Some(key) => format!("query {sql:?} named by {key}"),
            None => format!("query {sql:?}"),
        },
        Some(Partition::Command { argv }) => format!("command {}", list(argv)),
        Some(Partition::Windows {
            calendar,
            column,
            rest,
        }) => {
            let rest = match rest {
                Rest::Error => "error",
                Rest::Chunk => "chunk",
                Rest::Ignore => "ignore",
            };
            let by = column.as_ref().map_or_else(String::new, |column| {
                format!(" by {}, rest: {rest}", quote(column))
            });
            let Calendar {
                every,
                from,
                to,
                zone,
                week_starts,
            } = calendar;
            format!("every {every} from {from} to {to} in {zone}, weeks from {week_starts}{by}")
        }
        Some(Partition::Product { parts }) => {
            let parts: Vec<String> = parts.iter().map(|part| partition(Some(part))).collect();
            format!("product ({})", parts.join(") x ("))
        }
    }
}

pub(super) fn buffer(buffer: Buffer) -> String {
    let shown = |bound: Option<u64>| bound.map_or_else(|| "none".to_owned(), |b| b.to_string());
    format!(
        "chunks {}, bytes {}",
        shown(buffer.chunks),
        shown(buffer.bytes)
    )
}

pub(super) fn verify(verify: Verify) -> &'static str {
    match verify {
        Verify::Checksum => "checksum",
        Verify::Size => "size",
    }
}

pub(super) fn keep(keep: Keep) -> String {
    match keep {
        Keep::Forever => "forever".to_owned(),
        Keep::UntilConsumed => "until_consumed".to_owned(),
        Keep::Seconds(kept) => seconds(kept),
    }
}

pub(super) fn inputs(inputs: &[Input]) -> String {
    let shown: Vec<String> = inputs
        .iter()
        .map(|input| {
            let of = quote(&input.dataset);
            let shown = match &input.mapping {
                Mapping::SameKey => of,
                Mapping::All => format!("all of {of}"),
                Mapping::Windows => format!("windows of {of}"),
                Mapping::Previous { first } => {
                    let first = match first {
                        First::Ready => "ready",
                        First::Wait => "wait",
                        First::Skip => "skip",
                    };
                    format!("previous of {of} (first: {first})")
                }
                Mapping::To(Rewrite { pattern, template }) => {
                    format!("{of} by {pattern:?} to {template:?}")
                }
                Mapping::From(Rewrite { pattern, template }) => {
                    format!("{of} by {pattern:?} from {template:?}")
                }
            };
            if input.accept_unvalidated {
                format!("{shown} (unvalidated accepted)")
            } else {
                shown
            }
        })
        .collect();
    format!("[{}]", shown.join(", "))
}

pub(super) fn run(run: &Run) -> String {
    let Run::Script { script, args, env } = run;
    format!("{} {} {}", quote(script), list(args), map(env))
}

pub(super) fn retry(retry: Retry) -> String {
    let millis = |millis| format_duration(Duration::from_millis(millis));
    let (first, longest) = (millis(retry.backoff_ms), millis(retry.max_backoff_ms));
    format!("{} attempts, {first} to {longest} apart", retry.attempts)
}

pub(super) fn seconds(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}
