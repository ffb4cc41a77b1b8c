//! People who leave a transaction open: what it locks waits, and nothing else does.

use common::endpoint::SecretString;
use common::store::{ControlDb, WorkerSession};
use serde_json::json;

use crate::faults_support::{CALM, Estate, TICKING, listed};
use crate::faults_witness::{doubled, open};
use crate::harness::actor::hello;
use crate::harness::{Role, TestDb, cluster, eventually};

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
        "set idle_in_transaction_session_timeout = 0; begin;
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

#[tokio::test]
async fn calls_that_wait_leave_a_session_for_beats() {
    let db = TestDb::new().await;
    let url = SecretString::from(db.url(Role::Worker));
    let all = ControlDb::new(url, 3, "odf-it").unwrap();
    let work = all.clone().at_most(2);
    let stuck = WorkerSession::register(&work, &hello("w1", 4))
        .await
        .unwrap();
    let other = WorkerSession::register(&work, &hello("w2", 4))
        .await
        .unwrap();
    let person = db.another_admin().await;
    cluster::run(
        &person,
        &format!(
            "set idle_in_transaction_session_timeout = 0; begin; select from odf.worker_session where session_id = {} for update",
            stuck.id().0
        ),
    )
    .await;
    let claims = async { tokio::join!(stuck.claim(1, 1), stuck.claim(2, 1), stuck.claim(3, 1)) };
    let beat = async {
        eventually("two calls that wait for a lock", async || {
            let waiting: i64 = db
                .scalar(
                    "select count(*) from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock'",
                )
                .await;
            (waiting == 2).then_some(())
        })
        .await;
        let beats = WorkerSession::resume(&all, other.id(), other.key());
        beats.beat(1, json!({"free": 0})).await.unwrap()
    };
    tokio::select! {
        biased;
        ended = claims => panic!("the claims end before the beat is answered: {ended:?}"),
        answer = beat => assert_eq!(answer.state, "active"),
    }
    cluster::run(&person, "rollback").await;
    person.close().await;
}
