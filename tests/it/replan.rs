//! Planning again: the old plan is whole until the one transaction of the switch, the new one after it.

use common::domain::{Bounds, ChunkId, FailureClass, NewChunk};
use common::store::replan::{ReplanState, Split};
use common::store::{Settled, StoreError};
use tokio::task::JoinSet;

use crate::harness::flow::source_chunk;
use crate::harness::{Shape, TestDb, TestLeader, TestWorker, eventually, failed};
use crate::replan_support::*;

#[tokio::test]
async fn what_stays_equal_keeps_all_and_the_rest_begins_anew() {
    let (db, _, leader, worker) = chain(6).await;
    assert_eq!(worker.drain(4).await, 12);
    let kept = chunk(&db, "dst/00002").await;
    let replaced = chunk(&db, "mid/00003").await;
    let gone = chunk(&db, "dst/00006").await;
    assert_eq!((kept.1.as_str(), kept.2), ("validated", 1));
    let lineage: Vec<i64> = db
        .column(&format!(
            "select unnest(input_ids) from odf.publication where chunk_id = {}",
            kept.0
        ))
        .await;

    // 1, 2 and 5 stay (5 under another number), 3 covers something else, 7 is new, 4 and 6 go.
    let cut = [
        source_chunk(1),
        source_chunk(2),
        other(3),
        source_chunk(5),
        source_chunk(7),
    ];
    let asked = ask(&db, "src", false, false).await.unwrap();
    prepare(&leader.proof, asked, &cut).await.unwrap();
    let preview = now(&db, asked).await["preview"].clone();
    let of = |set: &str, what: &str| {
        let sets = preview.as_array().unwrap();
        sets.iter().find(|s| s["dataset"] == set).unwrap()[what]
            .as_i64()
            .unwrap()
    };
    for set in ["src", "mid", "dst"] {
        let counts = ["old", "new", "kept", "fresh", "retired"].map(|what| of(set, what));
        assert_eq!(counts, [6, 5, 3, 2, 3], "{set}");
    }
    assert_eq!([of("src", "published"), of("mid", "published")], [0, 3]);
    assert_eq!(of("dst", "bytes"), 3000);
    confirm(&db, asked, false).await.unwrap();
    assert_eq!(switch(&leader, asked).await, ReplanState::Done);
    sound_but_lanes_open(&db, &leader).await;

    assert_eq!(
        chunk(&db, "dst/00002").await,
        kept,
        "its identity, state and generation"
    );
    let after: Vec<i64> = db
        .column(&format!(
            "select unnest(input_ids) from odf.publication where chunk_id = {}",
            kept.0
        ))
        .await;
    assert_eq!(after, lineage);
    assert_eq!(
        db.count("odf.chunk where dataset = 'dst' and key in ('00004', '00006')")
            .await,
        0
    );
    assert_eq!(
        db.published(ChunkId(gone.0)).await.len(),
        1,
        "the record stays"
    );
    let ordinals: Vec<String> = db
        .column("select key from odf.chunk where dataset = 'mid' order by ordinal")
        .await;
    assert_eq!(ordinals, ["00001", "00002", "00003", "00005", "00007"]);
    let anew = chunk(&db, "mid/00003").await;
    assert_ne!(anew.0, replaced.0);
    assert_eq!(anew.2, 0);

    leader.passes().await;
    assert_eq!(
        worker.drain(4).await,
        4,
        "two chunks in two stages, and nothing else"
    );
    sound(&db).await;
    let fences: Vec<i64> = db
        .column("select fence from odf.publication p join odf.data_chunk c using (chunk_id) join odf.data_set d using (data_set_id)
                  where d.name = 'mid' and c.key = '00003' order by published_at")
        .await;
    assert!(
        fences.len() == 2 && fences[0] < fences[1],
        "no path twice: {fences:?}"
    );
    assert_eq!(
        db.scalar::<i32>("select attempts from odf.chunk where name = 'mid/00003'")
            .await,
        1
    );
    let states: Vec<String> = db
        .column("select distinct state from odf.plan order by 1")
        .await;
    assert_eq!(states, ["retired", "sealed"]);
    assert!(db.count("odf.event where kind = 'replan.done'").await == 1);
}

#[tokio::test]
async fn states_of_every_kind_are_kept_and_retired() {
    let (db, _, leader, worker) = chain(8).await;
    worker.beat().await;
    let items = worker.claim(4).await;
    worker.complete(&items[..1]).await;
    for item in &items[1..3] {
        let end = failed(FailureClass::Transient);
        assert_eq!(worker.settle(item, end).await, Settled::Applied);
    }
    worker.complete(&items[3..]).await;
    for (key, state) in [("00005", "held"), ("00006", "cancelled")] {
        db.exec(
            &format!("update odf.chunk set status = '{state}' where name = 'mid/{key}'"),
            &[],
        )
        .await;
    }
    let before: Vec<String> = db
        .column("select to_jsonb(s)::text from odf.chunk_state s join odf.data_chunk using (chunk_id) where key <> '00002' and key <> '00005' order by 1")
        .await;
    let cut: Vec<NewChunk> = (1..=8)
        .filter(|n| *n != 2 && *n != 5)
        .map(source_chunk)
        .collect();
    replan(&db, &leader, "src", &cut).await;
    let after: Vec<String> = db
        .column("select to_jsonb(s)::text from odf.chunk_state s order by 1")
        .await;
    assert_eq!(after, before, "every row of a kept chunk is as it was");
    let retired: Vec<String> = db
        .column("select r.status::text from odf.retired_chunk r join odf.data_chunk using (chunk_id) join odf.data_set d using (data_set_id) where d.name = 'mid' order by key")
        .await;
    assert_eq!(retired, ["failed", "held"]);
    assert_eq!(
        db.count("odf.due").await,
        1,
        "only the kept one is tried again"
    );
    sound(&db).await;
    db.advance(std::time::Duration::from_secs(3600)).await;
    leader.passes().await;
    worker.drain(8).await;
    assert_eq!(
        db.count("odf.chunk where dataset = 'dst' and status = 'validated'")
            .await,
        5
    );
    sound(&db).await;
}

#[tokio::test]
async fn until_the_switch_nothing_of_it_is_seen_whatever_is_interrupted() {
    let (db, _, leader, worker) = chain(4).await;
    worker.beat().await;
    let items = worker.claim(2).await;
    worker.complete(&items).await;
    let before = picture(&db).await;
    let asked = ask(&db, "src", false, false).await.unwrap();
    let cut = [source_chunk(1), other(2), source_chunk(9)];
    // Interrupted in the middle of a batch, after it, and after all was prepared: each time begun anew.
    let sets = leader.proof.begin_replan(asked).await.unwrap();
    leader
        .proof
        .add_chunks(sets[0].plan_id, 0, &cut[..1])
        .await
        .unwrap();
    assert_eq!(picture(&db).await, before);
    let again = leader.proof.begin_replan(asked).await.unwrap();
    let refused = leader.proof.add_chunks(sets[0].plan_id, 1, &cut[1..]).await;
    assert!(
        matches!(refused, Err(StoreError::Overtaken(_))),
        "{refused:?}"
    );
    leader
        .proof
        .add_chunks(again[0].plan_id, 0, &cut)
        .await
        .unwrap();
    let wrong = Split {
        plan_id: again[0].plan_id,
        chunks: 2,
        notes: Vec::new(),
    };
    let refused = leader.proof.prepare_replan(asked, &[wrong]).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(picture(&db).await, before);
    prepare(&leader.proof, asked, &cut).await.unwrap();
    leader.passes().await;
    assert_eq!(
        picture(&db).await,
        before,
        "prepared, and nothing has changed"
    );
    // A switch that fails at its very end changes nothing either.
    db.exec(
        "alter table odf.replan add constraint unlucky check (state <> 'done')",
        &[],
    )
    .await;
    confirm(&db, asked, false).await.unwrap();
    let failed = leader.proof.switch_plans(asked).await;
    assert!(
        matches!(failed, Err(StoreError::Database { .. })),
        "{failed:?}"
    );
    assert_eq!(picture(&db).await, before);
    // Withdrawn: nothing is left of it but the record.
    db.exec("select odf.withdraw_replan($1, 'enough')", &[&asked])
        .await;
    leader.proof.open_replans().await.unwrap();
    while db.count("odf.plan where state <> 'retired' and plan_id not in (select plan_id from odf.data_set)").await > 0 {
        leader.proof.open_replans().await.unwrap();
    }
    assert_eq!(db.count("odf.data_chunk").await, 12);
    assert_eq!(db.count("odf.lane where replan_id is not null").await, 0);
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 6);
    sound(&db).await;
}

#[tokio::test]
async fn what_runs_refuses_it_or_is_waited_for_while_nothing_new_starts() {
    let (db, _, leader, worker) = chain(6).await;
    worker.beat().await;
    let items = worker.claim(2).await;
    let said = ask(&db, "src", true, false).await.unwrap_err();
    assert!(
        said.contains("2 chunks of src") && said.contains("running"),
        "{said}"
    );
    assert_eq!(db.count("odf.replan").await, 0);
    let asked = ask(&db, "src", false, false).await.unwrap();
    let cut: Vec<NewChunk> = (1..=6).map(other).collect();
    prepare(&leader.proof, asked, &cut).await.unwrap();
    let said = confirm(&db, asked, false).await.unwrap_err();
    assert!(said.contains("running"), "{said}");
    worker.beat().await;
    let more = worker.claim(1).await;
    assert_eq!(more.len(), 1, "refused, so nothing was stopped");

    confirm(&db, asked, true).await.unwrap();
    worker.beat().await;
    assert_eq!(worker.claim(8).await.len(), 0, "claims are stopped");
    let switched = leader.proof.switch_plans(asked).await.unwrap();
    assert_eq!(
        (switched.state, switched.running),
        (ReplanState::Confirmed, 3)
    );
    worker.complete(&items).await;
    leader.passes().await;
    worker.beat().await;
    assert_eq!(
        worker.claim(8).await.len(),
        0,
        "their consumers do not start either"
    );
    assert_eq!(leader.proof.switch_plans(asked).await.unwrap().running, 1);
    worker.complete(&more).await;
    assert_eq!(switch(&leader, asked).await, ReplanState::Done);
    leader.proof.open_replans().await.unwrap();
    leader.passes().await;
    assert_eq!(worker.drain(8).await, 12, "all of the new plan");
    sound(&db).await;
}

#[tokio::test]
async fn a_claim_at_the_moment_of_consent_is_counted_or_gets_nothing() {
    let (db, _, leader, _) = chain(40).await;
    for round in 0..6 {
        let asked = ask(&db, "src", false, false).await.unwrap();
        let cut: Vec<NewChunk> = (1..=40)
            .map(|n| NewChunk {
                bounds: Bounds::Value {
                    value: format!("{round}/{n}"),
                },
                ..source_chunk(n)
            })
            .collect();
        prepare(&leader.proof, asked, &cut).await.unwrap();
        let mut tasks = JoinSet::new();
        for n in 0..4 {
            let worker = TestWorker::start(&db, &format!("r{round}w{n}"), 4).await;
            tasks.spawn(async move {
                worker.beat().await;
                let items = worker.claim(4).await;
                worker.complete(&items).await;
            });
        }
        let confirmed = confirm(&db, asked, true).await;
        confirmed.unwrap();
        eventually("the switch", async || {
            (switch(&leader, asked).await == ReplanState::Done).then_some(())
        })
        .await;
        tasks.join_all().await;
        leader.proof.open_replans().await.unwrap();
        leader.passes().await;
        sound(&db).await;
    }
}

#[tokio::test]
async fn paths_that_are_numbered_keep_only_chunks_whose_number_stays() {
    let db = TestDb::new().await;
    let path = "at: { connection: lake, path: \"mid/{ordinal}.{fence}\" }";
    Shape::single(4).set("mid", path).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 4);
    // 1 and 2 stay where they were, 4 moves to the third place.
    let cut = [source_chunk(1), source_chunk(2), source_chunk(4)];
    replan(&db, &leader, "src", &cut).await;
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 1, "mid/00004 alone is made again");
    let attempt: i32 = db
        .scalar("select attempt from odf.publication order by published_at desc limit 1")
        .await;
    assert_eq!(attempt, 2, "above every attempt that published at mid/3");
    sound(&db).await;
}
