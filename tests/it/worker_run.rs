//! The worker daemon end to end: real processes run real scripts from claim to recorded publication.

use crate::harness::{Shape, eventually};
use crate::worker_support::Site;

/// Copies what the chunk is called into its output and leaves a line before and after.
const COPY: &str = r#"
echo "start $ODF_CHUNK_NAME $ODF_FENCE $$" >> "$WITNESS"
echo "$ODF_CHUNK_NAME from ${ODF_INPUT_CHUNK:-all}" > "$ODF_STAGING"
printf '{"rows": 1}' > "$ODF_RESULT"
echo "end $ODF_CHUNK_NAME $ODF_FENCE $$" >> "$WITNESS"
"#;

#[tokio::test]
async fn chunks_run_from_claim_to_publication() {
    let site = Site::new(&Shape::fan_in(6)).await;
    site.script(COPY);
    let coordinator = site.coordinator();
    let worker = site.worker("w1").start();
    site.until_count("total", "validated", 1).await;
    assert_eq!(site.count("dst", "validated").await, 6);
    let place: String = site
        .db
        .scalar(
            "select p.location from odf.publication p join odf.chunk c using (chunk_id, generation) \
             where c.name = 'dst/00003'",
        )
        .await;
    let text = std::fs::read_to_string(site.path("lake").join(place)).unwrap();
    assert_eq!(text, "dst/00003 from 00003\n");
    worker.drain().await;
    let left: i64 = site
        .db
        .scalar(
            "select (select count(*) from odf.lease) + (select count(*) from odf.worker_session \
             where state <> 'ended')",
        )
        .await;
    assert_eq!(left, 0, "an orderly end leaves nothing behind");
    assert!(!site.path("state/w1.session").exists());
    assert_eq!(site.ends().await, vec!["validated"; 13]);
    assert_eq!(site.db.bugs().await, [""; 0]);
    coordinator.stop().await;
}

#[tokio::test]
async fn an_end_that_the_database_refuses_fails_its_own_chunk_only() {
    let site = Site::new(&Shape::single(8)).await;
    site.script(
        r#"echo x > "$ODF_STAGING"; n=${ODF_CHUNK#0000}; printf '{"rows": %d}' "$n" > "$ODF_RESULT""#,
    );
    let refuse = "alter table odf.publication add constraint unlucky check (rows_out <> 5)";
    site.db.exec(refuse, &[]).await;
    let worker = site.worker("w1").args(&["--slots", "8"]).start();
    site.until_count("mid", "validated", 7).await;
    site.until_count("mid", "exhausted", 1).await;
    let (reason, charged): (String, i32) = (
        site.db
            .scalar("select reason from odf.chunk where status = 'exhausted'")
            .await,
        site.db
            .scalar("select charged from odf.chunk where status = 'exhausted'")
            .await,
    );
    assert!(reason.contains("unlucky"), "{reason}");
    assert_eq!(charged, 1);
    worker.until_logged("ERROR").await;
    worker.drain().await;
}

#[tokio::test]
async fn outputs_that_were_consumed_are_deleted() {
    let shape = Shape::chain(3).set(
        "mid",
        "at: { connection: lake, path: \"mid/{chunk}.{fence}\" }, keep: until_consumed",
    );
    let site = Site::new(&shape).await;
    site.script(COPY);
    let coordinator = site.coordinator();
    let worker = site.worker("w1").start();
    site.until_count("dst", "validated", 3).await;
    eventually("the consumed files to be gone", async || {
        let left = std::fs::read_dir(site.path("lake/mid")).unwrap().count();
        (left == 0).then_some(())
    })
    .await;
    eventually("the publications to say so", async || {
        let removed: i64 = site
            .db
            .scalar("select count(*) from odf.publication where removed_at is not null")
            .await;
        (removed == 3).then_some(())
    })
    .await;
    assert_eq!(std::fs::read_dir(site.path("lake/dst")).unwrap().count(), 3);
    coordinator.stop().await;
    worker.drain().await;
}
