//! Rules that judge each row by itself: not_null, accepted, range, schema.

use std::collections::BTreeMap;

use common::flow::rules::{Field, Range};

use super::{Broken, Wanted, by_column, shown};
use crate::audit::probe::{Answer, Facts, Probe};
use crate::audit::row::Row;
use crate::audit::value::{Order, Typed, fits};

/// `not_null`.
pub(crate) struct NotNull {
    wanted: Wanted,
    looked: u64,
    broken: Broken,
}

impl NotNull {
    pub(crate) fn new(columns: &[String]) -> Self {
        Self {
            wanted: Wanted::new(columns),
            looked: 0,
            broken: Broken::default(),
        }
    }
}

impl Probe for NotNull {
    fn columns(&mut self, names: &[String]) {
        self.wanted.find(names);
    }

    fn row(&mut self, row: &Row<'_>) -> bool {
        self.looked += 1;
        let null = (0..self.wanted.names.len()).find(|n| self.wanted.value(row, *n).is_none());
        if let Some(null) = null {
            let name = &self.wanted.names[null];
            self.broken.add(row.number, || format!("{name} is NULL"));
        }
        null.is_none()
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        if let Some(missing) = self.wanted.missing(facts.rows) {
            return Answer::new(false, missing);
        }
        let none = || format!("no NULL in {} rows", self.looked);
        Answer::new(
            self.broken.count == 0,
            self.broken.told().unwrap_or_else(none),
        )
    }
}

/// `accepted`.
pub(crate) struct Accepted {
    wanted: Wanted,
    /// For each column its accepted values and how often each was seen.
    counts: Vec<BTreeMap<Vec<u8>, u64>>,
    nulls: Vec<u64>,
    broken: Broken,
}

impl Accepted {
    pub(crate) fn new(map: &BTreeMap<String, Vec<String>>) -> Self {
        let count = |values: &Vec<String>| {
            let zero = |value: &String| (value.clone().into_bytes(), 0);
            values.iter().map(zero).collect()
        };
        Self {
            wanted: Wanted::new(map.keys()),
            counts: map.values().map(count).collect(),
            nulls: vec![0; map.len()],
            broken: Broken::default(),
        }
    }
}

impl Probe for Accepted {
    fn columns(&mut self, names: &[String]) {
        self.wanted.find(names);
    }

    fn row(&mut self, row: &Row<'_>) -> bool {
        let mut keeps = true;
        for number in 0..self.counts.len() {
            match self.wanted.value(row, number) {
                None => self.nulls[number] += 1,
                Some(text) => match self.counts[number].get_mut(text) {
                    Some(count) => *count += 1,
                    None => {
                        // A row counts once, however many of its columns are wrong.
                        if keeps {
                            let name = &self.wanted.names[number];
                            self.broken
                                .add(row.number, || format!("{name} is {}", shown(Some(text))));
                        }
                        keeps = false;
                    }
                },
            }
        }
        keeps
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        if let Some(missing) = self.wanted.missing(facts.rows) {
            return Answer::new(false, missing);
        }
        if let Some(told) = self.broken.told() {
            return Answer::new(false, told);
        }
        let columns: Vec<(String, usize)> = self.wanted.names.iter().cloned().zip(0..).collect();
        let found = by_column(&columns, |number| {
            let counts: Vec<String> = self.counts[*number]
                .iter()
                .map(|(value, count)| format!("{} {count}", String::from_utf8_lossy(value)))
                .collect();
            format!("{}, NULL {}", counts.join(", "), self.nulls[*number])
        });
        Answer::new(true, found)
    }
}

/// `range`.
pub(crate) struct InRange {
    wanted: Wanted,
    limits: Vec<Limit>,
    broken: Broken,
}

/// A column's bounds and what was seen of it.
struct Limit {
    order: Order,
    min: Option<Typed>,
    max: Option<Typed>,
    values: u64,
    seen: Option<(Extreme, Extreme)>,
}

/// A value to compare and how it is written.
type Extreme = (Typed, Vec<u8>);

impl InRange {
    pub(crate) fn new(map: &BTreeMap<String, Range>) -> Self {
        let limit = |range: &Range| {
            let written: Vec<&str> = [&range.min, &range.max]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            let order = Order::of_written(&written);
            let parse = |text: &Option<String>| order.parse(text.as_ref()?.as_bytes());
            Limit {
                order,
                min: parse(&range.min),
                max: parse(&range.max),
                values: 0,
                seen: None,
            }
        };
        Self {
            wanted: Wanted::new(map.keys()),
            limits: map.values().map(limit).collect(),
            broken: Broken::default(),
        }
    }
}

impl Limit {
    /// Whether a value lies inside; what it is none of does not.
    fn takes(&mut self, text: &[u8]) -> bool {
        self.values += 1;
        let Some(value) = self.order.parse(text) else {
            return false;
        };
        let inside = self.min.as_ref().is_none_or(|min| value >= *min)
            && self.max.as_ref().is_none_or(|max| value <= *max);
        match &mut self.seen {
            None => self.seen = Some(((value.clone(), text.to_vec()), (value, text.to_vec()))),
            Some((least, _)) if value < least.0 => *least = (value, text.to_vec()),
            Some((_, greatest)) if value > greatest.0 => *greatest = (value, text.to_vec()),
            Some(_) => {}
        }
        inside
    }

    fn told(&self) -> String {
        match &self.seen {
            None => "no value".to_owned(),
            Some(((_, least), (_, greatest))) => format!(
                "{} to {} in {} values",
                String::from_utf8_lossy(least),
                String::from_utf8_lossy(greatest),
                self.values
            ),
        }
    }
}

impl Probe for InRange {
    fn columns(&mut self, names: &[String]) {
        self.wanted.find(names);
    }

    fn row(&mut self, row: &Row<'_>) -> bool {
        let mut keeps = true;
        for (number, limit) in self.limits.iter_mut().enumerate() {
            let Some(text) = self.wanted.value(row, number) else {
                continue;
            };
            if !limit.takes(text) {
                if keeps {
                    let name = &self.wanted.names[number];
                    self.broken
                        .add(row.number, || format!("{name} is {}", shown(Some(text))));
                }
                keeps = false;
            }
        }
        keeps
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        if let Some(missing) = self.wanted.missing(facts.rows) {
            return Answer::new(false, missing);
        }
        if let Some(told) = self.broken.told() {
            return Answer::new(false, told);
        }
        let columns: Vec<(String, usize)> = self.wanted.names.iter().cloned().zip(0..).collect();
        Answer::new(
            true,
            by_column(&columns, |number| self.limits[*number].told()),
        )
    }
}

/// `schema`.
pub(crate) struct Fits {
    fields: Vec<Field>,
    wanted: Wanted,
    looked: u64,
    broken: Broken,
}

impl Fits {
    pub(crate) fn new(fields: &[Field]) -> Self {
        Self {
            fields: fields.to_vec(),
            wanted: Wanted::new(fields.iter().map(|field| &field.name)),
            looked: 0,
            broken: Broken::default(),
        }
    }

    /// A column that is declared and not there, or there and not declared.
    fn other_columns(&self, rows: u64) -> Option<String> {
        let may_lack = |number: &usize| {
            // In lines of objects a member that is always missing is always NULL.
            self.fields[*number].nullable || rows == 0 && self.wanted.known.is_empty()
        };
        let missing = (0..self.fields.len())
            .filter(|number| self.wanted.places[*number].is_none())
            .find(|number| !may_lack(number));
        if let Some(missing) = missing {
            return Some(format!(
                "no column {:?}, there are {}",
                self.fields[missing].name,
                self.wanted.known.join(", ")
            ));
        }
        let declared = |name: &&String| self.fields.iter().any(|field| field.name == **name);
        let other = self.wanted.known.iter().find(|name| !declared(name))?;
        Some(format!("a column {other:?} that is not declared"))
    }
}

impl Probe for Fits {
    fn columns(&mut self, names: &[String]) {
        self.wanted.find(names);
    }

    fn row(&mut self, row: &Row<'_>) -> bool {
        self.looked += 1;
        for (number, field) in self.fields.iter().enumerate() {
            let value = self.wanted.value(row, number);
            let fits = match value {
                None => field.nullable,
                Some(text) => fits(field.kind, text),
            };
            if !fits {
                self.broken.add(row.number, || {
                    format!("{} is {}, no {}", field.name, shown(value), field.kind)
                });
                return false;
            }
        }
        true
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        if let Some(other) = self.other_columns(facts.rows) {
            return Answer::new(false, other);
        }
        let fine = || {
            format!(
                "{} rows of {} columns fit",
                self.looked,
                self.wanted.known.len()
            )
        };
        Answer::new(
            self.broken.count == 0,
            self.broken.told().unwrap_or_else(fine),
        )
    }
}
