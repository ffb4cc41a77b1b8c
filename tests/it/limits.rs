//! Limits: never exceeded, in force at once, without a leader and without a counter that could leak.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::endpoint::PgSession;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, Witness};

/// What `scale` answers, or its SQLSTATE.
async fn scale(operator: &PgSession, pool: &str, change: &str) -> Result<Value, String> {
    operator
        .query_one("select odf.scale($1, $2, 'test')", &[&pool, &change])
        .await
        .map(|row| row.get(0))
        .map_err(|error| error.code().unwrap().code().to_owned())
}

#[tokio::test]
async fn thirty_two_claimers_never_run_more_than_ten() {
    const CHUNKS: usize = 300;
    let db = TestDb::new().await;
    Shape::single(CHUNKS).pool("extract", "10").build(&db).await;
    let leader = TestLeader::start(&db).await;
    let witness = Arc::new(Witness::default());
    let barrier = Arc::new(Barrier::new(32));
    let done = Arc::new(AtomicUsize::new(0));
    let control = db.control(Role::Worker);
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let worker = TestWorker::start_on(&control, &format!("w{n}"), 3).await;
        let (witness, barrier, done) = (witness.clone(), barrier.clone(), done.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            while done.load(Ordering::SeqCst) < CHUNKS {
                worker.beat().await;
                let items = worker.claim(3).await;
                items.iter().for_each(|item| witness.start(item));
                // Long enough for others to overlap.
                worker.beat().await;
                items.iter().for_each(|item| witness.end(item));
                worker.complete(&items).await;
                done.fetch_add(items.len(), Ordering::SeqCst);
            }
        });
    }
    let mut most_leases = 0;
    while done.load(Ordering::SeqCst) < CHUNKS {
        leader.passes().await;
        most_leases = most_leases.max(db.count("odf.lease").await);
    }
    tasks.join_all().await;
    assert!(most_leases <= 10, "{most_leases}");
    let most = witness.most();
    assert!((5..=10).contains(&most), "at most {most} at once");
    assert_eq!(db.count("odf.publication").await, CHUNKS as i64);
    assert_eq!(db.deadlocks().await, 0);
}

#[tokio::test]
async fn scale_takes_numbers_changes_and_percents() {
    let db = TestDb::new().await;
    Shape::single(1).pool("extract", "10").build(&db).await;
    let operator = db.login(Role::Operator).await;
    let steps = [
        ("+5", json!(10), json!(15)),
        ("-5", json!(15), json!(10)),
        ("50%", json!(10), json!(5)),
        ("50%", json!(5), json!(3)),
        ("-100", json!(3), json!(0)),
        ("+1", json!(0), json!(1)),
        (" NONE ", json!(1), json!(null)),
        ("12", json!(null), json!(12)),
        ("200%", json!(12), json!(24)),
        ("0", json!(24), json!(0)),
    ];
    for (change, old, new) in &steps {
        let answer = scale(&operator, "extract", change).await.unwrap();
        assert_eq!((&answer["old"], &answer["new"]), (old, new), "{change}");
        assert_eq!(
            answer["file"],
            json!(10),
            "the file's limit stands beside it"
        );
    }
    for wrong in [
        "",
        "ten",
        "1.5",
        "--1",
        "+-1",
        "1e3",
        "% 5",
        "9999999999",
        "5 %",
        "+5%",
        "NaN",
    ] {
        assert_eq!(
            scale(&operator, "extract", wrong).await,
            Err("OD002".to_owned()),
            "{wrong:?}"
        );
    }
    assert_eq!(
        scale(&operator, "nothing", "5").await,
        Err("OD010".to_owned())
    );
    scale(&operator, "extract", "none").await.unwrap();
    for relative in ["+5", "-5", "50%"] {
        assert_eq!(
            scale(&operator, "extract", relative).await,
            Err("OD002".to_owned()),
            "{relative}"
        );
    }
    let events: Vec<String> = db.column("select message || ' by ' || actor from odf.event where kind = 'pool.scaled' order by event_id").await;
    assert_eq!(events.len(), steps.len() + 1, "each with its audit row");
    assert_eq!(events[0], "10 -> 15 (test) by odf_test_operator");
}

#[tokio::test]
async fn zero_runs_nothing_and_none_runs_everything() {
    let db = TestDb::new().await;
    Shape::single(40).pool("extract", "0").build(&db).await;
    let operator = db.login(Role::Operator).await;
    let worker = TestWorker::start(&db, "w1", 30).await;
    worker.beat().await;
    assert_eq!(worker.claim(30).await.len(), 0);
    scale(&operator, "extract", "3").await.unwrap();
    assert_eq!(
        worker.claim(30).await.len(),
        3,
        "in force at once, nobody leads"
    );
    scale(&operator, "extract", "none").await.unwrap();
    assert_eq!(worker.claim(30).await.len(), 27);
    scale(&operator, "extract", "0").await.unwrap();
    assert_eq!(db.count("odf.lease").await, 30, "what runs goes on");
}

#[tokio::test]
async fn after_a_lowered_limit_nothing_starts_until_there_is_room() {
    lowered_limit(TestDb::new().await).await;
}

/// Fifty run, the limit falls to five.
pub(crate) async fn lowered_limit(db: TestDb) {
    Shape::single(300).pool("extract", "50").build(&db).await;
    let operator = db.login(Role::Operator).await;
    let leader = TestLeader::start(&db).await;
    let mut workers = Vec::new();
    for n in 0..5 {
        workers.push(TestWorker::start(&db, &format!("w{n}"), 20).await);
    }
    let mut held = Vec::new();
    for worker in &workers {
        held.push(worker.claim(20).await);
    }
    let mut running: usize = held.iter().map(Vec::len).sum();
    assert_eq!(running, 50);
    let answer = scale(&operator, "extract", "5").await.unwrap();
    assert_eq!(
        (&answer["new"], &answer["running"]),
        (&json!(5), &json!(50))
    );
    for turn in 0..200 {
        // One ends, all ask: nobody gets anything while five or more run. One worker after the other
        // falls idle meanwhile.
        if let Some(at) = held.iter().position(|held| !held.is_empty()) {
            let item = held[at].remove(0);
            workers[at].complete(&[item]).await;
            running -= 1;
        }
        if turn % 3 == 0 {
            leader.passes().await;
        }
        for (worker, held) in workers.iter().zip(&mut held) {
            worker.beat().await;
            let items = worker.claim(20).await;
            assert!(
                items.is_empty() || running + items.len() <= 5,
                "{} more at {running}",
                items.len()
            );
            running += items.len();
            held.extend(items);
        }
        assert!(turn < 45 || running <= 5, "{running} at turn {turn}");
        assert_eq!(db.count("odf.lease").await, running as i64);
    }
    assert!(running > 0, "it goes on below the new limit");
    assert_eq!(
        db.count("odf.attempt where outcome <> 'validated'").await,
        0,
        "nothing was killed"
    );
}

#[tokio::test]
async fn at_once_stops_the_newest() {
    let db = TestDb::new().await;
    Shape::single(10).pool("extract", "10").build(&db).await;
    let operator = db.login(Role::Operator).await;
    let worker = TestWorker::start(&db, "w1", 10).await;
    let mut items = Vec::new();
    for _ in 0..6 {
        items.push(worker.claim_one().await);
        db.advance(Duration::from_secs(1)).await;
    }
    let answer: Value = operator
        .query_one("select odf.scale('extract', '4', 'now', true)", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(answer["stopped"], json!(2));
    let mut told: Vec<_> = worker.beat().await.aborts;
    told.sort();
    assert_eq!(
        told.iter().map(|a| a.0).collect::<Vec<_>>(),
        [items[4].chunk_id, items[5].chunk_id]
    );
    assert!(
        told.iter()
            .all(|a| a.2 == "term" && a.3.as_deref() == Some("scaled down"))
    );
}

#[tokio::test]
async fn pools_that_jobs_share_limit_them_together() {
    let db = TestDb::new().await;
    let shape = Shape::chain(30).pool("erp", "4").pool("extract", "3");
    let shape = shape
        .with("extract", "pools: [erp]")
        .with("load", "pools: [erp]");
    shape.build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 50).await;
    let first = worker.claim(50).await;
    assert_eq!(first.len(), 3, "its own pool is the narrower one");
    worker.complete(&first[..2]).await;
    leader.passes().await;
    let more = worker.claim(50).await;
    let loads = more.iter().filter(|i| i.dataset == "dst").count();
    assert_eq!(
        (more.len(), loads),
        (3, 2),
        "four in all, the deeper ones first"
    );
    worker.complete(&more).await;
    worker.complete(&first[2..]).await;
    let mut done = 6;
    for _ in 0..200 {
        leader.passes().await;
        let items = worker.claim(50).await;
        assert!(items.len() <= 4 && items.iter().filter(|i| i.dataset == "mid").count() <= 3);
        done += items.len();
        worker.complete(&items).await;
        if done == 60 {
            return;
        }
    }
    panic!("only {done} of 60");
}

#[tokio::test]
async fn a_pause_stops_new_starts_and_a_resume_lets_them_go_on() {
    let db = TestDb::new().await;
    Shape::single(20)
        .pool("erp", "10")
        .with("extract", "pools: [erp]")
        .build(&db)
        .await;
    let operator = db.login(Role::Operator).await;
    let worker = TestWorker::start(&db, "w1", 10).await;
    let pause = async |name: &str, on: bool| {
        operator
            .query_one("select odf.pause($1, $2, 'test')", &[&name, &on])
            .await
            .map(|row| row.get::<_, Value>(0))
    };
    // A pool, a job, a data set by its producer, everything; each stops the extract.
    for name in ["erp", "extract", "mid", "test:extract", "all"] {
        pause(name, true).await.unwrap();
        worker.beat().await;
        assert_eq!(worker.claim(1).await.len(), 0, "{name}");
        pause(name, false).await.unwrap();
        let items = worker.claim(1).await;
        assert_eq!(items.len(), 1, "{name}");
        let answer = pause(name, true).await.unwrap();
        assert_eq!(answer["running"], json!(1), "{name}");
        worker.complete(&items).await;
        pause(name, false).await.unwrap();
    }
    let unknown = pause("nothing", true).await.unwrap_err();
    assert_eq!(unknown.code().unwrap().code(), "OD010");
    // A source has no job to pause.
    assert!(pause("src", true).await.is_err());
}

#[tokio::test]
async fn a_workers_own_limit_and_drain_hold() {
    let db = TestDb::new().await;
    Shape::single(40).build(&db).await;
    let operator = db.login(Role::Operator).await;
    let (a, b) = (
        TestWorker::start(&db, "a", 5).await,
        TestWorker::start(&db, "b", 5).await,
    );
    operator
        .query("select odf.scale_worker('a', '2', 'hot host')", &[])
        .await
        .unwrap();
    assert_eq!((a.claim(9).await.len(), b.claim(9).await.len()), (2, 5));
    operator
        .query("select odf.scale_worker('a', '50%', 'hotter')", &[])
        .await
        .unwrap();
    assert_eq!(a.beat().await.slots, 1);
    operator
        .query("select odf.scale_worker('a', 'none', '')", &[])
        .await
        .unwrap();
    assert_eq!(a.beat().await.slots, 5);
    assert_eq!(a.claim(9).await.len(), 3);
    operator
        .query("select odf.drain_worker('b', true, 'reboot')", &[])
        .await
        .unwrap();
    assert_eq!(b.claim(9).await.len(), 0);
    b.session.end("drained").await.unwrap();
    let again = TestWorker::start(&db, "b", 5).await;
    assert_eq!(
        again.claim(9).await.len(),
        5,
        "a fresh start takes the drain back"
    );
    let missing = operator
        .query("select odf.drain_worker('c', true, '')", &[])
        .await
        .unwrap_err();
    assert_eq!(missing.code().unwrap().code(), "OD010");
}

#[tokio::test]
async fn what_an_operator_set_survives_a_new_file() {
    let db = TestDb::new().await;
    Shape::single(3).pool("extract", "10").build(&db).await;
    let operator = db.login(Role::Operator).await;
    scale(&operator, "extract", "2").await.unwrap();
    Shape::single(3).pool("extract", "20").apply(&db).await;
    let answer = scale(&operator, "extract", "+1").await.unwrap();
    assert_eq!(
        (&answer["old"], &answer["new"], &answer["file"]),
        (&json!(2), &json!(3), &json!(20))
    );
}

#[tokio::test]
async fn the_rights_of_a_worker_that_is_gone_fall_to_others_without_a_leader() {
    let db = TestDb::new().await;
    Shape::single(30).pool("extract", "4").build(&db).await;
    let first = TestWorker::start(&db, "first", 4).await;
    assert_eq!(first.claim(4).await.len(), 4);
    let second = TestWorker::start(&db, "second", 4).await;
    second.beat().await;
    assert_eq!(second.claim(4).await.len(), 0, "all that may run runs");
    first.session.end("gone").await.unwrap();
    second.beat().await;
    assert_eq!(second.claim(4).await.len(), 4);
}

#[tokio::test]
async fn rights_are_shared_out_among_all_who_ask() {
    let db = TestDb::new().await;
    Shape::single(100).pool("extract", "10").build(&db).await;
    let leader = TestLeader::start(&db).await;
    let mut workers = Vec::new();
    for n in 0..5 {
        workers.push(TestWorker::start(&db, &format!("w{n}"), 10).await);
    }
    leader.passes().await;
    for worker in &workers {
        assert_eq!(worker.claim(10).await.len(), 2, "a fair share each");
    }
    // A deeper lane that comes up takes its turn; none holds rights that it does not use.
    assert_eq!(leader.proof.allot().await.unwrap(), 0, "and it stays so");
}

#[tokio::test]
async fn scaling_and_claiming_at_once_never_wait_for_each_other() {
    let db = TestDb::new().await;
    Shape::chain(150).pool("extract", "20").build(&db).await;
    let leader = TestLeader::start(&db).await;
    let control = db.control(Role::Worker);
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for n in 0..6 {
        let worker = TestWorker::start_on(&control, &format!("w{n}"), 5).await;
        let done = done.clone();
        tasks.spawn(async move {
            while done.load(Ordering::SeqCst) < 300 {
                worker.beat().await;
                let items = worker.claim(5).await;
                worker.complete(&items).await;
                done.fetch_add(items.len(), Ordering::SeqCst);
            }
        });
    }
    let operator = db.login(Role::Operator).await;
    let mut turn = 0;
    while done.load(Ordering::SeqCst) < 300 {
        turn += 1;
        let sql = match turn % 6 {
            0 => "select odf.scale('extract', '3', '')",
            1 => "select odf.pause('all', true, '')",
            2 => "select odf.pause('all', false, '')",
            3 => "select odf.scale('extract', 'none', '')",
            4 => {
                "select odf.request('resubmit', '{\"dataset\": \"mid\", \"status\": [\"ready\"]}', 'again')"
            }
            _ => "select odf.drain_worker('w1', false, '')",
        };
        operator.query(sql, &[]).await.unwrap();
        leader.passes().await;
    }
    tasks.join_all().await;
    assert_eq!(db.deadlocks().await, 0);
    assert_eq!(db.bugs().await, [""; 0]);
}
