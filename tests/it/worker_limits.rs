//! How a running worker comes to use what it may: a raised limit, without waiting for a beat or a poll.

use crate::harness::{Role, Shape, eventually};
use crate::worker_support::Site;

/// An hour, a tenth of it at these tests' pace: what a worker learns, it does not learn from a beat.
const HARDLY_EVER: &str = "3600000";

#[tokio::test]
async fn a_raised_limit_is_seen_between_two_polls() {
    let site = Site::new(&Shape::single(200).pool("extract", "0")).await;
    site.script(r#"echo x > "$ODF_STAGING""#);
    let operator = site.db.login(Role::Operator).await;
    let scale = async |limit: &str| {
        operator
            .query_one("select odf.scale('extract', $1, 'test')", &[&limit])
            .await
            .unwrap();
    };
    let worker = site
        .worker("w1")
        .env("ODF_BEAT_MS", HARDLY_EVER)
        .env("ODF_POLL_MS", HARDLY_EVER)
        .start();
    worker.until_logged("registered").await;
    // A poll may be the first to see it, all the more soon after the start: but not every time.
    for _ in 0..20 {
        let before = site.ends().await.len();
        scale("4").await;
        eventually("the raised limit to be used", async || {
            (site.ends().await.len() > before).then_some(())
        })
        .await;
        scale("0").await;
        eventually("what ran to end", async || {
            (site.db.count("odf.lease").await == 0).then_some(())
        })
        .await;
        if worker.log().contains("work came up between two polls") {
            worker.drain().await;
            return;
        }
    }
    panic!("polls alone saw it: {}", worker.log());
}

#[tokio::test]
async fn a_worker_that_was_scaled_to_nothing_hears_that_this_is_over() {
    let site = Site::new(&Shape::single(3)).await;
    site.script(r#"echo x > "$ODF_STAGING""#);
    site.db
        .exec(
            "insert into odf.worker (name, slots_limit) values ('w1', 0)",
            &[],
        )
        .await;
    let worker = site.worker("w1").env("ODF_BEAT_MS", HARDLY_EVER).start();
    eventually("its first beat, which tells it", async || {
        let heard: i64 = site
            .db
            .count("odf.worker_session where beat_at > started_at")
            .await;
        (heard == 1).then_some(())
    })
    .await;
    let operator = site.db.login(Role::Operator).await;
    operator
        .query("select odf.scale_worker('w1', 'none', '')", &[])
        .await
        .unwrap();
    site.until_count("mid", "validated", 3).await;
    worker.drain().await;
}
