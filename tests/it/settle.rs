//! Settling: what each row of a batch is answered, and what becomes of its chunk.

use std::sync::Arc;
use std::time::Duration;

use common::domain::{FailureClass, Outcome, OutputReport};
use common::store::Settled;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, failed, validated};

#[tokio::test]
async fn every_row_of_a_batch_has_its_own_answer() {
    let db = TestDb::new().await;
    let flow = Shape::chain(4).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    let other = TestWorker::start(&db, "w2", 8).await;
    let mids = worker.claim(4).await;
    worker.complete(&mids[..3]).await;
    let loads = worker.claim(8).await;
    let (stale, good) = (loads[0].clone(), loads[1].clone());
    assert_eq!(stale.dataset, "dst");
    // The input is published again behind the protocol's back: a resubmit would wait for its reader.
    db.exec(
        "update odf.chunk_state set generation = generation + 1 where chunk_id = $1",
        &[&stale.inputs[0].chunk_id.0],
    )
    .await;
    leader.passes().await;
    other.beat().await;
    let theirs = other.claim(8).await;
    assert_eq!(theirs.len(), 0, "four mids and three loads are all taken");
    let batch = vec![
        (mids[3].chunk_id, mids[3].fence, validated(&mids[3])),
        (mids[0].chunk_id, mids[0].fence, validated(&mids[0])),
        (stale.chunk_id, stale.fence, validated(&stale)),
        (good.chunk_id, good.fence, failed(FailureClass::Transient)),
        (
            flow.chunks(&db, "dst").await[3],
            stale.fence,
            validated(&stale),
        ),
    ];
    let answers = worker.session.settle(&batch).await.unwrap();
    let of = |n: usize| answers[&(batch[n].0, batch[n].1)];
    assert_eq!(of(0), Settled::Applied);
    assert_eq!(of(1), Settled::AlreadyApplied);
    assert_eq!(of(2), Settled::StaleInput);
    assert_eq!(of(3), Settled::Applied);
    assert_eq!(of(4), Settled::LeaseLost);
    let again = worker.session.settle(&batch).await.unwrap();
    let of = |n: usize| again[&(batch[n].0, batch[n].1)];
    assert_eq!(
        (of(0), of(1), of(3)),
        (
            Settled::AlreadyApplied,
            Settled::AlreadyApplied,
            Settled::AlreadyApplied
        )
    );
    assert_eq!(
        of(2),
        Settled::LeaseLost,
        "a stale publication was never recorded"
    );
    assert_eq!(
        db.status(stale.chunk_id).await,
        "ready",
        "it runs again with the new input"
    );
    assert_eq!(db.published(mids[0].chunk_id).await.len(), 1);
}

#[tokio::test]
async fn whoever_lost_the_lease_changes_nothing() {
    let db = TestDb::new().await;
    Shape::single(1).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let slow = TestWorker::start(&db, "slow", 1).await;
    let item = slow.claim_one().await;
    assert_eq!(leader.bury(&slow).await, (1, 1));
    let fast = TestWorker::start(&db, "fast", 1).await;
    let again = fast.claim_one().await;
    assert_eq!(again.chunk_id, item.chunk_id);
    assert!(again.fence > item.fence);
    let before: String = db
        .scalar("select to_jsonb(c)::text from odf.chunk_state c order by chunk_id desc limit 1")
        .await;
    for result in [validated(&item), failed(FailureClass::Permanent)] {
        assert_eq!(slow.settle(&item, result).await, Settled::LeaseLost);
    }
    // Neither by claiming another's fence.
    assert_eq!(
        slow.settle(&again, validated(&again)).await,
        Settled::LeaseLost
    );
    let after: String = db
        .scalar("select to_jsonb(c)::text from odf.chunk_state c order by chunk_id desc limit 1")
        .await;
    assert_eq!(before, after);
    assert_eq!(
        fast.settle(&again, validated(&again)).await,
        Settled::Applied
    );
    assert_eq!(
        slow.settle(&item, validated(&item)).await,
        Settled::LeaseLost
    );
    assert_eq!(db.published(item.chunk_id).await, [again.fence.0]);
}

#[tokio::test]
async fn an_attempt_that_ends_beside_another_state_still_counts() {
    // No path of ours leads there; should one, the next claim must not draw the same fence.
    let db = TestDb::new().await;
    let flow = Shape::single(1).build(&db).await;
    let chunk = flow.chunks(&db, "mid").await[0];
    let worker = TestWorker::start(&db, "w1", 1).await;
    let first = worker.claim_one().await;
    db.exec(
        "update odf.chunk_state set status = 'waiting' where chunk_id = $1",
        &[&chunk.0],
    )
    .await;
    worker.session.end("drained").await.unwrap();
    TestLeader::start(&db).await.passes().await;
    db.exec("select odf.promote_chunks(array[$1::bigint])", &[&chunk.0])
        .await;
    let second = TestWorker::start(&db, "w2", 1).await.claim_one().await;
    assert!(first.fence < second.fence, "{first:?} {second:?}");
}

#[tokio::test]
async fn attempts_only_grow_whatever_ended_them() {
    let db = TestDb::new().await;
    let flow = Shape::single(1)
        .with(
            "extract",
            "retry: { attempts: 50, backoff: 1s, max_backoff: 1s }",
        )
        .build(&db)
        .await;
    let chunk = flow.chunks(&db, "mid").await[0];
    let leader = TestLeader::start(&db).await;
    let mut fences = Vec::new();
    for round in 0..8 {
        let worker = TestWorker::start(&db, &format!("w{round}"), 1).await;
        let item = worker.claim_one().await;
        fences.push(item.fence);
        match round % 4 {
            0 => {
                let _ = worker.settle(&item, failed(FailureClass::Transient)).await;
                db.advance(Duration::from_secs(2)).await;
            }
            1 => worker.session.end("drained").await.unwrap(),
            2 => assert_eq!(leader.bury(&worker).await, (1, 1)),
            _ => {
                worker.complete(&[item]).await;
                db.exec(
                    "update odf.chunk set status = 'resubmit' where chunk_id = $1",
                    &[&chunk.0],
                )
                .await;
            }
        }
        leader.passes().await;
        let stale = worker
            .settle_as(chunk, fences[round], failed(FailureClass::Permanent))
            .await;
        assert_ne!(stale, Settled::Applied);
        worker.session.end("over").await.unwrap();
    }
    assert!(
        fences.windows(2).all(|pair| pair[0] < pair[1]),
        "{fences:?}"
    );
    assert_eq!(fences.last().unwrap().attempt(), 8);
}

#[tokio::test]
async fn a_replay_is_recognised_even_after_a_later_generation() {
    let db = TestDb::new().await;
    let flow = Shape::single(1).build(&db).await;
    let chunk = flow.chunks(&db, "mid").await[0];
    let worker = TestWorker::start(&db, "w1", 1).await;
    let first = worker.claim_one().await;
    worker.complete(std::slice::from_ref(&first)).await;
    db.exec(
        "update odf.chunk set status = 'resubmit' where chunk_id = $1",
        &[&chunk.0],
    )
    .await;
    let second = worker.claim_one().await;
    assert_eq!(second.generation, 2);
    worker.complete(std::slice::from_ref(&second)).await;
    assert_eq!(
        worker.settle(&first, validated(&first)).await,
        Settled::AlreadyApplied
    );
    assert_eq!(db.published(chunk).await, [first.fence.0, second.fence.0]);
}

#[tokio::test]
async fn one_bad_row_fails_alone_when_settled_alone() {
    let db = TestDb::new().await;
    Shape::single(100).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 100).await;
    let items = worker.claim(100).await;
    // A number that the column cannot hold: what a worker of another release might send.
    let poison: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(n, item)| {
            let rows = if n == 41 { json!("many") } else { json!(1) };
            json!({"chunk_id": item.chunk_id, "fence": item.fence, "outcome": "validated", "rows": rows})
        })
        .collect();
    let login = db.login(Role::Worker).await;
    let settle = async |rows: serde_json::Value| {
        login
            .query_one(
                "select odf.settle($1, $2, $3)",
                &[&worker.id().0, &worker.session.key().as_slice(), &rows],
            )
            .await
            .map(|row| row.get::<_, serde_json::Value>(0))
    };
    assert!(settle(json!(poison)).await.is_err());
    assert_eq!(
        db.count("odf.publication").await,
        0,
        "a failed batch leaves nothing"
    );
    let mut closed = 0;
    for row in poison {
        closed += usize::from(settle(json!([row])).await.is_ok());
    }
    assert_eq!(closed, 99);
    assert_eq!(db.count("odf.lease").await, 1);
}

#[tokio::test]
async fn texts_that_the_server_cannot_hold_are_settled_all_the_same() {
    let db = TestDb::new().await;
    Shape::single(1)
        .with("extract", "retry: { attempts: 1 }")
        .build(&db)
        .await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    let item = worker.claim_one().await;
    let mut result = failed(FailureClass::Transient);
    result.log_tail = "a\0b \u{fffd} \\u0000 'quoted'".to_owned();
    result.outcome = Outcome::Failed {
        class: FailureClass::Transient,
        error: format!("\0{}", "long ".repeat(2000)),
    };
    assert_eq!(worker.settle(&item, result).await, Settled::Applied);
    assert_eq!(db.status(item.chunk_id).await, "exhausted");
    let reason: i32 = db
        .scalar("select length(reason) from odf.chunk where status = 'exhausted'")
        .await;
    assert_eq!(reason, 2000);
}

#[tokio::test]
async fn a_chunk_that_waits_for_approval_is_released_by_it() {
    let db = TestDb::new().await;
    let flow = Shape::chain(2)
        .with("extract", "approve: true")
        .build(&db)
        .await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    worker.complete(&worker.claim(2).await).await;
    let (mid, dst) = (flow.chunks(&db, "mid").await, flow.chunks(&db, "dst").await);
    assert_eq!(
        (
            db.status(mid[0]).await.as_str(),
            db.status(dst[0]).await.as_str()
        ),
        ("complete", "waiting")
    );
    let operator = db.login(Role::Operator).await;
    let answer = operator
        .query_one(
            "select odf.approve('{\"dataset\": \"mid\", \"keys\": [\"00001\"]}', 'looks good')",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(
        answer.get::<_, serde_json::Value>(0),
        json!({"approved": 1})
    );
    assert_eq!(
        (
            db.status(mid[0]).await.as_str(),
            db.status(dst[0]).await.as_str()
        ),
        ("validated", "ready")
    );
    assert_eq!(
        (
            db.status(mid[1]).await.as_str(),
            db.status(dst[1]).await.as_str()
        ),
        ("complete", "waiting")
    );
    worker.beat().await;
    assert_eq!(worker.claim_one().await.chunk_id, dst[0]);
}

#[tokio::test]
async fn a_publication_keeps_its_lineage_and_counts() {
    let db = TestDb::new().await;
    let flow = Shape::chain(1).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    worker.drain(1).await;
    let (mid, dst) = (
        flow.chunks(&db, "mid").await[0],
        flow.chunks(&db, "dst").await[0],
    );
    let row = db
        .admin()
        .query_one("select input_ids, input_gens, worker, generation, attempt from odf.publication where chunk_id = $1", &[&dst.0])
        .await
        .unwrap();
    assert_eq!(row.get::<_, Vec<i64>>(0), [mid.0]);
    assert_eq!(row.get::<_, Vec<i32>>(1), [1]);
    assert_eq!(
        (
            row.get::<_, String>(2).as_str(),
            row.get::<_, i32>(3),
            row.get::<_, i32>(4)
        ),
        ("w1", 1, 1)
    );
    let totals = db
        .admin()
        .query_one(
            "select n, rows_out, bytes_out, generations from odf.progress_now p join odf.data_set d using (data_set_id) \
             where d.name = 'dst' and p.status = 'validated'",
            &[],
        )
        .await
        .unwrap();
    let totals: Vec<i64> = (0..4).map(|n| totals.get(n)).collect();
    assert_eq!(totals, [1, 10, 1000, 1]);
}

#[tokio::test]
async fn a_whole_input_that_was_published_again_makes_the_attempt_stale() {
    let db = TestDb::new().await;
    let flow = Shape::fan_in(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    worker.drain(4).await;
    leader.passes().await;
    let total = worker.claim_one().await;
    assert_eq!(total.dataset, "total");
    let dst = flow.chunks(&db, "dst").await[0];
    // Past the verbs, which would wait for the reader: the settlement looks for itself.
    db.exec(
        "update odf.chunk_state set status = 'waiting' where chunk_id = $1",
        &[&dst.0],
    )
    .await;
    db.exec("select odf.promote_chunks(array[$1::bigint])", &[&dst.0])
        .await;
    worker.complete(&worker.claim(4).await).await;
    assert_eq!(
        worker.settle(&total, validated(&total)).await,
        Settled::StaleInput
    );
    assert_eq!(db.published(total.chunk_id).await, [0; 0]);
    leader.passes().await;
    let again = worker.claim_one().await;
    assert_eq!((again.chunk_id, again.attempt), (total.chunk_id, 2));
    worker.complete(&[again]).await;
    let charged: i32 = db
        .get(
            "select charged from odf.chunk where chunk_id = $1",
            &[&total.chunk_id.0],
        )
        .await;
    assert_eq!(charged, 0);
}

#[tokio::test]
async fn of_two_inputs_that_settle_at_once_the_later_releases_the_consumer() {
    two_inputs(TestDb::new().await).await;
}

/// Two inputs of the same consumers, settled by two sessions at once.
pub(crate) async fn two_inputs(db: TestDb) {
    let shape = Shape::single(20).stage("copy", "input: src", "left");
    let flow = shape
        .stage("join", "input: [mid, left]", "joined")
        .build(&db)
        .await;
    let a = TestWorker::start(&db, "a", 40).await;
    let b = TestWorker::start(&db, "b", 40).await;
    // Both rights go to whoever asks: take everything with one and let both settle.
    a.beat().await;
    b.beat().await;
    let (mut of_a, mut of_b) = (a.claim(20).await, b.claim(20).await);
    db.linger("update", "chunk_state", 20).await;
    assert_eq!((of_a.len(), of_b.len()), (20, 20));
    // Whose of the two inputs does not matter, but both of a consumer's end at the same moment.
    of_a.sort_by_key(|item| item.ordinal);
    of_b.sort_by_key(|item| item.ordinal);
    let barrier = Arc::new(Barrier::new(2));
    let mut tasks = JoinSet::new();
    for (worker, items) in [(a, of_a), (b, of_b)] {
        let barrier = barrier.clone();
        tasks.spawn(async move {
            for item in items {
                barrier.wait().await;
                worker.complete(&[item]).await;
            }
        });
    }
    tasks.join_all().await;
    for chunk in flow.chunks(&db, "joined").await {
        assert_eq!(db.status(chunk).await, "ready");
    }
    assert_eq!(db.count("odf.ready").await, 20, "each once");
}

#[tokio::test]
async fn batches_in_opposite_order_do_not_wait_for_each_other() {
    let db = TestDb::new().await;
    Shape::chain(200).build(&db).await;
    let worker = Arc::new(TestWorker::start(&db, "w1", 400).await);
    for _ in 0..2 {
        let items = worker.claim(400).await;
        let barrier = Arc::new(Barrier::new(3));
        let mut tasks = JoinSet::new();
        // All batches hold the same rows; each row is applied by one of them.
        for turn in 0..3 {
            let (worker, barrier) = (worker.clone(), barrier.clone());
            let mut batch: Vec<_> = items
                .iter()
                .map(|i| (i.chunk_id, i.fence, validated(i)))
                .collect();
            if turn == 1 {
                batch.reverse();
            }
            tasks.spawn(async move {
                barrier.wait().await;
                if turn == 2 {
                    let held: Vec<_> = batch.iter().map(|(c, f, _)| (*c, *f)).collect();
                    worker.session.reconcile(&held).await.unwrap();
                    return Vec::new();
                }
                worker
                    .session
                    .settle(&batch)
                    .await
                    .unwrap()
                    .into_values()
                    .collect()
            });
        }
        let answers = tasks.join_all().await.concat();
        let applied = answers.iter().filter(|a| **a == Settled::Applied).count();
        assert_eq!((answers.len(), applied), (2 * items.len(), items.len()));
        assert!(
            answers
                .iter()
                .all(|a| matches!(a, Settled::Applied | Settled::AlreadyApplied))
        );
    }
    assert_eq!(db.deadlocks().await, 0);
    assert_eq!(db.count("odf.publication").await, 400);
}

#[tokio::test]
async fn a_batch_names_what_it_cannot_know() {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    let nothing = worker
        .settle_as(
            common::domain::ChunkId(999_999),
            common::domain::Fence(1),
            failed(FailureClass::Transient),
        )
        .await;
    assert_eq!(nothing, Settled::LeaseLost);
    assert!(worker.session.settle(&[]).await.unwrap().is_empty());
    let report = Outcome::Validated(OutputReport::default());
    let result = common::domain::AttemptResult::bare(report);
    let none = worker
        .settle_as(
            common::domain::ChunkId(-1),
            common::domain::Fence(-1),
            result,
        )
        .await;
    assert_eq!(none, Settled::LeaseLost);
}
