//! The probes, one for each rule that is answered by looking at rows or at what a job reports.

mod bounds;
mod claims;
mod figures;
mod fresh;
mod rows;
mod unique;

use std::fmt::Write as _;

pub(crate) use bounds::InBounds;
pub(crate) use claims::{
    BytesReported, ChecksumReported, RowCounted, RowSummed, RowsReported, row_count,
};
pub(crate) use figures::Figures;
pub(crate) use fresh::{Fresh, fresh};
pub(crate) use rows::{Accepted, Fits, InRange, NotNull};
pub(crate) use unique::Unique;

use super::row::{Row, Value};

/// Columns that a rule names, and where they are.
#[derive(Debug, Default)]
struct Wanted {
    names: Vec<String>,
    places: Vec<Option<usize>>,
    known: Vec<String>,
}

impl Wanted {
    fn new<'n>(names: impl IntoIterator<Item = &'n String>) -> Self {
        let names: Vec<String> = names.into_iter().cloned().collect();
        Self {
            places: vec![None; names.len()],
            names,
            known: Vec::new(),
        }
    }

    fn find(&mut self, known: &[String]) {
        self.known = known.to_vec();
        let place = |name: &String| known.iter().position(|each| each == name);
        self.places = self.names.iter().map(place).collect();
    }

    /// The value of the wanted column of that number.
    fn value<'r>(&self, row: &Row<'r>, number: usize) -> Value<'r> {
        self.places[number].and_then(|place| row.value(place))
    }

    /// What to say where a column is not there; a file without columns and rows lacks none.
    fn missing(&self, rows: u64) -> Option<String> {
        if rows == 0 && self.known.is_empty() {
            return None;
        }
        let missing = self.places.iter().position(Option::is_none)?;
        Some(format!(
            "no column {:?}, there are {}",
            self.names[missing],
            self.known.join(", ")
        ))
    }
}

/// Rows that break a rule: how many, and the first with what is wrong with it.
#[derive(Debug, Default)]
struct Broken {
    count: u64,
    first: Option<(u64, String)>,
}

impl Broken {
    fn add(&mut self, row: u64, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some((row, what()));
        }
    }

    /// `2 rows, first row 17: amount 5`.
    fn told(&self) -> Option<String> {
        let (row, what) = self.first.as_ref()?;
        let rows = if self.count == 1 { "row" } else { "rows" };
        Some(format!(
            "{} {rows} break it, first row {row}: {what}",
            self.count
        ))
    }
}

/// A value for people.
fn shown(value: Value<'_>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) => {
            let text = String::from_utf8_lossy(text);
            let short: String = text.chars().take(60).collect();
            if short.len() < text.len() {
                format!("{short:?}...")
            } else {
                format!("{short:?}")
            }
        }
    }
}

/// `a: 1; b: 2`, one for each column, no name where there is one column only.
fn by_column<T>(items: &[(String, T)], show: impl Fn(&T) -> String) -> String {
    if let [(_, one)] = items {
        return show(one);
    }
    let mut text = String::new();
    for (number, (name, item)) in items.iter().enumerate() {
        let between = if number > 0 { "; " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{between}{name}: {}", show(item));
    }
    text
}
