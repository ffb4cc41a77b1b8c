//! Formats, rules and rejects: what a right file becomes, and what is said of slips.

use super::super::model::Flow;
use super::super::parse_flow;
use super::super::rules::{Check, Expected, FieldType, Packing, RejectCap, RowCount, Shape};
use crate::domain::Severity;

/// A flow whose data set `mid` has these lines more.
fn flow(path: &str, more: &str) -> String {
    format!(
        r#"flow: w
connections:
  db: {{ kind: postgres, url: "${{secret:DB}}" }}
  lake: {{ kind: files, root: /data }}
datasets:
  src: {{ at: {{ connection: db, table: public.t }}, partition: {{ key: id, chunks: 10 }} }}
  mid:
    at: {{ connection: lake, path: "{path}" }}
    {more}
  end: {{ at: {{ connection: db, table: public.e }} }}
jobs:
  extract: {{ input: src, output: mid, run: {{ script: e.sh }} }}
  load: {{ input: mid, output: end, run: {{ script: l.sh }} }}
"#
    )
}

fn right(path: &str, more: &str) -> Flow {
    match parse_flow(&flow(path, more), "w.yaml") {
        Ok(parsed) => parsed.flow,
        Err(problems) => panic!("{}", super::super::report(&problems)),
    }
}

const CSV: &str = "m/{chunk}.{fence}.csv.gz";

#[test]
fn every_rule_is_read_and_survives_its_json() {
    let flow = right(
        CSV,
        r#"csv: { header: false, delimiter: "\t", null: '\N' }
    validate: [ row_count: input, not_null: [order_id], unique: [order_id, line],
                accepted: { status: [O, F, 3] }, range: { amount: { min: 0, max: 1e6 } } ]
    rejects: { max: 1%, path: "bad/{chunk}.{fence}.csv" }"#,
    );
    let checks = &flow.datasets["mid"].checks;
    let format = checks.format.as_ref().unwrap();
    assert_eq!((format.shape, format.packing), (Shape::Csv, Packing::Gz));
    assert_eq!((format.csv.header, format.csv.delimiter), (false, '\t'));
    assert_eq!(format.csv.null, "\\N");
    let shown: Vec<String> = checks
        .validate
        .iter()
        .map(|rule| rule.check.to_string())
        .collect();
    assert_eq!(
        shown,
        [
            "row_count(input)",
            "not_null(order_id)",
            "unique(order_id, line)",
            "accepted(status)",
            "range(amount)"
        ]
    );
    let rejects = checks.rejects.as_ref().unwrap();
    assert_eq!(rejects.max, RejectCap::Percent("1".into()));
    let json = serde_json::to_value(&flow).unwrap();
    assert_eq!(serde_json::from_value::<Flow>(json).unwrap(), flow);
}

#[test]
fn figures_schemas_and_programs_are_read() {
    let flow = right(
        "m/{chunk}.jsonl",
        r#"validate:
      - row_count: { input: src, ratio: [0.99, 1.0] }
        severity: warn
      - sum: { amount: { equals: "123.45" } }
      - checksum: { amount: reported }
      - row_sum: reported
      - schema: [{ name: id, type: long }, { name: price, type: { decimal: [12, 2] }, nullable: true }]
      - freshness: { column: at, within: 2d }
      - sql: { query: "select count(*) = 0 from t where k >= $2", connection: db }
      - command: [check.sh, --all]
      - row_count: 0"#,
    );
    let checks = &flow.datasets["mid"].checks;
    let rules = &checks.validate;
    assert_eq!(rules[0].severity, Severity::Warn);
    let ratio = Some(("0.99".to_owned(), "1.0".to_owned()));
    let dataset = Some("src".to_owned());
    let count = RowCount::Input { dataset, ratio };
    assert_eq!(rules[0].check, Check::RowCount(count));
    assert_eq!(rules[3].check, Check::RowSum(Expected::Reported));
    let Check::Schema(fields) = &rules[4].check else {
        panic!("{:?}", rules[4]);
    };
    let decimal = FieldType::Decimal {
        precision: Some(12),
        scale: Some(2),
    };
    assert_eq!((fields[1].kind, fields[1].nullable), (decimal, true));
    assert_eq!(checks.connections().collect::<Vec<_>>(), ["db"]);
    let json = serde_json::to_value(&flow).unwrap();
    assert_eq!(serde_json::from_value::<Flow>(json).unwrap(), flow);
}

/// The one problem of a file, as it is printed.
fn slip(path: &str, more: &str) -> String {
    let problems = match parse_flow(&flow(path, more), "w.yaml") {
        Ok(parsed) => parsed.warnings,
        Err(problems) => problems,
    };
    let [problem] = problems.as_slice() else {
        panic!(
            "{more:?} has not one problem: {}",
            super::super::report(&problems)
        );
    };
    assert!(problem.line > 6 && problem.column > 0, "{problem}");
    problem.to_string()
}

/// A path, what is wrong beside it, and what must be said.
const SLIPS: &[(&str, &str, &str)] = &[
    (
        CSV,
        "validate: [{ not_nul: [a] }]",
        "did you mean \"not_null\"?",
    ),
    (
        CSV,
        "validate: [{ not_null: [a], unique: [a] }]",
        "not_null and unique",
    ),
    (CSV, "validate: [{ severity: warn }]", "says nothing"),
    (CSV, "validate: [{ not_null: [] }]", "at least one column"),
    (CSV, "validate: [{ not_null: [a, a] }]", "stands here twice"),
    (
        CSV,
        "validate: [{ row_count: inputs }]",
        "did you mean \"input\"?",
    ),
    (
        CSV,
        "validate: [{ row_count: { input: srk } }]",
        "no input of the job",
    ),
    (
        CSV,
        "validate: [{ row_count: { ratio: [1.0, 0.9] } }]",
        "the lesser first",
    ),
    (CSV, "validate: [{ range: { a: {} } }]", "without bounds"),
    (CSV, "validate: [{ sum: { a: 5 } }]", "{ equals: \"5\" }"),
    (
        CSV,
        "validate: [{ schema: [{ name: a, type: lon }] }]",
        "did you mean \"long\"?",
    ),
    (
        CSV,
        "validate: [{ schema: [{ name: a, type: { decimal: [2, 12] } }] }]",
        "the scale at most",
    ),
    (
        CSV,
        "validate: [{ accepted: { a: [] } }]",
        "at least one value",
    ),
    (
        CSV,
        "validate: [{ freshness: { column: a, within: 2 } }]",
        "give it a unit",
    ),
    (
        CSV,
        "validate: [{ sql: { query: \"select true\" } }]",
        "needs a postgres connection",
    ),
    (
        CSV,
        "validate: [{ sql: { query: \"select true\", connection: dbx } }]",
        "no connection \"dbx\"",
    ),
    (CSV, "validate: [{ command: [../x] }]", "leads out of it"),
    (CSV, "validate: [{ command: [] }]", "the command is empty"),
    (CSV, "rejects: { max: 5 }", "no rule judges single rows"),
    (
        CSV,
        "validate: [{ not_null: [a] }]\n    rejects: { max: 200% }",
        "a share of them",
    ),
    (CSV, "csv: { delimiter: ab }", "one ASCII character"),
    (
        CSV,
        "csv: { delimiter: \"'\", quote: \"'\" }",
        "are the same",
    ),
    (CSV, "format: cvs", "did you mean \"csv\"?"),
    ("m/{chunk}.csv.bz2", "format: csv", "cannot be read"),
    (
        "m/{chunk}.parquet",
        "csv: { header: false }",
        "not of format csv",
    ),
    (
        "m/{chunk}.dat",
        "validate: [{ not_null: [a] }]",
        "the format is not known",
    ),
    (
        "m/{chunk}.dat",
        "keep: forever",
        "nothing checks \"mid\", so job \"load\" will be refused",
    ),
    (CSV, "format: none", "nothing checks \"mid\""),
];

#[test]
fn slips_are_said_where_they_are() {
    for (path, more, says) in SLIPS {
        let printed = slip(path, more);
        assert!(
            printed.contains(says),
            "{more:?} should say {says:?}:\n{printed}"
        );
    }
}

#[test]
fn tables_and_sources_have_rules_of_their_own() {
    let base = flow(CSV, "keep: forever");
    let end = "table: public.e } }";
    for (slip, says) in [
        (
            "table: public.e }, validate: [{ row_sum: reported }] }",
            "is a rule of files",
        ),
        ("table: public.e }, format: csv }", "this data set has none"),
        (
            "table: public.e }, validate: [{ not_null: [a] }], rejects: { max: 1 } }",
            "csv and jsonl files only",
        ),
    ] {
        let problems = parse_flow(&base.replace(end, slip), "w.yaml").unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains(says), "{}", problems[0]);
    }
    let fine = "table: public.e }, validate: [{ not_null: [a] }, { sql: { query: \"select $1 = 'x'\" } }] }";
    assert!(parse_flow(&base.replace(end, fine), "w.yaml").is_ok());
    let source = base.replace(
        "chunks: 10 } }",
        "chunks: 10 }, validate: [{ not_null: [a] }] }",
    );
    let problems = parse_flow(&source, "w.yaml").unwrap_err();
    assert!(
        problems[0].to_string().contains("no job makes"),
        "{}",
        problems[0]
    );
}
