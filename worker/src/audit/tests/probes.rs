//! Every rule against an oracle that shares no code with it, and against probes that answer yes
//! without having looked: an oracle that a liar passes would be worth nothing.

use std::collections::{BTreeMap, BTreeSet};

use common::domain::{RuleOutcome, Severity};
use common::flow::rules::{Check, Expected, Field, FieldType, Freshness, Range, RowCount, Rule};

use super::super::bytes::Bytes;
use super::super::file::all_judges;
use super::super::probe::{Answer, Bench, Facts, InputRows, Judge, Probe};
use super::super::reported::Reported;
use super::super::{csv, file::Subject};
use super::{Staged, key_range};

const ROWS: u64 = 60;

/// A good file: ids 1 to 60, three states, prices in quarters, one moment a row.
fn good() -> String {
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
fn bad(rule: &str, good: &str) -> String {
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
struct Table {
    text: String,
    columns: BTreeMap<String, Vec<String>>,
}

impl Table {
    fn of(text: &str) -> Self {
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

    fn cents(&self) -> Vec<i64> {
        let cents = |text: &String| text.replace('.', "").parse::<i64>().unwrap_or(0);
        self.columns["price"].iter().map(cents).collect()
    }
}

fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The oracle: whether a rule holds in a file, and what must be in what was found.
fn truth(rule: &str, table: &Table, good: &Table) -> (bool, Vec<String>) {
    let (ids, cents) = (table.ids(), table.cents());
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

fn checksum(values: &[String]) -> String {
    let sum = values.iter().fold(0_u64, |sum, value| {
        sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(value.as_bytes()))
    });
    format!("{sum:016x}")
}

/// The row sum once more, from its description.
fn row_sum(table: &Table) -> String {
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

/// A file with every rule on it.
fn staged(good: &Table) -> Staged {
    let one = |name: &str, expected: String| {
        BTreeMap::from([(name.to_owned(), Expected::Equals(expected))])
    };
    let field = |name: &str, kind| Field {
        name: name.to_owned(),
        kind,
        nullable: false,
    };
    let range = Range {
        min: Some("0".into()),
        max: Some("2e1".into()),
    };
    let sum = money(good.cents().iter().sum());
    let states = ["O", "F", "P"].map(str::to_owned).to_vec();
    let checks = [
        Check::RowCount(RowCount::Input {
            dataset: None,
            ratio: None,
        }),
        Check::NotNull(vec!["id".into()]),
        Check::Unique(vec!["id".into()]),
        Check::Accepted(BTreeMap::from([("state".into(), states)])),
        Check::Range(BTreeMap::from([("price".into(), range)])),
        Check::Sum(one("price", sum)),
        Check::Min(one("id", "1".into())),
        Check::Max(one("id", "60.0".into())),
        Check::Checksum(one("price", checksum(&good.columns["price"]))),
        Check::RowSum(Expected::Equals(row_sum(good))),
        Check::Schema(vec![
            field("id", FieldType::Long),
            field("state", FieldType::String),
            field(
                "price",
                FieldType::Decimal {
                    precision: Some(12),
                    scale: Some(2),
                },
            ),
            field("at", FieldType::TimestampMillis),
        ]),
        Check::Freshness(Freshness {
            column: "at".into(),
            within_seconds: 86_400,
        }),
    ];
    let mut staged = Staged::new("o.csv", good.text.as_bytes());
    staged.checks.validate = checks
        .map(|check| Rule {
            check,
            severity: Severity::Fail,
        })
        .to_vec();
    staged.bounds = key_range("id", "bigint", Some("1"), Some("61"));
    staged.inputs = vec![InputRows {
        dataset: "orders".into(),
        rows: Ok(ROWS),
        source: "as published",
    }];
    staged.reported = Reported {
        rows: Some(ROWS),
        bytes: Some(good.text.len() as u64),
        checksum: Some(hex::encode(<sha2::Sha256 as sha2::Digest>::digest(
            good.text.as_bytes(),
        ))),
        ..Reported::default()
    };
    staged
}

/// The outcomes of these judges in a file.
fn judge(staged: &Staged, judges: &mut [Judge], text: &str) -> Vec<RuleOutcome> {
    let format = staged.checks.format.clone().unwrap();
    let mut bench = Bench::new(judges);
    let seen = csv::read(&mut text.as_bytes(), &format.csv, &mut bench).unwrap();
    let sum = bench.sum.hex();
    let bytes = Bytes {
        count: text.len() as u64,
        sha256: hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes())),
    };
    let facts = Facts {
        rows: seen.rows,
        rejected: 0,
        staged: &bytes,
        row_sum: &sum,
        reported: &staged.reported,
        inputs: &staged.inputs,
    };
    judges
        .iter_mut()
        .map(|judge| judge.outcome(&facts))
        .collect()
}

fn judges_of(staged: &Staged) -> Vec<Judge> {
    all_judges(&Subject {
        path: &staged.path,
        checks: &staged.checks,
        bounds: &staged.bounds,
        reported: &staged.reported,
        inputs: &staged.inputs,
        work_dir: staged.dir.path(),
        stop: &|| false,
    })
}

fn word(rule: &str) -> &str {
    rule.split('(').next().unwrap_or(rule)
}

/// Whether the outcome of one rule is true of a file.
fn is_true(outcome: &RuleOutcome, table: &Table, good: &Table) -> bool {
    let (ok, parts) = truth(word(&outcome.rule), table, good);
    outcome.ok == ok
        && parts
            .iter()
            .all(|part| outcome.found.contains(part.as_str()))
}

/// The rules whose outcomes are not true, of the good file and of the one that breaks each.
fn caught(replace: &dyn Fn(usize, &mut Judge)) -> Vec<String> {
    let text = good();
    let table = Table::of(&text);
    let staged = staged(&table);
    let mut caught = BTreeSet::new();
    let rules: Vec<String> = judges_of(&staged)
        .into_iter()
        .map(|judge| judge.rule)
        .collect();
    let files = std::iter::once((None, text.clone())).chain(
        rules
            .iter()
            .map(|rule| (Some(rule), bad(word(rule), &text))),
    );
    for (breaks, text) in files {
        let mut judges = judges_of(&staged);
        for (number, judge) in judges.iter_mut().enumerate() {
            replace(number, judge);
        }
        let seen = Table::of(&text);
        for outcome in judge(&staged, &mut judges, &text) {
            let looked_at = breaks.is_none_or(|rule| *rule == outcome.rule);
            if looked_at && !is_true(&outcome, &seen, &table) {
                caught.insert(outcome.rule);
            }
        }
    }
    caught.into_iter().collect()
}

#[test]
fn every_rule_tells_the_truth() {
    assert_eq!(caught(&|_, _| {}), Vec::<String>::new());
    let table = Table::of(&good());
    let rules: Vec<String> = judges_of(&staged(&table))
        .into_iter()
        .map(|judge| judge.rule)
        .collect();
    assert_eq!(
        rules.len(),
        16,
        "every rule has a slip and a truth: {rules:?}"
    );
    // And every slip breaks its rule: a file that none breaks would catch no liar.
    for rule in &rules {
        let (ok, _) = truth(
            word(rule),
            &Table::of(&bad(word(rule), &table.text)),
            &table,
        );
        assert!(!ok, "the slip for {rule} breaks nothing");
    }
}

/// Answers yes and looks at nothing.
struct Liar(String);

impl Probe for Liar {
    fn answer(&mut self, _facts: &Facts<'_>) -> Answer {
        Answer::new(true, self.0.clone())
    }
}

#[test]
fn a_probe_that_answers_yes_without_looking_is_caught() {
    let text = good();
    let table = Table::of(&text);
    let staged = staged(&table);
    let mut honest = judges_of(&staged);
    let remembered = judge(&staged, &mut honest, &text);
    for number in 0..honest.len() {
        // One has nothing to say, one says something, one has learnt the right answer by heart.
        for lie in ["", "yes, all of it", remembered[number].found.as_str()] {
            let rule = &remembered[number].rule;
            let caught = caught(&|at, judge| {
                if at == number {
                    judge.probe = Box::new(Liar(lie.to_owned()));
                }
            });
            assert_eq!(caught, [rule.clone()], "a lie of {rule} ({lie:?})");
        }
    }
}

#[test]
fn silence_is_no_yes() {
    let outcome =
        super::super::probe::outcome("command(x)", Severity::Fail, Answer::new(true, " \n"));
    assert!(
        !outcome.ok && outcome.found.starts_with("nothing"),
        "{outcome:?}"
    );
}

#[test]
fn a_column_that_is_not_there_breaks_every_rule_about_it() {
    let gone = || vec!["gone".to_owned()];
    let equals = || BTreeMap::from([("gone".to_owned(), Expected::Equals("0".to_owned()))]);
    for check in [
        Check::NotNull(gone()),
        Check::Unique(gone()),
        Check::Accepted(BTreeMap::from([("gone".to_owned(), vec!["x".to_owned()])])),
        Check::Range(BTreeMap::from([(
            "gone".to_owned(),
            Range {
                min: Some("0".into()),
                max: None,
            },
        )])),
        Check::Sum(equals()),
        Check::Min(equals()),
        Check::Max(equals()),
        Check::Checksum(equals()),
        Check::Schema(vec![Field {
            name: "gone".into(),
            kind: FieldType::Long,
            nullable: false,
        }]),
        Check::Freshness(Freshness {
            column: "gone".into(),
            within_seconds: 60,
        }),
    ] {
        let rule = check.to_string();
        Staged::new("o.csv", b"id\n1\n")
            .rule(check)
            .assert_broken(&rule, "no column \"gone\"");
    }
}

#[test]
fn figures_that_the_script_reports_are_compared_with_what_is_there() {
    let map = |word: &str| BTreeMap::from([(word.to_owned(), Expected::Reported)]);
    let mut staged = Staged::new("o.csv", b"a\n1.10\n2\n")
        .rule(Check::Sum(map("a")))
        .rule(Check::RowSum(Expected::Reported));
    let unsaid: Vec<String> = staged.broken().into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(
        unsaid,
        ["sum(a)", "row_sum"],
        "nothing reported is nothing to agree with"
    );
    let sum = staged.audit().row_sum;
    let figures = format!(
        "{{\"row_sum\": {:?}, \"columns\": {{\"a\": {{\"sum\": \"3.1\"}}}}}}",
        sum.unwrap()
    );
    staged.reported.figures = serde_json::from_str(&figures).unwrap();
    assert_eq!(staged.broken(), []);
}
