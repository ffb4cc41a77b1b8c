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
use super::oracle::{ROWS, Table, bad, checksum, good, money, row_sum, truth};
use super::{Staged, key_range};

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
    for (number, outcome) in remembered.iter().enumerate() {
        // One has nothing to say, one says something, one has learnt the right answer by heart.
        for lie in ["", "yes, all of it", outcome.found.as_str()] {
            let rule = &outcome.rule;
            let caught = caught(&|at, judge| {
                if at == number {
                    judge.probe = Box::new(Liar(lie.to_owned()));
                }
            });
            assert_eq!(
                caught,
                std::slice::from_ref(rule),
                "a lie of {rule} ({lie:?})"
            );
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
