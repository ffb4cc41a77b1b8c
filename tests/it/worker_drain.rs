//! The orderly end of a worker process, asked for by a signal or by a person.

use nix::sys::signal::Signal;

use crate::harness::{Proxy, Shape, eventually};
use crate::worker_support::{Site, lives};

/// Ends when the test says so, or politely at TERM.
const WAITING: &str = r#"
trap 'echo "term $ODF_CHUNK" >> "$WITNESS"; exit 1' TERM
echo "start $ODF_CHUNK $$" >> "$WITNESS"
while [ ! -e "$WITNESS.go" ]; do sleep 0.05; done
echo x > "$ODF_STAGING"
"#;

const DEAF: &str = r#"
trap '' TERM
echo "start $ODF_CHUNK $$" >> "$WITNESS"
while :; do sleep 0.05; done
"#;

#[tokio::test]
async fn what_runs_may_finish_within_the_grace() {
    let site = Site::new(&Shape::single(3)).await;
    site.script(WAITING);
    let mut worker = site
        .worker("w1")
        .args(&["--slots", "2", "--grace", "1m"])
        .start();
    site.until_count("mid", "running", 2).await;
    site.until_witnessed("start ").await;
    worker.signal(Signal::SIGTERM);
    worker.until_logged("draining").await;
    std::fs::write(site.path("witness.go"), "").unwrap();
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
    assert_eq!(site.count("mid", "validated").await, 2);
    assert_eq!(
        site.count("mid", "ready").await,
        1,
        "nothing new was claimed"
    );
    let state: String = site
        .db
        .scalar("select state || ': ' || end_reason from odf.worker_session")
        .await;
    assert_eq!(state, "ended: worker drained");
}

#[tokio::test]
async fn after_the_grace_attempts_are_ended_and_handed_back_uncharged() {
    let site = Site::new(&Shape::single(2)).await;
    site.script(WAITING);
    let mut worker = site.worker("w1").args(&["--grace", "300ms"]).start();
    site.until_witnessed("start 00001").await;
    site.until_witnessed("start 00002").await;
    worker.signal(Signal::SIGINT);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
    site.until_witnessed("term 00001").await;
    site.until_witnessed("term 00002").await;
    assert_eq!(site.ends().await, vec!["released worker drained"; 2]);
    assert_eq!(site.count("mid", "ready").await, 2);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let site = Site::new(&Shape::single(1)).await;
    site.script(DEAF);
    let mut worker = site.worker("w1").args(&["--grace", "none"]).start();
    let start = site.until_witnessed("start ").await;
    worker.signal(Signal::SIGTERM);
    worker.until_logged("draining").await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
    assert!(!lives(start.rsplit(' ').next().unwrap()));
    assert_eq!(site.ends().await, ["released worker drained"]);
    assert_eq!(site.count("mid", "ready").await, 1);
}

#[tokio::test]
async fn a_person_drains_a_worker_and_takes_it_back() {
    let site = Site::new(&Shape::single(3)).await;
    site.script(WAITING);
    let worker = site.worker("w1").args(&["--slots", "1"]).start();
    site.until_count("mid", "running", 1).await;
    let drain = "select odf.drain_worker('w1', $1, 'test')";
    site.db.exec(drain, &[&true]).await;
    worker.until_logged("asked this worker to drain").await;
    std::fs::write(site.path("witness.go"), "").unwrap();
    site.until_count("mid", "validated", 1).await;
    let before = beats(&site).await;
    eventually("ten more beats", async || {
        (beats(&site).await >= before + 10).then_some(())
    })
    .await;
    assert_eq!(
        site.count("mid", "ready").await,
        2,
        "it beats and claims nothing"
    );
    site.db.exec(drain, &[&false]).await;
    site.until_count("mid", "validated", 3).await;
    worker.drain().await;
}

#[tokio::test]
async fn a_person_ends_one_attempt() {
    let site = Site::new(&Shape::single(2)).await;
    site.script(WAITING);
    let worker = site.worker("w1").start();
    site.until_witnessed("start 00001").await;
    site.until_witnessed("start 00002").await;
    let scaled = "select odf.scale('extract', '1', 'test', true)";
    site.db.exec(scaled, &[]).await;
    site.until_count("mid", "running", 1).await;
    std::fs::write(site.path("witness.go"), "").unwrap();
    site.until_count("mid", "validated", 2).await;
    assert!(
        site.ends()
            .await
            .contains(&"released scaled down".to_owned())
    );
    worker.drain().await;
}

#[tokio::test]
async fn an_end_that_cannot_be_told_is_told_by_the_next_start() {
    let site = Site::new(&Shape::single(1).with("extract", "silence: 10m")).await;
    site.script(WAITING);
    let proxy = Proxy::start(site.db.port()).await;
    let mut worker = site
        .worker_at("w1", proxy.port())
        .args(&["--grace", "0s"])
        .start();
    site.until_witnessed("start ").await;
    proxy.black_hole(true);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(1));
    let log = worker.log();
    assert!(log.contains("1 attempts are not recorded"), "{log}");
    assert_eq!(site.count("mid", "running").await, 1);
    std::fs::write(site.path("witness.go"), "").unwrap();
    let worker = site.worker("w1").start();
    site.until_count("mid", "validated", 1).await;
    assert_eq!(
        site.ends().await,
        ["released restarted on the same machine", "validated"]
    );
    worker.drain().await;
}

async fn beats(site: &Site) -> i64 {
    site.db
        .scalar("select max(beat_no) from odf.worker_session")
        .await
}
