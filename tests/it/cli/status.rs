//! `status`: the line of every data set, and the one reason why nothing moves.

use std::time::Duration;

use common::domain::{AttemptResult, FailureClass, Outcome};
use coordinator::cli::Exit;

use super::support::{end, masked, masked_json, ok, run};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, failed};

/// A failure with a message of its own.
fn broken(class: FailureClass, error: &str) -> AttemptResult {
    AttemptResult::bare(Outcome::Failed {
        class,
        error: error.to_owned(),
    })
}

#[tokio::test]
async fn a_running_flow_shows_counts_limits_causes_and_what_waits() {
    let db = TestDb::new().await;
    Shape::fan_in(10).pool("extract", "4").build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    leader.passes().await;
    let items = worker.claim(4).await;
    assert_eq!(items.len(), 4);
    worker.complete(&items[..2]).await;
    end(
        &worker,
        &items[2],
        broken(FailureClass::Transient, "connection to h7 refused"),
    )
    .await;
    end(
        &worker,
        &items[3],
        broken(FailureClass::Permanent, "row 17 is bad"),
    )
    .await;
    worker.beat().await;
    leader.passes().await;
    let more = worker.claim(3).await;
    assert_eq!(more.len(), 3);

    let ran = run(&db, Role::Viewer, "status").await;
    insta::assert_snapshot!("running", ran.shown());
    insta::assert_snapshot!(
        "running_wide",
        run(&db, Role::Viewer, "status -o wide").await.shown()
    );
    insta::assert_snapshot!(
        "running_json",
        masked_json(run(&db, Role::Viewer, "status -o json").await.json())
    );
    let one = ok(&db, "status mid").await;
    assert!(one.contains("\nmid ") && !one.contains("\ndst "), "{one}");
}

#[tokio::test]
async fn a_finished_flow_is_done() {
    let db = TestDb::new().await;
    Shape::fan_in(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    worker.drain(4).await;
    leader.passes().await;
    worker.drain(4).await;
    insta::assert_snapshot!("done", run(&db, Role::Viewer, "status").await.shown());
}

/// The status line of a data set, without what stands before its state.
async fn line(db: &TestDb, set: &str) -> String {
    let text = ok(db, "status").await;
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{set} ")));
    let line = masked(line.unwrap_or_else(|| panic!("no line for {set}: {text}")));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn nothing_is_planned_without_a_leader_and_a_failed_split_says_why() {
    let db = TestDb::new().await;
    assert!(ok(&db, "status").await.contains("no flow is applied yet"));
    let flow = Shape::single(3).apply(&db).await;
    assert_eq!(
        line(&db, "src").await,
        "src STALLED | no coordinator leads: nothing is cut into chunks"
    );
    assert_eq!(
        line(&db, "mid").await,
        "mid WAITING | waits for src to be cut into chunks"
    );
    let _leader = TestLeader::start(&db).await;
    assert_eq!(
        line(&db, "src").await,
        "src PLANNING | it will be cut into chunks shortly"
    );
    let id = flow.set_id(&db, "src").await;
    db.exec(
        "select odf.plan_failed($1, 'relation \"src\" does not exist')",
        &[&id],
    )
    .await;
    assert_eq!(
        line(&db, "src").await,
        "src BLOCKED | cutting it into chunks failed: relation \"src\" does not exist"
    );
    flow.plan(&db).await;
    assert_eq!(line(&db, "src").await, "src DONE 3 chunks (source)");
}

#[tokio::test]
async fn a_ready_data_set_that_does_not_run_says_what_binds() {
    let db = TestDb::new().await;
    Shape::chain(5)
        .pool("extract", "2")
        .pool("shared", "9")
        .with("extract", "pools: [shared]")
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    assert_eq!(
        line(&db, "mid").await,
        "mid STALLED 0/5 0.0% | no worker is at work"
    );

    let worker = TestWorker::start(&db, "w1", 4).await;
    assert_eq!(line(&db, "mid").await, "mid IDLE 0/5 0.0%");
    ok(&db, "scale shared 0 --reason nightly").await;
    assert_eq!(
        line(&db, "mid").await,
        "mid PAUSED 0/5 0.0% | the limit of pool shared is 0 (set by odf_test_operator: nightly)"
    );
    ok(&db, "scale shared none").await;
    ok(&db, "pause extract --reason maintenance").await;
    assert_eq!(
        line(&db, "mid").await,
        "mid PAUSED 0/5 0.0% | paused by odf_test_operator: maintenance"
    );
    ok(&db, "resume mid").await;
    ok(&db, "pause shared").await;
    assert_eq!(
        line(&db, "mid").await,
        "mid PAUSED 0/5 0.0% | pool shared paused by odf_test_operator"
    );
    ok(&db, "resume shared").await;
    ok(&db, "drain w1").await;
    assert_eq!(
        line(&db, "mid").await,
        "mid STALLED 0/5 0.0% | every worker that may run it is draining (w1)"
    );
    ok(&db, "drain w1 --off").await;
    db.exec("update odf.lane set labels = '{gpu}'", &[]).await;
    assert_eq!(
        line(&db, "mid").await,
        "mid STALLED 0/5 0.0% | none of 1 worker has the labels gpu"
    );
    db.exec(
        "update odf.lane set labels = '{}', blocked = 'lake has 1 GB free, 10 GB wanted'",
        &[],
    )
    .await;
    assert_eq!(
        line(&db, "mid").await,
        "mid BLOCKED 0/5 0.0% | claims stop here: lake has 1 GB free, 10 GB wanted"
    );
    db.exec("update odf.lane set blocked = null", &[]).await;
    leader.passes().await;
    let running = worker.claim(4).await;
    assert_eq!(running.len(), 2);
    assert_eq!(line(&db, "mid").await, "mid RUNNING 0/5 0.0% run 2/2");
    ok(&db, "pause mid").await;
    assert_eq!(
        line(&db, "mid").await,
        "mid PAUSED 0/5 0.0% run 2/2 | paused by odf_test_operator; 2 still running"
    );
}

#[tokio::test]
async fn retries_buffers_approvals_and_people_are_told_apart() {
    let db = TestDb::new().await;
    let shape = Shape::chain(4)
        .with(
            "extract",
            "retry: { attempts: 2, backoff: 1h, max_backoff: 2h }",
        )
        .with("extract", "approve: true");
    let flow = shape.build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    for item in worker.claim(4).await {
        end(&worker, &item, failed(FailureClass::Host)).await;
    }
    let text = line(&db, "mid").await;
    assert_eq!(
        text,
        "mid WAITING 0/4 0.0% failed 4 (1 cause) | next retry of 4 failed chunks in <span>"
    );

    // One is made and waits for a person, one is set aside, two are given up.
    let chunks = flow.chunks(&db, "mid").await;
    let set = "update odf.chunk_state set retry_at = null, reason = 'x', generation = 1, status =";
    db.exec("delete from odf.due", &[]).await;
    // As no protocol call would do it at once: the transition table is watched, so step by step.
    db.exec(
        &format!("{set} 'held' where chunk_id = any ($1)"),
        &[&vec![chunks[0].0]],
    )
    .await;
    db.exec(
        &format!("{set} 'exhausted' where chunk_id = any ($1)"),
        &[&vec![chunks[1].0, chunks[2].0, chunks[3].0]],
    )
    .await;
    assert_eq!(
        line(&db, "mid").await,
        "mid DEGRADED 0/4 0.0% exhausted 3 held 1 | 3 exhausted chunks need a person"
    );
    assert_eq!(
        line(&db, "dst").await,
        "dst WAITING 0/4 0.0% | waits for mid (0/4 validated)"
    );
    ok(&db, "cancel mid --status exhausted --yes").await;
    assert_eq!(
        line(&db, "mid").await,
        "mid PAUSED 0/4 0.0% held 1 cancelled 3 | 1 chunk set aside by a person"
    );
    ok(&db, "resubmit mid --status held").await;
    let item = worker.claim_one().await;
    worker.complete(&[item]).await;
    assert_eq!(
        line(&db, "mid").await,
        "mid WAITING 0/4 0.0% to approve 1 cancelled 3 | <speed>, <volume> | 1 published chunk waits for approval"
    );
    assert_eq!(ok(&db, "approve mid").await, "1 chunk approved\n");
    assert!(
        line(&db, "mid")
            .await
            .starts_with("mid DONE 1/4 25.0% cancelled 3")
    );
}

#[tokio::test]
async fn a_full_buffer_says_so_with_its_numbers() {
    let db = TestDb::new().await;
    let shape = Shape::chain(9).set(
        "mid",
        "at: { connection: lake, path: \"mid/{chunk}.{fence}\" }, buffer: { chunks: 2 }",
    );
    shape.build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    ok(&db, "pause load").await;
    leader.passes().await;
    let items = worker.claim(4).await;
    assert_eq!(items.len(), 2, "the buffer lets two be made");
    worker.complete(&items).await;
    assert!(worker.claim(4).await.is_empty());
    let text = line(&db, "mid").await;
    assert!(
        text.ends_with(
            "| its buffer is full: 2 published and not consumed, 0 running, of 2 chunks"
        ),
        "{text}"
    );
    let explained = ok(&db, "explain mid").await;
    assert!(
        explained.contains("2 chunks published and not consumed, limit 2 chunks"),
        "{explained}"
    );
}

#[tokio::test]
async fn a_worker_that_is_not_heard_is_told_without_a_leader_too() {
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    assert_eq!(worker.claim(2).await.len(), 2);
    db.exec("select odf.resign(1)", &[]).await;
    assert_eq!(line(&db, "mid").await, "mid RUNNING 0/3 0.0% run 2");
    db.advance(Duration::from_secs(90)).await;
    let text = ok(&db, "status").await;
    assert!(
        text.starts_with("no coordinator leads | 1 worker (1 not heard), 2 of 4 slots busy\n"),
        "{text}"
    );
    assert_eq!(
        line(&db, "mid").await,
        "mid STALLED 0/3 0.0% run 2 | 2 chunks run on workers that are not heard, \
         and no coordinator leads that would give them to others"
    );
    assert!(ok(&db, "workers").await.contains("silent"));
}

#[tokio::test]
async fn loops_tell_when_they_ran_and_what_fails() {
    let db = TestDb::new().await;
    let ran = run(&db, Role::Viewer, "status --loops").await;
    assert_eq!(ran.exit, Exit::Ok);
    assert_eq!(ran.out, "no coordinator leads\nno loop has reported yet\n");
    let leader = TestLeader::start(&db).await;
    let _ = leader;
    db.exec(
        "select odf.report_loop(1, 'retry', 12, '3 chunks go back', true)",
        &[],
    )
    .await;
    db.exec(
        "select odf.report_loop(1, 'plan', 2, 'cannot reach erp', false)",
        &[],
    )
    .await;
    insta::assert_snapshot!(
        "loops",
        run(&db, Role::Viewer, "status --loops").await.shown()
    );
}
