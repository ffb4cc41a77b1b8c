//! The sweep: dead workers lose their leases in time, living ones never, none is stranded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::domain::SessionId;
use common::store::lead::Unheard;
use common::store::{Claimed, Settled};
use coordinator::loops::LeaderPass;
use coordinator::loops::sweep::Sweep;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, validated};

const SLACK: Duration = Duration::from_secs(9);

#[tokio::test]
async fn a_beat_between_the_look_and_the_sweep_spares_the_session() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 2).await;
    let items = worker.claim(2).await;
    let beats = leader.proof.beats().await.unwrap();
    let unheard: Vec<Unheard> = beats
        .sessions
        .iter()
        .map(|(session, beat_no)| Unheard {
            session: *session,
            beat_no: *beat_no,
            unheard_ms: 3_600_000,
        })
        .collect();
    worker.beat().await;
    assert_eq!(leader.proof.sweep(&unheard, SLACK).await.unwrap(), (0, 0));
    assert_eq!(
        worker.settle(&items[0], validated(&items[0])).await,
        Settled::Applied
    );
    // And what was settled between the look and the sweep is not queued again.
    let beats = leader.proof.beats().await.unwrap();
    let unheard: Vec<Unheard> = beats
        .sessions
        .iter()
        .map(|(session, beat_no)| Unheard {
            session: *session,
            beat_no: *beat_no,
            unheard_ms: 3_600_000,
        })
        .collect();
    worker.complete(&items[1..]).await;
    assert_eq!(leader.proof.sweep(&unheard, SLACK).await.unwrap(), (1, 0));
    assert_eq!(db.count("odf.ready").await, 0);
}

#[tokio::test]
async fn each_job_has_its_own_silence() {
    let db = TestDb::new().await;
    let shape = Shape::single(1)
        .stage("copy", "input: src", "patient")
        .with("copy", "silence: 1h");
    let flow = shape.build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let items = worker.claim(4).await;
    assert_eq!(items.len(), 2);
    let (mid, patient) = (
        flow.chunks(&db, "mid").await[0],
        flow.chunks(&db, "patient").await[0],
    );
    assert_eq!(
        leader.sweep(&[&worker], Duration::from_secs(28)).await,
        (0, 0)
    );
    assert_eq!(
        leader.sweep(&[&worker], Duration::from_secs(29)).await,
        (0, 1),
        "25 s and the slack of 4 s"
    );
    assert_eq!(
        (
            db.status(mid).await.as_str(),
            db.status(patient).await.as_str()
        ),
        ("ready", "running")
    );
    assert_eq!(
        leader.sweep(&[&worker], Duration::from_secs(3603)).await,
        (0, 0)
    );
    // It comes back: what it still holds is its own, the other is not.
    let held: Vec<_> = items.iter().map(|i| (i.chunk_id, i.fence)).collect();
    assert!(worker.beat().await.reconcile);
    let lost = worker.session.reconcile(&held).await.unwrap();
    assert_eq!(lost.iter().map(|l| l.0).collect::<Vec<_>>(), [mid]);
    let kept = items.iter().find(|i| i.chunk_id == patient).unwrap();
    worker.complete(std::slice::from_ref(kept)).await;
    assert_eq!(leader.bury(&worker).await, (1, 0));
    assert_eq!(db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn a_long_attempt_of_a_living_worker_is_never_touched() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let mut sweep = Sweep::new(1.0);
    let alive = TestWorker::start(&db, "alive", 1).await;
    let killed = TestWorker::start(&db, "killed", 1).await;
    let held = alive.claim_one().await;
    killed.claim_one().await;
    let mut taken_after = None;
    // Three hours, in steps between two beats.
    for step in 1..=2700_u32 {
        if step % 3 == 1 || step < 20 {
            db.advance(Duration::from_secs(4)).await;
            alive.beat().await;
            sweep.pass(&leader.proof).await.unwrap();
        }
        if taken_after.is_none() && db.count("odf.lease").await == 1 {
            taken_after = Some(step * 4);
        }
        if step == 200 {
            db.advance(Duration::from_secs(9000)).await;
            alive.beat().await;
            break;
        }
    }
    let taken_after = taken_after.expect("the killed worker's lease is taken");
    assert!((34..=50).contains(&taken_after), "after {taken_after} s");
    assert_eq!(
        alive.settle(&held, validated(&held)).await,
        Settled::Applied
    );
    assert_eq!(held.attempt, 1);
}

#[tokio::test]
async fn a_new_leader_counts_from_the_start() {
    let db = TestDb::new().await;
    Shape::single(1).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 1).await;
    worker.claim_one().await;
    let (mut before, mut after) = (Sweep::new(1.0), Sweep::new(1.0));
    before.pass(&leader.proof).await.unwrap();
    db.advance(Duration::from_secs(30)).await;
    before.pass(&leader.proof).await.unwrap();
    db.advance(Duration::from_secs(3)).await;
    // The other takes over after 33 s of silence and must hear 34 s of its own.
    after.pass(&leader.proof).await.unwrap();
    db.advance(Duration::from_secs(33)).await;
    after.pass(&leader.proof).await.unwrap();
    assert_eq!(db.count("odf.lease").await, 1);
    db.advance(Duration::from_secs(2)).await;
    after.pass(&leader.proof).await.unwrap();
    assert_eq!(db.count("odf.lease").await, 0);
}

#[tokio::test]
async fn a_lease_of_a_session_that_is_over_is_repaired_and_counted() {
    let db = TestDb::new().await;
    Shape::single(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 2).await;
    let items = worker.claim(2).await;
    db.exec(
        "update odf.worker_session set state = 'dead', ended_at = now()",
        &[],
    )
    .await;
    leader.proof.sweep(&[], SLACK).await.unwrap();
    assert_eq!(db.count("odf.lease").await, 0);
    assert_eq!(
        db.bugs().await,
        [format!("lease_of_dead_session: {}", items[0].chunk_id)]
    );
    let other = TestWorker::start(&db, "w2", 2).await;
    assert_eq!(other.claim(2).await.len(), 2);
}

#[tokio::test]
async fn pruned_sessions_leave_no_orphans() {
    let db = TestDb::new().await;
    Shape::single(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 3).await;
    let items = worker.claim(3).await;
    // Pruning comes first: the silent session is not over, so it stays until it has been swept.
    db.advance(Duration::from_secs(200 * 86_400)).await;
    leader.proof.prune().await.unwrap();
    assert_eq!(db.count("odf.worker_session").await, 1);
    assert_eq!(leader.bury(&worker).await, (1, 3));
    db.advance(Duration::from_secs(200 * 86_400)).await;
    leader.proof.prune().await.unwrap();
    assert_eq!(db.count("odf.worker_session").await, 0);
    let other = TestWorker::start(&db, "w1", 3).await;
    let again = other.claim(3).await;
    assert_eq!(again.len(), 3);
    assert!(again.iter().zip(&items).all(|(a, i)| a.fence > i.fence));
    assert_eq!(db.bugs().await, [""; 0]);
}

/// Six workers claim without pause while their sessions are killed at random. A killed worker starts
/// again under a new session, never settling what the old one held.
#[tokio::test]
async fn killing_while_claims_commit_strands_nothing() {
    kill_while_claiming(TestDb::new().await).await;
}

/// Sessions killed while their claims commit.
pub(crate) async fn kill_while_claiming(db: TestDb) {
    const CHUNKS: usize = 400;
    // Claims that stay open for a while after they have taken their rows.
    db.linger("insert", "lease", 4).await;
    Shape::single(CHUNKS).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let stop = Arc::new(AtomicBool::new(false));
    let living: Arc<Mutex<HashMap<usize, SessionId>>> = Arc::default();
    let mut tasks = JoinSet::new();
    let control = db.control(Role::Worker);
    for n in 0..6_usize {
        let (control, stop, living) = (control.clone(), stop.clone(), living.clone());
        tasks.spawn(async move {
            let mut lives = 0;
            while !stop.load(Ordering::SeqCst) {
                lives += 1;
                let worker = TestWorker::start_on(&control, &format!("w{n}-{lives}"), 8).await;
                living.lock().unwrap().insert(n, worker.id());
                let mut held = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match worker.try_claim(worker.next_request(), 2).await.unwrap() {
                        Claimed::NotActive => break,
                        Claimed::Leases { items, .. } => held.extend(items),
                    }
                    // Most stay leased until their session is killed.
                    if held.len() > 5 {
                        for (_, answer) in worker.finish(&held.split_off(5)).await {
                            assert!(matches!(answer, Settled::Applied | Settled::LeaseLost));
                        }
                    }
                }
            }
        });
    }
    let mut rng = StdRng::seed_from_u64(7);
    let mut killed = 0;
    while killed < 120 {
        let victims: Vec<SessionId> = living
            .lock()
            .unwrap()
            .values()
            .copied()
            .filter(|_| rng.random_bool(0.3))
            .collect();
        let beats = leader.proof.beats().await.unwrap();
        let unheard: Vec<Unheard> = beats
            .sessions
            .iter()
            .filter(|(session, _)| victims.contains(session))
            .map(|(session, beat_no)| Unheard {
                session: *session,
                beat_no: *beat_no,
                unheard_ms: 600_000,
            })
            .collect();
        killed += leader.proof.sweep(&unheard, SLACK).await.unwrap().0;
        leader.proof.allot().await.unwrap();
        let stranded = db
            .count("odf.lease l join odf.worker_session s using (session_id) where s.state in ('dead', 'ended')")
            .await;
        assert_eq!(stranded, 0, "after {killed} deaths");
    }
    stop.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    assert_eq!(
        db.bugs().await,
        [""; 0],
        "no lease of a dead session was ever found"
    );
    let last: Vec<SessionId> = living.lock().unwrap().values().copied().collect();
    let beats = leader.proof.beats().await.unwrap();
    let unheard: Vec<Unheard> = beats
        .sessions
        .iter()
        .filter(|(session, _)| last.contains(session))
        .map(|(session, beat_no)| Unheard {
            session: *session,
            beat_no: *beat_no,
            unheard_ms: 600_000,
        })
        .collect();
    leader.proof.sweep(&unheard, SLACK).await.unwrap();
    assert_eq!(db.count("odf.lease").await, 0);
    // What a loss too many set aside is asked for again; then one worker finishes all.
    db.exec(
        "update odf.chunk set status = 'resubmit' where status = 'exhausted'",
        &[],
    )
    .await;
    let survivor = TestWorker::start(&db, "survivor", 50).await;
    survivor.drain(50).await;
    assert_eq!(
        db.count("odf.chunk where status <> 'validated'").await,
        0,
        "nothing is stranded"
    );
    assert_eq!(
        db.count("odf.publication").await,
        CHUNKS as i64,
        "each chunk once"
    );
}
