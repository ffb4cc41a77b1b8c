//! `lineage`, `stale` and the verbs that repair, as people use them.

use coordinator::cli::Exit;

use super::support::{masked_json, ok, run};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker};

/// Everything made once; a total over all of `dst`.
async fn made(chunks: usize) -> (TestDb, TestLeader, TestWorker) {
    let db = TestDb::new().await;
    Shape::fan_in(chunks).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 20).await;
    make(&leader, &worker).await;
    (db, leader, worker)
}

/// Until nothing is left to be made.
async fn make(leader: &TestLeader, worker: &TestWorker) -> usize {
    let mut done = 0;
    loop {
        leader.passes().await;
        match worker.drain(20).await {
            0 => return done,
            n => done += n,
        }
    }
}

/// Makes another generation of a chunk alone.
async fn again(db: &TestDb, leader: &TestLeader, worker: &TestWorker, name: &str) {
    ok(db, &format!("resubmit {name}")).await;
    assert_eq!(make(leader, worker).await, 1);
}

async fn shown(db: &TestDb, line: &str) -> String {
    run(db, Role::Viewer, line).await.shown()
}

#[tokio::test]
async fn a_tree_tells_both_ways_what_was_read_and_what_there_is_now() {
    let (db, leader, worker) = made(3).await;
    insta::assert_snapshot!("lineage_current", shown(&db, "lineage dst/00002").await);
    again(&db, &leader, &worker, "mid/00002").await;
    leader.passes().await;
    insta::assert_snapshot!("lineage_stale", shown(&db, "lineage dst/00002").await);
    insta::assert_snapshot!("lineage_down", shown(&db, "lineage src/00002 --down").await);
    insta::assert_snapshot!(
        "lineage_up_whole",
        shown(&db, "lineage total/all --up --limit 2").await
    );
    // Attempts are diagnosis only: without them the tree is the same.
    let before = run(&db, Role::Viewer, "lineage total/all -o json")
        .await
        .json();
    db.exec("delete from odf.attempt", &[]).await;
    let json = run(&db, Role::Viewer, "lineage total/all -o json")
        .await
        .json();
    assert_eq!(json, before);
    insta::assert_snapshot!("lineage_json", masked_json(json["made_from"].clone()));
    let short = shown(&db, "lineage src/00002 --down --depth 1").await;
    assert!(!short.contains("dst/00002"), "{short}");
}

#[tokio::test]
async fn what_is_stale_is_counted_listed_and_repaired() {
    let (db, leader, worker) = made(3).await;
    assert_eq!(shown(&db, "stale").await, "nothing is stale\n--- exit 0\n");
    again(&db, &leader, &worker, "mid/00002").await;
    again(&db, &leader, &worker, "mid/00003").await;
    insta::assert_snapshot!("stale", shown(&db, "stale --downstream").await);
    insta::assert_snapshot!(
        "stale_wide",
        shown(&db, "stale dst -o wide --limit 1").await
    );
    let json = run(&db, Role::Viewer, "stale -o json --limit 1")
        .await
        .json();
    insta::assert_snapshot!("stale_json", masked_json(json));
    let rest = shown(&db, "stale --after dst/00002").await;
    assert!(
        rest.contains("dst/00003") && !rest.contains("dst/00002 "),
        "{rest}"
    );
    let explained = shown(&db, "explain dst/00002").await;
    assert!(
        explained.contains("coordinator resubmit dst/00002 --downstream"),
        "{explained}"
    );

    insta::assert_snapshot!(
        "stale_repair_preview",
        shown_as_operator(&db, "resubmit --stale --downstream --dry-run").await
    );
    assert_eq!(db.count("odf.chunk where status <> 'validated'").await, 0);
    ok(&db, "resubmit --stale --downstream").await;
    let during = shown(&db, "lineage mid/00002 --down").await;
    assert!(
        during.contains("dst/00002") && during.contains("STALE"),
        "{during}"
    );
    assert_eq!(
        make(&leader, &worker).await,
        3,
        "two of dst and the total, each once"
    );
    assert_eq!(shown(&db, "stale").await, "nothing is stale\n--- exit 0\n");
    assert_eq!(ok(&db, "resubmit --stale").await, "no chunk matches\n");
}

async fn shown_as_operator(db: &TestDb, line: &str) -> String {
    run(db, Role::Operator, line).await.shown()
}

#[tokio::test]
async fn names_that_do_not_fit_are_told_what_does() {
    let (db, ..) = made(2).await;
    let cases = [
        (
            "lineage mid",
            Exit::Usage,
            "error: expected a chunk, DATASET/KEY, found \"mid\"",
        ),
        ("lineage mid/9", Exit::NotFound, "error: no chunk mid/9"),
        (
            "stale nix",
            Exit::NotFound,
            "error: no data set named \"nix\"",
        ),
        (
            "stale mid/00001",
            Exit::Usage,
            "error: expected a data set, found mid/00001",
        ),
    ];
    for (line, exit, text) in cases {
        let ran = run(&db, Role::Viewer, line).await;
        assert_eq!(ran.exit, exit, "{line}: {}", ran.err);
        assert!(ran.err.starts_with(text), "{line}: {}", ran.err);
    }
    let denied = run(&db, Role::Viewer, "resubmit mid/00001").await;
    assert!(denied.err.contains("odf_operator"), "{}", denied.err);
}

#[tokio::test]
async fn readers_are_named_and_waited_for_refused_or_stopped() {
    let (db, _leader, worker) = made(2).await;
    ok(&db, "resubmit dst/00001").await;
    worker.beat().await;
    let reader = worker.claim_one().await;
    let preview = ok(&db, "resubmit mid/00001 --downstream --dry-run").await;
    assert!(
        preview.contains("1 running attempt reads what is made again: dst/00001 on w1"),
        "{preview}"
    );
    let refused = run(&db, Role::Operator, "resubmit mid/00001 --readers refuse").await;
    assert_eq!(refused.exit, Exit::Refused);
    assert!(
        refused.err.contains("dst/00001 on w1") && refused.err.contains("hint: "),
        "{}",
        refused.err
    );
    assert_eq!(db.count("odf.chunk_request").await, 0);
    ok(&db, "resubmit mid/00001 --readers cancel --reason wrong").await;
    let told: String = db
        .scalar("select abort || ' ' || abort_why from odf.lease")
        .await;
    assert_eq!(told, "term wrong");
    worker.complete(&[reader]).await;
}

#[tokio::test]
async fn a_hold_says_until_when_and_an_approval_can_be_refused() {
    let db = TestDb::new().await;
    Shape::single(3)
        .with("extract", "approve: true")
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let held = ok(&db, "hold mid/00001 --for 2h --reason network").await;
    assert!(held.starts_with("1 chunk set aside until 20"), "{held}");
    let listed = ok(&db, "chunks mid --status held").await;
    assert!(
        listed.contains(": network") && listed.contains("until 20"),
        "{listed}"
    );
    let explained = ok(&db, "explain mid/00001").await;
    assert!(
        explained.contains("a person set it aside for another 1 h 59 min")
            || explained.contains("for another 2 h"),
        "{explained}"
    );
    assert!(
        explained.contains("then it goes on by itself"),
        "{explained}"
    );
    let past = run(
        &db,
        Role::Operator,
        "hold mid/00002 --until 2001-01-01T00:00:00Z",
    )
    .await;
    assert_eq!(past.exit, Exit::Usage, "{}", past.err);
    assert!(
        past.err.contains("would be over before it began"),
        "{}",
        past.err
    );

    assert_eq!(make(&leader, &worker).await, 2);
    let preview = ok(&db, "approve mid --reject --reason garbled --dry-run").await;
    assert_eq!(preview, "would reject 2 chunks\n");
    assert_eq!(
        ok(&db, "approve mid/00002 --reject --reason garbled").await,
        "1 chunk rejected and to be made again\n"
    );
    assert_eq!(ok(&db, "approve mid").await, "1 chunk approved\n");
    assert_eq!(make(&leader, &worker).await, 1);
}
