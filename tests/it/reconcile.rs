//! Reconciliation: a worker says what it holds, and both sides end with the same list.

use common::domain::Fence;
use common::store::Settled;

use crate::harness::{Shape, TestDb, TestLeader, TestWorker, validated};

#[tokio::test]
async fn leases_that_the_worker_does_not_know_are_released_uncharged() {
    let db = TestDb::new().await;
    let flow = Shape::single(3).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let known = worker.claim_one().await;
    let unknown = worker.claim_one().await;
    let held = [(known.chunk_id, known.fence)];
    assert_eq!(worker.session.reconcile(&held).await.unwrap(), []);
    assert_eq!(
        worker.session.reconcile(&held).await.unwrap(),
        [],
        "safe to repeat"
    );
    assert_eq!(db.status(unknown.chunk_id).await, "ready");
    assert_eq!(db.status(known.chunk_id).await, "running");
    let state = db
        .admin()
        .query_one(
            "select attempt_no, charged, lost from odf.chunk_state where chunk_id = $1",
            &[&unknown.chunk_id.0],
        )
        .await
        .unwrap();
    assert_eq!(
        (
            state.get::<_, i32>(0),
            state.get::<_, i32>(1),
            state.get::<_, i32>(2)
        ),
        (1, 0, 0)
    );
    // It runs again, under a later fence, after what was already waiting.
    let waiting = worker.claim_one().await;
    assert_eq!(waiting.chunk_id, flow.chunks(&db, "mid").await[2]);
    let later = worker.claim_one().await;
    assert_eq!(later.chunk_id, unknown.chunk_id);
    assert!(later.fence > unknown.fence);
}

#[tokio::test]
async fn a_released_lease_is_not_answered_as_recorded() {
    // The worker ran the attempt after all: what it made does not count, and it must hear so.
    let db = TestDb::new().await;
    Shape::single(1).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let item = worker.claim_one().await;
    worker.session.reconcile(&[]).await.unwrap();
    assert_eq!(
        worker.settle(&item, validated(&item)).await,
        Settled::LeaseLost
    );
    let again = worker.claim_one().await;
    assert_eq!(
        worker.settle(&item, validated(&item)).await,
        Settled::LeaseLost
    );
    assert_eq!(
        worker.settle(&again, validated(&again)).await,
        Settled::Applied
    );
    assert_eq!(db.published(item.chunk_id).await, [again.fence.0]);
}

#[tokio::test]
async fn what_is_held_no_more_is_named() {
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let other = TestWorker::start(&db, "w2", 4).await;
    let mine = worker.claim_one().await;
    let theirs = other.claim_one().await;
    let held = [(mine.chunk_id, mine.fence), (theirs.chunk_id, theirs.fence)];
    let lost = worker.session.reconcile(&held).await.unwrap();
    assert_eq!(lost, [(theirs.chunk_id, theirs.fence)]);
    assert_eq!(
        db.count("odf.lease").await,
        2,
        "another session's lease is not touched"
    );
    leader.bury(&worker).await;
    let lost = worker.session.reconcile(&held).await.unwrap();
    assert_eq!(lost.len(), 2, "a dead session holds nothing");
}

#[tokio::test]
async fn an_older_fence_is_not_the_lease() {
    let db = TestDb::new().await;
    Shape::single(1).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let first = worker.claim_one().await;
    worker.session.reconcile(&[]).await.unwrap();
    let second = worker.claim_one().await;
    assert_eq!(first.chunk_id, second.chunk_id);
    // It knows the first only: the second goes back, the first is named as lost.
    let lost = worker
        .session
        .reconcile(&[(first.chunk_id, first.fence)])
        .await
        .unwrap();
    assert_eq!(lost, [(first.chunk_id, first.fence)]);
    assert_eq!(db.count("odf.lease").await, 0);
    let third = worker.claim_one().await;
    assert_eq!([first.attempt, second.attempt, third.attempt], [1, 2, 3]);
    assert_eq!(third.fence, Fence::new(third.fence.epoch(), 3));
}
