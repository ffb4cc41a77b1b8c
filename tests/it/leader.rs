//! Leadership: one term at a time, and nothing that an older one does counts.

use std::time::{Duration, Instant};

use common::store::lead::Unheard;
use common::store::{ControlDb, LeaderProof, StoreError};
use tokio::task::JoinSet;

use crate::harness::{Role, Shape, TestDb, TestWorker, eventually};

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn one_leads_until_its_time_is_over() {
    let db = TestDb::new().await;
    let control = db.control(Role::Coordinator);
    let first = control.lead("a", LONG).await.unwrap();
    assert!(first.leader && first.expires_ms > 3_500_000);
    let other = control.lead("b", LONG).await.unwrap();
    assert!(!other.leader);
    assert_eq!((other.holder.as_str(), other.term), ("a", first.term));
    let renewed = control.lead("a", Duration::from_millis(1)).await.unwrap();
    assert_eq!(renewed.term, first.term, "a renewal keeps the term");
    let second = eventually("the time to be over", async || {
        let led = control.lead("b", LONG).await.unwrap();
        led.leader.then_some(led)
    })
    .await;
    assert_eq!(second.term, first.term + 1);
    control.proof(first.term).resign().await.unwrap();
    assert!(
        control.lead("b", LONG).await.unwrap().leader,
        "an old term resigns nothing"
    );
    control.proof(second.term).resign().await.unwrap();
    assert_eq!(control.lead("a", LONG).await.unwrap().term, second.term + 1);
}

#[tokio::test]
async fn of_many_who_ask_one_is_given_the_lead() {
    let db = TestDb::new().await;
    let mut tasks = JoinSet::new();
    for n in 0..12 {
        let control = db.control(Role::Coordinator);
        tasks.spawn(async move { control.lead(&format!("c{n}"), LONG).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|a| a.leader).count(), 1);
    assert!(
        answers
            .iter()
            .all(|a| a.term == 1 && a.holder == answers[0].holder)
    );
}

/// Calls every pass with a proof; answers the names of those that were not refused.
async fn not_refused(proof: &LeaderProof, worker: &TestWorker) -> Vec<&'static str> {
    let unheard = [Unheard {
        session: worker.id(),
        beat_no: 0,
        unheard_ms: 3_600_000,
    }];
    let answers = [
        ("beats", proof.beats().await.map(|_| 0)),
        (
            "sweep",
            proof.sweep(&unheard, Duration::ZERO).await.map(|(n, _)| n),
        ),
        ("retry_due", proof.retry_due(10).await),
        ("promote", proof.promote().await),
        ("allot", proof.allot().await),
        ("move_floors", proof.move_floors().await),
        ("look_below_floors", proof.look_below_floors().await),
        ("fold_progress", proof.fold_progress().await),
        ("find_stranded", proof.find_stranded(Duration::ZERO).await),
        ("watch_space", proof.watch_space().await),
        ("prune", proof.prune().await.map(|_| 0)),
    ];
    answers
        .into_iter()
        .filter(|(_, answer)| !matches!(answer, Err(StoreError::TermOver(_))))
        .map(|(name, _)| name)
        .collect()
}

#[tokio::test]
async fn everything_that_an_old_term_does_is_refused() {
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let control = db.control(Role::Coordinator);
    let worker = TestWorker::start(&db, "w1", 3).await;
    worker.claim(3).await;
    let old = control.lead("old", Duration::from_millis(1)).await.unwrap();
    let zombie = control.proof(old.term);
    // As soon as the time is over, even before anybody else leads.
    eventually("the time to be over", async || {
        let refused = zombie.fold_progress().await;
        matches!(refused, Err(StoreError::TermOver(_))).then_some(())
    })
    .await;
    assert_eq!(not_refused(&zombie, &worker).await, [""; 0]);
    let new = eventually("another to lead", async || {
        let led = control.lead("new", LONG).await.unwrap();
        led.leader.then_some(led)
    })
    .await;
    assert_eq!(not_refused(&zombie, &worker).await, [""; 0]);
    assert_eq!(db.count("odf.lease").await, 3);
    assert_eq!(
        not_refused(&control.proof(new.term), &worker).await.len(),
        11
    );
    assert_eq!(db.count("odf.lease").await, 0, "the new one's sweep counts");
    // Nor does its report hide the new one's.
    control
        .proof(new.term)
        .report_loop("sweep", Duration::ZERO, "new", true)
        .await
        .unwrap();
    let late = zombie
        .report_loop("sweep", Duration::ZERO, "old", false)
        .await;
    assert!(matches!(late, Err(StoreError::TermOver(_))), "{late:?}");
    assert_eq!(
        db.scalar::<String>("select result from odf.loop_status")
            .await,
        "new"
    );
}

#[tokio::test]
async fn a_takeover_waits_for_the_pass_that_runs_and_a_renewal_does_not() {
    let db = TestDb::new().await;
    let control = db.control(Role::Coordinator);
    let old = control.lead("old", LONG).await.unwrap();
    let mut session = db.another_admin().await;
    let pass = session.transaction().await.unwrap();
    pass.execute("select odf.prove_term($1)", &[&old.term])
        .await
        .unwrap();
    let asked = Instant::now();
    assert!(
        control
            .lead("old", Duration::from_millis(1))
            .await
            .unwrap()
            .leader
    );
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "a renewal goes beside the pass"
    );
    let taking: ControlDb = control.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let led = taking.lead("new", LONG).await.unwrap();
            if led.leader {
                return led;
            }
        }
    });
    eventually("the takeover to wait", async || {
        let waiting = db
            .count(
                "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
            )
            .await;
        (waiting > 0).then_some(())
    })
    .await;
    let term: i64 = pass
        .query_one("select term from odf.leader", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(term, old.term, "nothing is taken over under a running pass");
    pass.commit().await.unwrap();
    assert_eq!(tasks.join_next().await.unwrap().unwrap().term, old.term + 1);
}
