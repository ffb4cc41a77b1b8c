//! Registering, beating, signing off: who is at work under which name.

use common::endpoint::ExposeSecret as _;
use common::store::{StoreError, WorkerSession};
use serde_json::json;

use crate::harness::actor::hello;
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker};

#[tokio::test]
async fn a_name_belongs_to_one_living_worker() {
    let db = TestDb::new().await;
    let control = db.control(Role::Worker);
    let first = WorkerSession::register(&control, &hello("etl1", 4))
        .await
        .unwrap();
    let taken = WorkerSession::register(&control, &hello("etl1", 4))
        .await
        .unwrap_err();
    let StoreError::NameTaken(said) = taken else {
        panic!("{taken:?}")
    };
    assert!(said.message.contains("host-of-etl1"), "{said}");
    assert!(said.message.contains("4711"), "{said}");
    assert!(said.hint.as_deref().unwrap().contains("--name"), "{said}");
    first.end("done").await.unwrap();
    let second = WorkerSession::register(&control, &hello("etl1", 4))
        .await
        .unwrap();
    assert!(second.id() > first.id(), "a session of its own");
}

#[tokio::test]
async fn the_same_start_may_register_again() {
    let db = TestDb::new().await;
    let control = db.control(Role::Worker);
    let key = [7; 16];
    let first = WorkerSession::register_with_key(&control, &hello("etl1", 4), key)
        .await
        .unwrap();
    let again = WorkerSession::register_with_key(&control, &hello("etl1", 4), key)
        .await
        .unwrap();
    assert_eq!(first.id(), again.id());
    assert_eq!(db.count("odf.worker_session").await, 1);
    let other = WorkerSession::register_with_key(&control, &hello("etl1", 4), [8; 16]).await;
    assert!(matches!(other, Err(StoreError::NameTaken(_))), "{other:?}");
}

#[tokio::test]
async fn unusable_names_and_other_protocols_are_refused() {
    let db = TestDb::new().await;
    let control = db.control(Role::Worker);
    for name in ["", "-x", "a b", "ü", "x\n", &"x".repeat(64)] {
        let refused = WorkerSession::register(&control, &hello(name, 4)).await;
        assert!(
            matches!(refused, Err(StoreError::Usage(_))),
            "{name:?}: {refused:?}"
        );
    }
    let login = db.login(Role::Worker).await;
    for protocol in [json!(0), json!(2), json!(null)] {
        let said = json!({"name": "w", "protocol": protocol, "slots": 1, "key_sha256": "00"});
        let refused = login
            .query("select odf.register($1)", &[&said])
            .await
            .unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "OD003", "{refused}");
    }
    for slots in [
        json!(10_001),
        json!(4_000_000_000_u32),
        json!(-1),
        json!(1.5),
        json!(null),
    ] {
        let said = json!({"name": "w", "protocol": 1, "slots": slots, "key_sha256": "00"});
        let refused = login
            .query("select odf.register($1)", &[&said])
            .await
            .unwrap_err();
        let refused = refused.as_db_error().unwrap();
        assert_eq!(refused.code().code(), "OD002", "{refused}");
        assert!(refused.message().contains("0 to 10000 slots"), "{refused}");
        assert!(refused.hint().unwrap().contains("--slots"), "{refused}");
    }
    assert_eq!(db.count("odf.worker").await, 0);
}

#[tokio::test]
async fn the_key_is_kept_only_as_a_hash() {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    let stored: String = db
        .scalar("select to_jsonb(s)::text from odf.worker_session s")
        .await;
    let key: String = worker
        .session
        .key()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(!stored.contains(&key), "{stored}");
    let shown = format!("{:?}", worker.session);
    assert!(!shown.contains(&key) && !shown.contains("key"), "{shown}");
    let url = common::endpoint::SecretString::from(db.url(Role::Worker));
    assert!(!format!("{url:?}").contains(url.expose_secret()));
}

#[tokio::test]
async fn a_worker_that_signs_off_hands_back_what_it_holds() {
    let db = TestDb::new().await;
    let flow = Shape::single(3).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let other = TestWorker::start(&db, "w2", 4).await;
    let items = worker.claim(2).await;
    worker.session.end("drained").await.unwrap();
    worker.session.end("drained").await.unwrap();
    assert_eq!(worker.beat().await.state, "ended");
    for chunk in flow.chunks(&db, "mid").await {
        assert_eq!(db.status(chunk).await, "ready");
    }
    let charged: i64 = db
        .scalar("select sum(charged + lost) from odf.chunk_state")
        .await;
    assert_eq!(charged, 0, "nobody is to blame");
    other.beat().await;
    let again = other.claim(4).await;
    assert_eq!(again.len(), 3);
    for item in &items {
        let later = again.iter().find(|i| i.chunk_id == item.chunk_id).unwrap();
        assert!(later.fence > item.fence);
    }
}

#[tokio::test]
async fn a_restart_on_the_same_host_under_the_same_pid_is_a_new_session() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let old = TestWorker::start(&db, "w1", 2).await;
    let held = old.claim(2).await;
    leader.bury(&old).await;
    let new = TestWorker::start(&db, "w1", 2).await;
    assert_ne!(old.id(), new.id());
    let again = new.claim(2).await;
    assert_eq!(again.len(), 2, "what the predecessor held is free");
    assert!(
        old.session
            .reconcile(&[(held[0].chunk_id, held[0].fence)])
            .await
            .unwrap()
            .len()
            == 1
    );
    new.complete(&again).await;
}

#[tokio::test]
async fn a_beat_tells_slots_drain_and_whether_there_is_work() {
    let db = TestDb::new().await;
    let operator = db.login(Role::Operator).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let idle = worker.beat().await;
    assert!(!idle.work && !idle.drain && !idle.reconcile);
    assert_eq!((idle.slots, idle.state.as_str()), (4, "active"));
    Shape::single(2).build(&db).await;
    assert!(
        worker.beat().await.work,
        "rights are given without a leader"
    );
    operator
        .query("select odf.scale_worker('w1', '1', 'x')", &[])
        .await
        .unwrap();
    assert_eq!(worker.beat().await.slots, 1);
    operator
        .query("select odf.drain_worker('w1', true, 'x')", &[])
        .await
        .unwrap();
    let draining = worker.beat().await;
    assert!(draining.drain && !draining.work);
    assert_eq!(worker.claim(4).await.len(), 0);
}

#[tokio::test]
async fn progress_is_kept_with_the_lease_of_the_right_fence_only() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let item = worker.claim_one().await;
    for (fence, rows) in [(item.fence.0, 5), (item.fence.0 - 1, 99)] {
        let body =
            json!({"free": 0, "progress": [[item.chunk_id, fence, rows, 7]], "facts": {"load": 1}});
        worker.session.beat(rows, body).await.unwrap();
    }
    let done: (i64, i64) = {
        let row = db
            .admin()
            .query_one("select rows_done, bytes_done from odf.lease", &[])
            .await
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(done, (5, 7));
    assert_eq!(db.count("odf.session_facts").await, 1);
}
