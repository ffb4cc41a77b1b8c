//! Worker processes whose control database goes away, answers late or loses answers.

use std::time::{Duration, Instant};

use crate::harness::{Fault, Proxy, Shape, eventually};
use crate::worker_support::{SCALE, Site, lives};

/// Ends when the test says so; deaf to TERM until then.
const DEAF: &str = r#"
trap 'echo "term $ODF_CHUNK" >> "$WITNESS"' TERM
echo "start $ODF_CHUNK $ODF_FENCE $$" >> "$WITNESS"
while [ ! -e "$WITNESS.go" ]; do sleep 0.05; done
echo x > "$ODF_STAGING"
"#;

const QUICK: &str = r#"
echo "run $ODF_CHUNK $ODF_FENCE" >> "$WITNESS"
echo x > "$ODF_STAGING"
"#;

fn published(site: &Site) -> usize {
    std::fs::read_dir(site.path("lake/mid")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_long_silence_survives_an_outage() {
    let site = Site::new(&Shape::single(1).with("extract", "silence: 10m")).await;
    site.script(DEAF);
    let coordinator = site.coordinator();
    let proxy = Proxy::start(site.db.port()).await;
    let worker = site.worker_at("w1", proxy.port()).start();
    let start = site.until_witnessed("start ").await;
    proxy.black_hole(true);
    worker.until_logged("beat: ").await;
    // It ends during the outage: recorded when the database answers again.
    std::fs::write(site.path("witness.go"), "").unwrap();
    eventually("the output", async || (published(&site) == 1).then_some(())).await;
    assert_eq!(site.count("mid", "running").await, 1);
    proxy.black_hole(false);
    proxy.cut_all();
    site.until_count("mid", "validated", 1).await;
    assert_eq!(site.ends().await, ["validated"]);
    assert!(!site.witness().iter().any(|line| line.starts_with("term")));
    assert!(!start.is_empty());
    coordinator.stop().await;
    worker.drain().await;
}

#[tokio::test]
async fn unheard_for_its_silence_an_attempt_is_ended_before_its_lease() {
    let silence = Duration::from_secs(30) / SCALE;
    let site = Site::new(&Shape::single(1).with("extract", "silence: 30s")).await;
    site.script(DEAF);
    let coordinator = site.coordinator();
    let proxy = Proxy::start(site.db.port()).await;
    let worker = site.worker_at("w1", proxy.port()).start();
    let start = site.until_witnessed("start ").await;
    let script = start.rsplit(' ').next().unwrap().to_owned();
    proxy.black_hole(true);
    let since = Instant::now();
    site.until_witnessed("term ").await;
    let termed = since.elapsed();
    eventually("the script to be dead", async || {
        (!lives(&script)).then_some(())
    })
    .await;
    let killed = since.elapsed();
    // The count began with the last answered beat, up to a beat (0.4 s) before the cut.
    let beat = Duration::from_millis(500);
    assert!(termed + beat >= silence.mul_f64(0.6), "{termed:?}");
    assert!(killed + beat >= silence.mul_f64(0.8), "{killed:?}");
    let running = site.count("mid", "running").await;
    assert!(
        killed > silence || running == 1,
        "dead before the lease is anybody's"
    );
    site.until_count("mid", "ready", 1).await;
    assert_eq!(published(&site), 0);
    site.script(QUICK);
    proxy.black_hole(false);
    proxy.cut_all();
    site.until_count("mid", "validated", 1).await;
    assert_eq!(published(&site), 1);
    let first: String = site
        .db
        .scalar("select outcome from odf.attempt order by attempt limit 1")
        .await;
    assert_eq!(first, "lost");
    worker.until_logged("was not heard for").await;
    coordinator.stop().await;
    worker.drain().await;
}

#[tokio::test]
async fn lost_answers_cost_no_attempt() {
    let site = Site::new(&Shape::single(12)).await;
    site.script(QUICK);
    let proxy = Proxy::start(site.db.port()).await;
    proxy.arm_after(Fault::CutAfterCommit("odf.claim(".to_owned()), 1);
    let worker = site.worker_at("w1", proxy.port()).start();
    eventually("the claim's answer to be lost", async || {
        (proxy.struck() >= 1).then_some(())
    })
    .await;
    proxy.arm(Fault::CutAfterCommit("odf.settle(".to_owned()));
    eventually("the settle's answer to be lost", async || {
        (proxy.struck() >= 2).then_some(())
    })
    .await;
    proxy.arm(Fault::CutAfterCommit("odf.beat(".to_owned()));
    eventually("the beat's answer to be lost", async || {
        (proxy.struck() >= 3).then_some(())
    })
    .await;
    site.until_count("mid", "validated", 12).await;
    // Every chunk ran once: what a lost answer had brought was found by asking again.
    assert_eq!(site.ends().await, vec!["validated"; 12]);
    assert_eq!(site.witness().len(), 12);
    assert_eq!(published(&site), 12);
    assert_eq!(site.db.bugs().await, [""; 0]);
    worker.drain().await;
}

#[tokio::test]
async fn a_cut_network_loses_nothing() {
    let site = Site::new(&Shape::chain(40)).await;
    site.script(QUICK);
    let coordinator = site.coordinator();
    let proxy = Proxy::start(site.db.port()).await;
    let worker = site.worker_at("w1", proxy.port()).start();
    for part in 1..8 {
        let goal = part * 10;
        eventually("some progress", async || {
            let done: i64 = site.db.scalar("select count(*) from odf.publication").await;
            (done >= goal).then_some(())
        })
        .await;
        proxy.cut_all();
    }
    site.until_count("dst", "validated", 40).await;
    let publications: i64 = site.db.scalar("select count(*) from odf.publication").await;
    assert_eq!(publications, 80, "each chunk once");
    assert_eq!(site.db.bugs().await, [""; 0]);
    coordinator.stop().await;
    worker.drain().await;
}
