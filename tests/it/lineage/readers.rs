//! Nothing is made again under who reads it: readers are waited for, refused or stopped.

use common::domain::{AttemptResult, Outcome};
use serde_json::json;

use super::{ask, made, names, resubmit, run_all, stale};
use crate::harness::{Role, Shape, TestDb, TestFlow, TestLeader, TestWorker};

#[tokio::test]
async fn with_a_reader_at_work_nothing_is_made_twice_and_nothing_stays_stale() {
    let (db, flow, leader, worker, operator) = made(2).await;
    resubmit(&operator, "dst/00001", json!({})).await;
    let reader = worker.claim_one().await;
    assert_eq!(names(std::slice::from_ref(&reader)), ["dst/00001"]);
    let done = resubmit(&operator, "mid/00001", json!({"downstream": true})).await;
    assert_eq!(done["accepted"], json!(3));
    assert_eq!(
        done["pending"],
        json!(2),
        "mid is read, dst runs; total waits for dst"
    );
    assert_eq!(done["readers"], json!(["dst/00001 on w1"]));
    assert_eq!(worker.claim(9).await.len(), 0);
    worker.complete(&[reader]).await;
    // No pass has run yet: the reader's chunk is asked for again and must wait for its input.
    assert_eq!(
        worker.claim(9).await.len(),
        0,
        "its input is still to be made"
    );
    let ran = run_all(&leader, &worker).await;
    assert_eq!(names(&ran), ["mid/00001", "dst/00001", "total/all"]);
    assert_eq!(ran[1].inputs[0].generation, 2);
    assert_eq!(stale(&db).await, [""; 0]);
    let dst = flow.chunks(&db, "dst").await[0];
    assert_eq!(db.published(dst).await.len(), 3);
}

/// `mid` with two consumers, one of which reads it now.
async fn one_reads() -> (
    TestDb,
    TestFlow,
    TestLeader,
    TestWorker,
    common::domain::WorkItem,
) {
    let db = TestDb::new().await;
    let shape = Shape::single(1)
        .stage("left", "input: mid", "a")
        .stage("right", "input: mid", "b");
    let flow = shape.build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    worker.complete(&worker.claim(1).await).await;
    let reader = worker.claim_one().await;
    (db, flow, leader, worker, reader)
}

#[tokio::test]
async fn an_input_that_is_asked_for_takes_no_new_readers() {
    let (db, _, leader, worker, reader) = one_reads().await;
    let operator = db.login(Role::Operator).await;
    let asked = resubmit(&operator, "mid/00001", json!({})).await;
    assert_eq!(asked["pending"], json!(1));
    assert_eq!(
        worker.claim(4).await.len(),
        0,
        "the other would read what is about to go"
    );
    worker.complete(&[reader]).await;
    let ran = run_all(&leader, &worker).await;
    assert_eq!(
        ran.len(),
        2,
        "the one that had not read it reads the new one: {:?}",
        names(&ran)
    );
    assert_eq!(ran[0].dataset, "mid");
    assert_eq!(ran[1].inputs[0].generation, 2);
}

#[tokio::test]
async fn a_request_that_comes_to_nothing_lets_the_consumers_go() {
    let (db, flow, leader, worker, reader) = one_reads().await;
    let operator = db.login(Role::Operator).await;
    resubmit(&operator, "mid/00001", json!({})).await;
    assert_eq!(worker.claim(4).await.len(), 0);
    let mid = flow.chunks(&db, "mid").await[0];
    // A later word that does not fit any more when it is applied.
    db.exec(
        "insert into odf.chunk_request (chunk_id, verb, reason, requested_by, requested_at) values ($1, 'held', 'x', 'x', odf.clock())",
        &[&mid.0],
    )
    .await;
    worker.complete(&[reader]).await;
    let ran = run_all(&leader, &worker).await;
    assert_eq!(ran.len(), 1, "{:?}", names(&ran));
    assert_eq!(db.status(mid).await, "validated");
}

#[tokio::test]
async fn readers_are_waited_for_refused_or_stopped() {
    let (db, flow, leader, worker, operator) = made(2).await;
    resubmit(&operator, "dst/00002", json!({})).await;
    let reader = worker.claim_one().await;
    let whole = json!([{"dataset": "mid"}]);
    let refused = ask(
        &operator,
        "resubmit",
        whole.clone(),
        json!({"readers": "refuse"}),
    )
    .await;
    let (code, message, hint) = refused.unwrap_err();
    assert_eq!(code, "OD011");
    assert!(
        message.contains("nothing was changed") && message.contains("dst/00002 on w1"),
        "{message}"
    );
    assert!(hint.contains("cancel"), "{hint}");
    let mid = flow.chunks(&db, "mid").await;
    assert_eq!(
        db.status(mid[0]).await,
        "validated",
        "nor those that nobody reads"
    );
    assert_eq!(db.count("odf.chunk_request").await, 0);
    let unknown = ask(
        &operator,
        "resubmit",
        whole.clone(),
        json!({"readers": "ask"}),
    )
    .await;
    assert_eq!(unknown.unwrap_err().0, "OD002");

    let done = ask(&operator, "resubmit", whole, json!({"readers": "cancel"}))
        .await
        .unwrap();
    assert_eq!(done["pending"], json!(1));
    let aborts = worker.beat().await.aborts;
    assert_eq!(aborts.len(), 1);
    assert_eq!(
        (aborts[0].0, aborts[0].2.as_str()),
        (reader.chunk_id, "term")
    );
    // As a worker answers a TERM: handed back.
    let released = Outcome::Released {
        reason: "why".to_owned(),
    };
    let _ = worker.settle(&reader, AttemptResult::bare(released)).await;
    let ran = run_all(&leader, &worker).await;
    assert_eq!(names(&ran), ["mid/00001", "mid/00002", "dst/00002"]);
    assert_eq!(ran[2].inputs[0].generation, 2);
    let sql = "select charged from odf.chunk where chunk_id = $1";
    assert_eq!(db.get::<i32>(sql, &[&reader.chunk_id.0]).await, 0);
}

#[tokio::test]
async fn what_is_read_whole_is_not_made_again_under_its_reader() {
    let (db, flow, leader, worker, operator) = made(2).await;
    resubmit(&operator, "total/all", json!({})).await;
    leader.passes().await;
    let total = worker.claim_one().await;
    assert_eq!(total.dataset, "total");
    let dst = flow.chunks(&db, "dst").await[0];
    let asked = resubmit(&operator, "dst/00001", json!({})).await;
    assert_eq!(
        (&asked["pending"], &asked["readers"]),
        (&json!(1), &json!(["total/all on w1"]))
    );
    let dst_whole = json!([{"dataset": "dst"}]);
    let refused = ask(
        &operator,
        "resubmit",
        dst_whole,
        json!({"readers": "refuse"}),
    )
    .await;
    assert!(refused.unwrap_err().1.contains("total/all on w1"));
    leader.passes().await;
    assert_eq!(db.status(dst).await, "resubmit");
    assert_eq!(worker.claim(9).await.len(), 0);
    worker.complete(&[total]).await;
    assert_eq!(names(&run_all(&leader, &worker).await), ["dst/00001"]);
    leader.passes().await;
    assert_eq!(stale(&db).await, ["total/all"]);
}

/// A claim of the reader of a whole data set and a request for a part of it, at the same moment.
#[tokio::test]
async fn a_claim_and_a_request_for_a_whole_input_never_both_win() {
    let (db, _, leader, worker, operator) = made(2).await;
    db.linger("insert", "lease", 3).await;
    let (mut claims, mut requests) = (0, 0);
    for round in 0..40 {
        resubmit(&operator, "total/all", json!({})).await;
        leader.proof.promote().await.unwrap();
        let one = json!([{"dataset": "dst", "keys": ["00001"]}]);
        let (items, asked) =
            tokio::join!(worker.claim(1), ask(&operator, "resubmit", one, json!({})));
        asked.unwrap();
        let reads = items.iter().any(|item| item.dataset == "total");
        let made_again = db
            .count("odf.chunk_state c join odf.data_set d using (data_set_id) where d.name = 'dst' and c.status <> 'validated'")
            .await
            > 0;
        assert!(
            !(reads && made_again),
            "round {round}: read and made again at once"
        );
        claims += usize::from(reads);
        requests += usize::from(made_again);
        worker.complete(&items).await;
        run_all(&leader, &worker).await;
    }
    assert!(
        claims + requests > 0,
        "{claims} claims and {requests} requests came first"
    );
    assert_eq!(db.deadlocks().await, 0);
}
