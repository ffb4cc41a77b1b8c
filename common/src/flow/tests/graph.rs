//! Rules between the parts of a file: who makes what, circles, and chunks that must pair up.

use super::super::topology::Topology;
use super::super::{Diagnostic, parse_flow};

/// A flow of jobs written as `name: inputs -> output`; a data set that nobody makes is a table
/// cut as `cuts` says, by key where it says nothing.
fn flow(jobs: &[&str], cuts: &[(&str, &str)]) -> String {
    let mut datasets: Vec<String> = Vec::new();
    let mut made: Vec<&str> = Vec::new();
    let mut text = String::from(
        "flow: f\nconnections:\n  db: { kind: postgres, url: \"${secret:DB}\" }\njobs:\n",
    );
    for job in jobs {
        let (name, rest) = job.split_once(": ").unwrap();
        let (inputs, output) = rest.split_once(" -> ").unwrap();
        text.push_str(&format!(
            "  {name}: {{ input: [{inputs}], output: {output}, run: {{ script: x }} }}\n"
        ));
        made.push(output);
        for input in inputs
            .split(", ")
            .filter(|input| !input.starts_with('{') && !input.contains("chunks"))
        {
            datasets.push(input.to_owned());
        }
        for input in inputs.split("dataset: ").skip(1) {
            datasets.push(input.split(',').next().unwrap().to_owned());
        }
        datasets.push(output.to_owned());
    }
    datasets.sort();
    datasets.dedup();
    text.push_str("datasets:\n");
    for dataset in datasets {
        let cut = cuts
            .iter()
            .find(|(name, _)| *name == dataset)
            .map(|(_, cut)| *cut);
        let partition = match (cut, made.contains(&dataset.as_str())) {
            (Some(cut), _) => format!(", partition: {cut}"),
            (None, false) => ", partition: { key: id, chunks: 10 }".to_owned(),
            (None, true) => ", validate: [{ not_null: [id] }]".to_owned(),
        };
        text.push_str(&format!(
            "  {dataset}: {{ at: {{ connection: db, table: t_{dataset} }}{partition} }}\n"
        ));
    }
    text
}

fn problems(text: &str) -> Vec<Diagnostic> {
    match parse_flow(text, "f.yaml") {
        Ok(parsed) => parsed.warnings,
        Err(problems) => problems,
    }
}

fn messages(text: &str) -> Vec<String> {
    problems(text)
        .into_iter()
        .map(|problem| problem.message)
        .collect()
}

#[test]
fn circles_are_named_and_every_one_is_reported() {
    let text = flow(
        &[
            "a: z -> x",
            "b: x -> y",
            "c: y -> z",
            "p: u -> v",
            "q: v -> u",
            "ok: s -> t",
            "after: z -> w",
        ],
        &[],
    );
    let expected = [
        "the jobs wait for each other: a -> b -> c -> a",
        "the jobs wait for each other: p -> q -> p",
    ];
    assert_eq!(messages(&text), expected);
    let problem = &problems(&text)[0];
    assert_eq!(
        (problem.path.as_str(), problem.line, problem.column),
        ("jobs.a.input[0]", 5, 16)
    );
}

#[test]
fn a_job_in_a_circle_with_itself_is_told_so_once() {
    let text = flow(&["a: x -> x"], &[]);
    assert_eq!(
        messages(&text),
        ["the job reads \"x\", which it makes itself"]
    );
}

#[test]
fn a_data_set_has_one_maker() {
    let text = flow(&["a: s -> x", "b: s -> x"], &[]);
    let found = problems(&text);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].message,
        "job \"a\" makes the data set \"x\" already"
    );
    assert_eq!(found[0].path, "jobs.b.output");
    assert_eq!(found[0].notes, ["it is the output of \"a\" at f.yaml:5:28"]);
}

#[test]
fn inputs_of_the_same_key_must_be_cut_alike() {
    let join = ["j: l, r -> x"];
    let wrong = [
        [
            ("l", "{ key: id, chunks: 3 }"),
            ("r", "{ key: id, chunks: 3 }"),
        ],
        [("l", "single"), ("r", "{ list: [a] }")],
        [("l", "{ list: [a, b] }"), ("r", "{ list: [a, c] }")],
        [("l", "{ query: select 1 }"), ("r", "{ key: id, rows: 3 }")],
    ];
    for cuts in &wrong {
        let expected = ["the chunks of \"l\" and \"r\" do not pair up"];
        assert_eq!(messages(&flow(&join, cuts)), expected, "{cuts:?}");
    }
    let right = [
        [("l", "single"), ("r", "single")],
        [("l", "{ list: [a, b] }"), ("r", "{ list: [b, a] }")],
    ];
    for cuts in &right {
        assert_eq!(messages(&flow(&join, cuts)), [""; 0], "{cuts:?}");
    }
    let by_name = [("l", "{ query: select 1 }"), ("r", "{ command: [days] }")];
    let found = problems(&flow(&join, &by_name));
    assert_eq!(found.len(), 1);
    assert!(
        !found[0].is_error() && found[0].message.contains("paired by name"),
        "{}",
        found[0]
    );
}

#[test]
fn chunks_that_come_from_one_plan_pair_up_over_any_way() {
    let diamond = ["a: s -> l", "b: s -> m", "c: m -> r", "d: l, r, s -> x"];
    assert_eq!(messages(&flow(&diamond, &[])), [""; 0]);
    let all = ["a: s -> l", "d: l, { dataset: other, chunks: all } -> x"];
    assert_eq!(messages(&flow(&all, &[])), [""; 0]);
}

#[test]
fn a_job_that_could_not_be_read_brings_no_further_complaints() {
    let text = flow(&["a: s -> x", "b: x -> y", "c: y -> z"], &[]);
    let broken = text.replace("output: y, ", "output: [y], ");
    assert_eq!(messages(&broken), ["jobs.b.output is a list"]);
    let broken = text.replace("input: [x]", "input: 5");
    assert_eq!(messages(&broken), ["jobs.b.input is the number 5"]);
}

#[test]
fn jobs_come_after_what_feeds_them() {
    let text = flow(
        &["z: s -> x", "y: x -> w", "a: x, w -> v", "m: q -> r"],
        &[("v", "")],
    );
    let text = text.replace(", partition:  }", " }");
    let flow = parse_flow(&text, "f.yaml").unwrap().flow;
    let topology = Topology::of(&flow).unwrap();
    assert_eq!(topology.order(), ["m", "z", "y", "a"]);
    let depths: Vec<_> = ["m", "z", "y", "a", "none"]
        .map(|job| topology.depth(job))
        .into();
    assert_eq!(depths, [Some(0), Some(0), Some(1), Some(2), None]);
    assert_eq!(topology.maker("x"), Some("z"));
    assert_eq!(topology.maker("s"), None);
    assert_eq!(topology.readers("x"), ["a", "y"]);
}

#[test]
fn a_large_flow_is_checked_in_bearable_time() {
    let jobs: Vec<String> = (0..4_000)
        .map(|n| format!("j{n}: d{n} -> d{}", n + 1))
        .collect();
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    let text = flow(&jobs, &[]);
    let began = std::time::Instant::now();
    let parsed = parse_flow(&text, "f.yaml").unwrap();
    assert_eq!(
        Topology::of(&parsed.flow).unwrap().depth("j3999"),
        Some(3_999)
    );
    // Far above what it takes, far below what anything quadratic would.
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[test]
fn warnings_without_number_are_counted_and_stop_nobody() {
    let jobs: Vec<String> = (0..150)
        .map(|n| format!("j{n}: d{n} -> d{}", n + 1))
        .collect();
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    let text = flow(&jobs, &[]).replace(", validate: [{ not_null: [id] }]", "");
    let parsed = parse_flow(&text, "f.yaml").unwrap();
    assert_eq!(parsed.warnings.len(), 101);
    assert!(parsed.warnings[100].to_string().contains("49 more"));
}
