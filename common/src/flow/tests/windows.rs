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

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    let day = |change: (&str, &str)| pair(&DAYS.replace(change.0, change.1), "", "chunks: same");
    let chunks = |text: &str| pair(HOURS, DAYS, text);
    let cases = [
        (
            day(("day", "5 hours")),
            "expected",
            "hour, day, week or month",
            "6:",
        ),
        (
            day(("Europe/Berlin", "Europe/Berlni")),
            "Europe/Berlni",
            "Europe/Berlin",
            "6:",
        ),
        (
            day(("2024-04-01", "2024-4-1")),
            "",
            "a date such as 2024-03-31",
            "6:",
        ),
        (
            day(("2024-04-01", "2024-03-31")),
            "to (2024-03-31) is not after",
            "",
            "6:",
        ),
        (day(("day", "week")), "2024-03-25 and 2024-04-01", "", "6:"),
        (
            day((", zone: Europe/Berlin", "")),
            "needs the key \"zone\"",
            "",
            "6:",
        ),
        (day(("}", ", column: at }")), "only a table", "", "6:"),
        (day(("}", ", rest: ignore }")), "no column", "", "6:"),
        (
            day(("}", ", week_starts: sunday }")),
            "only windows of a week",
            "",
            "6:",
        ),
        (
            pair("{ product: [single] }", "", "chunks: same"),
            "fewer than two",
            "",
            "6:",
        ),
        (
            chunks("chunks: previous"),
            "nothing says what becomes of it",
            "ready",
            "9:",
        ),
        (
            chunks("chunks: windows, first: wait"),
            "only chunks: previous",
            "",
            "9:",
        ),
        (
            chunks("chunks: { match: \"(\", to: a }"),
            "cannot be read",
            "",
            "9:",
        ),
        (
            chunks("chunks: { match: \"(.)\", to: \"$2\" }"),
            "no group \"2\"",
            "",
            "9:",
        ),
        (
            chunks("chunks: { match: a, to: a, from: a }"),
            "one way",
            "",
            "9:",
        ),
        (
            chunks("chunks: { match: a }"),
            "which key it makes",
            "",
            "9:",
        ),
        (
            chunks("chunks: { to: a }"),
            "needs the key \"match\"",
            "",
            "9:",
        ),
        (chunks("chunks: window"), "", "windows", "9:"),
        (
            pair(HOURS, "", "chunks: windows"),
            "needs a partition",
            "windows",
            "7:",
        ),
        (
            pair("{ list: [x] }", DAYS, "chunks: windows"),
            "no windows",
            "",
            "9:",
        ),
        (
            pair(HOURS, "{ key: id, chunks: 3 }", "chunks: windows"),
            "nothing to cut",
            "",
            "7:",
        ),
        (
            pair(HOURS, DAYS, "chunks: same"),
            "chunk by chunk",
            "",
            "7:",
        ),
    ];
    for (text, message, expected, place) in cases {
        let problems = read(&text).expect_err(&text);
        let shown = crate::flow::report(&problems);
        assert!(
            shown.contains(message) && shown.contains(expected) && shown.contains(place),
            "{message} / {expected} / {place}\n{text}\n{shown}"
        );
    }
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
