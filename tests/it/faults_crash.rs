//! Coordinators and the control database that go away in the middle: what is ready goes on, nothing
//! is lost and nothing done twice, and plain SQL moves things meanwhile.

use common::private_pg::{Death, StopMode};

use crate::faults_support::{CALM, Estate, TICKING, listed};
use crate::faults_witness::{doubled, open, starts};
use crate::harness::cluster;

/// `items` -> `made` -> `used`, one file each, by the same script.
fn chain(chunks: usize, job: &str) -> String {
    let run = format!("run: {{ script: run.sh, env: {{ WHO: \"${{env:WHO}}\" }} }}{job}");
    listed(chunks, job).replace(
        "jobs:\n",
        &format!(
            "  used: {{ at: {{ connection: lake, path: \"used/{{chunk}}.{{fence}}\" }} }}
jobs:
  use: {{ input: {{ dataset: made, accept: unvalidated }}, output: used, {run} }}
"
        ),
    )
}

#[tokio::test]
async fn without_a_coordinator_work_goes_on_and_retries_come_with_the_next_one() {
    let estate = Estate::new().await;
    // The first attempt of one chunk fails once the gate is open.
    estate.script(&format!(
        "{TICKING}\nif [ \"$ODF_CHUNK_NAME $ODF_ATTEMPT\" = 'made/k002 1' ]; then exit 1; fi"
    ));
    estate.apply(&chain(6, CALM)).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until_witness("it works", |witness| open(witness).len() == 4)
        .await;
    coordinator.kill();
    estate.open_gate(99);
    // One-to-one consumers are released by what their inputs' workers settle.
    estate.until_count("used", "validated", 5).await;
    estate.until_count("made", "failed", 1).await;
    assert_eq!(estate.count("used", "waiting").await, 1);
    // Plain SQL needs no coordinator either: the chunk is made again at once.
    estate
        .control
        .run("update odf.chunk set status = 'resubmit' where name = 'used/k005'")
        .await;
    estate
        .until("select status = 'validated' and generation = 2 from odf.chunk where name = 'used/k005'")
        .await;

    let coordinator = estate.serve();
    estate.until_count("used", "validated", 6).await;
    estate.assert_published_once("made").await;
    assert_eq!(doubled(&estate.witness()), [""; 0]);
    worker.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}

#[tokio::test]
async fn a_crash_of_the_server_in_the_middle_costs_nothing() {
    let mut pg = cluster::own_server(&[("fsync", "on")]).await;
    let estate = Estate::on(&pg).await;
    estate.script(TICKING);
    estate.apply(&chain(24, CALM)).await;
    let coordinator = estate.serve();
    let workers = [estate.worker("w1").start(), estate.worker("w2").start()];
    for (gate, death) in [(8, Death::Quit), (16, Death::Kill)] {
        estate
            .until_witness("eight run", |witness| open(witness).len() == 8)
            .await;
        // Killed while ends are being settled and claims follow.
        estate.open_gate(gate);
        let before = starts(&estate.witness());
        estate
            .until_witness("some end", |witness| {
                open(witness).len() < 8 || starts(witness) > before
            })
            .await;
        pg.kill_hard(death).await.unwrap();
        pg.restart(StopMode::Immediate).await.unwrap();
    }
    estate.open_gate(99);
    estate.until_count("used", "validated", 24).await;
    estate.assert_published_once("made").await;
    estate.assert_published_once("used").await;
    estate.assert_files_are_theirs("used").await;
    assert_eq!(doubled(&estate.witness()), [""; 0]);
    // Within the silence nothing that ran was given up, and what was made in the meantime counts.
    let ends = estate.ends().await;
    assert_eq!(ends, vec!["validated"; 48]);
    for worker in workers {
        worker.stop().await;
    }
    coordinator.stop().await;
    estate.assert_sound().await;
    pg.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn cancelled_while_it_runs_and_while_it_publishes() {
    let estate = Estate::new().await;
    estate.script(TICKING);
    estate.apply(&listed(4, CALM)).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until_witness("it works", |witness| open(witness).len() == 4)
        .await;
    // Running: with --now its scripts end and nothing is published; without, it may finish.
    estate
        .cli(&["cancel", "made/k001", "--now", "--yes", "--reason", "test"])
        .await
        .ok();
    estate.until_count("made", "cancelled", 1).await;
    estate.until("select count(*) = 3 from odf.lease").await;
    let settled = estate.ends().await;
    assert!(
        settled.iter().all(|end| end.starts_with("released")),
        "{settled:?}"
    );
    // At the very moment of publishing: the request and the end race, and either is whole.
    estate.open_gate(99);
    let cancelled = estate
        .cli(&["cancel", "made/k002", "--yes", "--reason", "test"])
        .await;
    let late = cancelled.code == Some(4) && cancelled.stderr.contains("nothing to cancel");
    assert!(cancelled.code == Some(0) || late, "{cancelled:?}");
    estate.until("select count(*) = 0 from odf.lease").await;
    estate
        .until("select bool_and(status in ('validated', 'cancelled')) from odf.chunk where dataset = 'made'")
        .await;
    let wrong: Vec<String> = estate
        .control
        .column(
            "select c.name || ' ' || c.status from odf.chunk c left join odf.publication p using (chunk_id)
              where c.dataset = 'made' and (c.status = 'validated') <> (p.chunk_id is not null)",
        )
        .await;
    assert_eq!(wrong, [""; 0]);
    let k001: i64 = estate
        .control
        .get("select count(*) from odf.publication join odf.chunk using (chunk_id) where name = 'made/k001'")
        .await;
    assert_eq!(k001, 0);
    // A cancelled chunk comes back by a person's word.
    estate.cli(&["resubmit", "made/k001"]).await.ok();
    estate
        .until("select status = 'validated' from odf.chunk where name = 'made/k001'")
        .await;
    assert_eq!(doubled(&estate.witness()), [""; 0]);
    worker.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}

#[tokio::test]
async fn a_flow_is_carried_on_by_plain_sql_after_everything_died() {
    let estate = Estate::new().await;
    estate.script(TICKING);
    estate
        .apply(&listed(6, ", silence: 25s, retry: { attempts: 1 }"))
        .await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until_witness("it works", |witness| open(witness).len() == 4)
        .await;
    worker.kill();
    coordinator.kill();
    // Nobody is left. A person asks for one of the dead by SQL, under the operator's login.
    let operator = cluster::session(&estate.urls.operator).await;
    cluster::run(
        &operator,
        "update odf.chunk set status = 'resubmit' where dataset = 'made' and key in ('k001', 'k006')",
    )
    .await;
    operator.close().await;
    let coordinator = estate.serve();
    let worker = estate.worker("w2").start();
    estate.open_gate(99);
    estate.until_count("made", "validated", 6).await;
    assert_eq!(doubled(&estate.witness()), [""; 0]);
    estate.assert_published_once("made").await;
    worker.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}
