//! What is true of a file, found out by code that shares nothing with the probes: another csv reader,
//! whole cents, the definitions as they are written down.

use std::collections::{BTreeMap, BTreeSet};

pub(super) const ROWS: u64 = 60;

/// A good file: ids 1 to 60, three states, prices in quarters, one moment a row.
pub(super) fn good() -> String {
    let mut text = String::from("id,state,price,at\n");
    let now = chrono::Utc::now().naive_utc();
    for id in 1..=ROWS {
        let state = ["O", "F", "P"][(id % 3) as usize];
        let at = (now - chrono::Duration::minutes(id as i64)).format("%Y-%m-%d %H:%M:%S");
        text.push_str(&format!(
            "{id},{state},{}.{:02},{at}\n",
            id / 4,
            id % 4 * 25
        ));
    }
    text
}

/// The good file with one slip for each rule.
pub(super) fn bad(rule: &str, good: &str) -> String {
    let replaced = |from: &str, to: &str| {
        assert_eq!(good.matches(from).count(), 1, "{from}");
        good.replacen(from, to, 1)
    };
    let without_last = || good[..good.trim_end().rfind('\n').unwrap() + 1].to_owned();
    match rule {
        "rows_reported" | "row_count" | "bytes_reported" | "checksum_reported" => without_last(),
        "in_bounds" | "max" => replaced("\n60,", "\n61,"),
        "not_null" => replaced("\n7,", "\n,"),
        "unique" => replaced("\n7,", "\n8,"),
        "accepted" => replaced("\n7,F,", "\n7,X,"),
        "range" | "sum" | "checksum" | "row_sum" => replaced("\n7,F,1.75,", "\n7,F,99.75,"),
        "min" => replaced("\n1,", "\n0,"),
        "schema" => replaced("\n7,F,1.75,", "\n7,F,cheap,"),
        "freshness" => {
            let mut text = String::from("id,state,price,at\n");
            for line in good.lines().skip(1) {
                let (before, _) = line.rsplit_once(',').unwrap();
                text.push_str(&format!("{before},2001-01-01 00:00:00\n"));
            }
            text
        }
        other => panic!("no slip for {other}"),
    }
}

/// What a reader of another make sees.
pub(super) struct Table {
    pub(super) text: String,
    pub(super) columns: BTreeMap<String, Vec<String>>,
}

impl Table {
    pub(super) fn of(text: &str) -> Self {
        let mut reader = ::csv::Reader::from_reader(text.as_bytes());
        let names: Vec<String> = reader
            .headers()
            .unwrap()
            .iter()
            .map(str::to_owned)
            .collect();
        let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in reader.records() {
            for (name, value) in names.iter().zip(record.unwrap().iter()) {
                columns
                    .entry(name.clone())
                    .or_default()
                    .push(value.to_owned());
            }
        }
        Self {
            text: text.to_owned(),
            columns,
        }
    }

    fn ids(&self) -> Vec<u64> {
        let ids = self.columns["id"].iter();
        ids.filter_map(|text| text.parse().ok()).collect()
    }

    pub(super) fn cents(&self) -> Vec<i64> {
        let cents = |text: &String| text.replace('.', "").parse::<i64>().unwrap_or(0);
        self.columns["price"].iter().map(cents).collect()
    }
}

pub(super) fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The oracle: whether a rule holds in a file, and what must be in what was found.
pub(super) fn truth(rule: &str, table: &Table, good: &Table) -> (bool, Vec<String>) {
    match rule {
        "rows_reported" | "row_count" | "bytes_reported" | "checksum_reported" | "in_bounds" => {
            truth_of_the_file(rule, table, good)
        }
        "not_null" | "unique" | "accepted" | "range" | "schema" => truth_of_rows(rule, table),
        _ => truth_of_figures(rule, table, good),
    }
}

fn truth_of_the_file(rule: &str, table: &Table, good: &Table) -> (bool, Vec<String>) {
    let rows = table.columns["id"].len();
    let sha = |text: &str| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()));
    match rule {
        "rows_reported" | "row_count" => (rows == ROWS as usize, vec![format!("{rows} rows")]),
        "bytes_reported" => (
            table.text.len() == good.text.len(),
            vec![format!("{} bytes", table.text.len())],
        ),
        "checksum_reported" => (table.text == good.text, vec![sha(&table.text)]),
        "in_bounds" => {
            let ids = table.ids();
            let outside: Vec<&u64> = ids.iter().filter(|id| !(1..61).contains(*id)).collect();
            match outside.first() {
                Some(id) => (false, vec![format!("key {id}")]),
                None => (
                    true,
                    vec![format!(
                        "{rows} keys from 1 to {}",
                        ids.iter().max().unwrap()
                    )],
                ),
            }
        }
        other => panic!("no truth about {other}"),
    }
}

fn truth_of_rows(rule: &str, table: &Table) -> (bool, Vec<String>) {
    let (ids, cents) = (table.ids(), table.cents());
    let rows = table.columns["id"].len();
    match rule {
        "not_null" => {
            let null = table.columns["id"].iter().position(String::is_empty);
            (
                null.is_none(),
                vec![null.map_or(format!("{rows} rows"), |at| format!("first row {}", at + 1))],
            )
        }
        "unique" => {
            let different = ids.iter().collect::<BTreeSet<_>>().len();
            let found = if different == rows {
                format!("{different} different of {rows} rows")
            } else {
                format!("{} of {rows} rows repeat", rows - different)
            };
            (different == rows, vec![found])
        }
        "accepted" => {
            let count = |state: &str| {
                table.columns["state"]
                    .iter()
                    .filter(|s| *s == state)
                    .count()
            };
            let ok = count("O") + count("F") + count("P") == rows;
            let found = if ok {
                format!("F {}, O {}, P {}", count("F"), count("O"), count("P"))
            } else {
                "state is \"X\"".to_owned()
            };
            (ok, vec![found])
        }
        "range" => {
            let (least, greatest) = (cents.iter().min().unwrap(), cents.iter().max().unwrap());
            let ok = *least >= 0 && *greatest <= 2000;
            let found = if ok {
                format!("{} to {} in {rows} values", money(*least), money(*greatest))
            } else {
                money(*greatest)
            };
            (ok, vec![found])
        }
        "schema" => {
            let wrong = table.columns["price"]
                .iter()
                .position(|text| text.parse::<f64>().is_err());
            (
                wrong.is_none(),
                vec![wrong.map_or(format!("{rows} rows of 4 columns fit"), |at| {
                    format!("first row {}: price is", at + 1)
                })],
            )
        }
        other => panic!("no truth about {other}"),
    }
}

fn truth_of_figures(rule: &str, table: &Table, good: &Table) -> (bool, Vec<String>) {
    let (ids, cents) = (table.ids(), table.cents());
    let rows = table.columns["id"].len();
    match rule {
        "sum" => {
            let sum: i64 = cents.iter().sum();
            (
                sum == good.cents().iter().sum::<i64>(),
                vec![format!("{} of {rows} values", money(sum))],
            )
        }
        "min" => (
            ids.iter().min() == Some(&1),
            vec![format!("{} of {rows} values", ids.iter().min().unwrap())],
        ),
        "max" => (
            ids.iter().max() == Some(&60),
            vec![format!("{} of {rows} values", ids.iter().max().unwrap())],
        ),
        "checksum" => (
            table.columns["price"] == good.columns["price"],
            vec![checksum(&table.columns["price"])],
        ),
        "row_sum" => (table.text == good.text, vec![row_sum(table)]),
        "freshness" => {
            let newest = table.columns["at"].iter().max().unwrap();
            (
                !newest.starts_with("2001"),
                vec![format!("newest {newest}")],
            )
        }
        other => panic!("no truth about {other}"),
    }
}

pub(super) fn checksum(values: &[String]) -> String {
    let sum = values.iter().fold(0_u64, |sum, value| {
        sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(value.as_bytes()))
    });
    format!("{sum:016x}")
}

/// The row sum once more, from its description.
pub(super) fn row_sum(table: &Table) -> String {
    let mut sum = 0_u64;
    for row in 0..table.columns["id"].len() {
        let mut bytes = Vec::new();
        // A BTreeMap has its names in byte order.
        for (name, values) in &table.columns {
            for text in [name, &values[row]] {
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        sum = sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(&bytes));
    }
    format!("{sum:016x}")
}
