//! What each kind of change means for work under way.

use super::Effect::{self, NewAttempts, NewPlan, None, OrphansChunks, RemovesSooner};
use super::diff;
use crate::flow::parse_flow;

const BEFORE: &str = r#"
flow: w
connections:
  db: { kind: postgres, url: "postgres://u@h:5432/d?a=1" }
  hidden: { kind: postgres, url: "${secret:A}" }
  in: { kind: files, root: /in }
  out: { kind: files, root: /out }
  copy: { kind: files, root: /out }
datasets:
  src: { at: { connection: in }, partition: { files: "*.csv" } }
  other: { at: { connection: hidden, table: t }, partition: { list: [a, b] } }
  mid: { at: { connection: out, path: "{chunk}" } }
  end: { at: { connection: db, table: e }, keep: 7d }
  sum: { at: { connection: db, table: s } }
jobs:
  one: { input: src, output: mid, run: { script: a }, connections: [copy] }
  two: { input: mid, output: end, run: { script: b } }
  three: { input: [{ dataset: end, chunks: all }, { dataset: other, chunks: all }], output: sum, run: { script: c } }
"#;

/// What is replaced, by what, and the one change that follows.
const CASES: [(&str, &str, &str, Effect); 26] = [
    (
        "u@h:5432/d?a=1",
        "v@h:5432/d?b=2",
        "connections.db.url",
        NewAttempts,
    ),
    (
        "u@h:5432/d?a=1",
        "u@h:5432/other",
        "connections.db.url",
        OrphansChunks,
    ),
    (
        "${secret:A}",
        "${secret:B}",
        "connections.hidden.url",
        NewPlan,
    ),
    ("root: /in", "root: /in2", "connections.in.root", NewPlan),
    (
        "out: { kind: files, root: /out }",
        "out: { kind: files, root: /x }",
        "connections.out.root",
        OrphansChunks,
    ),
    (
        "files: \"*.csv\"",
        "files: \"*.txt\"",
        "datasets.src.partition",
        NewPlan,
    ),
    (
        "list: [a, b]",
        "list: [\"a, b\"]",
        "datasets.other.partition",
        NewPlan,
    ),
    ("table: t }", "table: t2 }", "datasets.other.at", NewPlan),
    (
        "connection: out, path: \"{chunk}\"",
        "connection: out, path: \"x/{chunk}\"",
        "datasets.mid.at",
        OrphansChunks,
    ),
    (
        "connection: out,",
        "connection: copy,",
        "datasets.mid.at",
        NewAttempts,
    ),
    (
        "connection: out,",
        "connection: in,",
        "datasets.mid.at",
        OrphansChunks,
    ),
    ("keep: 7d", "keep: 8d", "datasets.end.keep", None),
    ("keep: 7d", "keep: 6d", "datasets.end.keep", RemovesSooner),
    (
        "keep: 7d",
        "keep: until_consumed",
        "datasets.end.keep",
        RemovesSooner,
    ),
    (", keep: 7d", "", "datasets.end.keep", None),
    (
        "{ dataset: end, chunks: all }, { dataset: other",
        "{ dataset: mid, chunks: all }, { dataset: other",
        "jobs.three.input",
        NewAttempts,
    ),
    ("input: mid", "input: src", "jobs.two.input", NewPlan),
    (
        "script: b }",
        "script: b, args: [\"\"] }",
        "jobs.two.run",
        NewAttempts,
    ),
    (
        "script: b }",
        "script: b }, labels: [x]",
        "jobs.two.labels",
        NewAttempts,
    ),
    (
        "script: b }",
        "script: b }, environments: mixed",
        "jobs.two.environments",
        NewAttempts,
    ),
    (
        "input: mid",
        "input: { dataset: mid, accept: unvalidated }",
        "jobs.two.input",
        NewAttempts,
    ),
    (
        "keep: 7d",
        "keep: 7d, verify: size",
        "datasets.end.verify",
        NewAttempts,
    ),
    (
        "script: b }",
        "script: b }, approve: true",
        "jobs.two.approve",
        NewAttempts,
    ),
    (
        "script: b }",
        "script: b }, retry: { attempts: 2 }",
        "jobs.two.retry",
        NewAttempts,
    ),
    (
        "jobs:\n",
        "pools: { two: { limit: 0 } }\njobs:\n",
        "pools.two.limit",
        None,
    ),
    (
        "  sum: {",
        "  more: { at: { connection: db, table: x }, partition: single }\n  sum: {",
        "datasets.more",
        None,
    ),
];

/// The one change that replacing a stretch of the file makes, as path and effect.
fn change(find: &str, replacement: &str) -> Vec<(String, Effect)> {
    assert_eq!(
        BEFORE.matches(find).count(),
        1,
        "{find:?} is not there once"
    );
    let flow = |text: &str| match parse_flow(text, "w.yaml") {
        Ok(parsed) => parsed.flow,
        Err(problems) => panic!("{}", problems[0]),
    };
    let (old, new) = (flow(BEFORE), flow(&BEFORE.replace(find, replacement)));
    diff(&old, &new)
        .into_iter()
        .map(|change| (change.path, change.effect))
        .collect()
}

#[test]
fn every_change_says_what_it_means() {
    for (find, replacement, path, effect) in CASES {
        assert_eq!(
            change(find, replacement),
            [(path.to_owned(), effect)],
            "{replacement}"
        );
    }
    let without = change(", { dataset: other, chunks: all }], output", "], output");
    assert_eq!(without, [("jobs.three.input".to_owned(), NewAttempts)]);
    let removed = change("  three: {", "  four: {");
    let expected = [("jobs.four", None), ("jobs.three", Effect::RemovesJob)];
    assert_eq!(
        removed,
        expected.map(|(path, effect)| (path.to_owned(), effect))
    );
}

#[test]
fn effects_are_ordered_from_mild_to_severe() {
    assert!(Effect::None < Effect::NewAttempts);
    assert!(Effect::NewPlan < Effect::OrphansChunks);
    assert!(Effect::RemovesJob < Effect::RemovesDataSet);
}
