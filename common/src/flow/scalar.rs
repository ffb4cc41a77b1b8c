//! The scalars of a flow file: text, numbers, durations, sizes and words, each with its rules.
//!
//! A scalar is taken only in the one form that means it: nothing is converted silently.

use std::ops::RangeInclusive;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::duration::parse_duration;
use super::read::{FromNode, Place, Problems, mismatch};
use super::tree::{Node, Value, shorten};
use crate::domain::size::parse_bytes;

/// Text, and nothing that YAML takes for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl FromNode for Text {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text.trim().is_empty() => {
                problems
                    .error(place, format!("{} is empty", place.path))
                    .expected("text");
                None
            }
            Value::Text(text) => Some(Self(text.clone())),
            other => {
                let problem = mismatch(node, place, "text".to_owned(), problems);
                if let Value::Number(written) | Value::Bool { written, .. } = other {
                    problem.hint(format!("quote it: \"{}\"", shorten(written)));
                }
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// Any scalar, as it was written: for values that only a script reads. May be empty text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written(pub(crate) String);

impl FromNode for Written {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self(text.clone())),
            Value::Number(written) | Value::Bool { written, .. } => Some(Self(written.clone())),
            Value::Empty => {
                mismatch(
                    node,
                    place,
                    "text, a number or a boolean".to_owned(),
                    problems,
                )
                .hint("write \"\" for empty text");
                None
            }
            Value::List(_) | Value::Map(_) => {
                mismatch(
                    node,
                    place,
                    "text, a number or a boolean".to_owned(),
                    problems,
                );
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl FromNode for bool {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        if let Value::Bool { value, .. } = node.value {
            return Some(value);
        }
        let problem = mismatch(node, place, "true or false".to_owned(), problems);
        if let Value::Text(text) = &node.value {
            match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" => drop(problem.hint("write true")),
                "no" | "off" | "n" | "false" => drop(problem.hint("write false")),
                _ => {}
            }
        }
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// Reads a whole number in plain digits.
fn whole(
    node: &Node,
    place: &Place,
    range: RangeInclusive<i64>,
    expected: String,
    problems: &mut Problems<'_>,
) -> Option<i64> {
    let (Value::Number(written) | Value::Text(written)) = &node.value else {
        mismatch(node, place, expected, problems);
        return None;
    };
    let plain = written.strip_prefix('-').unwrap_or(written);
    let is_plain = !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = matches!(node.value, Value::Number(_)) && is_plain;
    match written.parse::<i64>() {
        Ok(value) if is_number && range.contains(&value) => Some(value),
        parsed => {
            let problem = mismatch(node, place, expected, problems);
            if is_number {
                return None;
            }
            let fits = |value: &i64| range.contains(value);
            if let Some(value) = parsed.ok().or_else(|| meant(written)).filter(fits) {
                problem.hint(format!("write {value}"));
            } else if is_plain {
                problem.hint("write it without quotes");
            } else if written.contains(|c: char| c.is_ascii_digit()) {
                problem.hint("write it in plain digits");
            }
            None
        }
    }
}

fn expected_whole(range: &RangeInclusive<i64>) -> String {
    if *range.start() <= i64::from(i32::MIN) {
        return "a whole number".to_owned();
    }
    format!("a whole number from {} to {}", range.start(), range.end())
}

/// The number that `10_000`, `10,000` or `100k` most likely meant.
fn meant(written: &str) -> Option<i64> {
    let text: String = written.chars().filter(|c| !"_, '".contains(*c)).collect();
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => match lower.strip_suffix('m') {
            Some(digits) => (digits, 1_000_000),
            None => (lower.as_str(), 1),
        },
    };
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

/// Declares a whole number with a range of its own.
macro_rules! whole_number {
    ($(#[doc = $doc:literal])* $name:ident($type:ty), $range:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $type);

        impl FromNode for $name {
            fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
                let value = whole(node, place, $range, expected_whole(&$range), problems)?;
                <$type>::try_from(value).ok().map(Self)
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                let range: RangeInclusive<i64> = $range;
                json_schema!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
            }
        }
    };
}

whole_number! {
    /// How many chunks a data set is cut into.
    ChunkCount(u32), 1..=10_000_000
}
whole_number! {
    /// How many rows a chunk has, or chunks a buffer holds.
    Amount(u64), 1..=1_000_000_000_000_000
}
whole_number! {
    /// Digits of a decimal.
    Digits(u32), 0..=1_000
}
whole_number! {
    /// How often a chunk is tried.
    Attempts(u32), 1..=1_000
}
whole_number! {
    /// Any sign, higher goes first.
    Priority(i32), i64::from(i32::MIN)..=i64::from(i32::MAX)
}

/// A concurrency limit: a whole number, or `none` for unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u32>);

/// Far above any fleet, and safely inside the database's integers.
const LIMITS: RangeInclusive<i64> = 0..=1_000_000;

impl FromNode for Limit {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let expected = format!("{}, or none", expected_whole(&LIMITS));
        match &node.value {
            Value::Text(text) if text == "none" => Some(Self(None)),
            Value::Number(_) => {
                let value = whole(node, place, LIMITS, expected, problems)?;
                u32::try_from(value).ok().map(|limit| Self(Some(limit)))
            }
            Value::Text(_) => {
                mismatch(node, place, expected, problems).hint("none is unlimited, 0 runs nothing");
                None
            }
            _ => {
                mismatch(node, place, expected, problems);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": LIMITS.start(), "maximum": LIMITS.end() },
            { "const": "none" },
        ] })
    }
}

/// A duration in milliseconds; may be nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) millis: u64,
}

impl FromNode for Span {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let expected = "a duration such as 25s, 10m, 2h 30m or 7d".to_owned();
        match &node.value {
            Value::Text(text) => match parse_duration(text) {
                Ok(duration) => u64::try_from(duration.as_millis())
                    .ok()
                    .map(|millis| Self { millis }),
                Err(_) => {
                    mismatch(node, place, expected, problems)
                        .hint("units are ms, s, m, h, d and w, each after a whole number");
                    None
                }
            },
            Value::Number(written) => {
                mismatch(node, place, expected, problems)
                    .hint(format!("give it a unit: {}s", shorten(written)));
                None
            }
            _ => {
                mismatch(node, place, expected, problems);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^ *([0-9]+ *[a-z]+ *)+$" })
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromNode for Size {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        if let Value::Text(text) | Value::Number(text) = &node.value
            && let Ok(bytes) = parse_bytes(text)
        {
            return Some(Self(bytes));
        }
        mismatch(
            node,
            place,
            "a size such as 500MB, 2TB or 64MiB".to_owned(),
            problems,
        );
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9.]+ *([kKmMgGtTpP]([iI]?[bB])?|[bB])?$" },
        ] })
    }
}

/// Declares a choice between words.
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $word_doc:literal])* $variant:ident = $word:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[doc = $word_doc])* $variant,)* }

        impl $name {
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl FromNode for $name {
            fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
                match &node.value {
                    $(Value::Text(text) if text == $word => Some(Self::$variant),)*
                    other => {
                        let expected = format!("one of {}", $crate::flow::read::list_of(Self::WORDS));
                        let problem = mismatch(node, place, expected, problems);
                        if let Value::Text(text) = other {
                            problem.did_you_mean(text, Self::WORDS.iter().copied());
                        }
                        None
                    }
                }
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "enum": Self::WORDS })
            }
        }
    };
}

words! {
    /// What kind of endpoint a connection is.
    Kind {
        Postgres = "postgres",
        Files = "files",
        Other = "other",
    }
}
words! {
    /// Which chunks of an input a chunk is made from.
    InputChunks {
        All = "all",
        Same = "same",
        Windows = "windows",
        Previous = "previous",
    }
}
words! {
    /// What becomes of an output window before which its input has none.
    FirstWindow {
        Ready = "ready",
        Wait = "wait",
        Skip = "skip",
    }
}
words! {
    /// What becomes of rows outside of all windows.
    RestRows {
        Error = "error",
        Chunk = "chunk",
        Ignore = "ignore",
    }
}
words! {
    /// What a job may take beside what was validated.
    Accept {
        Unvalidated = "unvalidated",
    }
}
words! {
    /// How a published file is looked at before it is read.
    VerifyWord {
        Checksum = "checksum",
        Size = "size",
    }
}
words! {
    /// Whether a job may read one environment and write another.
    Environments {
        Same = "same",
        Mixed = "mixed",
    }
}

words! {
    /// How the files of a data set are read.
    FormatWord {
        Csv = "csv",
        Jsonl = "jsonl",
        Parquet = "parquet",
        /// Not at all: nothing but size and checksum is known.
        None = "none",
    }
}
words! {
    /// What a failed rule means.
    SeverityWord {
        Fail = "fail",
        Warn = "warn",
    }
}

/// How long published data stays: `forever`, `until_consumed` or a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepFor {
    Forever,
    UntilConsumed,
    Time(Span),
}

impl FromNode for KeepFor {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let Value::Text(text) = &node.value else {
            mismatch(
                node,
                place,
                "forever, until_consumed or a duration such as 7d".to_owned(),
                problems,
            );
            return None;
        };
        match text.as_str() {
            "forever" => Some(Self::Forever),
            "until_consumed" => Some(Self::UntilConsumed),
            text if text.starts_with(|c: char| c.is_ascii_digit()) => {
                Span::read(node, place, problems).map(Self::Time)
            }
            text => {
                let expected = "forever, until_consumed or a duration such as 7d".to_owned();
                mismatch(node, place, expected, problems)
                    .did_you_mean(text, ["forever", "until_consumed"]);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "enum": ["forever", "until_consumed"] },
            Span::schema(generator),
        ] })
    }
}
