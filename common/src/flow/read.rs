//! Reading a tree into the file as written: the trait, the map reader and the `record!` macro.
//!
//! A record is declared once; its struct, its reader and its part of the JSON Schema come from
//! that one declaration, so they cannot drift apart. Nothing in here knows what a key means.

use std::collections::HashMap;

use schemars::{Schema, SchemaGenerator};

use super::diagnostic::{Diagnostic, closest};
pub(crate) use super::place::{At, Given, Place, Problems};
use super::tree::{Mark, Node, Value};

/// A type that can be read from a file and described to an editor.
pub(crate) trait FromNode: Sized {
    /// Reads a value; reports what is wrong and returns `None` where that cannot be done.
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self>;

    /// Its JSON Schema.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// The entries of a map whose keys are known.
pub(crate) struct Fields<'n> {
    entries: Vec<(&'n str, &'n Node, &'n Node)>,
    place: Place,
    what: &'static str,
}

impl<'n> Fields<'n> {
    /// Reads a map, reporting unknown keys, keys that stand twice and keys that are not text.
    pub(crate) fn open(
        node: &'n Node,
        place: &Place,
        what: &'static str,
        known: &[&'static str],
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        let keys = || format!("a map with the keys {}", list_of(known));
        let mut fields = Self {
            entries: Vec::new(),
            place: place.clone(),
            what,
        };
        let mut seen = HashMap::new();
        let mut misspelt = Vec::new();
        for (key, value) in open_map(node, place, keys, problems)? {
            // YAML reads a plain `null` as nothing, as a key too.
            let null_is_a_key = matches!(key.value, Value::Empty) && known.contains(&"null");
            let name = if null_is_a_key {
                Some("null")
            } else {
                key_text(key, place, problems)
            };
            let Some(name) = name else { continue };
            let child = place.child(key, name, value);
            if !known.contains(&name) {
                misspelt
                    .extend(closest(name, known.iter().copied()).map(|meant| (meant, key, value)));
                unknown_key(name, &child, what, known, problems);
            } else if is_new(name, &child, &mut seen, problems) {
                fields.entries.push((name, key, value));
            }
        }
        // What a misspelt key most likely meant is read as that, so that its loss is one problem.
        for (meant, key, value) in misspelt {
            if !fields.entries.iter().any(|(name, ..)| *name == meant) {
                fields.entries.push((meant, key, value));
            }
        }
        Some(fields)
    }

    /// Reads an optional key.
    pub(crate) fn take<T: FromNode>(&self, name: &str, problems: &mut Problems<'_>) -> Given<T> {
        let entry = self.entries.iter().find(|(known, ..)| *known == name);
        let Some((_, key, value)) = entry else {
            return Given::Missing;
        };
        let place = self.place.child(key, name, value);
        T::read(value, &place, problems)
            .map_or(Given::Unreadable, |value| Given::Is(At { value, place }))
    }

    /// Reads a key that must be there, reporting it where it is missing.
    pub(crate) fn require<T: FromNode>(
        &self,
        name: &str,
        doc: &str,
        problems: &mut Problems<'_>,
    ) -> Given<T> {
        let given = self.take(name, problems);
        if !given.is_written() {
            let (what, doc) = (self.what, within_sentence(doc));
            problems
                .error(
                    &self.place.at_key(),
                    format!("{what} needs the key {name:?}"),
                )
                .expected(format!("{name}: {doc}"));
        }
        given
    }
}

fn unknown_key(name: &str, place: &Place, what: &str, known: &[&str], problems: &mut Problems<'_>) {
    let shown = super::tree::shorten(name);
    problems
        .error(&place.at_key(), format!("unknown key {shown:?} in {what}"))
        .expected(format!("one of {}", list_of(known)))
        .did_you_mean(name, known.iter().copied());
}

/// A key's description as the rest of a sentence: no capital (but that of a name), no full stop.
fn within_sentence(doc: &str) -> String {
    let doc = doc.trim().trim_end_matches('.');
    let mut chars = doc.chars();
    match (chars.next(), chars.next()) {
        (Some(first), second) if second.is_none_or(|second| !second.is_uppercase()) => {
            first.to_lowercase().chain(doc.chars().skip(1)).collect()
        }
        _ => doc.to_owned(),
    }
}

/// The entries of a map, or a report that it is none.
pub(crate) fn open_map<'n>(
    node: &'n Node,
    place: &Place,
    expected: impl FnOnce() -> String,
    problems: &mut Problems<'_>,
) -> Option<&'n [(Node, Node)]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ => {
            mismatch(node, place, expected(), problems);
            None
        }
    }
}

/// Reports a value of the wrong shape.
pub(crate) fn mismatch<'p>(
    node: &Node,
    place: &Place,
    expected: String,
    problems: &'p mut Problems<'_>,
) -> &'p mut Diagnostic {
    let subject = if place.path.is_empty() {
        "the file"
    } else {
        &place.path
    };
    // An empty value has no width of its own: its key is what a person sees.
    let place = if matches!(node.value, Value::Empty) {
        place.at_key()
    } else {
        place.clone()
    };
    let message = match node.value {
        Value::Empty => format!("{subject} has no value"),
        _ => format!("{subject} is {}", node.found()),
    };
    let problem = problems.error(&place, message).expected(expected);
    if matches!(node.value, Value::Empty) {
        problem.hint("give it a value or remove the key");
    }
    problem
}

/// A key's text, or a report that it is no text.
pub(crate) fn key_text<'n>(
    key: &'n Node,
    owner: &Place,
    problems: &mut Problems<'_>,
) -> Option<&'n str> {
    match &key.value {
        Value::Text(text) => Some(text),
        other => {
            let place = owner.item(0, key);
            let place = Place {
                path: owner.path.clone(),
                ..place
            };
            let problem = problems.error(&place, format!("a key is {}", key.found()));
            problem.expected("text as a key");
            if let Value::Number(written) | Value::Bool { written, .. } = other {
                problem.hint(format!("quote it: \"{written}\""));
            }
            None
        }
    }
}

/// Whether a key stands here for the first time; reports it with both positions where not.
pub(crate) fn is_new<'n>(
    name: &'n str,
    place: &Place,
    seen: &mut HashMap<&'n str, Mark>,
    problems: &mut Problems<'_>,
) -> bool {
    let Some(first) = seen.insert(name, place.key) else {
        return true;
    };
    let first_at = problems.source.position(first);
    let shown = super::tree::shorten(name);
    problems
        .error(
            &place.at_key(),
            format!("the key {shown:?} stands here twice"),
        )
        .note(format!("it stands first at {first_at}"))
        .hint("keep one of them");
    false
}

/// `a`, `b` and `c`, for messages.
pub(crate) fn list_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// Entries of a map whose keys are names that the file's author chose.
#[derive(Debug, Clone)]
pub(crate) struct Named<T>(pub(crate) Vec<NamedEntry<T>>);

/// One of them; `value` is `None` where it could not be read, which was reported.
#[derive(Debug, Clone)]
pub(crate) struct NamedEntry<T> {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) value: Option<T>,
}

impl<T: FromNode> FromNode for Named<T> {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        if matches!(node.value, Value::Empty) {
            // A section whose entries are all commented out.
            return Some(Self(Vec::new()));
        }
        let mut seen = HashMap::new();
        let mut read = Vec::new();
        let expected = || "a map from names to their declarations".to_owned();
        for (key, value) in open_map(node, place, expected, problems)? {
            let Some(name) = key_text(key, place, problems) else {
                continue;
            };
            let child = place.child(key, name, value);
            if !is_new(name, &child, &mut seen, problems) {
                continue;
            }
            let value = T::read(value, &child, problems);
            read.push(NamedEntry {
                name: name.to_owned(),
                place: child,
                value,
            });
        }
        Some(Self(read))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let value = T::schema(generator);
        schemars::json_schema!({ "type": ["object", "null"], "additionalProperties": value })
    }
}

impl<T: FromNode> FromNode for Vec<At<T>> {
    fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            mismatch(
                node,
                place,
                "a list, for example [a, b]".to_owned(),
                problems,
            );
            return None;
        };
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = place.item(index, item);
            if let Some(value) = T::read(item, &place, problems) {
                read.push(At { value, place });
            }
        }
        Some(read)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let item = T::schema(generator);
        schemars::json_schema!({ "type": "array", "items": item })
    }
}

/// A field's key: `type` for `r#type`, which Rust does not take for a name otherwise.
pub(crate) fn plain_key(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// Declares a map with fixed keys: its struct, its reader and its schema.
///
/// A required key that is missing was reported when it was read.
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        $name:ident, $what:literal {
            $( $(#[doc = $field_doc:literal])* $need:ident $field:ident: $type:ty, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        #[allow(dead_code, reason = "a key such as kind is decided on before its record is read")]
        pub(crate) struct $name {
            $( $(#[doc = $field_doc])* pub(crate) $field: Given<$type>, )*
        }

        impl FromNode for $name {
            fn read(node: &Node, place: &Place, problems: &mut Problems<'_>) -> Option<Self> {
                let known = [$($crate::flow::read::plain_key(stringify!($field))),*];
                let fields = Fields::open(node, place, $what, &known, problems)?;
                Some(Self { $( $field: record!(
                    @$need fields, $field, concat!($($field_doc),*), problems
                ), )* })
            }

            fn schema(generator: &mut SchemaGenerator) -> Schema {
                let mut properties = serde_json::Map::new();
                let needs = [$(($crate::flow::read::plain_key(stringify!($field)), stringify!($need))),*];
                let required: Vec<&str> = needs
                    .into_iter()
                    .filter_map(|(key, need)| (need == "required").then_some(key))
                    .collect();
                $(
                    let doc = concat!($($field_doc),*);
                    let schema = describe(<$type>::schema(generator), doc);
                    properties.insert($crate::flow::read::plain_key(stringify!($field)).to_owned(), schema.to_value());
                )*
                schemars::json_schema!({
                    "type": "object",
                    "description": concat!($($doc),*).trim(),
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            }
        }
    };
    (@required $fields:ident, $field:ident, $doc:expr, $problems:ident) => {
        $fields.require($crate::flow::read::plain_key(stringify!($field)), $doc, $problems)
    };
    (@optional $fields:ident, $field:ident, $doc:expr, $problems:ident) => {
        $fields.take($crate::flow::read::plain_key(stringify!($field)), $problems)
    };
}
pub(crate) use record;

/// A schema with a key's own description, which says more than that of its type.
pub(crate) fn describe(mut schema: Schema, doc: &str) -> Schema {
    schema.insert("description".to_owned(), doc.trim().into());
    schema
}
