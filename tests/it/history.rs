//! History is diagnosis only: without any of it, everything goes on as before.

use common::domain::FailureClass;

use crate::harness::{Shape, TestDb, TestLeader, TestWorker, failed};

#[tokio::test]
async fn without_any_history_nothing_is_queued_again() {
    let db = TestDb::new().await;
    let shape = Shape::fan_in(6).with(
        "extract",
        "retry: { attempts: 2, backoff: 1h, max_backoff: 1h }",
    );
    shape.build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 20).await;
    // Something in every state: running, validated, failed, exhausted, waiting, ready, held.
    let mut items = worker.claim(6).await;
    for class in [FailureClass::Transient, FailureClass::Permanent] {
        let _ = worker.settle(&items.remove(0), failed(class)).await;
    }
    worker.complete(&items.split_off(2)).await;
    db.exec("update odf.chunk set status = 'held' where dataset = 'dst' and status = 'ready' and ordinal = 5", &[]).await;
    leader.passes().await;
    let states = "select string_agg(chunk_id || ' ' || status || ' ' || attempts || ' ' || generation, ', ' order by chunk_id) from odf.chunk";
    let (before, ready): (String, i64) = (db.scalar(states).await, db.count("odf.ready").await);
    let partitions: Vec<String> = db
        .column("select inhrelid::regclass::text from pg_inherits where inhparent in ('odf.attempt'::regclass, 'odf.event'::regclass)")
        .await;
    assert!(partitions.len() >= 10);
    for partition in &partitions {
        db.exec(&format!("drop table {partition}"), &[]).await;
    }
    leader.proof.prune().await.unwrap();
    for _ in 0..3 {
        leader.passes().await;
        leader.sweep(&[&worker], std::time::Duration::ZERO).await;
    }
    assert_eq!(db.scalar::<String>(states).await, before);
    assert_eq!(db.count("odf.ready").await, ready);
    // And everything goes on.
    worker.beat().await;
    leader.passes().await;
    worker.complete(&items).await;
    db.exec(
        "update odf.chunk set status = 'resubmit' where status in ('held', 'exhausted', 'failed')",
        &[],
    )
    .await;
    worker.drain(20).await;
    leader.passes().await;
    worker.drain(20).await;
    let left: Vec<String> = db
        .column("select name || ' ' || status from odf.chunk where status <> 'validated'")
        .await;
    assert_eq!(left, [""; 0]);
    assert_eq!(db.bugs().await, [""; 0]);
    assert!(
        db.count("odf.attempt").await > 0,
        "and is written down again"
    );
}
