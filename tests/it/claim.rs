//! Claiming: who gets what, in which order, once, and only while it may run.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::domain::{ChunkId, Fence};
use common::store::{Claimed, StoreError};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker};

#[tokio::test]
async fn a_claim_brings_all_that_its_attempts_need() {
    let db = TestDb::new().await;
    let flow = Shape::chain(3).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    let first = worker.claim_one().await;
    assert_eq!(
        (first.dataset.as_str(), first.ordinal, first.plan_chunks),
        ("mid", 1, 3)
    );
    assert_eq!(
        (first.attempt, first.generation, first.flow.as_str()),
        (1, 1, "test")
    );
    let epoch: i64 = db.scalar("select odf.epoch()").await;
    assert_eq!(first.fence, Fence::new(epoch as u32, 1));
    let source = &flow.chunks(&db, "src").await[0];
    assert_eq!(first.inputs.len(), 1);
    assert_eq!(
        (first.inputs[0].chunk_id, first.inputs[0].generation),
        (*source, 1)
    );
    assert_eq!(
        first.inputs[0].location, None,
        "a source has no publication"
    );
    worker.complete(std::slice::from_ref(&first)).await;

    let Claimed::Leases { items, jobs } = worker.try_claim(worker.next_request(), 1).await.unwrap()
    else {
        panic!("not active");
    };
    let second = &items[0];
    assert_eq!(second.dataset, "dst", "the deepest lane goes first");
    let input = &second.inputs[0];
    assert_eq!(
        input.location.as_deref(),
        Some(format!("mid/00001.{}", first.fence).as_str())
    );
    assert_eq!(
        input.checksum.as_deref(),
        Some(format!("test:{}", first.fence).as_str())
    );
    assert_eq!((input.rows, input.bytes), (Some(10), Some(1000)));
    assert_eq!(jobs[&second.job_id].name, "load");
    assert_eq!(jobs[&second.job_id].output_at.connection, "lake");
    assert!(jobs[&second.job_id].connections.contains_key("lake"));
}

#[tokio::test]
async fn a_claim_takes_no_more_than_free_and_no_more_than_slots() {
    let db = TestDb::new().await;
    Shape::single(20).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 5).await;
    assert_eq!(worker.claim(0).await.len(), 0);
    assert_eq!(worker.claim(3).await.len(), 3);
    assert_eq!(worker.claim(100).await.len(), 2);
    assert_eq!(worker.claim(100).await.len(), 0);
    assert_eq!(db.count("odf.lease").await, 5);
}

#[tokio::test]
async fn a_repeated_request_answers_the_same_leases() {
    let db = TestDb::new().await;
    Shape::single(20).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    let first = worker.try_claim(5, 3).await.unwrap();
    let again = worker.try_claim(5, 8).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(db.count("odf.lease").await, 3);
    let older = worker.try_claim(4, 3).await;
    assert!(matches!(older, Err(StoreError::Usage(_))), "{older:?}");
    // What was settled meanwhile is not answered again.
    let Claimed::Leases { items, .. } = first else {
        panic!("not active")
    };
    worker.complete(&items[..2]).await;
    let Claimed::Leases { items: left, .. } = worker.try_claim(5, 8).await.unwrap() else {
        panic!("not active")
    };
    assert_eq!(left, items[2..]);
}

#[tokio::test]
async fn a_request_that_took_nothing_may_be_repeated() {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    let empty = worker.try_claim(1, 3).await.unwrap();
    assert!(matches!(&empty, Claimed::Leases { items, .. } if items.is_empty()));
    Shape::single(2).build(&db).await;
    worker.beat().await;
    let later = worker.try_claim(1, 3).await.unwrap();
    assert!(
        matches!(&later, Claimed::Leases { items, .. } if items.len() == 2),
        "{later:?}"
    );
}

#[tokio::test]
async fn only_the_holder_of_the_key_speaks_for_a_session() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    let mut key = worker.session.key();
    key[0] ^= 1;
    let forged = common::store::WorkerSession::resume(&db.control(Role::Worker), worker.id(), key);
    let refused = forged.claim(1, 1).await;
    assert!(
        matches!(refused, Err(StoreError::UnknownSession(_))),
        "{refused:?}"
    );
    let refused = forged.end("gone").await;
    assert!(
        matches!(refused, Err(StoreError::UnknownSession(_))),
        "{refused:?}"
    );
    let refused = forged.reconcile(&[]).await;
    assert!(
        matches!(refused, Err(StoreError::UnknownSession(_))),
        "{refused:?}"
    );
    assert_eq!(worker.claim(2).await.len(), 2);
}

#[tokio::test]
async fn a_session_that_was_declared_silent_or_dead_claims_nothing() {
    let db = TestDb::new().await;
    Shape::single(4)
        .with("extract", "silence: 1h")
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    let held = worker.claim_one().await;
    // Unheard for longer than nothing and less than the job's silence: silent, and keeps its lease.
    assert_eq!(
        leader
            .sweep(&[&worker], std::time::Duration::from_secs(60))
            .await,
        (0, 0)
    );
    assert_eq!(worker.try_claim(9, 1).await.unwrap(), Claimed::NotActive);
    let answer = worker.beat().await;
    assert!(
        answer.reconcile,
        "it must say what it holds before it goes on"
    );
    assert_eq!(
        worker
            .session
            .reconcile(&[(held.chunk_id, held.fence)])
            .await
            .unwrap(),
        []
    );
    assert_eq!(worker.claim(1).await.len(), 1);
    leader
        .sweep(&[&worker], std::time::Duration::from_secs(7200))
        .await;
    assert_eq!(worker.try_claim(99, 1).await.unwrap(), Claimed::NotActive);
    assert_eq!(worker.beat().await.state, "dead");
}

#[tokio::test]
async fn two_sessions_never_hold_the_same_chunk() {
    const CHUNKS: usize = 120;
    let db = TestDb::new().await;
    Shape::single(CHUNKS).build(&db).await;
    let mut workers = JoinSet::new();
    for n in 0..8 {
        let worker = TestWorker::start(&db, &format!("w{n}"), 4).await;
        workers.spawn(async move {
            let mut seen = Vec::new();
            loop {
                worker.beat().await;
                let items = worker.claim(4).await;
                if items.is_empty() {
                    return seen;
                }
                seen.extend(items.iter().map(|item| item.chunk_id));
                worker.complete(&items).await;
            }
        });
    }
    let all: Vec<ChunkId> = workers.join_all().await.concat();
    assert_eq!(all.len(), CHUNKS);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), CHUNKS);
    assert_eq!(db.count("odf.publication").await, CHUNKS as i64);
    assert_eq!(db.deadlocks().await, 0);
}

#[tokio::test]
async fn a_claim_looks_at_its_inputs_again() {
    second_look(TestDb::new().await).await;
}

/// An input that is taken back after its consumer was queued.
pub(crate) async fn second_look(db: TestDb) {
    let flow = Shape::chain(2).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    worker.complete(&worker.claim(2).await).await;
    let (mid, dst) = (flow.chunks(&db, "mid").await, flow.chunks(&db, "dst").await);
    assert_eq!(db.status(dst[0]).await, "ready");
    // Behind the protocol's back: as a resubmit that commits just before the claim's lock.
    db.exec(
        "update odf.chunk_state set status = 'waiting' where chunk_id = $1",
        &[&mid[0].0],
    )
    .await;
    let items = worker.claim(8).await;
    assert_eq!(
        items.iter().map(|i| i.chunk_id).collect::<Vec<_>>(),
        [dst[1]]
    );
    assert_eq!(db.status(dst[0]).await, "waiting");
}

#[tokio::test]
async fn a_whole_input_is_looked_at_again_too() {
    let db = TestDb::new().await;
    let flow = Shape::fan_in(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    worker.drain(8).await;
    leader.passes().await;
    let (dst, total) = (
        flow.chunks(&db, "dst").await,
        flow.chunks(&db, "total").await[0],
    );
    assert_eq!(db.status(total).await, "ready");
    db.exec(
        "update odf.chunk set status = 'resubmit' where chunk_id = $1",
        &[&dst[1].0],
    )
    .await;
    let items = worker.claim(8).await;
    assert_eq!(
        items.iter().map(|i| i.chunk_id).collect::<Vec<_>>(),
        [dst[1]]
    );
    assert_eq!(
        db.status(total).await,
        "waiting",
        "one of its inputs is being made again"
    );
    worker.complete(&items).await;
    leader.passes().await;
    let item = worker.claim_one().await;
    assert_eq!(
        (item.chunk_id, item.fan_in.as_slice()),
        (total, &["dst".to_owned()][..])
    );
    let first = worker
        .session
        .attempt_inputs(total, item.fence, ChunkId(0), 1)
        .await
        .unwrap();
    let rest = worker
        .session
        .attempt_inputs(total, item.fence, first[0].chunk_id, 10)
        .await
        .unwrap();
    let read: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|i| (i.chunk_id, i.generation))
        .collect();
    assert_eq!(read, [(dst[0], 1), (dst[1], 2)]);
}

#[tokio::test]
async fn a_chunk_that_stands_in_the_queue_twice_is_leased_once() {
    let db = TestDb::new().await;
    let flow = Shape::chain(1).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    let mid = flow.chunks(&db, "mid").await[0];
    for verb in ["held", "resubmit"] {
        let sql = format!("update odf.chunk set status = '{verb}' where chunk_id = {mid}");
        db.exec(&sql, &[]).await;
    }
    assert_eq!(db.count("odf.ready").await, 2);
    let items = worker.claim(8).await;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].inputs.len(), 1, "each input once");
    worker.complete(&items).await;
    assert_eq!(worker.claim(8).await.len(), 1, "load");
    assert_eq!(db.published(mid).await.len(), 1);
}

#[tokio::test]
async fn rows_of_cancelled_chunks_do_not_hide_what_stands_behind_them() {
    let db = TestDb::new().await;
    Shape::single(3001).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    db.exec(
        "update odf.chunk set status = 'cancelled' where dataset = 'mid' and ordinal <= 3000",
        &[],
    )
    .await;
    assert_eq!(worker.claim_one().await.ordinal, 3001);
}

#[tokio::test]
async fn exactly_the_limit_is_locked_whatever_plan_is_chosen() {
    // No statistics and no hash or merge joins: SKIP LOCKED on the inner side of a nested loop would
    // lock, and so take, more rows than the limit.
    let db = TestDb::new().await;
    Shape::single(600).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 600).await;
    db.admin()
        .batch_execute(
            "set enable_hashjoin = off; set enable_mergejoin = off; set enable_material = off",
        )
        .await
        .unwrap();
    for request in 1..=200_i64 {
        let taken: i32 = db
            .get(
                "select jsonb_array_length(odf.claim($1, $2, $3, 3) -> 'leases')",
                &[&worker.id().0, &worker.session.key().as_slice(), &request],
            )
            .await;
        assert_eq!(taken, 3, "request {request}");
    }
    assert_eq!(db.count("odf.lease").await, 600);
    assert_eq!(db.count("odf.ready").await, 0);
}

#[tokio::test]
async fn a_full_buffer_stops_its_producer() {
    full_buffer(TestDb::new().await).await;
}

/// Six claims at once where the buffer has three places.
pub(crate) async fn full_buffer(db: TestDb) {
    let shape = Shape::chain(12).set(
        "mid",
        "at: { connection: lake, path: \"mid/{chunk}.{fence}\" }, buffer: { chunks: 3 }",
    );
    shape.with("load", "labels: [loader]").build(&db).await;
    // Long enough for sessions that are opened meanwhile to overlap.
    db.linger("insert", "lease", 1500).await;
    let control = db.control(Role::Worker);
    let barrier = Arc::new(Barrier::new(6));
    let mut workers = JoinSet::new();
    for n in 0..6 {
        let worker = TestWorker::start_on(&control, &format!("w{n}"), 4).await;
        let barrier = barrier.clone();
        workers.spawn(async move {
            barrier.wait().await;
            let items = worker.claim(4).await;
            worker.complete(&items).await;
            items.len()
        });
    }
    let taken: usize = workers.join_all().await.into_iter().sum();
    assert_eq!(taken, 3, "published and not yet consumed");
    let mut said = crate::harness::actor::hello("loader", 1);
    said.labels = vec!["loader".to_owned()];
    let session = common::store::WorkerSession::register(&db.control(Role::Worker), &said)
        .await
        .unwrap();
    let loader = TestWorker::of(session);
    let item = loader.claim_one().await;
    assert_eq!(item.dataset, "dst");
    loader.complete(&[item]).await;
    let more = loader.claim(4).await;
    assert_eq!(more.len(), 1, "one slot: the deeper lane first");
    loader.complete(&more).await;
    let sum: i64 = db.count("odf.publication").await;
    assert_eq!(sum, 5);
}

#[tokio::test]
async fn a_lane_with_labels_serves_only_workers_that_have_them() {
    let db = TestDb::new().await;
    Shape::single(3)
        .with("extract", "labels: [gpu]")
        .build(&db)
        .await;
    let plain = TestWorker::start(&db, "plain", 4).await;
    plain.beat().await;
    assert_eq!(plain.claim(4).await.len(), 0);
    let mut said = crate::harness::actor::hello("gpu", 4);
    said.labels = vec!["gpu".to_owned(), "big".to_owned()];
    let session = common::store::WorkerSession::register(&db.control(Role::Worker), &said)
        .await
        .unwrap();
    let worker = TestWorker::of(session);
    assert_eq!(worker.claim(4).await.len(), 3);
}

#[tokio::test]
async fn a_look_says_what_a_claim_would_and_writes_nothing() {
    let db = TestDb::new().await;
    Shape::single(3).pool("extract", "0").build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let operator = db.login(Role::Operator).await;
    let login = db.login(Role::Worker).await;
    let look = async || -> bool {
        login.batch_execute("begin read only").await.unwrap();
        let key = worker.session.key();
        let row = login
            .query_one(
                "select odf.look($1, $2), pg_current_xact_id_if_assigned() is null",
                &[&worker.id().0, &key.as_slice()],
            )
            .await
            .unwrap();
        login.batch_execute("commit").await.unwrap();
        assert!(row.get::<_, bool>(1), "not even a row lock");
        row.get(0)
    };
    assert!(!look().await, "chunks, but no right");
    operator
        .query("select odf.scale('extract', '2', '')", &[])
        .await
        .unwrap();
    assert!(look().await);
    let items = worker.claim(4).await;
    assert_eq!(items.len(), 2);
    assert!(!look().await, "the rights are used");
    worker.complete(&items).await;
    assert!(look().await);
    worker.complete(&worker.claim(4).await).await;
    assert!(!look().await, "rights, but no chunk");
    worker.session.end("over").await.unwrap();
    assert!(!look().await);
}

#[tokio::test]
async fn an_older_snapshot_is_refused() {
    // A login may set its own isolation; rights that were taken back since would still be seen there.
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let login = db.login(Role::Worker).await;
    login
        .batch_execute("set default_transaction_isolation = 'repeatable read'")
        .await
        .unwrap();
    let refused = login
        .query(
            "select odf.claim($1, $2, 1, 1)",
            &[&worker.id().0, &worker.session.key().as_slice()],
        )
        .await;
    let error = refused.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "OD002", "{error}");
    assert_eq!(db.count("odf.lease").await, 0);
}
