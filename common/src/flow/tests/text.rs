//! Files that are wrong as text, and that no bytes whatever make the reader panic.

use proptest::prelude::*;

use super::super::{MAX_FILE_BYTES, Severity, parse_flow, parse_flow_bytes};
use super::WAREHOUSE;

fn only_problem(text: &str) -> (u32, u32, String) {
    let problems = parse_flow(text, "f.yaml").unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    (
        problems[0].line,
        problems[0].column,
        problems[0].to_string(),
    )
}

#[test]
fn files_that_are_no_flow_file_as_text() {
    let cases = [
        ("", 0, 0, "the file is empty"),
        ("# nothing\n\n", 0, 0, "the file is empty"),
        ("---\n", 0, 0, "the file is empty"),
        (
            "flow: a\n---\nflow: b\n",
            2,
            1,
            "more than one YAML document",
        ),
        (
            "flow: a\njobs:\n\tload: {}\n",
            3,
            2,
            "a tab is used for indentation",
        ),
        ("flow: a\njobs: [1, 2\n", 2, 7, "unclosed bracket"),
        ("flow: \"a", 1, 7, "unclosed quote"),
        ("flow: \"a\njobs: {}\n", 2, 1, "a quote may be missing"),
        ("flow: a\n b: 2\n", 2, 3, "quote text that holds \": \""),
        (
            "flow: @a\n",
            1,
            7,
            "quote text that begins with this character",
        ),
        ("flow: *a\n", 1, 7, "unknown anchor"),
        (
            "flow: a\nconnections: {a: {url: ${secret:X}}}\n",
            2,
            25,
            "\"${secret:NAME}\"",
        ),
        ("just text\n", 1, 1, "the file is the text \"just text\""),
        ("- a\n- b\n", 1, 1, "the file is a list"),
        (
            "flow: &a [*a]\n",
            1,
            11,
            "aliases (*name) expand to too much",
        ),
        ("flow: !!int x\n", 1, 13, "this is not YAML"),
    ];
    for (text, line, column, says) in cases {
        let (at_line, at_column, shown) = only_problem(text);
        assert!(shown.contains(says), "{text:?}: {shown}");
        assert_eq!((at_line, at_column), (line, column), "{shown}");
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_problem() {
    let windows = format!("\u{feff}{}", WAREHOUSE.replace('\n', "\r\n"));
    assert_eq!(
        parse_flow(&windows, "f.yaml").unwrap().flow,
        parse_flow(WAREHOUSE, "f.yaml").unwrap().flow
    );
    let (line, column, shown) = only_problem("\u{feff}flow: 5\r\n");
    assert_eq!((line, column), (1, 7), "{shown}");
    assert!(!shown.contains('\r'));
}

#[test]
fn bytes_that_are_not_utf8_are_shown_where_they_stand() {
    let problems = parse_flow_bytes(b"flow: a\nenvironment: pr\xe9d\n", "f.yaml").unwrap_err();
    assert_eq!((problems[0].line, problems[0].column), (2, 16));
    assert!(problems[0].to_string().contains("not UTF-8"));
}

#[test]
fn a_huge_file_is_refused_before_it_is_parsed() {
    let text = format!("flow: a\n# {}\n", "x".repeat(MAX_FILE_BYTES));
    let (line, _, shown) = only_problem(&text);
    assert_eq!(line, 0);
    assert!(shown.contains("at most 4194304 bytes (4 MiB)"), "{shown}");
}

#[test]
fn bombs_of_aliases_and_nesting_are_refused_quickly() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let before = vec![format!("*a{}", n - 1); 9].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    let deep = format!("flow: {}x{}\n", "[".repeat(200), "]".repeat(200));
    let deeper = format!("flow: {}", "[".repeat(100_000));
    let began = std::time::Instant::now();
    let shown = only_problem(&bomb).2;
    assert!(
        shown.contains("aliases (*name) expand to too much"),
        "{shown}"
    );
    let shown = only_problem(&deep).2;
    assert!(shown.contains("nested more than 32 deep"), "{shown}");
    assert!(only_problem(&deeper).2.contains("error"));
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn files_with_problems_without_number_are_read_in_bearable_time() {
    let filled = |head: &str, line: &dyn Fn(usize) -> String| {
        let lines: Vec<String> = (0..10_000).map(line).collect();
        format!("{head}{}", lines.concat())
    };
    let files = [
        filled("flow: f\n", &|n| format!("unknown_key_{n}: 1\n")),
        filled("flow: f\ndatasets:\n", &|n| {
            format!("  data_set_{n}: {{ at: {{ connection: data_sit_{n}, table: t }} }}\n")
        }),
        filled("flow: f\njobs:\n", &|n| {
            format!("  job_{n}: {{ input: jub_{n}, output: jab_{n}, pools: [jeb_{n}], run: 1 }}\n")
        }),
    ];
    for text in files {
        let began = std::time::Instant::now();
        let problems = parse_flow(&text, "f.yaml").unwrap_err();
        assert_eq!(problems.len(), 101);
        assert!(super::super::report(&problems).len() < 100_000);
        // Far above what it takes, far below what anything quadratic would.
        assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    }
}

#[test]
fn long_texts_are_read_and_cut_where_they_are_shown() {
    let query = format!(
        "select {} from t where a = 'x'",
        "column_name, ".repeat(1_000)
    );
    for written in [
        query.clone(),
        format!("\"{query}\""),
        format!(">-\n        {query}"),
    ] {
        let text = format!(
            "flow: f
connections: {{ db: {{ kind: postgres, url: \"${{secret:DB}}\" }} }}
datasets:
  a:
    at: {{ connection: db, table: t }}
    partition:
      query: {written}
"
        );
        let flow = parse_flow(&text, "f.yaml").unwrap().flow;
        let expected = super::Partition::Query {
            sql: query.clone(),
            key: None,
        };
        assert_eq!(flow.datasets["a"].partition, Some(expected));
        let shown = super::super::report(
            &parse_flow(&text.replace("table: t", "table: t t"), "f.yaml").unwrap_err(),
        );
        assert!(shown.len() < 2_000, "{shown}");
    }
    let (_, _, shown) = only_problem(&format!("flow: \"{}\"\n", "x ".repeat(100_000)));
    assert!(shown.len() < 1_000, "{shown}");
}

#[test]
fn anchors_and_merge_keys_may_save_typing() {
    let text = "
flow: f
connections: { db: { kind: postgres, url: \"${secret:DB}\" } }
datasets:
  a: { at: { connection: db, table: a }, partition: &cut { key: id, chunks: 3 } }
  b: { at: { connection: db, table: b } }
  c: { at: { connection: db, table: c }, partition: *cut }
  d: { at: { connection: db, table: d } }
jobs:
  x: &job { input: a, output: b, run: { script: x }, retry: { attempts: 2 } }
  y: { <<: *job, input: c, output: d }
";
    let flow = parse_flow(text, "f.yaml").unwrap().flow;
    assert_eq!(flow.datasets["a"].partition, flow.datasets["c"].partition);
    assert_eq!(flow.jobs["y"].retry.attempts, 2);
    assert_eq!(flow.jobs["y"].output, "d");
}

#[test]
fn many_problems_are_counted_and_not_all_kept() {
    let names: Vec<String> = (0..500).map(|n| format!("x{n}: 1\n")).collect();
    let text = format!("flow: f\n{}", names.concat());
    let problems = parse_flow(&text, "f.yaml").unwrap_err();
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100].message, "400 more problems are not shown");
}

/// The example with one stretch of it replaced: near misses find more than noise does.
fn damaged() -> impl Strategy<Value = String> {
    let characters: Vec<char> = WAREHOUSE.chars().collect();
    let length = characters.len();
    (
        0..length,
        0_usize..30,
        "[ -~\n\t{}\\[\\]:,&*!|>'\"$é]{0,12}",
    )
        .prop_map(move |(at, cut, insert)| {
            let end = (at + cut).min(length);
            let head: String = characters[..at].iter().collect();
            let tail: String = characters[end..].iter().collect();
            format!("{head}{insert}{tail}")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_flow_bytes(&bytes, "f.yaml").map_err(|problems| problems.len());
    }

    #[test]
    fn a_damaged_file_is_read_or_refused_with_a_place_in_it(text in damaged()) {
        match parse_flow_bytes(text.as_bytes(), "f.yaml") {
            Ok(parsed) => {
                let json = serde_json::to_string(&parsed.flow).unwrap();
                prop_assert_eq!(serde_json::from_str::<super::Flow>(&json).unwrap(), parsed.flow);
                prop_assert!(parsed.warnings.iter().all(|w| w.severity == Severity::Warning));
            }
            Err(problems) => {
                prop_assert!(problems.iter().any(|problem| problem.is_error()));
                let lines = text.split('\n').count();
                for problem in problems {
                    prop_assert!(problem.line as usize <= lines, "{}", problem);
                    prop_assert!(!problem.to_string().is_empty());
                }
            }
        }
    }
}
