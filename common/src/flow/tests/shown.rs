//! How diagnostics and changes read: these snapshots are reviewed by eye.

use super::super::diff::diff;
use super::super::{parse_flow, report};
use super::WAREHOUSE;

/// Without the expression that made it, which would only repeat the test.
macro_rules! snapshot {
    ($shown:expr) => {
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!($shown);
        });
    };
}

fn shown(text: &str) -> String {
    let problems = match parse_flow(text, "warehouse.yaml") {
        Ok(parsed) => parsed.warnings,
        Err(problems) => problems,
    };
    report(&problems)
}

#[test]
fn a_file_with_many_slips_is_reported_whole() {
    snapshot!(shown(
        "flow: ware house
environment: 1
conections: {}
connections:
  erp:  { kind: postgres, url: \"postgres://loader:hunter2@erp:5432/erp\" }
  lake: { kind: files, root: data/lake, min_free: 10 gigs }
  api:
    kind: other
    settings:
      api_token: hunter2
pools:
  extract: { limit: -1 }
datasets:
  orders:      { at: { connection: epr, table: public.orders }, partition: { key: order_id, chunks: 10_000 } }
  orders_file: { at: { connection: lake, path: \"orders/{chunck}.csv\" } }
  orders_dwh:  { at: { connection: erp, path: stage } }
jobs:
  extract: { input: order, output: orders_file, run: { script: ../extract.sh }, timeout: 2 }
  load:
    input: orders_file
    output: orders_dwh
    run: { script: load.sh, arg: [x] }
    retry: { attempts: 0, backoff: 1h }
    silence: 1s
  load:
    input: orders_file
"
    ));
}

#[test]
fn circles_makers_and_missing_parts_are_explained() {
    snapshot!(shown(
        "flow: f
connections:
  db: { kind: postgres, url: \"${secret:DB}\" }
datasets:
  s: { at: { connection: db, table: s } }
  a: { at: { connection: db, table: a } }
  b: { at: { connection: db, table: b }, partition: single }
  c: { at: { connection: db, table: c } }
jobs:
  one: { input: b, output: a, run: { script: x } }
  two: { input: [a, s], output: b, run: { script: x } }
  three: { input: s, output: c, run: { script: x } }
  four: { input: s, output: c, run: { script: x } }
  five: { output: c }
"
    ));
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let long = WAREHOUSE.replace("partition: { key: order_id, chunks: 10000 }", "partition: { key: [a, b, c, d, e, f, g, h], chunks: many, comment: \"a text that is long enough to go on and on\" }");
    snapshot!(shown(&long));
}

#[test]
fn text_that_is_no_yaml_is_explained() {
    let files = [
        "flow: f\njobs:\n\tload: {}\n",
        "flow: f\nconnections: { db: { kind: postgres, url: ${secret:DB} } }\n",
        "flow: f\n---\nflow: g\n",
        "",
    ];
    snapshot!(files.map(shown).join("\n"));
}

#[test]
fn warnings_are_explained() {
    let text = WAREHOUSE
        .replace(
            "  erp:     { limit: none }",
            "  erp:     { limit: none }\n  exract:  { limit: 3 }",
        )
        .replace("keep: 7d", "keep: until_consumed");
    snapshot!(shown(&text));
}

#[test]
fn the_model_is_kept_as_this_json() {
    // The database holds this form: a field may come with a default, none may be renamed.
    let flow = parse_flow(WAREHOUSE, "warehouse.yaml").unwrap().flow;
    insta::assert_json_snapshot!(flow);
}

#[test]
fn changes_are_listed_with_what_they_mean() {
    let old = parse_flow(WAREHOUSE, "old.yaml").unwrap().flow;
    let text = WAREHOUSE
        .replace("environment: prod\n", "environment: test\n")
        .replace("/data/lake, min_free: 10GB", "/data2/lake, min_free: 20GB")
        .replace("loader:${secret:DWH_PASSWORD}", "writer:${secret:DWH_PASSWORD}")
        .replace("page_size: 500", "page_size: 100")
        .replace("environment: prod }", "environment: test }")
        .replace("limit: 10 }", "limit: 4 }")
        .replace("chunks: 10000", "chunks: 20000")
        .replace("keep: 7d", "keep: 1d")
        .replace("buffer: { chunks: 200, bytes: 2TB }", "buffer: { chunks: 100 }")
        .replace("timeout: 2h", "timeout: 3h")
        .replace("args: [--limit, 10]", "args: [--limit, 20]")
        .replace("  summarise: { input: [{ dataset: orders_dwh, chunks: all, accept: unvalidated }], output: summary, run: { script: sum.sh }, approve: true }\n", "  sum_up: { input: [{ dataset: orders_dwh, chunks: all, accept: unvalidated }], output: total, run: { script: sum.sh } }\n")
        .replace("  summary:     {", "  total:     {");
    let new = parse_flow(&text, "new.yaml")
        .unwrap_or_else(|p| panic!("{}", p[0]))
        .flow;
    let changes: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    snapshot!(changes.join("\n"));
    assert_eq!(diff(&old, &old), []);
}
