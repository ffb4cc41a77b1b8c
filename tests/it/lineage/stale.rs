//! What a new generation makes stale, and its repair from there down.

use std::collections::BTreeMap;
use std::time::Duration;

use common::domain::{ChunkId, FailureClass, WorkItem};
use serde_json::json;

use super::{ask, made, names, resubmit, run_all, stale, superseded};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, failed};

#[tokio::test]
async fn a_new_generation_makes_what_was_made_from_the_old_one_stale() {
    let (db, _, leader, worker, operator) = made(3).await;
    assert_eq!(
        stale(&db).await,
        [""; 0],
        "a first generation supersedes nothing"
    );
    resubmit(&operator, "mid/00002", json!({})).await;
    assert_eq!(
        stale(&db).await,
        [""; 0],
        "the old generation is still the newest"
    );
    assert_eq!(names(&run_all(&leader, &worker).await), ["mid/00002"]);
    assert_eq!(stale(&db).await, ["dst/00002"]);
    resubmit(&operator, "dst/00002", json!({})).await;
    assert_eq!(stale(&db).await, ["dst/00002"], "until it is made again");
    assert_eq!(names(&run_all(&leader, &worker).await), ["dst/00002"]);
    leader.passes().await;
    assert_eq!(stale(&db).await, ["total/all"], "it takes all of dst");
    resubmit(&operator, "total/all", json!({})).await;
    assert_eq!(names(&run_all(&leader, &worker).await), ["total/all"]);
    leader.passes().await;
    assert_eq!(stale(&db).await, [""; 0]);
    assert_eq!(db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn downstream_repairs_exactly_what_was_made_from_it_in_order() {
    let (db, flow, leader, worker, operator) = made(3).await;
    let dry = json!({"downstream": true, "dry_run": true});
    let preview = resubmit(&operator, "mid/00002", dry).await;
    assert_eq!(
        (&preview["matched"], &preview["accepted"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(db.count("odf.chunk where status <> 'validated'").await, 0);
    let done = resubmit(&operator, "mid/00002", json!({"downstream": true})).await;
    assert_eq!(
        done["sets"],
        json!([
            {"dataset": "mid", "below": false, "chunks": 1, "accepted": 1, "kept": 0},
            {"dataset": "dst", "below": true, "chunks": 1, "accepted": 1, "kept": 0},
            {"dataset": "total", "below": true, "chunks": 1, "accepted": 1, "kept": 0},
        ])
    );
    assert_eq!(done["pending"], json!(0));
    let ran = run_all(&leader, &worker).await;
    assert_eq!(names(&ran), ["mid/00002", "dst/00002", "total/all"]);
    assert_eq!(ran[1].inputs[0].generation, 2, "it read the new generation");
    let total = flow.chunks(&db, "total").await[0];
    let mark: Vec<i64> = db
        .get(
            "select fan_in_mark from odf.publication where chunk_id = $1 and generation = 2",
            &[&total.0],
        )
        .await;
    assert_eq!(
        mark,
        [4],
        "three first generations of dst and the second of one"
    );
    assert_eq!(stale(&db).await, [""; 0]);
}

#[tokio::test]
async fn what_a_person_set_aside_stands_and_shields_what_is_below_it() {
    let (db, _, leader, worker, operator) = made(2).await;
    // A published chunk is set aside by way of the queue.
    resubmit(&operator, "dst/00001", json!({})).await;
    let dst = json!([{"dataset": "dst", "keys": ["00001"]}]);
    ask(&operator, "held", dst, json!({})).await.unwrap();
    let done = resubmit(&operator, "mid/00001", json!({"downstream": true})).await;
    assert_eq!(
        done["sets"],
        json!([
            {"dataset": "mid", "below": false, "chunks": 1, "accepted": 1, "kept": 0},
            {"dataset": "dst", "below": true, "chunks": 0, "accepted": 0, "kept": 1},
        ])
    );
    assert_eq!(names(&run_all(&leader, &worker).await), ["mid/00001"]);
    assert_eq!(stale(&db).await, ["dst/00001"], "and is told to be stale");
}

/// Random work, failures and requests; the marks always agree with the publications, and one repair
/// leaves nothing stale and makes nothing twice.
#[tokio::test]
async fn the_marks_agree_with_the_publications_whatever_happens() {
    for seed in [1_u64, 7, 4711] {
        let db = TestDb::new().await;
        Shape::chain(4)
            .stage("join", "input: [mid, dst]", "joined")
            .stage(
                "sum",
                "input: [joined, { dataset: dst, chunks: all }]",
                "shares",
            )
            .build(&db)
            .await;
        let leader = TestLeader::start(&db).await;
        let worker = TestWorker::start(&db, "w1", 6).await;
        let operator = db.login(Role::Operator).await;
        let mut state = seed;
        let mut next = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut running: BTreeMap<ChunkId, WorkItem> = BTreeMap::new();
        for step in 0..160 {
            match next(10) {
                0..=2 => {
                    worker.beat().await;
                    let items = worker.claim(1 + next(4) as u32).await;
                    running.extend(items.into_iter().map(|item| (item.chunk_id, item)));
                }
                3..=6 => {
                    if let Some((_, item)) = running.pop_first() {
                        worker.complete(&[item]).await;
                    }
                }
                7 => {
                    if let Some((_, item)) = running.pop_last() {
                        let _ = worker.settle(&item, failed(FailureClass::Transient)).await;
                    }
                }
                8 => {
                    let set = ["mid", "dst", "joined", "shares"][next(4) as usize];
                    let key = format!("{:05}", 1 + next(4));
                    let readers = ["wait", "cancel"][next(2) as usize];
                    let options = json!({"downstream": next(2) == 0, "readers": readers});
                    resubmit(&operator, &format!("{set}/{key}"), options).await;
                }
                _ => {
                    db.advance(Duration::from_secs(120)).await;
                    leader.passes().await;
                }
            }
            leader.proof.promote().await.unwrap();
            assert_eq!(
                stale(&db).await,
                superseded(&db).await,
                "seed {seed}, step {step}"
            );
        }
        for (_, item) in std::mem::take(&mut running) {
            worker.complete(&[item]).await;
        }
        // Beyond every back-off.
        db.advance(Duration::from_secs(86_400)).await;
        run_all(&leader, &worker).await;
        let exhausted = json!([{"status": ["exhausted"]}]);
        ask(&operator, "resubmit", exhausted, json!({}))
            .await
            .unwrap();
        run_all(&leader, &worker).await;
        let all_stale = json!([{"stale": true}]);
        ask(
            &operator,
            "resubmit",
            all_stale,
            json!({"downstream": true}),
        )
        .await
        .unwrap();
        let ran = names(&run_all(&leader, &worker).await);
        let mut once = ran.clone();
        once.sort();
        once.dedup();
        assert_eq!(
            once.len(),
            ran.len(),
            "seed {seed}: each at most once: {ran:?}"
        );
        assert_eq!(
            (stale(&db).await, superseded(&db).await),
            (vec![], vec![]),
            "seed {seed}"
        );
        assert_eq!(
            db.count("odf.chunk where status <> 'validated'").await,
            0,
            "seed {seed}"
        );
        assert_eq!(db.bugs().await, [""; 0], "seed {seed}");
    }
}
