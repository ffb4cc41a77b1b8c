//! `in_bounds`, always on where it can be asked: every key lies in the chunk's own range.
//!
//! It is what finds the output of another chunk. Where keys cannot be compared as the database
//! compares them it says so and decides nothing.

use common::domain::{Bounds, KeyColumn};

use super::{Broken, Wanted, shown};
use crate::audit::probe::{Answer, Facts, Probe};
use crate::audit::row::Row;
use crate::audit::value::{Order, Typed};

/// The probe.
pub(crate) struct InBounds {
    wanted: Wanted,
    orders: Vec<Option<Order>>,
    side: Side,
    looked: u64,
    least: Option<(Vec<Typed>, String)>,
    greatest: Option<(Vec<Typed>, String)>,
    broken: Broken,
    /// Why it cannot be asked.
    waived: Option<String>,
}

/// What a key must be.
enum Side {
    Range {
        lower: Option<Vec<Typed>>,
        upper: Option<Vec<Typed>>,
    },
    Null,
}

impl InBounds {
    /// The probe of a chunk's bounds and the rule's name, where bounds are keys.
    pub(crate) fn new(bounds: &Bounds) -> Option<(String, Self)> {
        let (columns, lower, upper) = match bounds {
            Bounds::KeyRange {
                columns,
                lower,
                upper,
            } => (columns, lower.as_ref(), upper.as_ref()),
            Bounds::NullKeys { columns } => (columns, None, None),
            _ => return None,
        };
        let orders: Vec<Option<Order>> = columns
            .iter()
            .map(|column| Order::of_sql(&column.sql_type, column.collation.as_deref()))
            .collect();
        let null = matches!(bounds, Bounds::NullKeys { .. });
        let mut waived = columns
            .iter()
            .zip(&orders)
            .find(|(_, order)| order.is_none() && !null)
            .map(|(column, _)| unordered(column));
        let mut parse = |bound: Option<&Vec<String>>| {
            let texts = bound?;
            let typed: Option<Vec<Typed>> = texts
                .iter()
                .zip(&orders)
                .map(|(text, order)| order.and_then(|order| order.parse(text.as_bytes())))
                .collect();
            if typed.is_none() {
                waived.get_or_insert_with(|| {
                    format!("the bound {} cannot be compared here", texts.join(", "))
                });
            }
            typed
        };
        let side = if null {
            Side::Null
        } else {
            Side::Range {
                lower: parse(lower),
                upper: parse(upper),
            }
        };
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let rule = format!("in_bounds({})", names.join(", "));
        let probe = Self {
            wanted: Wanted::new(columns.iter().map(|column| &column.name)),
            orders,
            side,
            looked: 0,
            least: None,
            greatest: None,
            broken: Broken::default(),
            waived,
        };
        Some((rule, probe))
    }

    fn key(&mut self, row: &Row<'_>) -> Option<(Vec<Typed>, String)> {
        let mut typed = Vec::with_capacity(self.orders.len());
        let mut texts = Vec::with_capacity(self.orders.len());
        for (number, order) in self.orders.iter().enumerate() {
            let text = self.wanted.value(row, number)?;
            let value = order.and_then(|order| order.parse(text));
            let Some(value) = value else {
                let name = &self.wanted.names[number];
                let text = shown(Some(text));
                self.waived.get_or_insert_with(|| {
                    format!(
                        "row {}: {name} is {text}, which cannot be compared here",
                        row.number
                    )
                });
                return None;
            };
            typed.push(value);
            texts.push(String::from_utf8_lossy(text).into_owned());
        }
        Some((typed, texts.join(", ")))
    }
}

fn unordered(column: &KeyColumn) -> String {
    format!(
        "{} of type {}{} is not compared here as its database does",
        column.name,
        column.sql_type,
        column
            .collation
            .as_ref()
            .map_or(String::new(), |collation| format!(" collate {collation}"))
    )
}

impl Probe for InBounds {
    fn columns(&mut self, names: &[String]) {
        self.wanted.find(names);
    }

    fn row(&mut self, row: &Row<'_>) -> bool {
        if self.wanted.places.iter().any(Option::is_none) || self.waived.is_some() {
            return true;
        }
        self.looked += 1;
        let has_null = (0..self.orders.len()).any(|n| self.wanted.value(row, n).is_none());
        let (lower, upper) = match &self.side {
            Side::Null => {
                if !has_null {
                    self.broken
                        .add(row.number, || "no part of its key is NULL".to_owned());
                }
                return true;
            }
            Side::Range { lower, upper } => (lower.clone(), upper.clone()),
        };
        // An open range of the only chunk holds rows without a key too.
        if has_null {
            if lower.is_some() || upper.is_some() {
                self.broken
                    .add(row.number, || "a part of its key is NULL".to_owned());
            }
            return true;
        }
        let Some((key, text)) = self.key(row) else {
            return true;
        };
        let inside =
            lower.is_none_or(|lower| key >= lower) && upper.is_none_or(|upper| key < upper);
        if !inside {
            self.broken.add(row.number, || format!("key {text}"));
        }
        if self.least.as_ref().is_none_or(|(least, _)| key < *least) {
            self.least = Some((key.clone(), text.clone()));
        }
        if self
            .greatest
            .as_ref()
            .is_none_or(|(greatest, _)| key > *greatest)
        {
            self.greatest = Some((key, text));
        }
        true
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        // A key that is not in the file is none of its promises.
        if let Some(missing) = self.wanted.missing(facts.rows) {
            return Answer::new(true, format!("not looked at: {missing}"));
        }
        if let Some(told) = self.broken.told() {
            return Answer::new(false, told).expecting("keys of this chunk alone");
        }
        if let Some(why) = &self.waived {
            return Answer::new(true, format!("not looked at: {why}"));
        }
        match (&self.least, &self.greatest) {
            (Some((_, least)), Some((_, greatest))) => Answer::new(
                true,
                format!("{} keys from {least} to {greatest}", self.looked),
            ),
            _ => Answer::new(true, format!("{} rows, no key among them", self.looked)),
        }
    }
}
