//! What the daemons cost and say when all is well: few lines for many chunks, few statements and one
//! connection for a worker that has nothing to do, and an end that comes at once.

use std::time::{Duration, Instant};

use crate::faults_process::{Daemon, Sql};
use crate::faults_support::{CALM, Estate, listed};

/// Lines of a log at INFO and above.
fn lines(daemon: &Daemon) -> usize {
    daemon.log().lines().count()
}

#[tokio::test]
async fn many_chunks_are_few_lines() {
    const CHUNKS: usize = 300;
    let estate = Estate::new().await;
    estate.script("echo $ODF_CHUNK >$ODF_STAGING");
    estate.apply(&listed(CHUNKS, CALM)).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate.until_count("made", "validated", CHUNKS as i64).await;
    worker.until_logged("registered").await;
    for daemon in [&worker, &coordinator] {
        println!("{}", daemon.log());
        assert!(
            lines(daemon) <= 12,
            "{} lines: {}",
            lines(daemon),
            daemon.log()
        );
    }
    worker.stop().await;
    coordinator.stop().await;
}

/// Transactions that a database has ended so far. Ours among them, which are few.
async fn transactions(control: &Sql) -> i64 {
    control
        .get("select (xact_commit + xact_rollback)::bigint from pg_stat_database where datname = current_database()")
        .await
}

#[tokio::test]
async fn idle_workers_cost_next_to_nothing_and_end_at_once() {
    const WORKERS: i64 = 5;
    let estate = Estate::new().await;
    estate.script("echo $ODF_CHUNK >$ODF_STAGING");
    estate.apply(&listed(4, CALM)).await;
    let coordinator = estate.serve();
    let workers: Vec<Daemon> = (1..=WORKERS)
        .map(|n| estate.worker(&format!("w{n}")).start())
        .collect();
    estate.until_count("made", "validated", 4).await;
    coordinator.stop().await;
    // Idle for a while: what was open for the work is closed again.
    let connections = "select count(*) <= 5 from pg_stat_activity
        where datname = current_database() and application_name like 'odf-worker%'";
    estate.until(connections).await;
    let beats = "select sum(beat_no)::bigint from odf.worker_session";
    let before = (
        transactions(&estate.control).await,
        estate.control.get::<i64>(beats).await,
    );
    let goal = before.1 + 30 * WORKERS;
    estate
        .until(&format!(
            "select sum(beat_no) >= {goal} from odf.worker_session"
        ))
        .await;
    // What a session did is counted when it has been idle for a moment: a little is left out.
    let after = (
        transactions(&estate.control).await,
        estate.control.get::<i64>(beats).await,
    );
    let (done, beaten) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
    println!("{done} transactions in {beaten} beats");
    assert!(done < beaten * 1.6, "{done} transactions in {beaten} beats");
    let open: i64 = estate
        .control
        .get("select count(*) from pg_stat_activity where datname = current_database() and application_name like 'odf-worker%'")
        .await;
    assert!(
        open <= WORKERS,
        "{open} connections of {WORKERS} idle workers"
    );

    for worker in workers {
        let asked = Instant::now();
        worker.stop().await;
        let took = asked.elapsed();
        println!("ended after {took:?}");
        assert!(
            took < Duration::from_secs(4),
            "{took:?} to end with nothing to do"
        );
    }
    let left: i64 = estate
        .control
        .get("select count(*) from odf.worker_session where state <> 'ended'")
        .await;
    assert_eq!(left, 0);
}
