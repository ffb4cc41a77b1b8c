//! Attempts whose scripts end with 0 and have not done their work: none of them becomes visible.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::PathBuf;

use common::domain::{Bounds, FailureClass, KeyColumn, Outcome, Severity, Validation};
use common::flow::rules::{Check, FileFormat, RejectCap, Rejects, RowCount, Rule};
use support::{Bench, at, failure, input, report};

/// A worker whose job runs this script and whose output has the format that the path names.
async fn bench(path: &str, script: &str) -> Bench {
    let mut bench = Bench::new(&format!("#!/bin/bash\n{script}\n")).await;
    bench.spec.output_at.path = Some(path.to_owned());
    bench.spec.checks.format = FileFormat::of_path(path);
    bench
}

fn declare(bench: &mut Bench, check: Check) {
    bench.spec.checks.validate.push(Rule {
        check,
        severity: Severity::Fail,
    });
}

/// Asserts that the attempt is refused by this rule and that its output is kept, unpublished.
async fn assert_refused(bench: &Bench, rule: &str, says: &str) {
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Invalid, "{error}");
    assert_eq!(result.exit_code, Some(0), "the script itself was content");
    assert!(error.contains(rule) && error.contains(says), "{error}");
    assert_eq!(bench.published(), [] as [String; 0]);
    let (_, kept) = error
        .split_once("the staged file is kept at ")
        .expect(error);
    let kept = PathBuf::from(kept);
    assert!(kept.is_file(), "{error}");
    assert!(kept.starts_with(bench.path("lake/.odf-staging")), "{error}");
    bench.assert_clean();
}

async fn validation(bench: &Bench) -> Validation {
    let result = bench.run().await;
    report(&result)
        .validation
        .clone()
        .expect("it was validated")
}

#[tokio::test]
async fn what_is_published_was_recounted() {
    let bench = bench(
        "{chunk}.csv.gz",
        "printf 'id\\n1\\n2\\n' | gzip >$ODF_STAGING; echo '{\"rows\": 2}' >$ODF_RESULT",
    )
    .await;
    let result = bench.run().await;
    let report = report(&result);
    assert_eq!(report.rows, Some(2));
    let validation = report.validation.as_ref().unwrap();
    assert_eq!(validation.format.as_deref(), Some("csv.gz"));
    assert_eq!(validation.rows, Some(2));
    assert_eq!(validation.row_sum.as_ref().map(String::len), Some(16));
    let rules: Vec<&str> = validation
        .rules
        .iter()
        .map(|rule| rule.rule.as_str())
        .collect();
    assert_eq!(
        rules,
        [
            "parses(csv.gz)",
            "rows_reported",
            "bytes_reported",
            "checksum_reported"
        ]
    );
    assert!(
        validation
            .rules
            .iter()
            .all(|rule| rule.ok && !rule.found.is_empty())
    );
    assert_eq!(bench.published().len(), 1);
    assert_eq!(bench.staged(), 0);
}

#[tokio::test]
async fn rows_are_counted_where_nobody_reports_them() {
    let bench = bench(
        "{chunk}.jsonl",
        "printf '{\"a\":1}\\n{\"a\":2}\\n' >$ODF_STAGING",
    )
    .await;
    let result = bench.run().await;
    assert_eq!(report(&result).rows, Some(2));
}

#[tokio::test]
async fn a_pipe_whose_first_program_died_publishes_nothing() {
    // No pipefail, as most scripts are: the pipe ends with gzip's 0.
    let died = "{ echo id; seq 500; kill -9 $BASHPID; } | gzip >$ODF_STAGING\necho \"psql: server closed the connection\" >&2";
    let reported = format!("{died}\necho '{{\"rows\": 1000}}' >$ODF_RESULT");
    assert_refused(
        &bench("{chunk}.csv.gz", &reported).await,
        "rows_reported",
        "found 500 rows",
    )
    .await;
    // Where the script reports nothing, the input's rows tell.
    let mut bench = bench("{chunk}.csv.gz", died).await;
    let mut orders = input("orders", at("lake", Some("orders/{chunk}.csv"), None));
    orders.location = Some("orders/00042.7.csv".into());
    orders.rows = Some(1000);
    bench.item.inputs = vec![orders];
    declare(
        &mut bench,
        Check::RowCount(RowCount::Input {
            dataset: None,
            ratio: None,
        }),
    );
    assert_refused(
        &bench,
        "row_count(input)",
        "expected 1000 rows of orders, as published, found 500 rows",
    )
    .await;
}

#[tokio::test]
async fn files_that_were_cut_publish_nothing() {
    let cut = "truncate -s -7 $ODF_STAGING";
    for (path, pack) in [("{chunk}.csv.gz", "gzip"), ("{chunk}.csv", "cat")] {
        let script = format!(
            "{{ echo id,name; seq 2000 | sed 's/.*/&,order &/'; }} | {pack} >$ODF_STAGING; {cut}"
        );
        let bench = bench(path, &script).await;
        let cut_in_a_field = path.ends_with("csv");
        if cut_in_a_field {
            // Still csv: what was reported tells.
            let script = format!("{script}\necho '{{\"bytes\": 34795}}' >$ODF_RESULT");
            bench.script("job.sh", &format!("#!/bin/bash\n{script}\n"), 0o755);
            assert_refused(&bench, "bytes_reported", "as reported").await;
        } else {
            assert_refused(&bench, "parses(csv.gz)", "cut off").await;
        }
    }
}

#[tokio::test]
async fn the_output_of_another_chunk_is_not_published() {
    let mut bench = bench("{chunk}.csv", "printf 'id,name\\n150,x\\n' >$ODF_STAGING").await;
    bench.item.bounds = Bounds::KeyRange {
        columns: vec![KeyColumn {
            name: "id".into(),
            sql_type: "bigint".into(),
            collation: None,
        }],
        lower: Some(vec!["1".into()]),
        upper: Some(vec!["100".into()]),
    };
    assert_refused(&bench, "in_bounds(id)", "key 150").await;
}

#[tokio::test]
async fn a_full_disk_under_the_output_publishes_nothing() {
    // The writer does not look at what its writes answer, as many do not.
    let script = "{ echo id; seq 400000; } >$ODF_STAGING 2>/dev/null\necho '{\"rows\": 400000}' >$ODF_RESULT; exit 0";
    let bench = bench("{chunk}.csv", script).await;
    let lake = bench.path("lake");
    let flags = nix::mount::MsFlags::empty();
    if let Err(errno) =
        nix::mount::mount(Some("tmpfs"), &lake, Some("tmpfs"), flags, Some("size=1m"))
    {
        eprintln!("skipped: a tmpfs cannot be mounted here ({errno}); run as root");
        return;
    }
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
        }
    }
    let _disk = Unmount(lake);
    assert_refused(&bench, "rows_reported", "expected 400000 rows as reported").await;
}

#[tokio::test]
async fn a_program_judges_and_must_say_what_it_found() {
    let mut bench = bench("{chunk}.bin", "echo data >$ODF_STAGING").await;
    bench.spec.checks.format = None;
    declare(
        &mut bench,
        Check::Command(vec!["check.sh".into(), "--all".into()]),
    );
    let check = |text: &str| bench.script("check.sh", &format!("#!/bin/sh\n{text}\n"), 0o755);
    check("grep -c data \"$ODF_STAGING\"; echo \"$1 $ODF_CHUNK: 1 line\"");
    let kept = validation(&bench).await;
    assert_eq!(kept.format, None);
    assert_eq!(kept.rules[0].rule, "command(check.sh --all)");
    assert_eq!(kept.rules[0].found, "--all 00042: 1 line");
    fs::remove_dir_all(bench.path("lake")).unwrap();
    fs::create_dir(bench.path("lake")).unwrap();
    check("exit 0");
    assert_refused(
        &bench,
        "command(check.sh --all)",
        "did not say what it found",
    )
    .await;
    check("echo 2 lines are gone; exit 65");
    assert_refused(&bench, "command(check.sh --all)", "found 2 lines are gone").await;
    for (text, class) in [
        ("echo away; exit 75", FailureClass::Transient),
        ("exit 78", FailureClass::Host),
        ("exit 3", FailureClass::Transient),
    ] {
        check(text);
        let result = bench.run().await;
        let (found, error) = failure(&result);
        assert_eq!(found, class, "{text}: {error}");
        assert!(error.starts_with("rule command(check.sh)"), "{error}");
    }
    assert_eq!(bench.published(), [] as [String; 0]);
}

#[tokio::test]
async fn a_warning_publishes_and_is_recorded() {
    let mut bench = bench("{chunk}.csv", "printf 'id\\n1\\n' >$ODF_STAGING").await;
    bench.spec.checks.validate = vec![Rule {
        check: Check::RowCount(RowCount::Exactly(2)),
        severity: Severity::Warn,
    }];
    let validation = validation(&bench).await;
    let rule = validation.rules.last().unwrap();
    assert_eq!((rule.ok, rule.severity), (false, Severity::Warn));
    assert_eq!(
        (rule.expected.as_str(), rule.found.as_str()),
        ("2 rows", "1 rows")
    );
    assert_eq!(bench.published().len(), 1);
}

#[tokio::test]
async fn rejects_are_published_beside_the_output() {
    let mut bench = bench(
        "{chunk}.csv",
        "printf 'id,name\\n1,a\\n2,\\n3,c\\n' >$ODF_STAGING",
    )
    .await;
    declare(&mut bench, Check::NotNull(vec!["name".into()]));
    bench.spec.checks.rejects = Some(Rejects {
        max: RejectCap::Rows(1),
        path: Some("bad/{chunk}.csv".into()),
    });
    let validation = validation(&bench).await;
    assert_eq!((validation.rows, validation.rejected), (Some(2), Some(1)));
    let fence = bench.item.fence;
    let names = [
        format!("00042.{fence}.csv"),
        format!("bad/00042.{fence}.csv"),
    ];
    assert_eq!(bench.published(), names);
    let read = |name: &String| fs::read_to_string(bench.path("lake").join(name)).unwrap();
    assert_eq!(read(&names[0]), "id,name\n1,a\n3,c\n");
    assert_eq!(read(&names[1]), "id,name\n2,\n");
    assert_eq!(bench.staged(), 0);
    bench.spec.checks.rejects = Some(Rejects {
        max: RejectCap::Rows(0),
        path: None,
    });
    let result = bench.run().await;
    let (_, error) = failure(&result);
    assert!(error.contains("at most 0 rejected"), "{error}");
}

#[tokio::test]
async fn an_output_that_nothing_vouches_for_says_so_by_saying_nothing() {
    let mut bench = bench("{chunk}.bin", "echo data >$ODF_STAGING").await;
    bench.spec.checks.format = None;
    let result = bench.run().await;
    assert!(matches!(&result.outcome, Outcome::Validated(report) if report.validation.is_none()));
}
