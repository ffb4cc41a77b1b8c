//! Holds with an end, approval, and resubmits in every situation that has an answer of its own.

use std::time::Duration;

use serde_json::json;

use super::{ask, names, resubmit, run_all, stale};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker};

#[tokio::test]
async fn a_hold_ends_by_itself_when_its_time_is_over() {
    let db = TestDb::new().await;
    let flow = Shape::single(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 9).await;
    let operator = db.login(Role::Operator).await;
    let mid = flow.chunks(&db, "mid").await;
    let one = |key: &str| json!([{"dataset": "mid", "keys": [key]}]);
    ask(&operator, "held", one("00001"), json!({"hold_s": 7200}))
        .await
        .unwrap();
    ask(&operator, "held", one("00002"), json!({"hold_s": 7200}))
        .await
        .unwrap();
    let sql = "update odf.chunk set status = 'held' where chunk_id = $1";
    db.exec(sql, &[&mid[2].0]).await;
    let past = json!({"until": "2001-01-01T00:00:00Z"});
    let (code, message, _) = ask(&operator, "held", one("00001"), past)
        .await
        .unwrap_err();
    assert_eq!(code, "OD002", "{message}");
    // A second hold moves the end of the first.
    ask(&operator, "held", one("00002"), json!({"hold_s": 90_000}))
        .await
        .unwrap();
    db.advance(Duration::from_secs(7100)).await;
    leader.passes().await;
    assert_eq!(worker.claim(9).await.len(), 0, "not before");
    db.advance(Duration::from_secs(200)).await;
    leader.passes().await;
    worker.beat().await;
    assert_eq!(names(&worker.claim(9).await), ["mid/00001"]);
    let sql = "select reason from odf.chunk where chunk_id = $1";
    assert_eq!(db.get::<Option<String>>(sql, &[&mid[0].0]).await, None);
    db.advance(Duration::from_secs(90_000)).await;
    leader.passes().await;
    assert_eq!(names(&worker.claim(9).await), ["mid/00002"]);
    assert_eq!(db.status(mid[2]).await, "held", "without an end it stands");
    assert_eq!(
        db.count("odf.event where kind = 'chunks.released'").await,
        2
    );
    // By hand, then nothing is left of it.
    ask(&operator, "held", one("00003"), json!({"hold_s": 60}))
        .await
        .unwrap();
    ask(&operator, "resubmit", one("00003"), json!({}))
        .await
        .unwrap();
    assert_eq!(db.count("odf.chunk where hold_until is not null").await, 0);
}

#[tokio::test]
async fn resubmit_is_defined_while_running_after_a_crash_and_for_the_dead() {
    let db = TestDb::new().await;
    let flow = Shape::chain(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let operator = db.login(Role::Operator).await;
    let mid = flow.chunks(&db, "mid").await;
    // The other one stays out of the way.
    let other = json!([{"dataset": "mid", "keys": ["00002"]}]);
    ask(&operator, "held", other, json!({})).await.unwrap();
    // After crashes: lost five times, set aside; a resubmit counts from the start.
    for n in 0..5 {
        let worker = TestWorker::start(&db, &format!("w{n}"), 1).await;
        assert_eq!(worker.claim_one().await.chunk_id, mid[0]);
        leader.bury(&worker).await;
    }
    let facts = async || {
        let sql = "select status::text, lost, charged, attempt_no, coalesce(reason, '') from odf.chunk_state where chunk_id = $1";
        let row = db.admin().query_one(sql, &[&mid[0].0]).await.unwrap();
        (
            row.get::<_, String>(0),
            row.get::<_, i32>(1),
            row.get::<_, i32>(2),
            row.get::<_, i32>(3),
            row.get::<_, String>(4),
        )
    };
    let (status, lost, _, attempts, reason) = facts().await;
    assert_eq!((status.as_str(), lost, attempts), ("exhausted", 5, 5));
    assert!(reason.contains("crash"), "{reason}");
    resubmit(&operator, "mid/00001", json!({})).await;
    let (status, lost, charged, attempts, reason) = facts().await;
    assert_eq!(
        (status.as_str(), lost, charged, attempts, reason.as_str()),
        ("ready", 0, 0, 5, "")
    );
    // While it runs: kept until its end; stopped at once where that is asked.
    let worker = TestWorker::start(&db, "w9", 4).await;
    assert_eq!(worker.claim_one().await.attempt, 6);
    let asked = resubmit(&operator, "mid/00001", json!({})).await;
    assert_eq!(asked["pending"], json!(1));
    assert!(worker.beat().await.aborts.is_empty());
    resubmit(&operator, "mid/00001", json!({"now": true})).await;
    assert_eq!(worker.beat().await.aborts[0].2, "term");
    // A crash while the request waits: the lease is lost, the request done, counted from the start.
    leader.bury(&worker).await;
    let (status, lost, ..) = facts().await;
    assert_eq!((status.as_str(), lost), ("ready", 0));
    assert_eq!(db.count("odf.chunk_request").await, 0);
    // A source, and what the flow no longer declares.
    let src = json!([{"dataset": "src"}]);
    let source = ask(&operator, "resubmit", src, json!({"downstream": true}))
        .await
        .unwrap();
    assert_eq!(source["accepted"], json!(0));
    assert_eq!(
        source["causes"],
        json!(["src is a source: no job makes it"])
    );
    Shape::single(2).apply(&db).await;
    let dst = json!([{"dataset": "dst"}]);
    let (code, message, hint) = ask(&operator, "resubmit", dst, json!({}))
        .await
        .unwrap_err();
    assert_eq!(code, "OD011");
    assert!(
        message.contains("'dst' is retired: version 1 "),
        "{message}"
    );
    assert!(hint.contains("Declare it"), "{hint}");
}

#[tokio::test]
async fn what_waits_for_approval_is_not_read_and_goes_back_where_rejected() {
    let db = TestDb::new().await;
    let flow = Shape::chain(2)
        .with("extract", "approve: true")
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 9).await;
    let operator = db.login(Role::Operator).await;
    run_all(&leader, &worker).await;
    let (mid, dst) = (flow.chunks(&db, "mid").await, flow.chunks(&db, "dst").await);
    assert_eq!(db.status(mid[0]).await, "complete");
    assert_eq!(db.status(dst[0]).await, "waiting");
    for sql in [
        "select odf.approve('{\"dataset\": \"mid\", \"keys\": [\"00001\"]}', 'looks good')",
        "select odf.reject('[{\"dataset\": \"mid\", \"keys\": [\"00001\", \"00002\"]}]', 'half of it')",
    ] {
        operator.query(sql, &[]).await.unwrap();
    }
    assert_eq!(
        db.status(mid[0]).await,
        "validated",
        "what is approved is not rejected"
    );
    assert_eq!(db.status(mid[1]).await, "ready");
    let mut ran = names(&run_all(&leader, &worker).await);
    ran.sort();
    assert_eq!(ran, ["dst/00001", "mid/00002"]);
    assert_eq!(db.status(mid[1]).await, "complete");
    assert_eq!(db.published(mid[1]).await.len(), 2);
    let events: Vec<String> = db
        .column("select kind || ' ' || message from odf.event where kind in ('chunks.approved', 'chunks.rejected') order by event_id")
        .await;
    assert_eq!(
        events,
        [
            "chunks.approved 1 chunks: looks good",
            "chunks.rejected 1 chunks: half of it"
        ]
    );
    // A new generation that waits for approval supersedes the old one at once, and is not read.
    resubmit(&operator, "mid/00001", json!({"downstream": true})).await;
    assert_eq!(names(&run_all(&leader, &worker).await), ["mid/00001"]);
    assert_eq!(stale(&db).await, ["dst/00001"]);
    assert_eq!(db.status(dst[0]).await, "waiting");
}
