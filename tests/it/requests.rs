//! What people ask for in plain SQL and through the operator's verbs: done at once, later, or refused.

use std::time::Duration;

use common::domain::FailureClass;
use common::endpoint::PgSession;
use serde_json::{Value, json};

use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, failed};

/// SQLSTATE and message of a statement that is refused.
async fn refused(login: &PgSession, sql: &str) -> (String, String, String) {
    let error = login.execute(sql, &[]).await.expect_err(sql);
    let said = error.as_db_error().unwrap();
    (
        said.code().code().to_owned(),
        said.message().to_owned(),
        said.hint().unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn only_three_words_may_be_written() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let operator = db.login(Role::Operator).await;
    for word in [
        "waiting",
        "ready",
        "running",
        "complete",
        "validated",
        "failed",
        "exhausted",
        "split",
    ] {
        // Onto another word of course: the same one changes nothing.
        if word == "ready" {
            continue;
        }
        let sql = format!("update odf.chunk set status = '{word}' where dataset = 'mid'");
        let (code, message, hint) = refused(&operator, &sql).await;
        assert_eq!(code, "OD011", "{word}");
        assert!(
            message.contains("mid/00001") && message.contains(word),
            "{message}"
        );
        assert!(hint.contains("resubmit"), "{hint}");
    }
    for word in ["resubmit", "held", "cancelled"] {
        let sql = format!("update odf.chunk set status = '{word}' where dataset = 'src'");
        let (code, _, hint) = refused(&operator, &sql).await;
        assert_eq!(code, "OD011");
        assert!(hint.contains("source"), "{hint}");
    }
    let (code, ..) = refused(&operator, "update odf.chunk set attempts = 0").await;
    assert_eq!(code, "42501");
    let (code, ..) = refused(&operator, "delete from odf.chunk").await;
    assert!(matches!(code.as_str(), "42501" | "55000"), "{code}");
    assert_eq!(
        operator
            .execute("update odf.chunk set status = status", &[])
            .await
            .unwrap(),
        4
    );
    assert_eq!(db.count("odf.chunk_request").await, 0);
}

#[tokio::test]
async fn each_word_does_what_it_says_at_once() {
    let db = TestDb::new().await;
    let flow = Shape::chain(6)
        .with("extract", "retry: { attempts: 1 }")
        .build(&db)
        .await;
    let operator = db.login(Role::Operator).await;
    let worker = TestWorker::start(&db, "w1", 10).await;
    let items = worker.claim(3).await;
    worker.complete(&items[..2]).await;
    let _ = worker
        .settle(&items[2], failed(FailureClass::Transient))
        .await;
    let mid = flow.chunks(&db, "mid").await;
    let status = async |n: usize| db.status(mid[n]).await;
    assert_eq!(
        (
            status(0).await.as_str(),
            status(2).await.as_str(),
            status(3).await.as_str()
        ),
        ("validated", "exhausted", "ready")
    );
    let set = async |word: &str, from: i64, to: i64| {
        operator
            .execute(
                &format!("update odf.chunk set status = '{word}', reason = 'because' where dataset = 'mid' and ordinal between {from} and {to}"),
                &[],
            )
            .await
    };
    // Validated again, exhausted again, ready: all wait in the queue now.
    assert_eq!(set("resubmit", 1, 4).await.unwrap(), 4);
    for n in 0..4 {
        assert_eq!(status(n).await, "ready", "{n}");
    }
    assert_eq!(set("held", 3, 6).await.unwrap(), 4);
    assert_eq!(set("cancelled", 5, 6).await.unwrap(), 2);
    assert_eq!(
        (status(3).await.as_str(), status(4).await.as_str()),
        ("held", "cancelled")
    );
    let reason: String = db
        .scalar("select reason from odf.chunk where dataset = 'mid' and ordinal = 4")
        .await;
    assert_eq!(reason, "because");
    // The old generation of what runs again stays readable, and its consumer waits for the new one.
    let dst = flow.chunks(&db, "dst").await;
    assert_eq!(db.status(dst[0]).await, "waiting");
    worker.beat().await;
    let again = worker.claim(10).await;
    assert_eq!(
        again.iter().map(|i| i.chunk_id).collect::<Vec<_>>(),
        mid[..2]
    );
    assert_eq!(set("resubmit", 3, 6).await.unwrap(), 4);
    worker.complete(&again).await;
    assert_eq!(worker.drain(10).await, 10, "four extracts and six loads");
    let audit: i64 = db
        .count("odf.event where kind = 'chunks.sql' and actor = 'odf_test_operator'")
        .await;
    assert_eq!(audit, 4);
}

#[tokio::test]
async fn a_running_chunk_keeps_its_request_until_its_attempt_ends() {
    let db = TestDb::new().await;
    let flow = Shape::single(3).build(&db).await;
    let operator = db.login(Role::Operator).await;
    let worker = TestWorker::start(&db, "w1", 3).await;
    let items = worker.claim(3).await;
    let mid = flow.chunks(&db, "mid").await;
    for (n, word) in ["resubmit", "held", "cancelled"].iter().enumerate() {
        let sql = format!(
            "update odf.chunk set status = '{word}' where chunk_id = {}",
            mid[n]
        );
        operator.execute(&sql, &[]).await.unwrap();
        assert_eq!(db.status(mid[n]).await, *word, "shown at once");
    }
    assert_eq!(db.count("odf.lease").await, 3, "nothing is killed");
    worker.complete(&items[..1]).await;
    assert_eq!(
        db.status(mid[0]).await,
        "ready",
        "published, and to be made again"
    );
    let _ = worker
        .settle(&items[1], failed(FailureClass::Transient))
        .await;
    assert_eq!(db.status(mid[1]).await, "held");
    worker.session.end("over").await.unwrap();
    assert_eq!(db.status(mid[2]).await, "cancelled");
    assert_eq!(db.count("odf.chunk_request").await, 0);
}

#[tokio::test]
async fn what_a_running_consumer_reads_is_not_made_again_under_it() {
    let db = TestDb::new().await;
    let flow = Shape::chain(1).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    worker.complete(&worker.claim(1).await).await;
    let load = worker.claim_one().await;
    let mid = flow.chunks(&db, "mid").await[0];
    db.exec(
        "update odf.chunk set status = 'resubmit' where chunk_id = $1",
        &[&mid.0],
    )
    .await;
    leader.passes().await;
    assert_eq!(db.status(mid).await, "resubmit");
    assert_eq!(worker.claim(4).await.len(), 0, "its reader runs");
    worker.complete(&[load]).await;
    leader.passes().await;
    assert_eq!(db.status(mid).await, "ready");
    let again = worker.claim_one().await;
    assert_eq!((again.chunk_id, again.generation), (mid, 2));
}

/// A request and a claim of the reader at the same moment: one of them comes first.
#[tokio::test]
async fn a_claim_and_a_request_for_its_input_never_both_win() {
    let db = TestDb::new().await;
    let flow = Shape::chain(30).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 60).await;
    worker.complete(&worker.claim(30).await).await;
    let mids = flow.chunks(&db, "mid").await;
    let operator = db.login(Role::Operator).await;
    for mid in &mids {
        let sql = format!("update odf.chunk set status = 'resubmit' where chunk_id = {mid}");
        let (items, asked) = tokio::join!(worker.claim(1), operator.execute(&sql, &[]));
        asked.unwrap();
        let read: Vec<i64> = db
            .column("select unnest(input_ids) from odf.lease l join odf.data_chunk c using (chunk_id) join odf.data_set d on d.data_set_id = c.data_set_id where d.name = 'dst'")
            .await;
        let again: Vec<i64> = db.column("select c.chunk_id from odf.chunk_state c join odf.data_set d using (data_set_id) where d.name = 'mid' and c.status <> 'validated'").await;
        assert!(
            read.iter().all(|id| !again.contains(id)),
            "{read:?} are read and {again:?} are made again"
        );
        worker.complete(&items).await;
    }
    assert_eq!(db.deadlocks().await, 0);
}

#[tokio::test]
async fn verbs_preview_count_and_refuse() {
    let db = TestDb::new().await;
    Shape::chain(10).build(&db).await;
    let operator = db.login(Role::Operator).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    worker.claim(2).await;
    let request = async |verb: &str, selector: Value, dry: bool| -> Value {
        operator
            .query_one(
                "select odf.request($1, $2, 'why', $3)",
                &[&verb, &selector, &dry],
            )
            .await
            .unwrap()
            .get(0)
    };
    let preview = request("held", json!({"dataset": "mid"}), true).await;
    assert_eq!(
        (
            &preview["matched"],
            &preview["accepted"],
            &preview["pending"]
        ),
        (&json!(10), &json!(10), &json!(0))
    );
    assert_eq!(preview["states"], json!({"ready": 8, "running": 2}));
    assert_eq!(
        db.count("odf.chunk_request").await,
        0,
        "a preview asks for nothing"
    );
    let done = request("held", json!({"dataset": "mid", "from": 1, "to": 5}), false).await;
    assert_eq!(
        (&done["accepted"], &done["pending"]),
        (&json!(5), &json!(2)),
        "two wait for their attempts"
    );
    let mixed = request("held", json!({"flow": "test"}), false).await;
    assert_eq!(
        mixed["refused"],
        json!({"validated": 10, "held": 3}),
        "the source, and what is held already: {mixed}"
    );
    let none = request(
        "cancelled",
        json!({"dataset": "mid", "error": "no such error"}),
        false,
    )
    .await;
    assert_eq!(none["matched"], json!(0));
    let sql = "select odf.request('resubmit', '{\"dataset\": \"nothing\"}', 'x')";
    assert_eq!(
        operator
            .query(sql, &[])
            .await
            .unwrap_err()
            .code()
            .unwrap()
            .code(),
        "OD010"
    );
    let sql = "select odf.request('ready', '{}', 'x')";
    assert_eq!(
        operator
            .query(sql, &[])
            .await
            .unwrap_err()
            .code()
            .unwrap()
            .code(),
        "OD002"
    );
}

#[tokio::test]
async fn at_once_tells_the_worker_to_stop() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let operator = db.login(Role::Operator).await;
    let worker = TestWorker::start(&db, "w1", 2).await;
    let items = worker.claim(2).await;
    operator
        .query("select odf.request('cancelled', '{\"keys\": [\"00002\"], \"dataset\": \"mid\"}', 'wrong data', false, true)", &[])
        .await
        .unwrap();
    let aborts = worker.beat().await.aborts;
    let expected = (
        items[1].chunk_id,
        items[1].fence,
        "term".to_owned(),
        Some("wrong data".to_owned()),
    );
    assert_eq!(aborts, [expected]);
}

#[tokio::test]
async fn a_held_failure_is_not_retried() {
    let db = TestDb::new().await;
    let flow = Shape::single(1)
        .with(
            "extract",
            "retry: { attempts: 9, backoff: 1s, max_backoff: 1s }",
        )
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    let item = worker.claim_one().await;
    let _ = worker.settle(&item, failed(FailureClass::Transient)).await;
    let mid = flow.chunks(&db, "mid").await[0];
    db.exec(
        "update odf.chunk set status = 'held' where chunk_id = $1",
        &[&mid.0],
    )
    .await;
    db.advance(Duration::from_secs(3600)).await;
    leader.passes().await;
    assert_eq!(db.status(mid).await, "held");
    assert_eq!(worker.claim(1).await.len(), 0);
    db.exec(
        "update odf.chunk set status = 'resubmit' where chunk_id = $1",
        &[&mid.0],
    )
    .await;
    assert_eq!(worker.claim_one().await.attempt, 2);
}

/// What an operator may do, each of which decides by what is leased or allotted at that moment.
const DECIDED_UNDER_LOCKS: [&str; 9] = [
    "update odf.chunk set status = 'resubmit' where dataset = 'mid'",
    "update odf.chunk set status = 'held' where dataset = 'mid' and key = '00003'",
    "select odf.request('resubmit', '{\"dataset\": \"mid\"}', 'again')",
    "select odf.approve('{\"dataset\": \"mid\"}', '')",
    "select odf.scale('extract', '1', '')",
    "select odf.scale_worker('w1', '1', '')",
    "select odf.drain_worker('w1', true, '')",
    "select odf.pause('all', true, '')",
    "select odf.apply_flow('{\"name\": \"test\"}')",
];

#[tokio::test]
async fn an_older_snapshot_decides_nothing() {
    // At these levels a statement that waited for a claim's locks would not see the lease that the claim
    // left: the running chunk would be made ready again and run twice under one fence.
    let db = TestDb::new().await;
    Shape::chain(4).build(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let items = worker.claim(2).await;
    let everything = "select md5(jsonb_build_object(
        'state', (select jsonb_agg(c order by c.chunk_id) from odf.chunk_state c),
        'lease', (select jsonb_agg(l order by l.chunk_id) from odf.lease l),
        'ready', (select jsonb_agg(r order by r.seq) from odf.ready r),
        'rights', (select jsonb_agg(a order by a.session_id, a.lane_id) from odf.allotment a),
        'pools', (select jsonb_agg(p order by p.pool_id) from odf.pool p),
        'lanes', (select jsonb_agg(n order by n.lane_id) from odf.lane n),
        'workers', (select jsonb_agg(w order by w.worker_id) from odf.worker w),
        'asked', (select count(*) from odf.chunk_request),
        'events', (select count(*) from odf.event))::text)";
    let before: String = db.scalar(everything).await;
    let operator = db.login(Role::Operator).await;
    for level in ["repeatable read", "serializable"] {
        operator
            .batch_execute(&format!("set default_transaction_isolation = '{level}'"))
            .await
            .unwrap();
        for sql in DECIDED_UNDER_LOCKS {
            let (code, message, hint) = refused(&operator, sql).await;
            assert_eq!(code, "OD002", "{level}: {sql}: {message}");
            assert!(message.contains(level), "{message}");
            assert!(hint.contains("read committed"), "{hint}");
        }
        assert_eq!(db.scalar::<String>(everything).await, before, "{level}");
    }
    operator
        .batch_execute("set default_transaction_isolation = 'read committed'")
        .await
        .unwrap();
    operator.execute(DECIDED_UNDER_LOCKS[0], &[]).await.unwrap();
    worker.complete(&items).await;
}

#[tokio::test]
async fn a_leader_with_an_older_snapshot_passes_nothing() {
    let db = TestDb::new().await;
    Shape::chain(4).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let coordinator = db.login(Role::Coordinator).await;
    coordinator
        .batch_execute("set default_transaction_isolation = 'repeatable read'")
        .await
        .unwrap();
    let term = leader.proof.term();
    for call in [
        "sweep(TERM, '[]', '4 s')",
        "promote(TERM)",
        "retry_due(TERM, 10)",
        "allot_if_needed(TERM)",
        "move_floors(TERM)",
        "fold_progress(TERM)",
        "find_stranded(TERM, '1 s')",
        "derive_plan(1)",
        "begin_plan(1)",
        "seal_plan(1, 1, '{}')",
    ] {
        let sql = format!("select odf.{}", call.replace("TERM", &term.to_string()));
        assert_eq!(refused(&coordinator, &sql).await.0, "OD002", "{sql}");
    }
}

#[tokio::test]
async fn two_relative_changes_of_a_worker_both_count() {
    let db = TestDb::new().await;
    Shape::single(1).build(&db).await;
    let _worker = TestWorker::start(&db, "w1", 10).await;
    let mut first = db.another_admin().await;
    let held = first.transaction().await.unwrap();
    held.query("select odf.scale_worker('w1', '+5', '')", &[])
        .await
        .unwrap();
    let operator = db.login(Role::Operator).await;
    let (second, ()) = tokio::join!(
        operator.query_one("select odf.scale_worker('w1', '+5', '')", &[]),
        async {
            crate::harness::eventually("the second to wait for the first", async || {
                let waiting: i64 = db
                    .count("pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())")
                    .await;
                (waiting > 0).then_some(())
            })
            .await;
            held.commit().await.unwrap();
        }
    );
    let answer: Value = second.unwrap().get(0);
    assert_eq!((&answer["old"], &answer["new"]), (&json!(15), &json!(20)));
}
