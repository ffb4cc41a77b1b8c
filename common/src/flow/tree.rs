//! A YAML document as a tree of values that know where they stand in the text.
//!
//! Reading goes through a tree, not straight into structs, so that one pass can report every
//! problem of a file instead of the first. Nothing in here knows what a flow is.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// Where a value stands: 1-based line and column, both counted in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Line, from 1; 0 is the file as a whole.
    pub(crate) line: u32,
    /// Column, from 1.
    pub(crate) column: u32,
    /// Characters on which the caret stands, at least 1.
    pub(crate) width: u32,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) mark: Mark,
}

/// What YAML can say, with scalars that are not text kept as they were written.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing at all, `~` or `null`.
    Empty,
    Bool {
        value: bool,
        written: String,
    },
    /// A number as written, for example `10_000` or `0x1f`.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// Entries in the order of the file; a key that stands twice is here twice.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// What was found, for "expected X, found Y"; long text is cut.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Empty => "nothing".to_owned(),
            Value::Bool { written, .. } => format!("the boolean {written}"),
            Value::Number(text) => format!("the number {}", shorten(text)),
            Value::Text(text) => format!("the text {:?}", shorten(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// At most 60 characters of a text that is quoted in a message.
pub(crate) fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    let head: String = text.chars().take(57).collect();
    format!("{head}...")
}

/// A node before its scalars got back the text they were written with.
struct Bare(BareValue);

enum BareValue {
    Empty,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Bare>>),
    Map(Vec<(Spanned<Bare>, Spanned<Bare>)>),
}

/// A whole document, ready to be read against the text that it came from.
pub(crate) struct Document(Spanned<Bare>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl Document {
    /// Turns the document into a tree; `text` must be what was parsed.
    pub(crate) fn into_tree(self, text: &str) -> Node {
        place(self.0, text)
    }
}

fn place(spanned: Spanned<Bare>, text: &str) -> Node {
    // The definition, not the alias: that is where an editor has to go.
    let location = spanned.defined;
    let written = written(text, location);
    let value = match spanned.value.0 {
        BareValue::Empty => Value::Empty,
        BareValue::Bool(value) => Value::Bool {
            value,
            written: written.map_or_else(|| value.to_string(), str::to_owned),
        },
        BareValue::Number(parsed) => Value::Number(written.map_or(parsed, str::to_owned)),
        BareValue::Text(value) => Value::Text(value),
        BareValue::List(items) => {
            Value::List(items.into_iter().map(|item| place(item, text)).collect())
        }
        BareValue::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (place(key, text), place(value, text)))
                .collect(),
        ),
    };
    let scalar = !matches!(value, Value::List(_) | Value::Map(_));
    let first_line = written.and_then(|text| text.lines().next()).unwrap_or("");
    let width = if scalar {
        first_line.trim_end().chars().count()
    } else {
        1
    };
    Node {
        value,
        mark: Mark {
            line: u32::try_from(location.line()).unwrap_or(u32::MAX),
            column: u32::try_from(location.column()).unwrap_or(u32::MAX),
            width: u32::try_from(width.max(1)).unwrap_or(u32::MAX),
        },
    }
}

/// The characters of the file that a scalar was written with.
fn written(text: &str, location: Location) -> Option<&str> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    text.get(start..start.checked_add(length)?)
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BareVisitor).map(Self)
    }
}

struct BareVisitor;

impl<'de> Visitor<'de> for BareVisitor {
    type Value = BareValue;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<BareValue, E> {
        Ok(BareValue::Empty)
    }

    fn visit_none<E>(self) -> Result<BareValue, E> {
        Ok(BareValue::Empty)
    }

    fn visit_bool<E>(self, value: bool) -> Result<BareValue, E> {
        Ok(BareValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<BareValue, E> {
        Ok(BareValue::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<BareValue, E> {
        Ok(BareValue::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<BareValue, E> {
        Ok(BareValue::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<BareValue, E> {
        Ok(BareValue::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<BareValue, E> {
        Ok(BareValue::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<BareValue, E> {
        Ok(BareValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BareValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(BareValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BareValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(BareValue::Map(entries))
    }
}
