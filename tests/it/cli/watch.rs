//! `status --watch --until-done`: it ends when the work has ended, well or badly.

use common::domain::FailureClass;
use coordinator::cli::Exit;

use super::support::{Kept, end, run, run_kept};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, eventually, failed};

#[tokio::test]
async fn watching_ends_well_when_every_data_set_is_done() {
    let db = TestDb::new().await;
    Shape::chain(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    let (out, err) = (Kept::default(), Kept::default());
    let (seen, url) = (out.clone(), db.url(Role::Viewer));
    let watch = run_kept(
        Some(&url),
        &["status", "--watch", "--until-done", "--interval", "100ms"],
        out,
        err,
    );
    let work = async {
        eventually("the first look", || async {
            seen.text().contains("mid IDLE").then_some(())
        })
        .await;
        worker.drain(4).await;
    };
    let (exit, ()) = tokio::join!(watch, work);
    assert_eq!(exit, Exit::Ok);
    let text = seen.text();
    assert!(text.contains("dst DONE     3/3 100.0%"), "{text}");
    assert_eq!(
        text.matches("src DONE").count(),
        1,
        "a pipe gets only the lines that changed: {text}"
    );
}

#[tokio::test]
async fn watching_ends_with_5_when_what_is_left_needs_a_person() {
    let db = TestDb::new().await;
    Shape::fan_in(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    let items = worker.claim(3).await;
    end(&worker, &items[0], failed(FailureClass::Permanent)).await;
    worker.complete(&items[1..]).await;
    // Open as long as dst can go on.
    let open = run(
        &db,
        Role::Viewer,
        "status --until-done --interval 100ms --timeout 300ms",
    )
    .await;
    assert_eq!(open.exit, Exit::TimedOut, "{}", open.out);
    worker.drain(4).await;
    leader.passes().await;
    let ran = run(
        &db,
        Role::Viewer,
        "status --watch --until-done --interval 100ms --timeout 1m",
    )
    .await;
    assert_eq!(ran.exit, Exit::Degraded, "{}", ran.out);
    assert!(ran.out.contains("dst   BLOCKED  2/3 66.6%"), "{}", ran.out);
}

#[tokio::test]
async fn an_empty_installation_is_not_done() {
    let db = TestDb::new().await;
    let ran = run(
        &db,
        Role::Viewer,
        "status --until-done --interval 100ms --timeout 200ms",
    )
    .await;
    assert_eq!(ran.exit, Exit::TimedOut);
}
