//! What comes after a failure: by its class, in its time, and not for ever.

use std::time::Duration;

use common::domain::FailureClass;
use common::store::Settled;

use crate::harness::{Shape, TestDb, TestLeader, TestWorker, failed};

#[tokio::test]
async fn the_class_of_a_failure_decides_what_comes_next() {
    use FailureClass::{Host, Invalid, Outage, Permanent, TooBig, Transient};
    let db = TestDb::new().await;
    Shape::single(6)
        .with(
            "extract",
            "retry: { attempts: 2, backoff: 10s, max_backoff: 1m }",
        )
        .build(&db)
        .await;
    let worker = TestWorker::start(&db, "w1", 6).await;
    let items = worker.claim(6).await;
    let cases = [
        (Transient, "failed", 1),
        (Permanent, "exhausted", 1),
        (Host, "failed", 0),
        (Outage, "failed", 0),
        (TooBig, "failed", 1),
        (Invalid, "failed", 1),
    ];
    for (item, (class, status, charged)) in items.iter().zip(cases) {
        assert_eq!(worker.settle(item, failed(class)).await, Settled::Applied);
        assert_eq!(db.status(item.chunk_id).await, status, "{class:?}");
        let found: i32 = db
            .get(
                "select charged from odf.chunk where chunk_id = $1",
                &[&item.chunk_id.0],
            )
            .await;
        assert_eq!(found, charged, "{class:?}");
        let reason: String = db
            .get(
                "select reason from odf.chunk where chunk_id = $1",
                &[&item.chunk_id.0],
            )
            .await;
        assert!(reason.contains(class.word()), "{reason}");
    }
    let outcomes: Vec<bool> = db
        .column("select charged from odf.attempt order by chunk_id")
        .await;
    assert_eq!(outcomes, [true, true, false, false, true, true]);
}

#[tokio::test]
async fn retries_wait_within_their_band_and_end() {
    let db = TestDb::new().await;
    Shape::single(1)
        .with(
            "extract",
            "retry: { attempts: 4, backoff: 100s, max_backoff: 150s }",
        )
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    for attempt in 1..=4 {
        leader.passes().await;
        let item = worker.claim_one().await;
        assert_eq!(item.attempt, attempt);
        let _ = worker.settle(&item, failed(FailureClass::Transient)).await;
        if attempt == 4 {
            break;
        }
        let most = if attempt == 1 { 100.0 } else { 150.0 };
        let wait: f64 = db
            .scalar("select extract(epoch from retry_at - odf.clock())::float8 from odf.chunk where status = 'failed'")
            .await;
        assert!((-5.0..=most).contains(&wait), "attempt {attempt}: {wait} s");
        if wait > 2.0 {
            leader.passes().await;
            assert_eq!(worker.claim(1).await.len(), 0, "not before its time");
        }
        db.advance(Duration::from_secs_f64(wait.max(0.0) + 1.0))
            .await;
    }
    assert_eq!(
        db.count("odf.chunk where status = 'exhausted' and charged = 4")
            .await,
        1
    );
    db.advance(Duration::from_secs(100_000)).await;
    leader.passes().await;
    worker.beat().await;
    assert_eq!(worker.claim(1).await.len(), 0);
}

#[tokio::test]
async fn five_lost_leases_in_a_row_set_a_chunk_aside() {
    let db = TestDb::new().await;
    let flow = Shape::single(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let bad = flow.chunks(&db, "mid").await[0];
    for round in 1..=5 {
        let worker = TestWorker::start(&db, "crasher", 1).await;
        // The good one is settled whenever it comes first.
        let mut item = worker.claim_one().await;
        if item.chunk_id != bad {
            worker.complete(&[item]).await;
            item = worker.claim_one().await;
        }
        assert_eq!((item.chunk_id, item.attempt), (bad, round));
        leader.bury(&worker).await;
    }
    assert_eq!(db.status(bad).await, "exhausted");
    let reason: String = db
        .get(
            "select reason from odf.chunk where chunk_id = $1",
            &[&bad.0],
        )
        .await;
    assert!(reason.contains("crash: 5 leases lost"), "{reason}");
    let charged: i32 = db
        .get(
            "select charged from odf.chunk where chunk_id = $1",
            &[&bad.0],
        )
        .await;
    assert_eq!(charged, 0, "lost leases are refunded");
}
