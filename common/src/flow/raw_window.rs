//! What a flow file says about time: windows, products with them, and which chunks of an input.
//!
//! Written form only; whether zones, dates and expressions fit the rest is for `check` to say.

use chrono::{NaiveDate, Weekday};
use chrono_tz::Tz;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::raw::RawPartition;
use super::read::{At, Fields, FromNode, Given, Place, Problems, describe, mismatch, record};
use super::scalar::{InputChunks, RestRows, Text};
use super::tree::{Node, Value, shorten};
use crate::calendar::{EXPECTED, Every};

record! {
    /// One chunk for each window of a calendar.
    RawByWindows, "a partition by windows" {
        /// How long a window is: hour, day, week or month, or a multiple such as 6 hours.
        required every: RawEvery,
        /// The first date inside, for example 2024-01-01.
        required from: RawDate,
        /// The first date outside.
        required to: RawDate,
        /// The zone whose clock cuts, for example Europe/Berlin or UTC.
        required zone: RawZone,
        /// The column whose time says in which window a row lies.
        optional column: Text,
        /// What becomes of rows outside of all windows: error, chunk or ignore; error unless given.
        optional rest: RestRows,
        /// The day on which a week begins; monday unless given.
        optional week_starts: RawWeekday,
    }
}

record! {
    /// One chunk for each combination of the chunks of several dimensions.
    RawByProduct, "a partition by product" {
        /// The dimensions, the slowest first, each a partition.
        required product: Vec<At<RawPartition>>,
    }
}

/// Reads a text with `parse`, reporting what was expected where it is none of those.
fn parsed<T>(
    node: &Node,
    place: &Place,
    expected: &str,
    problems: &mut Problems<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    if let Value::Text(text) = &node.value
        && let Some(value) = parse(text)
    {
        return Some(value);
    }
    mismatch(node, place, expected.to_owned(), problems);
    None
}

/// The length of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEvery(pub(crate) Every);

impl FromNode for RawEvery {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        parsed(node, place, EXPECTED, problems, |text| text.parse().ok()).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+ +)?(hours?|days?|weeks?|months?)$" })
    }
}

/// A date.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawDate(pub(crate) NaiveDate);

impl FromNode for RawDate {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let exact = |text: &str| {
            let date = text.parse::<NaiveDate>().ok()?;
            (date.to_string() == text).then_some(date)
        };
        parsed(node, place, "a date such as 2024-03-31", problems, exact).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" })
    }
}

/// A time zone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawZone(pub(crate) Tz);

impl FromNode for RawZone {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let expected = "a zone of the tz database, such as Europe/Berlin or UTC";
        let Value::Text(text) = &node.value else {
            mismatch(node, place, expected.to_owned(), problems);
            return None;
        };
        if let Ok(zone) = text.parse::<Tz>() {
            return Some(Self(zone));
        }
        problems
            .error(place, format!("there is no zone {:?}", shorten(text)))
            .expected(expected)
            .did_you_mean(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawWeekday(pub(crate) Weekday);

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

impl FromNode for RawWeekday {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let expected = format!("one of {}", super::read::list_of(&WEEKDAYS));
        let named = |text: &str| {
            let known = WEEKDAYS.contains(&text);
            text.parse().ok().filter(|_| known)
        };
        parsed(node, place, &expected, problems, named).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": WEEKDAYS })
    }
}

/// Which chunks of an input a chunk is made from: a word, or an expression over keys.
#[derive(Debug, Clone)]
pub(crate) enum RawChunks {
    Word(InputChunks),
    Rewrite(RawRewrite),
}

/// An expression over keys.
#[derive(Debug, Clone)]
pub(crate) struct RawRewrite {
    pub(crate) pattern: Given<Text>,
    pub(crate) to: Given<Text>,
    pub(crate) from: Given<Text>,
}

const PATTERN: &str = "a regular expression that every key matches";
const TO: &str = "the output's key, made from an input's: several inputs to one output";
const FROM: &str = "the input's key, made from an output's: one input to several outputs";

impl FromNode for RawChunks {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            return InputChunks::read(node, place, problems).map(Self::Word);
        }
        let known = ["match", "to", "from"];
        let fields = Fields::open(node, place, "chunks by expression", &known, problems)?;
        Some(Self::Rewrite(RawRewrite {
            pattern: fields.require("match", PATTERN, problems),
            to: fields.take("to", problems),
            from: fields.take("from", problems),
        }))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut text = |doc: &str| describe(Text::schema(generator), doc);
        let (pattern, to, from) = (text(PATTERN), text(TO), text(FROM));
        let words = InputChunks::schema(generator);
        json_schema!({ "anyOf": [words, {
            "type": "object",
            "properties": { "match": pattern, "to": to, "from": from },
            "required": ["match"],
            "additionalProperties": false,
        }] })
    }
}
