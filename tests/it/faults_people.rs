//! People who leave a transaction open: what it locks waits, and nothing else does.

use crate::faults_support::{CALM, Estate, TICKING, listed};
use crate::faults_witness::{doubled, open};
use crate::harness::cluster;

#[tokio::test]
async fn an_open_transaction_holds_up_what_it_locks_and_nothing_else() {
    let estate = Estate::new().await;
    estate.script(TICKING);
    estate.apply(&listed(12, CALM)).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until_witness("it works", |witness| open(witness).len() == 4)
        .await;
    // The state of one that runs and of one that waits, and the lease of one that runs.
    let person = cluster::session(&estate.urls.admin).await;
    cluster::run(
        &person,
        "begin;
         select from odf.chunk_state where chunk_id in (
           select chunk_id from odf.chunk where name in ('made/k002', 'made/k006')) for update;
         select from odf.lease where chunk_id = (
           select chunk_id from odf.chunk where name = 'made/k003') for update",
    )
    .await;
    estate.open_gate(99);
    estate.until_count("made", "validated", 9).await;
    let beats: i64 = estate.control.get(BEATS).await;
    estate
        .until(&format!("select ({BEATS}) > {}", beats + 5))
        .await;
    let left: Vec<String> = estate
        .control
        .column("select key from odf.chunk where dataset = 'made' and status <> 'validated' order by key")
        .await;
    assert_eq!(left, ["k002", "k003", "k006"]);
    assert_eq!(
        open(&estate.witness()),
        [],
        "all that was claimed has ended"
    );

    cluster::run(&person, "commit").await;
    person.close().await;
    estate.until_count("made", "validated", 12).await;
    assert_eq!(estate.ends().await, vec!["validated"; 12]);
    estate.assert_published_once("made").await;
    assert_eq!(doubled(&estate.witness()), [""; 0]);
    worker.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}

/// How often the one worker was heard.
const BEATS: &str = "select sum(beat_no)::bigint from odf.worker_session where state = 'active'";
