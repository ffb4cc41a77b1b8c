//! Other machines: one with a name that is taken here, and ones whose clocks are hours off.

use std::path::Path;

use crate::faults_process::until;
use crate::faults_support::{Estate, TICKING, listed};
use crate::faults_witness::{doubled, open, starts};

/// A job whose workers are given up soon.
const MORTAL: &str = ", silence: 25s, retry: { attempts: 5, backoff: 1s }";

/// The library that gives a program another clock, where it is installed.
fn faketime() -> Option<String> {
    let found = ["x86_64", "aarch64"]
        .map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|path| Path::new(path).exists());
    if found.is_none() {
        eprintln!("skipped: libfaketime is not installed (apt-get install faketime)");
    }
    found
}

#[tokio::test]
async fn a_name_at_work_elsewhere_is_refused_until_it_is_dead() {
    let estate = Estate::new().await;
    let id = estate.path("machine-id");
    std::fs::write(&id, "0123456789abcdef0123456789abcdef\n").unwrap();
    let elsewhere = estate.path("elsewhere");
    let there = || {
        estate
            .worker("w1")
            .env("ODF_STATE_DIR", &elsewhere)
            .env("WHO", "there")
            .on_machine(&id, "other-host")
    };
    if !there().can_start() {
        eprintln!("skipped: another machine cannot be played here: no mount name spaces");
        return;
    }
    estate.script(TICKING);
    estate.apply(&listed(6, MORTAL)).await;
    let coordinator = estate.serve();
    let here = estate.worker("w1").start();
    estate
        .until_witness("it works", |witness| open(witness).len() == 4)
        .await;

    let mut refused = there().start();
    assert_eq!(refused.ended().await.code(), Some(1), "{}", refused.log());
    let said = refused.log();
    let pid = format!("process {}", here.pid());
    for word in [
        "'w1' is already at work",
        "host ",
        &pid,
        "last heard",
        "--name",
    ] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    let sessions: i64 = estate.control.get(SESSIONS).await;
    assert_eq!(sessions, 1);
    assert_eq!(open(&estate.witness()).len(), 4, "nobody was disturbed");

    // The first machine is lost; its name and its chunks come free with its silence.
    here.kill();
    let mut there = loop {
        let mut again = there().start();
        let started = until("its start", || {
            let registered = again.log().contains("registered");
            (registered || !again.runs()).then_some(registered)
        });
        if started.await.unwrap() {
            break again;
        }
    };
    assert!(there.runs());
    estate.open_gate(99);
    estate.until_count("made", "validated", 6).await;
    let host: String = estate
        .control
        .get("select host || ' ' || machine_id from odf.worker_session where state = 'active'")
        .await;
    assert_eq!(host, "other-host 0123456789abcdef0123456789abcdef");
    assert_eq!(doubled(&estate.witness()), [""; 0]);
    estate.assert_published_once("made").await;
    there.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}

/// Sessions that were ever registered.
const SESSIONS: &str = "select count(*) from odf.worker_session";

#[tokio::test]
async fn clocks_that_are_hours_off_decide_nothing() {
    let Some(library) = faketime() else {
        return;
    };
    let estate = Estate::new().await;
    estate.script(&format!(
        "{TICKING}\nif [ \"$ODF_CHUNK_NAME $ODF_ATTEMPT\" = 'made/k010 1' ]; then exit 1; fi"
    ));
    estate.apply(&listed(10, MORTAL)).await;
    let coordinator = estate
        .coordinator("coordinator")
        .by_clock(&library, "+11h")
        .start();
    let behind = estate.worker("w1").by_clock(&library, "-7h").start();
    let ahead = estate.worker("w2").by_clock(&library, "+9h").start();
    estate
        .until_witness("both work", |witness| open(witness).len() == 8)
        .await;
    for (daemon, hours) in [(&coordinator, 11), (&behind, -7), (&ahead, 9)] {
        let log = daemon.log();
        let stamp = log.split_whitespace().next().unwrap();
        let sql = format!(
            "select round(extract(epoch from timestamptz '{stamp}' - now()) / 3600)::bigint"
        );
        assert_eq!(estate.control.get::<i64>(&sql).await, hours, "{log}");
    }
    // Several silences and looks of the leader pass: who is alive keeps what it has.
    let beats: i64 = estate.control.get(BEATS).await;
    estate
        .until(&format!("select ({BEATS}) > {}", beats + 20))
        .await;
    assert_eq!(starts(&estate.witness()), 8);
    assert_eq!(estate.ends().await, [""; 0]);

    // One that dies is missed in time, and no sooner than its silence allows.
    let pid = ahead.pid();
    ahead.kill();
    // What the library cannot tidy up for a program that is killed.
    for left in ["faketime_shm", "sem.faketime_sem"] {
        let _gone = std::fs::remove_file(format!("/dev/shm/{left}_{pid}"));
    }
    estate
        .until("select count(*) = 4 from odf.attempt where outcome = 'lost'")
        .await;
    estate.open_gate(99);
    estate.until_count("made", "validated", 10).await;
    let odd: Vec<String> = estate
        .control
        .column(
            "select concat_ws(' ', chunk_id, claimed_at, ended_at) from odf.attempt
              where claimed_at not between now() - interval '10 minutes' and now()
                 or ended_at not between claimed_at and now()",
        )
        .await;
    assert_eq!(odd, [""; 0], "only the server's clock is written down");
    let charged: i64 = estate
        .control
        .get("select sum(charged)::bigint from odf.chunk where dataset = 'made'")
        .await;
    assert_eq!(charged, 1, "for the one that failed");
    assert_eq!(doubled(&estate.witness()), [""; 0]);
    estate.assert_published_once("made").await;
    behind.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}

/// How often the workers were heard.
const BEATS: &str = "select sum(beat_no)::bigint from odf.worker_session";
