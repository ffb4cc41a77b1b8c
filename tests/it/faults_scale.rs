//! Limits that move while everything runs, judged by what the jobs themselves wrote down.

use std::collections::BTreeSet;

use crate::faults_support::{CALM, Estate, listed};
use crate::faults_witness::{doubled, open, peak, starts, starts_beyond};

/// Writes to the witness while it lives, which is a moment.
const BRIEF: &str = r#"
seen() { echo "$1 $ODF_CHUNK_NAME $ODF_FENCE" >>"$WITNESS"; }
seen start
for _ in 1 2 3; do sleep 0.08; seen tick; done
echo "$ODF_CHUNK $ODF_FENCE" >"$ODF_STAGING"
seen end"#;

const CHUNKS: usize = 90;

/// Waits for so many starts from now on.
async fn until_more(estate: &Estate, n: usize) {
    let goal = starts(&estate.witness()) + n;
    estate
        .until_witness("more starts", |witness| starts(witness) >= goal)
        .await;
}

/// Lowers the limit, waits until no more than that run and says both in the witness. Nothing may
/// start meanwhile above the new limit but what had been leased before it was in force.
async fn lower(estate: &Estate, limit: usize) {
    estate
        .cli(&["scale", "make", &limit.to_string()])
        .await
        .ok();
    estate.remark(&format!("in force {limit}"));
    let leased: Vec<String> = estate
        .control
        .column(
            "select c.name || ' ' || l.fence from odf.lease l join odf.chunk c using (chunk_id)",
        )
        .await;
    let before: BTreeSet<String> = leased.into_iter().collect();
    estate
        .until(&format!("select count(*) <= {limit} from odf.lease"))
        .await;
    estate.remark(&format!("drained {limit}"));
    let wrong = starts_beyond(
        &estate.witness(),
        &format!("in force {limit}"),
        limit,
        &before,
    );
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test]
async fn limits_hold_from_their_commit_while_work_goes_on() {
    let estate = Estate::new().await;
    estate.script(BRIEF);
    let yaml = listed(CHUNKS, CALM);
    estate
        .apply(&format!("{yaml}pools:\n  make: {{ limit: 6 }}\n"))
        .await;
    let coordinator = estate.serve();
    let workers = [estate.worker("w1").start(), estate.worker("w2").start()];
    estate
        .until_witness("six run", |witness| open(witness).len() == 6)
        .await;

    lower(&estate, 2).await;
    until_more(&estate, 8).await;

    estate.remark("raised 5");
    estate.cli(&["scale", "make", "5"]).await.ok();
    estate
        .until_witness("five run", |witness| open(witness).len() == 5)
        .await;
    until_more(&estate, 5).await;

    lower(&estate, 0).await;
    let still = starts(&estate.witness());
    let beats: i64 = estate.control.get(BEATS).await;
    estate
        .until(&format!("select ({BEATS}) > {}", beats + 10))
        .await;
    assert_eq!(starts(&estate.witness()), still, "0 starts nothing");

    estate.remark("without limit");
    estate.cli(&["scale", "make", "none"]).await.ok();
    estate
        .until_witness("all slots run", |witness| open(witness).len() == 8)
        .await;
    estate.until_count("made", "validated", CHUNKS as i64).await;

    let witness = estate.witness();
    let most = |from, to| peak(&witness, from, to);
    assert_eq!(most(None, Some("in force 2")), 6);
    assert_eq!(most(Some("drained 2"), Some("raised 5")), 2);
    assert_eq!(most(Some("raised 5"), Some("in force 0")), 5);
    assert_eq!(most(Some("drained 0"), Some("without limit")), 0);
    assert_eq!(most(Some("without limit"), None), 8);
    assert_eq!(doubled(&witness), [""; 0]);
    estate.assert_published_once("made").await;
    for worker in workers {
        worker.stop().await;
    }
    coordinator.stop().await;
    estate.assert_sound().await;
}

/// How often the workers were heard.
const BEATS: &str = "select sum(beat_no)::bigint from odf.worker_session";
