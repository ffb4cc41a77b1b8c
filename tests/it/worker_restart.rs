//! Worker processes that die, double or lose their session: nothing lives on, nothing is lost.

use nix::sys::signal::Signal;

use crate::harness::{Shape, eventually};
use crate::worker_support::{Site, lives};

/// Never ends by itself, deaf to TERM, with a child in a session of its own.
const STUBBORN: &str = r#"
trap '' TERM
setsid sleep 600 &
echo "child $!" >> "$WITNESS"
echo "start $ODF_CHUNK $ODF_FENCE $$" >> "$WITNESS"
while :; do sleep 1; done
"#;

/// Ends at once.
const QUICK: &str = r#"
echo "again $ODF_CHUNK $ODF_FENCE $$" >> "$WITNESS"
echo x > "$ODF_STAGING"
"#;

#[tokio::test]
async fn after_kill_9_a_restart_on_the_machine_goes_on_at_once() {
    // A silence that would hold the chunk for ten minutes.
    let shape = Shape::single(1).with("extract", "silence: 10m");
    let site = Site::new(&shape).await;
    site.script(STUBBORN);
    let worker = site.worker("w1").start();
    let child = site.until_witnessed("child ").await;
    let start = site.until_witnessed("start ").await;
    let script = start.rsplit(' ').next().unwrap().to_owned();
    worker.kill();
    site.script(QUICK);
    let worker = site.worker("w1").start();
    let again = site.until_witnessed("again ").await;
    assert!(!lives(&script) && !lives(&child), "they died before");
    assert_ne!(
        again.split(' ').nth(1),
        start.split(' ').nth(1),
        "another fence"
    );
    site.until_count("mid", "validated", 1).await;
    assert_eq!(
        site.ends().await,
        ["released restarted on the same machine", "validated"]
    );
    let charged: i32 = site
        .db
        .scalar("select charged from odf.chunk where dataset = 'mid'")
        .await;
    assert_eq!(charged, 0);
    worker.drain().await;
}

#[tokio::test]
async fn a_name_is_one_workers() {
    let site = Site::new(&Shape::single(1)).await;
    site.script(QUICK);
    let first = site.worker("w1").start();
    site.until_count("mid", "validated", 1).await;
    let mut here = site.worker("w1").start();
    assert_eq!(here.ended().await.code(), Some(1));
    let log = here.log();
    assert!(log.contains(&format!("process {}", first.pid())), "{log}");
    assert!(log.contains("--name"), "{log}");

    let elsewhere = site.path("elsewhere");
    let mut there = site
        .worker("w1")
        .args(&["--state-dir", elsewhere.to_str().unwrap()])
        .start();
    assert_eq!(there.ended().await.code(), Some(1));
    let log = there.log();
    assert!(log.contains("already at work"), "{log}");
    first.drain().await;
}

#[tokio::test]
async fn a_lost_session_is_replaced_and_its_attempts_end() {
    let site = Site::new(&Shape::single(1).with("extract", "silence: 10m")).await;
    site.script(STUBBORN);
    let worker = site.worker("w1").start();
    let start = site.until_witnessed("start ").await;
    let script = start.rsplit(' ').next().unwrap().to_owned();
    site.script(QUICK);
    // As a sweep does it: the chunk goes elsewhere, the session is dead.
    site.db
        .exec(
            "select odf.release_leases(session_id, array(select chunk_id from odf.lease), 'test') \
             from odf.worker_session",
            &[],
        )
        .await;
    site.db
        .exec(
            "update odf.worker_session set state = 'dead', ended_at = now(), end_reason = 'test'",
            &[],
        )
        .await;
    site.until_witnessed("again ").await;
    site.until_count("mid", "validated", 1).await;
    assert!(!lives(&script));
    let sessions: i64 = site
        .db
        .scalar("select count(*) from odf.worker_session where state = 'active'")
        .await;
    assert_eq!(sessions, 1);
    assert!(worker.log().contains("registered again"));

    // And one that is not even known any more.
    site.db.exec("delete from odf.worker_session", &[]).await;
    eventually("a third session", async || {
        let sessions: i64 = site
            .db
            .scalar("select count(*) from odf.worker_session where state = 'active'")
            .await;
        (sessions == 1).then_some(())
    })
    .await;
    worker.drain().await;
}

#[tokio::test]
async fn a_stopped_worker_leaves_no_script_behind() {
    // The shortest silence that there is: the guard must be as quick.
    let site = Site::new(&Shape::single(1).with("extract", "silence: 5s")).await;
    site.script(STUBBORN);
    let worker = site.worker("w1").start();
    let child = site.until_witnessed("child ").await;
    let start = site.until_witnessed("start ").await;
    let script = start.rsplit(' ').next().unwrap().to_owned();
    let coordinator = site.coordinator();
    worker.signal(Signal::SIGSTOP);
    eventually("the script to be dead", async || {
        (!lives(&script) && !lives(&child)).then_some(())
    })
    .await;
    assert_eq!(
        site.count("mid", "running").await,
        1,
        "dead before its lease is anybody's"
    );
    // The lease comes free by silence; then the worker wakes up and finds its session over.
    site.until_count("mid", "ready", 1).await;
    site.script(QUICK);
    worker.signal(Signal::SIGCONT);
    site.until_count("mid", "validated", 1).await;
    coordinator.stop().await;
    worker.drain().await;
}

#[tokio::test]
async fn a_killed_guard_is_replaced() {
    let site = Site::new(&Shape::single(1)).await;
    site.script(STUBBORN);
    let coordinator = site.coordinator();
    let worker = site.worker("w1").start();
    let start = site.until_witnessed("start ").await;
    let script = start.rsplit(' ').next().unwrap().to_owned();
    site.script(QUICK);
    let guard = child_of(worker.pid().as_raw()).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(guard), Signal::SIGKILL).unwrap();
    eventually("the script to be dead", async || {
        (!lives(&script)).then_some(())
    })
    .await;
    // The failure is this host's: uncharged, and claims pause for a moment.
    site.until_count("mid", "validated", 1).await;
    coordinator.stop().await;
    worker.drain().await;
}

/// The one child of a process. A child belongs to the thread that made it.
async fn child_of(pid: i32) -> i32 {
    eventually("the guard", async || {
        std::fs::read_dir(format!("/proc/{pid}/task"))
            .ok()?
            .flatten()
            .find_map(|task| {
                let text = std::fs::read_to_string(task.path().join("children")).ok()?;
                text.split_whitespace().next()?.parse().ok()
            })
    })
    .await
}
