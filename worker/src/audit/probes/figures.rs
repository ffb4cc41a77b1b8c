//! Rules about a figure of a column: sum, min, max, checksum.

use std::collections::BTreeMap;

use common::flow::rules::Expected;
use xxhash_rust::xxh3::xxh3_64;

use super::{Wanted, shown};
use crate::audit::decimal::Decimal;
use crate::audit::probe::{Answer, Facts, Probe};
use crate::audit::row::Row;
use crate::audit::value::Order;

/// What is made of a column's values.
enum Figure {
    /// Their exact sum; the error says why there is none.
    Sum(Result<Decimal, String>),
    /// The least or greatest under each order that all of them have: numbers, days, moments, text.
    Extreme {
        greatest: bool,
        best: [Option<Vec<u8>>; 4],
        fits: [bool; 4],
    },
    /// The sum modulo 2^64 of the XXH3-64 of each value's bytes.
    Checksum(u64),
}

const ORDERS: [Order; 4] = [Order::Number, Order::Date, Order::Moment, Order::Text];

/// One of the rules, over one or more columns.
pub(crate) struct Figures {
    word: &'static str,
    wanted: Wanted,
    columns: Vec<(Expected, u64, Figure)>,
}

impl Figures {
    fn new(word: &'static str, map: &BTreeMap<String, Expected>, make: fn() -> Figure) -> Self {
        Self {
            word,
            wanted: Wanted::new(map.keys()),
            columns: map
                .values()
                .map(|expected| (expected.clone(), 0, make()))
                .collect(),
        }
    }

    pub(crate) fn sums(map: &BTreeMap<String, Expected>) -> Self {
        Self::new("sum", map, || Figure::Sum(Ok(Decimal::default())))
    }

    pub(crate) fn least(map: &BTreeMap<String, Expected>) -> Self {
        Self::new("min", map, || Figure::extreme(false))
    }

    pub(crate) fn greatest(map: &BTreeMap<String, Expected>) -> Self {
        Self::new("max", map, || Figure::extreme(true))
    }

    pub(crate) fn checksums(map: &BTreeMap<String, Expected>) -> Self {
        Self::new("checksum", map, || Figure::Checksum(0))
    }
}

impl Figure {
    fn extreme(greatest: bool) -> Self {
        Self::Extreme {
            greatest,
            best: [const { None }; 4],
            fits: [true; 4],
        }
    }

    fn take(&mut self, text: &[u8], row: u64) {
        match self {
            Self::Sum(sum) => {
                let Ok(so_far) = sum else { return };
                *sum = Decimal::parse(text)
                    .ok_or_else(|| {
                        format!(
                            "row {row}: {} is no number of at most 38 digits",
                            shown(Some(text))
                        )
                    })
                    .and_then(|value| {
                        so_far
                            .plus(value)
                            .ok_or_else(|| "a sum of more than 38 digits".to_owned())
                    });
            }
            Self::Checksum(sum) => *sum = sum.wrapping_add(xxh3_64(text)),
            Self::Extreme {
                greatest,
                best,
                fits,
            } => {
                for ((order, best), fits) in ORDERS.iter().zip(best).zip(fits) {
                    if !*fits {
                        continue;
                    }
                    let Some(value) = order.parse(text) else {
                        *fits = false;
                        continue;
                    };
                    let better =
                        best.as_ref()
                            .and_then(|best| order.parse(best))
                            .is_none_or(|best| {
                                if *greatest {
                                    value > best
                                } else {
                                    value < best
                                }
                            });
                    if better {
                        *best = Some(text.to_vec());
                    }
                }
            }
        }
    }

    /// The figure for people, and whether it is the expected one.
    fn held_against(&self, expected: &str) -> (bool, String) {
        match self {
            Self::Sum(Err(why)) => (false, why.clone()),
            Self::Sum(Ok(sum)) => (
                Decimal::parse(expected.as_bytes()) == Some(*sum),
                sum.to_string(),
            ),
            Self::Checksum(sum) => {
                let found = format!("{sum:016x}");
                (found.eq_ignore_ascii_case(expected), found)
            }
            Self::Extreme { best, fits, .. } => {
                let first = (0..ORDERS.len()).find(|n| fits[*n]).unwrap_or(3);
                let order = ORDERS[first];
                match &best[first] {
                    None => (false, "no value".to_owned()),
                    Some(best) => (
                        order.parse(expected.as_bytes()).is_some()
                            && order.parse(expected.as_bytes()) == order.parse(best),
                        String::from_utf8_lossy(best).into_owned(),
                    ),
                }
            }
        }
    }
}

impl Probe for Figures {
    fn columns(&mut self, names: &[String]) {
        self.wanted.find(names);
    }

    fn row(&mut self, row: &Row<'_>) -> bool {
        for (number, (_, values, figure)) in self.columns.iter_mut().enumerate() {
            if let Some(text) = self.wanted.value(row, number) {
                *values += 1;
                figure.take(text, row.number);
            }
        }
        true
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        if let Some(missing) = self.wanted.missing(facts.rows) {
            return Answer::new(false, missing);
        }
        let mut all_ok = true;
        let (mut wanted, mut found) = (Vec::new(), Vec::new());
        let several = self.columns.len() > 1;
        for (name, (expected, values, figure)) in self.wanted.names.iter().zip(&self.columns) {
            let label = if several {
                format!("{name}: ")
            } else {
                String::new()
            };
            let figure_wanted = match expected {
                Expected::Equals(figure) => Some(figure.as_str()),
                Expected::Reported => facts.reported.figure(name, self.word),
            };
            let (ok, seen) = figure.held_against(figure_wanted.unwrap_or_default());
            all_ok &= ok && figure_wanted.is_some();
            let unsaid = "a figure that the script reports, which it did not";
            wanted.push(format!("{label}{}", figure_wanted.unwrap_or(unsaid)));
            found.push(format!("{label}{seen} of {values} values"));
        }
        Answer::new(all_ok, found.join("; ")).expecting(wanted.join("; "))
    }
}
