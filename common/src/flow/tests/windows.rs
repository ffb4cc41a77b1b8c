//! Windows, products and mappings as they are written.

use super::*;
use crate::flow::{Diagnostic, parse_flow};

const HEAD: &str = "flow: f
connections:
  lake: { kind: files, root: /data }
  db: { kind: postgres, url: \"postgres://u@h/d\" }
";

fn read(rest: &str) -> Result<Flow, Vec<Diagnostic>> {
    parse_flow(&format!("{HEAD}{rest}"), "f.yaml").map(|parsed| parsed.flow)
}

/// Two data sets and a job between them, cut and mapped as given.
fn pair(input: &str, output: &str, chunks: &str) -> String {
    let cut = |partition: &str| {
        if partition.is_empty() {
            String::new()
        } else {
            format!(", partition: {partition}")
        }
    };
    format!(
        "datasets:
  a: {{ at: {{ connection: lake, path: \"a/{{chunk}}\" }}{} }}
  b: {{ at: {{ connection: lake, path: \"b/{{chunk}}.{{fence}}\" }}{} }}
jobs:
  j: {{ input: {{ dataset: a, {chunks} }}, output: b, run: {{ script: j.sh }} }}
",
        cut(input),
        cut(output)
    )
}

const HOURS: &str = "{ every: hour, from: 2024-03-31, to: 2024-04-01, zone: Europe/Berlin }";
const DAYS: &str = "{ every: day, from: 2024-03-31, to: 2024-04-01, zone: Europe/Berlin }";

#[test]
fn windows_and_mappings_become_a_model_that_survives_the_database() {
    let month = r#"{ match: "^(.{7})", to: "$1" }"#;
    let cases = [
        (HOURS, DAYS, "chunks: windows".to_owned()),
        (HOURS, "", "chunks: previous, first: ready".to_owned()),
        (DAYS, "", format!("chunks: {month}")),
        (
            DAYS,
            HOURS,
            r#"chunks: { match: "^(.{10})", from: "$1" }"#.to_owned(),
        ),
        (
            "{ product: [{ every: week, from: 2024-03-03, to: 2024-03-31, zone: UTC, week_starts: sunday }, { list: [AAPL, MSFT] }] }",
            "",
            "chunks: same".to_owned(),
        ),
        (
            HOURS,
            "{ product: [{ every: day, from: 2024-03-31, to: 2024-04-01, zone: UTC }, { list: [x] }] }",
            "chunks: all".to_owned(),
        ),
    ];
    for (input, output, chunks) in cases {
        let flow = read(&pair(input, output, &chunks))
            .unwrap_or_else(|problems| panic!("{chunks}: {problems:#?}"));
        let json = serde_json::to_string(&flow).unwrap();
        assert_eq!(serde_json::from_str::<Flow>(&json).unwrap(), flow, "{json}");
    }
    let flow = read(&pair(HOURS, DAYS, "chunks: windows")).unwrap();
    let json = serde_json::to_value(&flow.datasets["a"].partition).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "by": "windows", "every": "hour", "from": "2024-03-31", "to": "2024-04-01",
                            "zone": "Europe/Berlin", "rest": "error" }),
        "no release may change it"
    );
    let table = read(
        "datasets:
  t: { at: { connection: db, table: t }, partition: { every: 3 months, from: 2024-01-01, to: 2025-01-01, zone: UTC, column: at, rest: chunk } }
",
    );
    let Some(Partition::Windows { column, rest, .. }) = &table.unwrap().datasets["t"].partition
    else {
        panic!("windows were declared")
    };
    assert_eq!((column.as_deref(), *rest), (Some("at"), Rest::Chunk));
}

/// Reads a file that is wrong; the report must hold all of these.
fn wrong(text: &str, parts: &[&str]) {
    let problems = read(text).expect_err(text);
    let shown = crate::flow::report(&problems);
    for part in parts {
        assert!(shown.contains(part), "{part}\n{text}\n{shown}");
    }
}

#[test]
fn what_is_wrong_with_windows_is_told_where_it_stands() {
    let day = |old: &str, new: &str, part: &str| {
        let text = pair(&DAYS.replace(old, new), "", "chunks: same");
        wrong(&text, &[part, "6:"]);
    };
    day("day", "5 hours", "hour, day, week or month");
    day("/Berlin", "/Berlni", "did you mean \"Europe/Berlin\"");
    day("2024-04-01", "2024-4-1", "a date such as 2024-03-31");
    day("2024-04-01", "2024-03-31", "to (2024-03-31) is not after");
    day("day", "week", "2024-03-25 and 2024-04-01");
    day(", zone: Europe/Berlin", "", "needs the key \"zone\"");
    day("}", ", column: at }", "only a table");
    day("}", ", rest: ignore }", "no column");
    day("}", ", week_starts: sunday }", "only windows of a week");
    let product = pair("{ product: [single] }", "", "chunks: same");
    wrong(&product, &["fewer than two", "6:"]);
    let nested = "{ product: [single, { product: [single, single] }] }";
    let nested = pair(nested, "", "chunks: same");
    wrong(&nested, &["a product stands in a product", "6:"]);
    let missing = pair(HOURS, "", "chunks: windows");
    wrong(&missing, &["needs a partition", "windows", "7:"]);
    let by_key = pair(HOURS, "{ key: id, chunks: 3 }", "chunks: windows");
    wrong(&by_key, &["nothing to cut", "7:"]);
    let column = pair(
        HOURS,
        &DAYS.replace('}', ", column: at }"),
        "chunks: windows",
    );
    wrong(&column, &["no rows to look at", "7:"]);
    let same = pair(HOURS, DAYS, "chunks: same");
    wrong(&same, &["chunk by chunk", "7:"]);
}

#[test]
fn what_is_wrong_with_a_mapping_is_told_where_it_stands() {
    let chunks = |text: &str, part: &str| wrong(&pair(HOURS, DAYS, text), &[part, "9:"]);
    chunks("chunks: previous", "nothing says what becomes of it");
    chunks("chunks: windows, first: wait", "only chunks: previous");
    chunks("chunks: { match: \"(\", to: a }", "cannot be read");
    chunks("chunks: { match: \"(.)\", to: \"$2\" }", "no group \"2\"");
    chunks("chunks: { match: a, to: a, from: a }", "one way");
    chunks("chunks: { match: a }", "which key it makes");
    chunks("chunks: { to: a }", "needs the key \"match\"");
    chunks("chunks: window", "did you mean \"windows\"");
    let list = pair("{ list: [x] }", DAYS, "chunks: windows");
    wrong(&list, &["the chunks of \"a\" are no windows", "9:"]);
}

#[test]
fn a_buffer_needs_readers_that_take_one_for_one() {
    let text = pair(HOURS, DAYS, "chunks: windows").replace(
        "jobs:",
        "  c: { at: { connection: lake, path: \"c/{chunk}.{fence}\" }, partition: single }
jobs:
  more: { input: { dataset: b, chunks: { match: .*, to: all } }, output: c, run: { script: j.sh } }",
    );
    assert!(read(&text).is_ok(), "{:#?}", read(&text));
    let buffered = text.replace(
        "b/{chunk}.{fence}\" }",
        "b/{chunk}.{fence}\" }, buffer: { chunks: 2 }",
    );
    let shown = crate::flow::report(&read(&buffered).unwrap_err());
    assert!(shown.contains("waits for several"), "{shown}");
}

#[test]
fn today_and_the_day_before_may_come_from_one_data_set() {
    let text = pair(DAYS, "", "chunks: same").replace(
        "input: { dataset: a, chunks: same }",
        "input: [a, { dataset: a, chunks: previous, first: ready }]",
    );
    let flow = read(&text).unwrap();
    assert_eq!(flow.jobs["j"].inputs.len(), 2);
    let twice = text.replace("[a, {", "[a, { dataset: a, chunks: all }, {");
    assert!(read(&twice).is_err());
}
