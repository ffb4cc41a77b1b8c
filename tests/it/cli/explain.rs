//! `explain` and `logs`: why a chunk is where it is, in plain words, and what happened to it.

use common::domain::{AttemptResult, Evidence, FailureClass, InputEvidence, Outcome, Validation};
use coordinator::cli::Exit;

use super::support::{end, masked, masked_json, ok, run};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, failed, validated};

/// The `why` line of a chunk.
async fn why(db: &TestDb, chunk: &str) -> String {
    let text = ok(db, &format!("explain {chunk}")).await;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("  why       "));
    masked(line.unwrap_or_else(|| panic!("no reason: {text}")))
        .trim_end()
        .to_owned()
}

#[tokio::test]
async fn a_chunk_tells_what_it_waits_for() {
    let db = TestDb::new().await;
    Shape::fan_in(4)
        .pool("extract", "2")
        .with(
            "extract",
            "retry: { attempts: 2, backoff: 1h, max_backoff: 2h }",
        )
        .build(&db)
        .await;
    assert_eq!(
        why(&db, "src/00001").await,
        "it is part of a source: it was there from the start"
    );
    assert_eq!(
        why(&db, "mid/00001").await,
        "it is ready; no worker is at work; it is the next of its lane"
    );
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    assert_eq!(
        why(&db, "mid/00003").await,
        "it is ready and will be claimed shortly; 2 chunks of its lane are before it"
    );
    let items = worker.claim(4).await;
    assert_eq!(
        why(&db, "mid/00001").await,
        "attempt 1 runs on w1 for <span>"
    );
    assert_eq!(
        why(&db, "mid/00003").await,
        "it is ready; pool extract has 2/2 in use; it is the next of its lane"
    );
    assert_eq!(
        why(&db, "dst/00001").await,
        "its input mid/00001 is running"
    );
    worker.complete(&items[..1]).await;
    end(&worker, &items[1], failed(FailureClass::Transient)).await;
    assert_eq!(
        why(&db, "mid/00001").await,
        "it is made: generation 1 is published and checked"
    );
    assert_eq!(
        why(&db, "mid/00002").await,
        "it is retried in <span>, 1 of 2 attempts are charged: made to fail: transient"
    );
    assert_eq!(
        why(&db, "dst/00002").await,
        "its input mid/00002 is failed, retried in <span>"
    );
    assert_eq!(
        why(&db, "total/all").await,
        "it needs all of dst: 0/4 validated"
    );
    ok(&db, "hold mid/00004 --reason tape").await;
    assert_eq!(why(&db, "mid/00004").await, "a person set it aside: tape");
    assert_eq!(
        why(&db, "dst/00004").await,
        "its input mid/00004 is held, a person decides"
    );
}

#[tokio::test]
async fn requests_staleness_and_ends_are_explained() {
    let db = TestDb::new().await;
    Shape::chain(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    let running = worker.claim(4).await;
    ok(&db, "resubmit mid/00001 --reason again").await;
    assert_eq!(
        why(&db, "mid/00001").await,
        "odf_test_operator asked for it to run again (again); that is done when attempt 1 on w1 has ended"
    );
    worker.complete(&running).await;
    worker.drain(4).await;
    assert_eq!(
        why(&db, "dst/00002").await,
        "it is made: generation 1 is published and checked"
    );
    ok(&db, "resubmit mid/00002").await;
    let again = worker.claim(4).await;
    worker.complete(&again).await;
    assert_eq!(
        why(&db, "dst/00002").await,
        "it is stale: made from generation 1 of mid/00002, which is at generation 2 now"
    );
    ok(&db, "resubmit dst/00001").await;
    let item = worker.claim_one().await;
    end(&worker, &item, failed(FailureClass::Permanent)).await;
    assert_eq!(
        why(&db, "dst/00001").await,
        "it failed for good after 2 attempts and a person decides: made to fail: permanent"
    );
    ok(&db, "cancel dst/00001 --yes --reason obsolete").await;
    assert_eq!(why(&db, "dst/00001").await, "a person ended it: obsolete");
}

/// Three chunks of `mid` made, the first one at its second attempt.
async fn with_history(db: &TestDb) {
    Shape::chain(3)
        .with(
            "extract",
            "retry: { attempts: 3, backoff: 1h, max_backoff: 2h }",
        )
        .build(db)
        .await;
    let leader = TestLeader::start(db).await;
    let worker = TestWorker::start(db, "w1", 1).await;
    leader.passes().await;
    let item = worker.claim_one().await;
    let mut result = AttemptResult::bare(Outcome::Failed {
        class: FailureClass::Transient,
        error: "connection refused\nat line 3 of extract.sh".to_owned(),
    });
    result.exit_code = Some(75);
    result.duration_ms = 4260;
    result.log_tail = "first\nthe source went \u{1b}[31maway\u{1b}[0m".to_owned();
    result.log_path = Some("/var/log/odf/mid/00001/1.log".to_owned());
    result.script_sha256 = Some("ab".repeat(32));
    end(&worker, &item, result).await;
    ok(db, "resubmit mid/00001").await;
    leader.passes().await;
    // Behind the others now.
    loop {
        worker.beat().await;
        let item = worker.claim_one().await;
        worker.complete(std::slice::from_ref(&item)).await;
        if item.dataset == "mid" && item.key == "00001" {
            return;
        }
    }
}

#[tokio::test]
async fn a_chunk_with_a_history_is_explained_in_full() {
    let db = TestDb::new().await;
    with_history(&db).await;
    let ran = run(&db, Role::Viewer, "explain mid/00001").await;
    insta::assert_snapshot!("chunk", ran.shown());
    let ran = run(&db, Role::Viewer, "explain mid/00001 -o wide").await;
    insta::assert_snapshot!("chunk_wide", ran.shown());
    let ran = run(&db, Role::Viewer, "explain mid/00001 -o json").await;
    insta::assert_snapshot!("chunk_json", masked_json(ran.json()));
}

#[tokio::test]
async fn a_data_set_and_a_pool_are_explained() {
    let db = TestDb::new().await;
    with_history(&db).await;
    let ran = run(&db, Role::Viewer, "explain mid").await;
    let shown = ran.shown();
    // Which of them was slowest is this machine's affair.
    let (head, slowest) = shown.split_once("slowest now and lately\n").unwrap();
    insta::assert_snapshot!("data_set", head);
    for chunk in ["mid/00001", "mid/00002", "mid/00003"] {
        assert!(slowest.contains(chunk), "{slowest}");
    }
    let ran = run(&db, Role::Viewer, "explain src").await;
    insta::assert_snapshot!("source", ran.shown());
    ok(&db, "scale extract 5 --reason more").await;
    let ran = run(&db, Role::Viewer, "explain extract").await;
    insta::assert_snapshot!("pool", ran.shown());
}

#[tokio::test]
async fn a_log_is_shown_as_text_and_says_where_the_whole_of_it_is() {
    let db = TestDb::new().await;
    with_history(&db).await;
    let log = run(&db, Role::Viewer, "logs mid/00001 --attempt 1").await;
    insta::assert_snapshot!("logs", log.shown());
    let newest = run(&db, Role::Viewer, "logs mid/00001").await;
    assert!(newest.err.contains("it wrote nothing"), "{}", newest.err);
    let none = run(&db, Role::Viewer, "logs mid/00001 --attempt 9").await;
    assert_eq!(none.exit, Exit::NotFound);
    let quiet = run(&db, Role::Viewer, "logs mid/00001 --attempt 1 -q").await;
    assert_eq!(quiet.err, "");
}

#[tokio::test]
async fn the_five_questions_are_answered_then_and_now() {
    let db = TestDb::new().await;
    Shape::chain(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    leader.passes().await;
    let mid = worker.claim_one().await;
    assert_eq!((mid.dataset.as_str(), mid.key.as_str()), ("mid", "00001"));
    let sum = "ab".repeat(32);
    let mut made = validated(&mid);
    let Outcome::Validated(report) = &mut made.outcome else {
        panic!("a good end")
    };
    report.checksum = Some(format!("sha256:{sum}"));
    report.validation = Some(Validation {
        format: Some("csv".into()),
        rows: Some(10),
        ..Validation::default()
    });
    end(&worker, &mid, made).await;
    let dst = worker.claim_one().await;
    let input = &dst.inputs[0];
    assert_eq!(
        (
            input.attempt,
            input.published_by.as_deref(),
            input.connection.as_deref()
        ),
        (Some(1), Some("w1"), Some("lake"))
    );
    assert!(
        input
            .validation
            .as_ref()
            .is_some_and(|text| text.contains("csv"))
    );
    let mut made = validated(&dst);
    made.evidence = Some(
        Evidence {
            ms: 12,
            inputs: vec![InputEvidence {
                how: "pub sum stat rules share".into(),
                n: 1,
                bytes: Some(1000),
                sum: Some(sum[..16].to_owned()),
            }],
        }
        .encode(),
    );
    end(&worker, &dst, made).await;
    let ran = run(&db, Role::Viewer, "explain dst/00001").await;
    insta::assert_snapshot!("five_questions", ran.shown());
    ok(&db, "resubmit mid/00001").await;
    // Behind the other chunk now.
    worker.drain(1).await;
    let ran = run(&db, Role::Viewer, "explain dst/00001 -o json").await;
    let rows = ran.json()["questions"]["cards"][0]["rows"].clone();
    assert_eq!(rows[1]["question"], "right_data");
    assert_eq!(
        (&rows[1]["then"], &rows[1]["now"]),
        (&"yes".into(), &"no".into())
    );
    assert_eq!(rows[1]["now_words"], "stale: generation 2 is published");
}

#[tokio::test]
async fn a_refusal_costs_no_retry_and_waits_for_a_person_or_for_time() {
    let db = TestDb::new().await;
    Shape::chain(1)
        .with(
            "extract",
            "retry: { attempts: 1, backoff: 1h, max_backoff: 2h }",
        )
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    leader.passes().await;
    let item = worker.claim_one().await;
    end(&worker, &item, failed(FailureClass::Gate)).await;
    let line = why(&db, "mid/00001").await;
    assert!(line.contains("made to fail: gate"), "{line}");
    let charged = "select charged from odf.chunk_state join odf.data_chunk using (chunk_id) where key = '00001' and attempt_no > 0";
    assert_eq!(db.scalar::<i32>(charged).await, 0);
    db.advance(std::time::Duration::from_hours(3)).await;
    leader.passes().await;
    let item = worker.claim_one().await;
    end(&worker, &item, failed(FailureClass::Refused)).await;
    let line = why(&db, "mid/00001").await;
    assert!(line.contains("a person decides"), "{line}");
    assert_eq!(db.scalar::<i32>(charged).await, 0);
}
