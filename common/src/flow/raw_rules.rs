//! Validation as it is written in a flow file: `format`, `csv`, `validate` and `rejects`.
//!
//! As in `raw`, the structs, their reading and their JSON Schema come from the same declarations;
//! whether the parts fit each other is for `check` to say.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::raw::{one_or_several, one_or_several_schema};
use super::read::{
    At, Fields, FromNode, Given, Named, Place, Problems, describe, mismatch, record,
};
use super::rules::FieldType;
use super::scalar::{Amount, Digits, FormatWord, SeverityWord, Span, Text, Written};
use super::tree::{Node, Value};

record! {
    /// How the fields of a csv file are written.
    RawCsv, "csv" {
        /// Whether the first record names the columns; true unless given.
        optional header: bool,
        /// Between fields, one ASCII character; a comma unless given.
        optional delimiter: Written,
        /// Around fields that need it, one ASCII character; \" unless given.
        optional quote: Written,
        /// The unquoted text that means NULL; nothing at all unless given.
        optional null: Written,
    }
}

record! {
    /// One rule that the output must keep; exactly one key besides severity.
    RawRule, "a rule" {
        /// As many rows as the input, so many, or a ratio to the input: { ratio: [0.99, 1.0] }.
        optional row_count: RawRowCount,
        /// Columns without NULL.
        optional not_null: RawColumns,
        /// Columns that together name a row.
        optional unique: RawColumns,
        /// Column to the values that it may have.
        optional accepted: Named<Vec<At<Written>>>,
        /// Column to its least and greatest value.
        optional range: Named<RawRange>,
        /// Column to its exact sum: { equals: "123.45" }, or reported.
        optional sum: Named<RawExpected>,
        /// Column to its least value.
        optional min: Named<RawExpected>,
        /// Column to its greatest value.
        optional max: Named<RawExpected>,
        /// Column to the sum of the hashes of its values.
        optional checksum: Named<RawExpected>,
        /// The sum of the hashes of all rows.
        optional row_sum: RawExpected,
        /// The columns, all of them, and their types.
        optional schema: Vec<At<RawField>>,
        /// The greatest value of a column of times is not old.
        optional freshness: RawFreshness,
        /// A query that answers true; $1 is the key, $2 the lower and $3 the upper bound, $4 the fence.
        optional sql: RawSql,
        /// A program of the script directory and its arguments; 0 is yes, 65 is no, its last line is what it found.
        optional command: Vec<At<Written>>,
        /// fail keeps the output back, warn only records it; fail unless given.
        optional severity: SeverityWord,
    }
}

record! {
    /// Least and greatest value, both allowed.
    RawRange, "a range" {
        /// Least value.
        optional min: Written,
        /// Greatest value.
        optional max: Written,
    }
}

record! {
    /// A figure that must be met.
    RawEquals, "an expected figure" {
        /// The figure; quote decimals.
        required equals: Written,
    }
}

record! {
    /// A number of rows held against an input's.
    RawRatio, "row_count" {
        /// The input, where the job has several.
        optional input: Text,
        /// Least and greatest output / input, for example [0.99, 1.0].
        optional ratio: Vec<At<Written>>,
    }
}

record! {
    /// A column and its type.
    RawField, "a column of a schema" {
        /// Its name.
        required name: Text,
        /// An Avro type or logical type, or { decimal: [precision, scale] }.
        required r#type: RawType,
        /// Whether NULL is allowed; false unless given.
        optional nullable: bool,
    }
}

record! {
    /// A decimal of limited size.
    RawDecimal, "a type" {
        /// Digits in all and after the point, for example [12, 2].
        required decimal: Vec<At<Digits>>,
    }
}

record! {
    /// The greatest value of a column of times is not old.
    RawFreshness, "freshness" {
        /// A column of dates or timestamps.
        required column: Text,
        /// For example 2d.
        required within: Span,
    }
}

record! {
    /// A query that answers true.
    RawSql, "sql" {
        /// The query, run read-only.
        required query: Text,
        /// Where; the output's own connection unless given.
        optional connection: Text,
    }
}

record! {
    /// Rows that break a rule of rows go into a file of their own.
    RawRejects, "rejects" {
        /// How many there may be: 100 or 1%.
        required max: RawCap,
        /// Where they are published; the output's path with .rejects unless given.
        optional path: Text,
    }
}

/// A column or a list of columns.
#[derive(Debug, Clone)]
pub(crate) struct RawColumns(pub(crate) Vec<At<Text>>);

impl FromNode for RawColumns {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                mismatch(node, place, "at least one column".to_owned(), problems);
                None
            }
            _ => one_or_several(node, place, problems).map(Self),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        one_or_several_schema(generator)
    }
}

/// How many rows.
#[derive(Debug, Clone)]
pub(crate) enum RawRowCount {
    Input,
    Exactly(u64),
    Ratio(RawRatio),
}

const ROW_COUNT_EXPECTED: &str = "input, a number, or { ratio: [0.99, 1.0] }";

impl FromNode for RawRowCount {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "input" => Some(Self::Input),
            Value::Number(written) if written == "0" => Some(Self::Exactly(0)),
            Value::Number(_) => {
                Amount::read(node, place, problems).map(|rows| Self::Exactly(rows.0))
            }
            Value::Map(_) => RawRatio::read(node, place, problems).map(Self::Ratio),
            other => {
                let problem = mismatch(node, place, ROW_COUNT_EXPECTED.to_owned(), problems);
                if let Value::Text(text) = other {
                    problem.did_you_mean(text, ["input"]);
                }
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "const": "input" },
            { "type": "integer", "minimum": 0 },
            RawRatio::schema(generator),
        ] })
    }
}

/// A figure that is written, or the one that the script reports.
#[derive(Debug, Clone)]
pub(crate) enum RawExpected {
    Reported,
    Equals(RawEquals),
}

impl FromNode for RawExpected {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "reported" => Some(Self::Reported),
            Value::Map(_) => RawEquals::read(node, place, problems).map(Self::Equals),
            other => {
                let expected = "{ equals: \"123.45\" }, or reported".to_owned();
                let problem = mismatch(node, place, expected, problems);
                match other {
                    Value::Number(written) => {
                        problem.hint(format!("write {{ equals: \"{written}\" }}"));
                    }
                    Value::Text(text) => {
                        problem.did_you_mean(text, ["reported"]);
                    }
                    _ => {}
                }
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "reported" }, RawEquals::schema(generator)] })
    }
}

/// A column's type.
#[derive(Debug, Clone)]
pub(crate) enum RawType {
    Word(FieldType),
    Decimal(RawDecimal),
}

impl FromNode for RawType {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let words = FieldType::WORDS.map(|(word, _)| word);
        match &node.value {
            Value::Map(_) => RawDecimal::read(node, place, problems).map(Self::Decimal),
            Value::Text(text) => {
                let known = FieldType::WORDS.iter().find(|(word, _)| word == text);
                if let Some((_, kind)) = known {
                    return Some(Self::Word(*kind));
                }
                let expected = format!("one of {}", super::read::list_of(&words));
                mismatch(node, place, expected, problems).did_you_mean(text, words);
                None
            }
            _ => {
                let expected = format!("one of {}", super::read::list_of(&words));
                mismatch(node, place, expected, problems);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "enum": FieldType::WORDS.map(|(word, _)| word) },
            RawDecimal::schema(generator),
        ] })
    }
}

/// A number of rows or a share of them.
#[derive(Debug, Clone)]
pub(crate) enum RawCap {
    Rows(u64),
    Percent(String),
}

impl FromNode for RawCap {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Number(written) if written == "0" => Some(Self::Rows(0)),
            Value::Number(_) => Amount::read(node, place, problems).map(|rows| Self::Rows(rows.0)),
            Value::Text(text)
                if text
                    .strip_suffix('%')
                    .is_some_and(|number| is_share(number.trim())) =>
            {
                Some(Self::Percent(text.trim_end_matches('%').trim().to_owned()))
            }
            _ => {
                let expected = "a number of rows or a share of them, 100 or 1%".to_owned();
                mismatch(node, place, expected, problems);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? *%$" },
        ] })
    }
}

fn is_share(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
        && text
            .parse::<f64>()
            .is_ok_and(|share| (0.0..=100.0).contains(&share))
}

/// The keys under which a data set declares its validation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawChecks<'r> {
    pub(crate) format: &'r Given<FormatWord>,
    pub(crate) csv: &'r Given<RawCsv>,
    pub(crate) validate: &'r Given<Vec<At<RawRule>>>,
    pub(crate) rejects: &'r Given<RawRejects>,
}
