//! Planning again and what is around it: inputs that hang together, whole readers, an apply meanwhile,
//! data that falls out of use, other flows, and many chunks.

use common::domain::{ChunkId, NewChunk};
use common::store::replan::{ReplanState, Split};
use tokio::task::JoinSet;

use crate::harness::flow::{apply_to, source_chunk};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, eventually};
use crate::replan_support::*;

#[tokio::test]
async fn who_takes_it_whole_waits_and_sees_that_it_changed() {
    let db = TestDb::new().await;
    Shape::fan_in(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let mut done = worker.drain(4).await;
    leader.passes().await;
    done += worker.drain(4).await;
    assert_eq!(done, 7);
    let total = chunk(&db, "total/all").await;
    let mark =
        "select fan_in_mark from odf.publication order by published_at desc, chunk_id desc limit 1";
    let before: Vec<i64> = db.scalar(mark).await;

    // While the whole reader runs, what it reads is not replaced under it.
    db.exec(
        "update odf.chunk set status = 'resubmit' where name = 'total/all'",
        &[],
    )
    .await;
    leader.passes().await;
    worker.beat().await;
    let reading = worker.claim(1).await;
    assert_eq!(reading[0].dataset, "total");
    let said = ask(&db, "src", true, false).await.unwrap_err();
    assert!(said.contains("running"), "{said}");
    worker.complete(&reading).await;

    replan(&db, &leader, "src", &[source_chunk(1), other(2), other(3)]).await;
    assert_eq!(
        chunk(&db, "total/all").await.0,
        total.0,
        "its own plan is not touched"
    );
    db.exec(
        "update odf.chunk set status = 'resubmit' where name = 'total/all'",
        &[],
    )
    .await;
    leader.passes().await;
    assert_eq!(
        db.status(ChunkId(total.0)).await,
        "waiting",
        "the whole is not there yet"
    );
    assert_eq!(worker.drain(4).await, 4);
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 1);
    let after: Vec<i64> = db.scalar(mark).await;
    // Three chunks of generation 1 each time, and yet not the same three.
    assert!(after > before, "{before:?} {after:?}");
    sound(&db).await;
}

#[tokio::test]
async fn inputs_that_hang_together_are_split_together() {
    let db = TestDb::new().await;
    let cut = |table: &str| {
        format!("at: {{ connection: db, table: {table} }}, partition: {{ query: select 1 }}")
    };
    let flow = Shape::single(3)
        .set("src", &cut("src"))
        .set("other", &cut("other"))
        .stage("join", "input: [mid, other]", "joined")
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 6);
    let refused = ask(&db, "joined", false, false).await.unwrap_err();
    assert!(
        refused.contains("no partition") && refused.contains("other, src"),
        "{refused}"
    );

    let asked = ask(&db, "src", false, false).await.unwrap();
    let sets = leader.proof.begin_replan(asked).await.unwrap();
    let mut names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["other", "src"]);
    // Other keys on one side only: refused, and what is in force stays.
    let before = picture(&db).await;
    let mut split = Vec::new();
    for set in &sets {
        let chunks = if set.name == "src" {
            vec![source_chunk(1)]
        } else {
            vec![source_chunk(2)]
        };
        leader
            .proof
            .add_chunks(set.plan_id, 0, &chunks)
            .await
            .unwrap();
        split.push(Split {
            plan_id: set.plan_id,
            chunks: 1,
            notes: Vec::new(),
        });
    }
    let refused = leader
        .proof
        .prepare_replan(asked, &split)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("joined") && refused.contains("same chunks"),
        "{refused}"
    );
    assert_eq!(picture(&db).await, before);

    // The other side changes: what is made from both is made again, what is made of src alone is kept.
    let sets = leader.proof.begin_replan(asked).await.unwrap();
    let mut split = Vec::new();
    for set in &sets {
        let second = if set.name == "src" {
            source_chunk(2)
        } else {
            other(2)
        };
        leader
            .proof
            .add_chunks(set.plan_id, 0, &[source_chunk(1), second])
            .await
            .unwrap();
        split.push(Split {
            plan_id: set.plan_id,
            chunks: 2,
            notes: Vec::new(),
        });
    }
    leader.proof.prepare_replan(asked, &split).await.unwrap();
    confirm(&db, asked, false).await.unwrap();
    assert_eq!(switch(&leader, asked).await, ReplanState::Done);
    leader.proof.open_replans().await.unwrap();
    leader.passes().await;
    sound(&db).await;
    let of = async |set: &str| {
        db.count(&format!(
            "odf.chunk where dataset = '{set}' and status = 'validated'"
        ))
        .await
    };
    assert_eq!((of("mid").await, of("joined").await), (2, 1));
    assert_eq!(worker.drain(4).await, 1, "joined/00002 alone");
    sound(&db).await;
    assert_eq!(flow.chunks(&db, "joined").await.len(), 2);
}

#[tokio::test]
async fn an_apply_or_a_new_asking_ends_what_was_prepared() {
    let (db, flow, leader, worker) = chain(3).await;
    let first = ask(&db, "src", false, false).await.unwrap();
    prepare(&leader.proof, first, &[other(1)]).await.unwrap();
    let second = ask(&db, "src", false, false).await.unwrap();
    assert_ne!(first, second, "the source has moved on since");
    assert_eq!(now(&db, first).await["state"], "withdrawn");
    prepare(&leader.proof, second, &[other(1)]).await.unwrap();
    confirm(&db, second, false).await.unwrap();
    assert_eq!(
        ask(&db, "src", true, false).await,
        Ok(second),
        "one that has consent is joined"
    );
    let control = db.control(Role::Coordinator);
    apply_to(&control, &flow.flow, "another document")
        .await
        .unwrap();
    let ended = now(&db, second).await;
    assert_eq!(
        (ended["state"].as_str(), ended["refused"].as_bool()),
        (Some("failed"), Some(true))
    );
    assert_eq!(switch(&leader, second).await, ReplanState::Failed);
    assert_eq!(db.count("odf.lane where replan_id is not null").await, 0);
    for _ in 0..6 {
        leader.proof.open_replans().await.unwrap();
    }
    assert_eq!(db.count("odf.data_chunk").await, 9, "tidied up");
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 6);
    // Nobody consents for an hour.
    let third = ask(&db, "src", false, false).await.unwrap();
    prepare(&leader.proof, third, &[other(1)]).await.unwrap();
    db.advance(std::time::Duration::from_secs(3601)).await;
    leader.proof.open_replans().await.unwrap();
    assert_eq!(now(&db, third).await["state"], "withdrawn");
    sound(&db).await;
}

#[tokio::test]
async fn data_that_falls_out_of_use_goes_under_its_keep_rule() {
    let db = TestDb::new().await;
    let place =
        |path: &str| format!("at: {{ connection: lake, path: \"{path}\" }}, keep: until_consumed");
    Shape::chain(3)
        .set("mid", &place("mid/{chunk}.{fence}"))
        .set(
            "dst",
            "at: { connection: lake, path: \"dst/{chunk}.{fence}\" }",
        )
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    worker.beat().await;
    db.exec("select odf.pause('load', true, 'test')", &[]).await;
    worker.drain(4).await;
    replan(&db, &leader, "src", &[source_chunk(1), other(2)]).await;
    let taken = worker.session.take_removals(10).await.unwrap();
    let mut names: Vec<String> = taken
        .iter()
        .map(|removal| removal.location.clone().unwrap_or_default())
        .collect();
    names.sort();
    assert_eq!(
        names.len(),
        2,
        "mid/00002 and mid/00003 as they were: {names:?}"
    );
    assert!(
        names[0].starts_with("mid/00002") && names[1].starts_with("mid/00003"),
        "{names:?}"
    );
    sound(&db).await;
}

#[tokio::test]
async fn a_long_switch_holds_up_nobody_else() {
    let (db, _, leader, worker) = chain(3).await;
    Shape::single(20).named("beside").build(&db).await;
    leader.passes().await;
    let asked = ask(&db, "test:src", false, false).await.unwrap();
    prepare(&leader.proof, asked, &[other(1)]).await.unwrap();
    confirm(&db, asked, false).await.unwrap();
    // The switch stays open after all that it writes until somebody lets go of this row.
    let mut slow = db.another_admin().await;
    let held = slow.transaction().await.unwrap();
    held.execute(
        "select from odf.data_set where name = 'dst' for update",
        &[],
    )
    .await
    .unwrap();
    let mut tasks = JoinSet::new();
    let proof = leader.proof.clone();
    tasks.spawn(async move { proof.switch_plans(asked).await.unwrap().state });
    eventually("the switch to wait", async || {
        let waiting = db
            .count("pg_stat_activity where wait_event_type = 'Lock' and query like '%switch_plans%' and pid <> pg_backend_pid()")
            .await;
        (waiting > 0).then_some(())
    })
    .await;
    worker.beat().await;
    let items = worker.claim(4).await;
    assert_eq!(items.len(), 4, "another flow's work goes on");
    worker.complete(&items).await;
    db.exec("select odf.scale('beside:extract', '2', null)", &[])
        .await;
    TestWorker::start(&db, "w2", 1).await.beat().await;
    held.rollback().await.unwrap();
    let ended = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(ended, ReplanState::Done);
    sound_but_lanes_open(&db, &leader).await;
}

#[tokio::test]
async fn two_hundred_thousand_chunks_switch_at_once() {
    let n = 70_000;
    let (db, _, leader, _) = chain(n).await;
    let cut: Vec<NewChunk> = (1..=n)
        .map(|i| {
            if i % 2 == 0 {
                source_chunk(i)
            } else {
                other(i)
            }
        })
        .collect();
    let asked = ask(&db, "src", false, false).await.unwrap();
    let started = std::time::Instant::now();
    prepare(&leader.proof, asked, &cut).await.unwrap();
    let prepared = started.elapsed();
    confirm(&db, asked, false).await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(switch(&leader, asked).await, ReplanState::Done);
    let took = started.elapsed();
    // Generous: what must not happen is a cost for each pair of chunks.
    assert!(
        took.as_secs() < 60,
        "switched in {took:?}, prepared in {prepared:?}"
    );
    sound_but_lanes_open(&db, &leader).await;
}
