//! The harness itself: a chain runs through, and the network's faults do what they say.

use common::store::StoreError;

use crate::harness::{Fault, Proxy, Role, Shape, TestDb, TestLeader, TestWorker};

#[tokio::test]
async fn a_chain_runs_through() {
    let db = TestDb::new().await;
    Shape::fan_in(5).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    assert_eq!(worker.drain(4).await, 10, "extract and load need no leader");
    leader.passes().await;
    assert_eq!(
        worker.drain(4).await,
        1,
        "the fan-in is released by the leader"
    );
    let open: i64 = db
        .scalar("select count(*) from odf.chunk where status <> 'validated'")
        .await;
    assert_eq!(open, 0);
    assert_eq!(db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn a_cut_after_commit_loses_the_answer_and_not_the_effect() {
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let proxy = Proxy::start(db.port()).await;
    let worker = TestWorker::start_on(&db.control_at(Role::Worker, proxy.port()), "w1", 4).await;
    proxy.arm(Fault::CutBefore("odf.claim(".to_owned()));
    let lost = worker.try_claim(1, 1).await;
    assert!(
        matches!(lost, Err(StoreError::Unreachable { .. })),
        "{lost:?}"
    );
    assert_eq!(db.scalar::<i64>("select count(*) from odf.lease").await, 0);
    proxy.arm(Fault::CutAfterCommit("odf.claim(".to_owned()));
    let lost = worker.try_claim(2, 1).await;
    assert!(
        matches!(lost, Err(StoreError::Unreachable { .. })),
        "{lost:?}"
    );
    assert_eq!(db.scalar::<i64>("select count(*) from odf.lease").await, 1);
    assert_eq!(proxy.struck(), 2);
}
