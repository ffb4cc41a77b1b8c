//! The parts of rules: columns, figures, ranges, types, and how csv fields are written.
//!
//! Each takes what was written for one key and says what is wrong with it; how rules fit a data
//! set is for `checks`.

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::raw_rules::{RawCsv, RawDecimal, RawExpected, RawField, RawType};
use crate::flow::read::{At, Named, NamedEntry, Place, Problems};
use crate::flow::rules::{CsvStyle, Expected, Field, FieldType};
use crate::flow::scalar::{Digits, Text, Written};
use crate::flow::tree::shorten;

pub(super) fn names(columns: &[At<Text>], problems: &mut Problems<'_>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    for column in columns {
        if !seen.insert(&column.value.0) {
            problems.error(
                &column.place,
                format!(
                    "the column {:?} stands here twice",
                    shorten(&column.value.0)
                ),
            );
        }
    }
    columns
        .iter()
        .map(|column| column.value.0.clone())
        .collect()
}

/// A rule for each column of a map that must not be empty.
pub(super) fn by_column<T, V>(
    map: &At<Named<T>>,
    problems: &mut Problems<'_>,
    mut build: impl FnMut(&NamedEntry<T>, &mut Problems<'_>) -> Option<V>,
) -> Option<BTreeMap<String, V>> {
    if map.value.0.is_empty() {
        problems
            .error(
                &map.place.at_key(),
                format!("{} names no column", map.place.path),
            )
            .expected("a map from columns");
        return None;
    }
    let mut built = BTreeMap::new();
    for entry in &map.value.0 {
        if let Some(value) = build(entry, problems) {
            built.insert(entry.name.clone(), value);
        }
    }
    Some(built)
}

pub(super) fn accepted(
    map: &At<Named<Vec<At<Written>>>>,
    problems: &mut Problems<'_>,
) -> Option<BTreeMap<String, Vec<String>>> {
    by_column(map, problems, |entry, problems| {
        let values = entry.value.as_ref()?;
        if values.is_empty() {
            problems
                .error(&entry.place, "the list is empty")
                .expected("at least one value");
        }
        Some(values.iter().map(|value| value.value.0.clone()).collect())
    })
}

pub(super) fn expected(raw: &RawExpected) -> Option<Expected> {
    match raw {
        RawExpected::Reported => Some(Expected::Reported),
        RawExpected::Equals(figure) => {
            Some(Expected::Equals(figure.equals.as_ref()?.value.0.clone()))
        }
    }
}

pub(super) fn ratio(
    ratio: &At<Vec<At<Written>>>,
    problems: &mut Problems<'_>,
) -> Option<(String, String)> {
    let number = |value: &At<Written>| value.value.0.parse::<f64>().ok().filter(|n| *n >= 0.0);
    match ratio.value.as_slice() {
        [low, high] if number(low).is_some() && number(high) >= number(low) => {
            Some((low.value.0.clone(), high.value.0.clone()))
        }
        _ => {
            problems
                .error(&ratio.place, "a ratio is a least and a greatest number")
                .expected("for example [0.99, 1.0], the lesser first");
            None
        }
    }
}

pub(super) fn schema(
    fields: &[At<RawField>],
    place: &Place,
    problems: &mut Problems<'_>,
) -> Option<Vec<Field>> {
    if fields.is_empty() {
        problems
            .error(place, "a schema without columns")
            .expected("[{ name: order_id, type: long }, ...]");
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut built = Vec::new();
    for field in fields {
        let raw = &field.value;
        let (Some(name), Some(kind)) = (raw.name.as_ref(), raw.r#type.as_ref()) else {
            continue;
        };
        if !seen.insert(&name.value.0) {
            problems.error(
                &name.place,
                format!("the column {:?} stands here twice", shorten(&name.value.0)),
            );
        }
        let kind = match &kind.value {
            RawType::Word(kind) => *kind,
            RawType::Decimal(raw) => decimal(raw, &kind.place, problems)?,
        };
        built.push(Field {
            name: name.value.0.clone(),
            kind,
            nullable: raw.nullable.as_ref().is_some_and(|nullable| nullable.value),
        });
    }
    Some(built)
}

fn decimal(raw: &RawDecimal, place: &Place, problems: &mut Problems<'_>) -> Option<FieldType> {
    let size = |at: &At<Digits>| Some(at.value.0);
    match raw.decimal.as_ref()?.value.as_slice() {
        [precision] => Some(FieldType::Decimal {
            precision: size(precision),
            scale: Some(0),
        }),
        [precision, scale] if scale.value.0 <= precision.value.0 => Some(FieldType::Decimal {
            precision: size(precision),
            scale: size(scale),
        }),
        _ => {
            problems
                .error(place, "a decimal has a precision and a scale")
                .expected("{ decimal: [12, 2] }, the scale at most the precision");
            None
        }
    }
}

/// Takes over what is written about csv fields.
pub(super) fn csv_style(raw: &At<RawCsv>, style: &mut CsvStyle, problems: &mut Problems<'_>) {
    let written = &raw.value;
    if let Some(header) = written.header.as_ref() {
        style.header = header.value;
    }
    let mut one = |text: Option<&At<Written>>, target: &mut char| {
        let Some(text) = text else { return };
        let mut chars = text.value.0.chars();
        match (chars.next(), chars.next()) {
            (Some(one), None) if one.is_ascii() && !"\r\n".contains(one) => *target = one,
            _ => {
                problems
                    .error(
                        &text.place,
                        format!("{} is {:?}", text.place.path, shorten(&text.value.0)),
                    )
                    .expected("one ASCII character that ends no line, \"\\t\" for a tab");
            }
        }
    };
    one(written.delimiter.as_ref(), &mut style.delimiter);
    one(written.quote.as_ref(), &mut style.quote);
    if style.delimiter == style.quote {
        problems.error(&raw.place.at_key(), "delimiter and quote are the same");
    }
    if let Some(null) = written.null.as_ref() {
        style.null.clone_from(&null.value.0);
    }
}
