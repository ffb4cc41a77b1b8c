//! `chunks`, `failures`, `workers`, `pools`, `events`: lists that agree with what people see in SQL.

use common::domain::{ChunkStatus, FailureClass};
use coordinator::cli::Exit;
use serde_json::Value;

use super::support::{Kept, end, masked_json, ok, run, run_kept};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, eventually, failed};

/// A flow with chunks in most states, requests pending among them.
async fn varied(db: &TestDb) -> TestWorker {
    Shape::chain(30)
        .with(
            "extract",
            "retry: { attempts: 2, backoff: 1h, max_backoff: 2h }",
        )
        .build(db)
        .await;
    let leader = TestLeader::start(db).await;
    let worker = TestWorker::start(db, "w1", 20).await;
    leader.passes().await;
    let items = worker.claim(12).await;
    worker.complete(&items[..6]).await;
    end(&worker, &items[6], failed(FailureClass::Transient)).await;
    end(&worker, &items[7], failed(FailureClass::TooBig)).await;
    end(&worker, &items[8], failed(FailureClass::Permanent)).await;
    ok(db, "hold mid/00020 mid/00021 --reason later").await;
    ok(db, "cancel mid/00022 --yes").await;
    // Running: the request waits for its attempt.
    let running = &items[9];
    ok(db, &format!("resubmit {}/{}", running.dataset, running.key)).await;
    ok(db, &format!("hold {}/{}", items[10].dataset, items[10].key)).await;
    worker
}

async fn names(db: &TestDb, line: &str) -> Vec<String> {
    let list = run(db, Role::Viewer, &format!("{line} -o json"))
        .await
        .json();
    let name = |chunk: &Value| {
        format!(
            "{}/{}",
            chunk["dataset"].as_str().unwrap(),
            chunk["key"].as_str().unwrap()
        )
    };
    list["chunks"]
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect()
}

#[tokio::test]
async fn the_list_and_the_view_show_the_same_state_of_every_chunk() {
    let db = TestDb::new().await;
    let _worker = varied(&db).await;
    let order = "order by array_position(array['src', 'mid', 'dst'], dataset), ordinal";
    let mut seen = 0;
    for status in ChunkStatus::ALL {
        let word = status.word();
        let expected = db
            .column::<String>(&format!(
                "select name from odf.chunk where status = '{word}' {order}"
            ))
            .await;
        let listed = names(&db, &format!("chunks --status {word} --limit 1000")).await;
        assert_eq!(listed, expected, "{word}");
        seen += usize::from(!expected.is_empty());
    }
    assert!(seen >= 8, "most states occur: {seen}");
    let mixed = db
        .column::<String>(&format!(
            "select name from odf.chunk where status in ('running', 'failed', 'held') {order}"
        ))
        .await;
    assert_eq!(
        names(&db, "chunks --status running,failed,held").await,
        mixed
    );
    let running = db
        .column::<String>(&format!(
            "select c.name from odf.chunk c join odf.lease using (chunk_id) {order}"
        ))
        .await;
    assert_eq!(names(&db, "chunks --worker w1").await, running);
}

#[tokio::test]
async fn pages_join_without_gap_or_overlap() {
    let db = TestDb::new().await;
    Shape::chain(7).build(&db).await;
    let all = db.column::<String>("select name from odf.chunk order by array_position(array['src', 'mid', 'dst'], dataset), ordinal").await;
    let mut found: Vec<String> = Vec::new();
    let mut line = "chunks --limit 4 -o json".to_owned();
    loop {
        let page = run(&db, Role::Viewer, &line).await.json();
        let chunks = page["chunks"].as_array().unwrap();
        assert!(chunks.len() <= 4);
        found.extend(chunks.iter().map(|c| {
            format!(
                "{}/{}",
                c["dataset"].as_str().unwrap(),
                c["key"].as_str().unwrap()
            )
        }));
        match page["next"].as_str() {
            Some(next) => line = format!("chunks --limit 4 -o json --after {next}"),
            None => break,
        }
    }
    assert_eq!(found, all);
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let db = TestDb::new().await;
    let _worker = varied(&db).await;
    assert_eq!(
        names(&db, "chunks mid --range 2-8:3,30").await,
        ["mid/00002", "mid/00005", "mid/00008", "mid/00030"]
    );
    assert_eq!(
        names(&db, "chunks mid --error LATER").await,
        ["mid/00020", "mid/00021"]
    );
    assert_eq!(
        names(&db, "chunks --dataset dst --range 1").await,
        ["dst/00001"]
    );
    assert_eq!(
        names(&db, "chunks test:dst/00003 mid/00001").await,
        ["mid/00001", "dst/00003"]
    );
    let other = run(&db, Role::Viewer, "chunks mid --flow other").await;
    assert_eq!(
        (other.exit, other.err.as_str()),
        (
            Exit::NotFound,
            "error: no flow named \"other\"
hint: flows: test
"
        )
    );
    let ran = run(&db, Role::Viewer, "chunks mid --limit 3").await;
    insta::assert_snapshot!("chunks", ran.shown());
    let ran = run(&db, Role::Viewer, "chunks mid --range 7-12 -o wide").await;
    insta::assert_snapshot!("chunks_wide", ran.shown());
}

#[tokio::test]
async fn failures_are_grouped_by_cause() {
    let db = TestDb::new().await;
    assert_eq!(
        ok(&db, "failures").await,
        "nothing is failed or exhausted\n"
    );
    let worker = varied(&db).await;
    let _ = worker;
    let ran = run(&db, Role::Viewer, "failures").await;
    insta::assert_snapshot!("failures", ran.shown());
    let json = run(&db, Role::Viewer, "failures mid --limit 1 -o json")
        .await
        .json();
    assert_eq!(
        (json["chunks"].as_i64(), json["more_causes"].as_i64()),
        (Some(3), Some(2))
    );
    assert_eq!(
        run(&db, Role::Viewer, "failures nix").await.exit,
        Exit::NotFound
    );
}

#[tokio::test]
async fn workers_and_pools_show_who_does_what_and_who_changed_it() {
    let db = TestDb::new().await;
    Shape::chain(9).pool("extract", "3").build(&db).await;
    let leader = TestLeader::start(&db).await;
    let first = TestWorker::start(&db, "w1", 4).await;
    let second = TestWorker::start(&db, "w2", 4).await;
    leader.passes().await;
    first.claim(4).await;
    second.claim(4).await;
    ok(&db, "scale extract 1 --reason month-end").await;
    ok(&db, "scale --worker w1 2").await;
    ok(&db, "drain w2 --reason kernel").await;
    insta::assert_snapshot!("workers", run(&db, Role::Viewer, "workers").await.shown());
    insta::assert_snapshot!(
        "workers_json",
        masked_json(run(&db, Role::Viewer, "workers -o json").await.json())
    );
    insta::assert_snapshot!("pools", run(&db, Role::Viewer, "pools").await.shown());
    leader.bury(&first).await;
    let alive = ok(&db, "workers").await;
    assert!(!alive.contains("w1"), "{alive}");
    let all = ok(&db, "workers --all").await;
    assert!(
        all.contains("dead") && all.contains("not heard for"),
        "{all}"
    );
}

#[tokio::test]
async fn events_are_filtered_and_followed() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    ok(&db, "scale extract 3 --reason first").await;
    let ran = run(&db, Role::Viewer, "events --kind pool").await;
    assert!(
        ran.out
            .ends_with("odf_test_operator extract: none -> 3 (first)\n"),
        "{}",
        ran.out
    );
    assert_eq!(ran.out.lines().count(), 1);
    assert_eq!(ok(&db, "events --actor nobody").await, "");
    let json = ok(&db, "events --subject extract -n 1 -o json").await;
    let event: Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(event["kind"], "pool.scaled");

    let (out, err) = (Kept::default(), Kept::default());
    let (seen, url) = (out.clone(), db.url(Role::Viewer));
    let follow = async move {
        run_kept(
            Some(&url),
            &["events", "--follow", "--kind", "pool", "-n", "0"],
            out,
            err,
        )
        .await
    };
    let watch = async {
        // Repeated, because the follower may not have started to look when the first is written.
        let mut limit = 10;
        eventually("the follower shows a new event", || {
            limit += 1;
            let (db, seen) = (&db, seen.clone());
            async move {
                ok(db, &format!("scale extract {limit}")).await;
                seen.text().contains(" -> ").then_some(())
            }
        })
        .await;
    };
    tokio::select! {
        exit = follow => panic!("the follower ended with {exit:?}"),
        () = watch => {}
    }
    let text = seen.text();
    assert!(
        !text.contains("first"),
        "what was before is not shown: {text}"
    );
    let mut lines: Vec<&str> = text.lines().collect();
    let before = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), before, "each event once: {text}");
}
