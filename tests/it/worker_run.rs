//! The worker daemon end to end: real processes run real scripts from claim to recorded publication.

use crate::harness::Shape;
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
