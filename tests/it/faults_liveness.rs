//! Workers that die, stand still and come back: never two writers of a chunk, never above the limit,
//! every chunk published once. Judged by the witness that the jobs themselves write.

use nix::sys::signal::Signal;

use crate::faults_support::{CALM, Estate, TICKING, listed};
use crate::faults_witness::{doubled, open, peak, starts};

/// A job whose workers are given up soon.
const MORTAL: &str = ", silence: 25s, retry: { attempts: 5, backoff: 1s }";

/// The attempts of a worker that have started and not ended.
fn open_of(witness: &str, worker: &str) -> Vec<(String, i64)> {
    let mine: Vec<&str> = witness
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("by {worker} ")))
        .collect();
    let mut open = open(witness);
    open.retain(|(chunk, fence)| mine.contains(&format!("{chunk} {fence}").as_str()));
    open
}

/// Whether every one of those chunks has been started again since.
fn all_started_again(witness: &str, before: &[(String, i64)]) -> bool {
    before.iter().all(|(chunk, fence)| {
        witness
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("start {chunk} ")))
            .any(|later| later.parse::<i64>().unwrap() > *fence)
    })
}

fn judge(estate: &Estate, limit: usize) {
    let witness = estate.witness();
    assert_eq!(doubled(&witness), [""; 0], "{witness}");
    let most = peak(&witness, None, None);
    assert!(most <= limit, "{most} ran at once, {limit} were allowed");
    assert!(most > 1, "nothing ran beside anything");
}

/// How many leases were taken from workers that were not heard.
async fn until_lost(estate: &Estate, n: usize) {
    let sql = format!("select count(*) >= {n} from odf.attempt where outcome = 'lost'");
    estate.until(&sql).await;
}

#[tokio::test]
async fn killed_and_stopped_workers_double_nothing() {
    let estate = Estate::new().await;
    estate.script(TICKING);
    let yaml = listed(30, MORTAL);
    estate
        .apply(&format!("{yaml}pools:\n  make: {{ limit: 6 }}\n"))
        .await;
    let coordinator = estate.serve();
    let first = estate.worker("w1").start();
    let second = estate.worker("w2").start();
    estate
        .until_witness("both work", |witness| {
            open_of(witness, "w1").len() >= 2 && open_of(witness, "w2").len() >= 2
        })
        .await;

    first.signal(Signal::SIGSTOP);
    let stopped = open_of(&estate.witness(), "w1");
    until_lost(&estate, stopped.len()).await;
    first.signal(Signal::SIGCONT);
    estate
        .until_witness("the one that slept works again", |witness| {
            let mut later = open_of(witness, "w1");
            later.retain(|one| !stopped.contains(one));
            !later.is_empty()
        })
        .await;

    let killed = open_of(&estate.witness(), "w2");
    second.kill();
    until_lost(&estate, stopped.len() + killed.len()).await;
    let third = estate.worker("w3").start();
    estate.open_gate(30);
    estate.until_count("made", "validated", 30).await;
    let witness = estate.witness();
    assert!(all_started_again(&witness, &stopped), "{witness}");
    assert!(all_started_again(&witness, &killed), "{witness}");
    judge(&estate, 6);
    estate.assert_published_once("made").await;
    estate.assert_files_are_theirs("made").await;
    for daemon in [first, third, coordinator] {
        daemon.stop().await;
    }
    estate.assert_sound().await;
}

#[tokio::test]
async fn a_sleeper_whose_name_is_taken_does_no_harm() {
    let estate = Estate::new().await;
    estate.script(TICKING);
    estate.apply(&listed(12, MORTAL)).await;
    let coordinator = estate.serve();
    let sleeper = estate.worker("w1").start();
    estate
        .until_witness("it works", |witness| starts(witness) >= 4)
        .await;
    sleeper.signal(Signal::SIGSTOP);
    until_lost(&estate, 4).await;
    // Another host's worker of the same name: another state directory, hence no lock in its way.
    let elsewhere = estate.path("elsewhere");
    let namesake = estate.worker("w1").env("ODF_STATE_DIR", &elsewhere).start();
    namesake.until_logged("registered").await;
    sleeper.signal(Signal::SIGCONT);
    sleeper.until_logged("already at work").await;
    estate.open_gate(12);
    estate.until_count("made", "validated", 12).await;
    judge(&estate, 4);
    estate.assert_published_once("made").await;
    estate.assert_files_are_theirs("made").await;
    let said = sleeper.log().matches("already at work").count();
    assert_eq!(said, 1, "said once, not at every try: {}", sleeper.log());
    // The name is its own again when the other is gone.
    namesake.stop().await;
    sleeper.until_logged("registered again").await;
    sleeper.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_a_second_signal_ends_it() {
    let estate = Estate::new().await;
    estate.script(TICKING);
    estate.apply(&listed(12, CALM)).await;
    let coordinator = estate.serve();
    let mut worker = estate.worker("w1").start();
    estate
        .until_witness("it works", |witness| open(witness).len() == 4)
        .await;
    worker.signal(Signal::SIGTERM);
    worker.until_logged("draining").await;
    estate.open_gate(12);
    assert!(worker.ended().await.success(), "{}", worker.log());
    let witness = estate.witness();
    assert_eq!(open(&witness), [], "what ran was finished");
    assert_eq!(starts(&witness), 4, "and nothing else begun");
    let done = estate.count("made", "validated").await;
    assert_eq!(done, 4, "and published");
    estate.open_gate(0);

    let mut worker = estate.worker("w1").start();
    estate
        .until_witness("it works", |witness| starts(witness) == 8)
        .await;
    worker.signal(Signal::SIGTERM);
    worker.until_logged("draining").await;
    worker.signal(Signal::SIGTERM);
    assert!(worker.ended().await.success(), "{}", worker.log());
    let leases: i64 = estate.control.get("select count(*) from odf.lease").await;
    assert_eq!(leases, 0, "all handed back");
    let charged: i64 = estate
        .control
        .get("select coalesce(sum(charged), 0)::bigint from odf.chunk")
        .await;
    assert_eq!(charged, 0, "and nothing charged");

    let worker = estate.worker("w1").start();
    estate.open_gate(12);
    estate.until_count("made", "validated", 12).await;
    worker.stop().await;
    judge(&estate, 4);
    estate.assert_published_once("made").await;
    coordinator.stop().await;
    estate.assert_sound().await;
}
