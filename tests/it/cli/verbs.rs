//! The operators' verbs: what they change, what they refuse, what they wait for.

use common::domain::FailureClass;
use coordinator::cli::Exit;

use super::support::{end, ok, run, run_words};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, failed};

#[tokio::test]
async fn scale_takes_absolute_relative_and_percent_numbers() {
    let db = TestDb::new().await;
    Shape::single(3).pool("extract", "10").build(&db).await;
    let steps = [
        ("5", "pool extract: limit 10 -> 5 (file 10), 0 running\n"),
        ("-2", "pool extract: limit 5 -> 3 (file 10), 0 running\n"),
        ("+7", "pool extract: limit 3 -> 10 (file 10), 0 running\n"),
        ("50%", "pool extract: limit 10 -> 5 (file 10), 0 running\n"),
        (
            "none",
            "pool extract: limit 5 -> none (file 10), 0 running\n",
        ),
        ("0", "pool extract: limit none -> 0 (file 10), 0 running\n"),
    ];
    for (change, expected) in steps {
        assert_eq!(ok(&db, &format!("scale extract {change}")).await, expected);
    }
    assert_eq!(
        ok(&db, "scale test:extract 1 --flow other")
            .await
            .lines()
            .count(),
        1
    );
    let ran = run(&db, Role::Operator, "scale extract many").await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(
        ran.err
            .starts_with("error: expected a limit such as 10, +5, -5, 50%, 0 or none"),
        "{}",
        ran.err
    );
    let json = run(&db, Role::Operator, "scale extract 4 -o json")
        .await
        .json();
    assert_eq!(
        (json["old"].as_i64(), json["new"].as_i64()),
        (Some(1), Some(4))
    );
}

#[tokio::test]
async fn names_that_are_not_there_are_told_with_those_that_are() {
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let _worker = TestWorker::start(&db, "w1", 1).await;
    let cases = [
        (
            "scale nix 3",
            "error: no pool named 'nix'\nhint: Pools: extract\n",
        ),
        (
            "scale w1 3",
            "error: no pool named 'w1'\nhint: coordinator scale --worker w1 3\n",
        ),
        (
            "pause nix",
            "error: nothing to pause is named 'nix'\nhint: Name a pool, a job, a data set that a job makes, or all.\n",
        ),
        (
            "drain nix",
            "error: no worker named 'nix'\nhint: Workers: w1\n",
        ),
        (
            "resubmit nix",
            "error: no data set named 'nix'\nhint: Data sets: mid, src\n",
        ),
        (
            "resubmit mid/9",
            "error: no chunk mid/9\nhint: coordinator chunks mid\n",
        ),
        (
            "explain mid/9",
            "error: no chunk mid/9\nhint: it has 3 chunks, the first is mid/00001: coordinator chunks mid\n",
        ),
        (
            "explain nix",
            "error: no data set or pool named \"nix\"\nhint: data sets: mid, src; pools: extract\n",
        ),
        (
            "status nix",
            "error: no data set named \"nix\"\nhint: data sets: src, mid\n",
        ),
        (
            "chunks nix",
            "error: no data set named \"nix\"\nhint: data sets: mid, src\n",
        ),
    ];
    for (line, expected) in cases {
        let ran = run(&db, Role::Operator, line).await;
        assert_eq!(
            (ran.exit, ran.err.as_str()),
            (Exit::NotFound, expected),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_whole_data_set_is_resubmitted_only_where_it_needs_it() {
    let db = TestDb::new().await;
    Shape::single(6).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 6).await;
    leader.passes().await;
    let items = worker.claim(4).await;
    worker.complete(&items[..2]).await;
    end(&worker, &items[2], failed(FailureClass::Permanent)).await;
    end(&worker, &items[3], failed(FailureClass::Transient)).await;
    ok(&db, "hold mid/00006").await;

    let preview = ok(&db, "resubmit mid --dry-run").await;
    assert_eq!(
        preview,
        "would resubmit 3 chunks of 3 (1 exhausted, 1 failed, 1 held)\n"
    );
    assert_eq!(
        db.count("odf.chunk where dataset = 'mid' and status = 'ready'")
            .await,
        1
    );
    assert_eq!(ok(&db, "retry mid").await, "3 chunks resubmitted\n");
    assert_eq!(
        db.count("odf.chunk where dataset = 'mid' and status = 'ready'")
            .await,
        4
    );
    assert_eq!(ok(&db, "resubmit mid").await, "no chunk matches\n");
    let published = ok(&db, "resubmit mid --status validated").await;
    assert!(
        published.starts_with("2 chunks resubmitted\npublished generations stay readable"),
        "{published}"
    );
    let one = ok(&db, "resubmit mid/00001 mid/77777").await;
    assert_eq!(one, "1 chunk resubmitted\n");
    let refused = run(&db, Role::Operator, "resubmit src --status validated").await;
    assert_eq!(refused.exit, Exit::Refused);
    assert!(
        refused
            .err
            .starts_with("error: nothing to resubmit: 6 validated\n"),
        "{}",
        refused.err
    );
    let nothing = run(&db, Role::Operator, "resubmit").await;
    assert_eq!(nothing.exit, Exit::Usage);
}

#[tokio::test]
async fn several_names_and_ranges_are_one_transaction() {
    let db = TestDb::new().await;
    Shape::chain(20).build(&db).await;
    let answer = ok(&db, "hold mid/00001 mid/00002 dst --range 1-9:2").await;
    // dst whole and two chunks of mid, of all of these the odd numbers below ten.
    assert_eq!(answer, "6 chunks set aside\n");
    let held = db
        .column::<String>("select name from odf.chunk where status = 'held' order by name")
        .await;
    assert_eq!(
        held,
        [
            "dst/00001",
            "dst/00003",
            "dst/00005",
            "dst/00007",
            "dst/00009",
            "mid/00001"
        ]
    );
    // One name that is not there, and nothing is changed.
    let ran = run(&db, Role::Operator, "hold mid nix").await;
    assert_eq!(ran.exit, Exit::NotFound);
    assert_eq!(db.count("odf.chunk where status = 'held'").await, 6);
    let events: i64 = db
        .scalar("select count(*) from odf.event where kind = 'chunks.held'")
        .await;
    assert_eq!(events, 2, "one audit row for each data set");
}

#[tokio::test]
async fn cancel_needs_a_yes_where_nobody_can_be_asked() {
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let ran = run(&db, Role::Operator, "cancel mid").await;
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(
        ran.err,
        "error: this would cancel 3 chunks and nobody can be asked\nhint: look with --dry-run, then say --yes\n"
    );
    assert_eq!(db.count("odf.chunk where status = 'cancelled'").await, 0);
    assert_eq!(
        ok(&db, "cancel mid --dry-run").await,
        "would cancel 3 chunks of 3 (3 ready)\n"
    );
    assert_eq!(
        ok(&db, "cancel mid --yes --reason obsolete").await,
        "3 chunks cancelled\n"
    );
    let reason: String = db
        .scalar("select distinct reason from odf.chunk where status = 'cancelled'")
        .await;
    assert_eq!(reason, "obsolete");
}

#[tokio::test]
async fn now_stops_what_runs_and_without_it_the_request_waits() {
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 3).await;
    leader.passes().await;
    let items = worker.claim(3).await;
    let waits = ok(&db, "cancel mid/00001 --yes").await;
    assert_eq!(
        waits,
        "0 chunks cancelled, 1 when the running attempt that makes or reads them has ended\n"
    );
    assert_eq!(db.count("odf.lease where abort is not null").await, 0);
    ok(&db, "cancel mid/00002 --yes --now --reason stop").await;
    let told: String = db
        .scalar("select abort || ' ' || abort_why from odf.lease where abort is not null")
        .await;
    assert_eq!(told, "term stop");
    assert!(
        ok(&db, "status")
            .await
            .contains("2 requests wait for running attempts")
    );
    end(&worker, &items[0], failed(FailureClass::Transient)).await;
    assert_eq!(
        db.count("odf.chunk where status = 'cancelled' and key = '00001'")
            .await,
        1
    );
}

#[tokio::test]
async fn waiting_ends_when_it_has_ended_or_in_time() {
    let db = TestDb::new().await;
    Shape::single(9).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    let items = worker.claim(4).await;
    for line in [
        "pause mid --wait=10ms",
        "scale extract 3 --wait=10ms",
        "drain w1 --wait=10ms",
        "scale --worker w1 1 --wait=10ms",
    ] {
        let ran = run(&db, Role::Operator, line).await;
        assert_eq!(ran.exit, Exit::TimedOut, "{line}: {}", ran.err);
        assert!(
            ran.err.contains("4 still running when the wait was over"),
            "{line}: {}",
            ran.err
        );
    }
    // What was ordered stays in force: nothing more is given out.
    assert!(worker.claim(4).await.is_empty());
    worker.complete(&items).await;
    for line in [
        "pause mid --wait",
        "scale extract 3 --wait=1m",
        "drain w1 --wait",
        "scale --worker w1 1 --wait",
    ] {
        let ran = run(&db, Role::Operator, line).await;
        assert_eq!(ran.exit, Exit::Ok, "{line}: {}", ran.err);
    }
}

#[tokio::test]
async fn reasons_with_spaces_and_hostile_text_arrive_as_they_are() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let reason = "it's $(rm -rf /); \"x\" \u{1b}[31m\nnext";
    let ran = run_words(
        Some(&db.url(Role::Operator)),
        &["hold", "mid/00001", "--reason", reason],
    )
    .await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let stored: String = db
        .scalar("select reason from odf.chunk where key = '00001' and dataset = 'mid'")
        .await;
    assert_eq!(stored, reason);
    let listed = ok(&db, "chunks mid --status held").await;
    assert!(
        !listed.contains('\u{1b}'),
        "a message cannot drive a terminal: {listed:?}"
    );
    assert_eq!(listed.lines().count(), 2, "nor break the table: {listed:?}");
}
