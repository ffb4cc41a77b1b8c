//! How the protocol's statements are run by the server: by index, with a bounded number of buffers,
//! whatever the size of the backlog and however plans are cached.

use std::time::Duration;

use common::domain::WorkItem;
use serde_json::{Value, json};

use crate::harness::explained::{Explained, Plan};
use crate::harness::{Shape, TestDb, TestLeader, TestWorker};

/// Tables that grow with the data: none is read from end to end by a call of a worker.
const LARGE: [&str; 6] = [
    "ready",
    "data_chunk",
    "chunk_state",
    "chunk_edge",
    "publication",
    "due",
];

fn demand_indexes(mode: &str, call: &str, plans: &[Plan]) {
    assert!(plans.len() > 1, "{call}: nested statements are shown");
    for plan in plans {
        for (node, table, _) in plan.nodes() {
            assert!(
                !(node == "Seq Scan" && LARGE.contains(&table.as_str())),
                "{mode}: {call} runs a {node} on {table}:\n{}\n{:#}",
                plan.query,
                plan.root
            );
        }
    }
}

/// The buffers of the outermost statement, which hold those of all others.
fn buffers(plans: &[Plan]) -> i64 {
    plans.last().unwrap().buffers()
}

struct Caller<'a> {
    explained: &'a Explained,
    worker: &'a TestWorker,
    mode: &'a str,
}

impl Caller<'_> {
    async fn run(&self, call: &str, sql: &str, more: Value) -> (Value, i64) {
        let key = self.worker.session.key();
        let (answer, plans) = self
            .explained
            .call(sql, &[&self.worker.id().0, &key.as_slice(), &more])
            .await;
        demand_indexes(self.mode, call, &plans);
        (answer, buffers(&plans))
    }

    async fn claim(&self, n: usize) -> (Vec<WorkItem>, i64) {
        let request = self.worker.next_request();
        let sql = "select odf.claim($1, $2, ($3::jsonb ->> 0)::bigint, ($3::jsonb ->> 1)::int)";
        let (answer, buffers) = self.run("claim", sql, json!([request, n])).await;
        let items: Vec<WorkItem> = serde_json::from_value(answer["leases"].clone()).unwrap();
        assert_eq!(items.len(), n);
        (items, buffers)
    }

    async fn settle(&self, items: &[WorkItem], outcome: &Value) -> i64 {
        let rows: Vec<Value> = items
            .iter()
            .map(|item| {
                let mut row = outcome.clone();
                row["chunk_id"] = json!(item.chunk_id);
                row["fence"] = json!(item.fence);
                row
            })
            .collect();
        let (answer, buffers) = self
            .run("settle", "select odf.settle($1, $2, $3)", json!(rows))
            .await;
        assert!(
            answer
                .as_array()
                .unwrap()
                .iter()
                .all(|a| a["answer"] == "applied"),
            "{answer}"
        );
        buffers
    }
}

async fn backlog(chunks: usize) -> (TestDb, TestLeader, TestWorker) {
    let db = TestDb::new().await;
    Shape::chain(chunks)
        .with(
            "extract",
            "retry: { attempts: 9, backoff: 1s, max_backoff: 1s }",
        )
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 200).await;
    leader.proof.allot().await.unwrap();
    leader.proof.fold_progress().await.unwrap();
    db.admin().batch_execute("vacuum analyze").await.unwrap();
    (db, leader, worker)
}

/// What a claim of 20 and a settlement of 20 touch, in buffers.
async fn cost(db: &TestDb, worker: &TestWorker, mode: &str) -> (i64, i64) {
    let explained = Explained::open(db, mode).await;
    let caller = Caller {
        explained: &explained,
        worker,
        mode,
    };
    let mut last = (0, 0);
    for _ in 0..8 {
        let (items, claim) = caller.claim(20).await;
        let settle = caller
            .settle(
                &items,
                &json!({"outcome": "validated", "location": "x", "rows": 1, "bytes": 1}),
            )
            .await;
        last = (claim, settle);
    }
    last
}

#[tokio::test]
async fn a_claim_costs_the_same_whatever_waits() {
    let (small, _, few) = backlog(2_000).await;
    let (large, leader, many) = backlog(20_000).await;
    let (claim_small, settle_small) = cost(&small, &few, "auto").await;
    let (claim_large, settle_large) = cost(&large, &many, "auto").await;
    println!(
        "claim of 20: {claim_small} and {claim_large} buffers; settle: {settle_small} and {settle_large}"
    );
    assert!(
        claim_large * 4 <= claim_small * 5,
        "{claim_small} -> {claim_large} buffers"
    );
    assert!(
        settle_large * 4 <= settle_small * 5,
        "{settle_small} -> {settle_large} buffers"
    );
    assert!(
        claim_large <= 2_000,
        "{claim_large} buffers for a claim of 20"
    );
    every_call(&large, &leader, &many, "auto").await;
    every_call(&large, &leader, &many, "force_generic_plan").await;
}

/// Each call ten times, so that the server has chosen between cached and fresh plans.
async fn every_call(db: &TestDb, leader: &TestLeader, worker: &TestWorker, mode: &str) {
    let explained = Explained::open(db, mode).await;
    let caller = Caller {
        explained: &explained,
        worker,
        mode,
    };
    let mut beat = 10_000;
    for round in 0..10 {
        let (one, _) = caller.claim(1).await;
        let (many, _) = caller.claim(20).await;
        caller
            .settle(
                &one,
                &json!({"outcome": "failed", "class": "transient", "error": "x"}),
            )
            .await;
        caller
            .settle(
                &many[..10],
                &json!({"outcome": "validated", "location": "x"}),
            )
            .await;
        caller
            .settle(
                &many[10..15],
                &json!({"outcome": "released", "reason": "x"}),
            )
            .await;
        beat += 1;
        let held: Vec<Value> = many[15..18]
            .iter()
            .map(|i| json!([i.chunk_id, i.fence]))
            .collect();
        let progress: Vec<Value> = many[15..]
            .iter()
            .map(|i| json!([i.chunk_id, i.fence, 1, 2]))
            .collect();
        let said = json!({"beat_no": beat, "free": 100, "progress": progress});
        caller
            .run("beat", "select odf.beat($1, $2, $3)", said)
            .await;
        let (_, plans) = explained
            .call(
                "select to_jsonb(odf.look($1, $2))",
                &[&worker.id().0, &worker.session.key().as_slice()],
            )
            .await;
        demand_indexes(mode, "look", &plans);
        let (told, _) = caller
            .run("reconcile", "select odf.reconcile($1, $2, $3)", json!(held))
            .await;
        assert_eq!(told["released"], json!(2));
        caller
            .settle(
                &many[15..18],
                &json!({"outcome": "validated", "location": "x"}),
            )
            .await;
        if round == 5 {
            // A worker that dies with ten leases, and retries that come due.
            let other = TestWorker::start(db, &format!("dies-{mode}"), 10).await;
            leader.proof.allot().await.unwrap();
            assert_eq!(other.claim(10).await.len(), 10);
            db.advance(Duration::from_secs(5)).await;
            let silent = json!([{"session_id": other.id(), "beat_no": 0, "unheard_ms": 600_000}]);
            let term = leader.proof.term();
            let (swept, plans) = explained
                .call("select odf.sweep($1, $2, '4 s')", &[&term, &silent])
                .await;
            assert_eq!(swept, json!({"dead": 1, "lost": 10}));
            demand_indexes(mode, "sweep", &plans);
            for pass in [
                "odf.retry_due($1, 100)",
                "odf.promote($1)",
                "odf.move_floors($1)",
                "odf.allot_if_needed($1)",
            ] {
                let (_, plans) = explained
                    .call(&format!("select to_jsonb({pass})"), &[&term])
                    .await;
                demand_indexes(mode, pass, &plans);
            }
        }
    }
}

#[tokio::test]
async fn a_held_snapshot_does_not_make_claims_dearer() {
    let (db, leader, worker) = backlog(4_000).await;
    let (fresh, _) = cost(&db, &worker, "auto").await;
    let mut holder = db.another_admin().await;
    let held = holder
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .start()
        .await
        .unwrap();
    held.query("select count(*) from odf.ready", &[])
        .await
        .unwrap();
    // Two thousand rows come and go, and vacuum may remove none of them.
    for round in 0..10 {
        for _ in 0..2 {
            let items = worker.claim(200).await;
            worker.complete(&items).await;
        }
        leader.proof.move_floors().await.unwrap();
        leader.proof.allot().await.unwrap();
        db.advance(Duration::from_secs(40)).await;
        assert!(round < 10);
    }
    // Other databases' transactions hold floors back too: wait until this one's has moved.
    crate::harness::eventually("the floors to follow", async || {
        leader.proof.move_floors().await.unwrap();
        db.advance(Duration::from_secs(130)).await;
        let behind: i64 = db
            .count("odf.lane l where floor_seq + 20 < (select min(seq) from odf.ready r where r.lane_id = l.lane_id)")
            .await;
        (behind == 0).then_some(())
    })
    .await;
    // What autovacuum may do at any moment: its statistics of tables full of dead rows change no plan.
    db.admin().batch_execute("vacuum analyze").await.unwrap();
    let (held_back, _) = cost(&db, &worker, "auto").await;
    println!("claim of 20: {fresh} buffers, {held_back} under a held snapshot");
    assert!(held_back * 2 <= fresh * 3, "{fresh} -> {held_back} buffers");
    held.commit().await.unwrap();
}
