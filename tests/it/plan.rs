//! Plans: nothing of an unsealed one is ever seen, whoever is interrupted.

use common::domain::{Bounds, NewChunk};
use common::store::StoreError;
use tokio::task::JoinSet;

use crate::harness::flow::source_chunk;
use crate::harness::{Fault, Proxy, Role, Shape, TestDb, TestLeader, TestWorker};

#[tokio::test]
async fn an_unsealed_plan_is_seen_by_nobody() {
    unsealed(TestDb::new().await).await;
}

/// A plan that is written and not sealed.
pub(crate) async fn unsealed(db: TestDb) {
    let flow = Shape::fan_in(6).apply(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    let control = db.control(Role::Coordinator);
    let src = flow.set_id(&db, "src").await;
    let plan = control.begin_plan(src).await.unwrap();
    flow.write(plan).await;
    for set in ["mid", "dst", "total"] {
        assert!(
            !control
                .derive_plan(flow.set_id(&db, set).await)
                .await
                .unwrap(),
            "{set}"
        );
    }
    leader.passes().await;
    worker.beat().await;
    assert_eq!(worker.claim(8).await.len(), 0);
    assert_eq!(db.count("odf.chunk").await, 0);
    assert_eq!(db.count("odf.chunk_state").await, 0);
    control.seal_plan(plan, 6, &[]).await.unwrap();
    // Half of the chain: what consumes a whole data set without a plan is not ready.
    assert!(
        !control
            .derive_plan(flow.set_id(&db, "total").await)
            .await
            .unwrap()
    );
    assert!(
        control
            .derive_plan(flow.set_id(&db, "mid").await)
            .await
            .unwrap()
    );
    assert!(
        control
            .derive_plan(flow.set_id(&db, "mid").await)
            .await
            .unwrap(),
        "safe to repeat"
    );
    worker.beat().await;
    assert_eq!(worker.claim(8).await.len(), 6);
    assert_eq!(db.count("odf.chunk where dataset = 'mid'").await, 6);
}

#[tokio::test]
async fn a_splitter_that_was_killed_is_begun_again() {
    let db = TestDb::new().await;
    let flow = Shape::single(500).apply(&db).await;
    let src = flow.set_id(&db, "src").await;
    let proxy = Proxy::start(db.port()).await;
    let first = db.control_at(Role::Coordinator, proxy.port());
    let half: Vec<NewChunk> = (1..=250).map(source_chunk).collect();
    let plan = first.begin_plan(src).await.unwrap();
    first.add_chunks(plan, 0, &half).await.unwrap();
    proxy.arm(Fault::CutAfterCommit("odf.add_chunks(".to_owned()));
    let lost = first.add_chunks(plan, 250, &half).await;
    assert!(
        matches!(lost, Err(StoreError::Unreachable { .. })),
        "{lost:?}"
    );
    flow.plan(&db).await;
    let chunks: Vec<String> = db
        .column("select key from odf.chunk where dataset = 'src' order by ordinal")
        .await;
    let expected: Vec<String> = (1..=500).map(|n| source_chunk(n).key).collect();
    assert_eq!(chunks, expected, "each once, in order");
    assert_eq!(
        db.count("odf.data_chunk").await,
        1000,
        "nothing of the first try is left"
    );
    assert_eq!(db.count("odf.plan").await, 2);
    // The one that was presumed dead writes on: refused, and sealing too.
    let refused = first.add_chunks(plan, 250, &half).await;
    assert!(
        matches!(refused, Err(StoreError::Overtaken(_))),
        "{refused:?}"
    );
    let refused = first.seal_plan(plan, 500, &[]).await;
    assert!(
        matches!(refused, Err(StoreError::Overtaken(_))),
        "{refused:?}"
    );
    let refused = first.begin_plan(src).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_batch_that_commits_during_a_takeover_leaves_nothing_behind() {
    let db = TestDb::new().await;
    let flow = Shape::single(10).apply(&db).await;
    let src = flow.set_id(&db, "src").await;
    let control = db.control(Role::Coordinator);
    let plan = control.begin_plan(src).await.unwrap();
    let mut slow = db.another_admin().await;
    let open = slow.transaction().await.unwrap();
    let batch = serde_json::json!([source_chunk(1), source_chunk(2)]);
    open.execute("select odf.add_chunks($1, 0, $2)", &[&plan, &batch])
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    let taking = control.clone();
    tasks.spawn(async move { taking.begin_plan(src).await.unwrap() });
    crate::harness::eventually("the takeover to wait for the batch", async || {
        let waiting: i64 = db
            .count(
                "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
            )
            .await;
        (waiting > 0).then_some(())
    })
    .await;
    open.commit().await.unwrap();
    let next = tasks.join_next().await.unwrap().unwrap();
    assert_ne!(next, plan);
    assert_eq!(db.count("odf.data_chunk").await, 0);
}

#[tokio::test]
async fn a_plan_is_sealed_only_as_it_was_written() {
    let db = TestDb::new().await;
    let flow = Shape::single(4).apply(&db).await;
    let control = db.control(Role::Coordinator);
    let src = flow.set_id(&db, "src").await;
    let plan = control.begin_plan(src).await.unwrap();
    flow.write(plan).await;
    for wrong in [0, 3, 5] {
        let refused = control.seal_plan(plan, wrong, &[]).await;
        assert!(
            matches!(refused, Err(StoreError::Refused(_))),
            "{refused:?}"
        );
    }
    // A batch that left a gap.
    let plan = control.begin_plan(src).await.unwrap();
    control
        .add_chunks(plan, 0, &[source_chunk(1)])
        .await
        .unwrap();
    control
        .add_chunks(plan, 2, &[source_chunk(2)])
        .await
        .unwrap();
    let refused = control.seal_plan(plan, 2, &[]).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    // The same name twice, and a repeated batch.
    let twice = control.add_chunks(plan, 5, &[source_chunk(1)]).await;
    assert!(matches!(twice, Err(StoreError::Refused(_))), "{twice:?}");
    assert_eq!(db.count("odf.plan where state = 'sealed'").await, 0);
}

#[tokio::test]
async fn an_empty_data_set_is_planned_and_done() {
    let db = TestDb::new().await;
    let flow = Shape::fan_in(0).build(&db).await;
    let leader = TestLeader::start(&db).await;
    leader.passes().await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    let total = worker.claim_one().await;
    assert_eq!(
        total.dataset, "total",
        "what is made of nothing is made once"
    );
    worker.complete(&[total]).await;
    assert_eq!(flow.chunks(&db, "mid").await.len(), 0);
}

#[tokio::test]
async fn inputs_with_different_chunks_are_refused_by_name() {
    let db = TestDb::new().await;
    let cut = |table: &str| {
        format!("at: {{ connection: db, table: {table} }}, partition: {{ query: select 1 }}")
    };
    let shape = Shape::single(2)
        .set("src", &cut("src"))
        .set("other", &cut("other"))
        .stage("join", "input: [mid, other]", "joined");
    let flow = shape.apply(&db).await;
    let control = db.control(Role::Coordinator);
    let plan = control
        .begin_plan(flow.set_id(&db, "src").await)
        .await
        .unwrap();
    flow.write(plan).await;
    control.seal_plan(plan, 2, &[]).await.unwrap();
    let odd = NewChunk {
        key: "odd".to_owned(),
        bounds: Bounds::Single,
        est_rows: None,
        est_bytes: None,
    };
    let plan = control
        .begin_plan(flow.set_id(&db, "other").await)
        .await
        .unwrap();
    control
        .add_chunks(plan, 0, &[source_chunk(1), odd])
        .await
        .unwrap();
    control.seal_plan(plan, 2, &[]).await.unwrap();
    control
        .derive_plan(flow.set_id(&db, "mid").await)
        .await
        .unwrap();
    let refused = control
        .derive_plan(flow.set_id(&db, "joined").await)
        .await
        .unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("joined") && text.contains("other"), "{text}");
    assert!(text.contains("odd") || text.contains("00002"), "{text}");
    let led = control
        .lead("plan test", std::time::Duration::from_secs(60))
        .await
        .unwrap();
    control
        .proof(led.term)
        .plan_failed(flow.set_id(&db, "joined").await, &text)
        .await
        .unwrap();
    assert_eq!(
        db.count("odf.data_set where plan_error is not null").await,
        1
    );
    assert_eq!(
        db.count("odf.plan where state = 'writing'").await,
        0,
        "a refused derivation leaves nothing"
    );
}

#[tokio::test]
async fn two_planners_end_with_one_plan() {
    let db = TestDb::new().await;
    let flow = Shape::chain(40).apply(&db).await;
    let src = flow.set_id(&db, "src").await;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let control = db.control(Role::Coordinator);
        tasks.spawn(async move {
            let chunks: Vec<NewChunk> = (1..=40).map(source_chunk).collect();
            loop {
                let Ok(plan) = control.begin_plan(src).await else {
                    return;
                };
                if control.add_chunks(plan, 0, &chunks[..20]).await.is_ok()
                    && control.add_chunks(plan, 20, &chunks[20..]).await.is_ok()
                    && control.seal_plan(plan, 40, &[]).await.is_ok()
                {
                    return;
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(db.count("odf.plan where state = 'sealed'").await, 1);
    assert_eq!(db.count("odf.data_chunk").await, 40);
    let mut tasks = JoinSet::new();
    let (mid, dst) = (flow.set_id(&db, "mid").await, flow.set_id(&db, "dst").await);
    for _ in 0..4 {
        let control = db.control(Role::Coordinator);
        tasks.spawn(async move {
            while !control.derive_plan(mid).await.unwrap()
                || !control.derive_plan(dst).await.unwrap()
            {}
        });
    }
    tasks.join_all().await;
    assert_eq!(db.count("odf.data_chunk").await, 120);
    assert_eq!(db.count("odf.ready").await, 40, "each once");
}
