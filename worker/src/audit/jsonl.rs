//! Reading JSON lines: every line exactly one JSON value, in UTF-8.
//!
//! The members of an object are its columns, a value that is no object is a column named `value`.
//! A string's value is its content, null and a missing member are NULL, everything else is its text
//! as it stands in the file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::bytes::{Unread, content};
use super::row::{Row, Rows, Seen, Value};

/// No line is longer.
const MAX_LINE: usize = 64 << 20;

/// More columns than a table can have are keys used as data.
const MAX_COLUMNS: usize = 4096;

/// Reads a whole file of JSON lines.
///
/// # Errors
/// [`Unread::Broken`] with the line that is no JSON, and what `rows` answers.
pub(crate) fn read(input: &mut dyn BufRead, rows: &mut dyn Rows) -> Result<Seen, Unread> {
    let mut line = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut seen = Seen::default();
    rows.columns(&names, &[])?;
    while take_line(input, &mut line, seen.rows + 1)? {
        seen.rows += 1;
        seen.open_end = line.last() != Some(&b'\n');
        let members = parse(&line).map_err(|error| {
            Unread::broken(format!("line {} is no JSON value: {error}", seen.rows))
        })?;
        let known = names.len();
        let mut values: Vec<Value<'_>> = vec![None; known];
        for (name, value) in &members {
            let place = match places.get(name.as_ref()) {
                Some(place) => *place,
                None => {
                    places.insert(name.to_string(), names.len());
                    names.push(name.to_string());
                    names.len() - 1
                }
            };
            values.resize(names.len(), None);
            values[place] = value.as_deref().map(str::as_bytes);
        }
        if names.len() > MAX_COLUMNS {
            return Err(Unread::broken(format!(
                "line {} brings the number of different members above {MAX_COLUMNS}",
                seen.rows
            )));
        }
        if names.len() > known {
            rows.columns(&names, &[])?;
        }
        rows.row(&Row {
            number: seen.rows,
            values: &values,
            raw: &line,
        })?;
    }
    Ok(seen)
}

/// Reads a line with its end; `false` where there is none.
fn take_line(input: &mut dyn BufRead, line: &mut Vec<u8>, number: u64) -> Result<bool, Unread> {
    line.clear();
    loop {
        let block = match input.fill_buf() {
            Ok(block) => block,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(content(&error)),
        };
        if block.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = memchr::memchr(b'\n', block).map(|at| at + 1);
        let taken = end.unwrap_or(block.len());
        line.extend_from_slice(&block[..taken]);
        input.consume(taken);
        if line.len() > MAX_LINE {
            return Err(Unread::broken(format!(
                "line {number} is longer than 64 MiB"
            )));
        }
        if end.is_some() {
            return Ok(true);
        }
    }
}

type Members<'a> = Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>;

fn parse(line: &[u8]) -> Result<Members<'_>, serde_json::Error> {
    let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') {
        let mut reader = serde_json::Deserializer::from_slice(line);
        let members = reader.deserialize_map(Object)?;
        reader.end()?;
        return Ok(members);
    }
    let value: &RawValue = serde_json::from_slice(line)?;
    Ok(vec![(Cow::Borrowed("value"), text_of(value)?)])
}

/// Reads an object's members as they stand there; one that stands there twice is an error.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members: Members<'de> = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            let value = text_of(value).map_err(serde::de::Error::custom)?;
            members.push((name, value));
        }
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("the member {:?} stands there twice", twice[0]);
            return Err(serde::de::Error::custom(message));
        }
        Ok(members)
    }
}

/// A member's name, borrowed where nothing in it is escaped.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn text_of(value: &RawValue) -> Result<Option<Cow<'_, str>>, serde_json::Error> {
    let text = value.get();
    if text == "null" {
        return Ok(None);
    }
    if text.starts_with('"') {
        let Key(text) = serde_json::from_str(text)?;
        return Ok(Some(text));
    }
    Ok(Some(Cow::Borrowed(text)))
}
