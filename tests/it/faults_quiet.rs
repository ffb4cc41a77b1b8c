//! What the daemons cost and say when all is well: few lines for many chunks, few statements and one
//! connection for a worker that has nothing to do, and an end that comes at once.

use std::time::{Duration, Instant};

use crate::faults_process::{Daemon, Sql};
use crate::faults_support::{CALM, Estate, SCALE, listed};

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

/// Transactions that a database has ended so far, and open sessions of workers in it.
const COST: &str = "select (xact_commit + xact_rollback)::bigint || ' ' || (
        select count(*) from pg_stat_activity a
         where a.datname = d.datname and a.application_name like 'odf-worker%')
    from pg_stat_database d where datname = ";

/// Both figures of a control database, read in another one, so that looking costs it nothing.
async fn cost(elsewhere: &Sql, control: &str) -> (i64, i64) {
    let both: String = elsewhere.get(&format!("{COST}'{control}'")).await;
    let (transactions, sessions) = both.split_once(' ').unwrap();
    (transactions.parse().unwrap(), sessions.parse().unwrap())
}

#[tokio::test]
async fn idle_workers_cost_next_to_nothing_and_end_at_once() {
    const WORKERS: i64 = 5;
    const WATCHED: Duration = Duration::from_secs(6);
    let estate = Estate::new().await;
    let control: String = estate.control.get("select current_database()::text").await;
    estate.script("echo $ODF_CHUNK >$ODF_STAGING");
    estate.apply(&listed(4, CALM)).await;
    let coordinator = estate.serve();
    let workers: Vec<Daemon> = (1..=WORKERS)
        .map(|n| estate.worker(&format!("w{n}")).start())
        .collect();
    estate.until_count("made", "validated", 4).await;
    coordinator.stop().await;
    // Idle for a while: what was open for the work is closed again.
    let few = format!(
        "select count(*) = {WORKERS} from pg_stat_activity
          where datname = '{control}' and application_name like 'odf-worker%'"
    );
    estate.until_in(&estate.source, &few).await;
    let began = Instant::now();
    let (before, _) = cost(&estate.source, &control).await;
    let (mut after, mut open) = (before, Vec::new());
    while began.elapsed() < WATCHED {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (transactions, sessions) = cost(&estate.source, &control).await;
        after = transactions;
        open.push(sessions);
    }
    let seconds = began.elapsed().as_secs_f64();
    let each = (after - before) as f64 / seconds / WORKERS as f64 / f64::from(SCALE);
    open.sort_unstable();
    let (usual, most) = (open[open.len() / 2], open[open.len() - 1]);
    println!(
        "an idle worker: {each:.2} transactions a second in life; {WORKERS} of them: {usual} sessions, {most} at most"
    );
    // A beat and a glance that meet take one more, until the next look; nothing takes a third.
    assert!(most <= 2 * WORKERS, "{open:?}");
    assert!(each > 0.1 && each < 2.0, "{each} transactions a second");

    for worker in workers {
        let asked = Instant::now();
        worker.stop().await;
        let took = asked.elapsed();
        assert!(
            took < Duration::from_secs(30),
            "{took:?} to end with nothing to do"
        );
    }
    let left: i64 = estate
        .control
        .get("select count(*) from odf.worker_session where state <> 'ended'")
        .await;
    assert_eq!(left, 0);
}
