//! Worker processes whose control database goes away, answers late or loses answers.

use std::time::{Duration, Instant};

use common::endpoint::SecretString;
use common::private_pg::{Death, StopMode};
use common::store::ControlDb;

use crate::harness::cluster::{own_server, prepare, session};
use crate::harness::flow::apply_to;
use crate::harness::{Fault, Proxy, Shape, eventually};
use crate::worker_support::{SCALE, Site, coordinator_at, lives};

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
    eventually("the script to be dead", async || {
        (!lives(&script)).then_some(())
    })
    .await;
    let killed = since.elapsed();
    let unheard: f64 = worker
        .log()
        .split("not heard for ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap();
    let term_at = silence.as_secs_f64() * 0.6;
    assert!(
        (term_at - 0.05..term_at + 1.0).contains(&unheard),
        "{unheard}"
    );
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

/// A flow whose source needs no database: its chunks are listed.
fn listed(lake: &std::path::Path) -> String {
    format!(
        "flow: listed\nconnections:\n  lake: {{ kind: files, root: {} }}\ndatasets:\n  \
         src: {{ at: {{ connection: lake, path: \"src/{{chunk}}\" }}, partition: {{ list: [a] }} }}\n  \
         mid: {{ at: {{ connection: lake, path: \"mid/{{chunk}}.{{fence}}\" }} }}\njobs:\n  \
         extract: {{ input: src, output: mid, run: {{ script: run.sh }}, silence: 10m }}\n",
        lake.display()
    )
}

#[tokio::test]
async fn a_crash_and_restart_of_the_server_loses_nothing() {
    let site = Site::new(&Shape::single(1)).await;
    site.script(DEAF);
    let mut server = own_server(&[("synchronous_commit", "on")]).await;
    server.ensure_database("odf").await.unwrap();
    let url = server.url("odf");
    prepare(&url).await;
    let yaml = listed(&site.path("lake"));
    let flow = common::flow::parse_flow(&yaml, "listed.yaml").unwrap().flow;
    let control = ControlDb::new(SecretString::from(url.clone()), 2, "odf-it").unwrap();
    apply_to(&control, &flow, &yaml).await.unwrap();
    let coordinator = coordinator_at(&url);
    let worker = site.worker("w1").args(&["--database-url", &url]).start();
    site.until_witnessed("start ").await;
    server.kill_hard(Death::Quit).await.unwrap();
    worker.until_logged("beat: ").await;
    std::fs::write(site.path("witness.go"), "").unwrap();
    worker.until_logged("settle, to be repeated").await;
    server.restart(StopMode::Fast).await.unwrap();
    worker
        .until_logged("the control database answers again")
        .await;
    let admin = session(&url).await;
    eventually("the end to be recorded", async || {
        let query = "select outcome from odf.attempt";
        let rows = admin.query(query, &[]).await.unwrap();
        assert!(rows.len() < 2);
        rows.first().map(|row| {
            let outcome: String = row.get(0);
            assert_eq!(outcome, "validated");
        })
    })
    .await;
    admin.close().await;
    coordinator.stop().await;
    worker.drain().await;
}
