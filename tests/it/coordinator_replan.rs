//! `coordinator replan` with the real programs: applied, previewed, refused, drained, interrupted, done.

use crate::coordinator_support::{Site, chain};
use crate::harness::{Daemon, Ran, Role, TestWorker, eventually};

const TEN: &str = "{ key: id, chunks: 10 }";
const TWENTY: &str = "{ key: id, chunks: 20 }";

/// A thousand rows in ten chunks, a coordinator that leads, and the flow applied anew with twenty.
async fn recut() -> (Site, Daemon) {
    let site = Site::with_items(1000).await;
    site.apply(&chain(TEN)).await.ok();
    let early = replan(&site, &["--yes"]).await.failed(4);
    assert!(early.contains("has no plan yet"), "{early}");
    let coordinator = site.serve(10).await;
    site.planned("dst").await;
    (site, coordinator)
}

async fn replan(site: &Site, args: &[&str]) -> Ran {
    let mut all = vec!["replan", "items"];
    all.extend(args);
    site.command(&all).await.run().await
}

async fn chunks(site: &Site, set: &str) -> i64 {
    site.db
        .count(&format!("odf.chunk where dataset = '{set}'"))
        .await
}

#[tokio::test]
async fn a_data_set_is_cut_again_as_declared() {
    let (site, mut coordinator) = recut().await;
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    assert_eq!(worker.drain(4).await, 20);
    worker.beside(cut_again(&site, &worker)).await;
    coordinator.stop().await;
}

async fn cut_again(site: &Site, worker: &TestWorker) {
    let applied = site.apply(&chain(TWENTY)).await.ok();
    let says = "items: the plan in force keeps its 10 chunks until 'coordinator replan items'";
    assert!(applied.contains(says), "{applied}");
    assert_eq!(chunks(site, "items").await, 10, "apply alone plans nothing");
    let status = site.command(&["status"]).await.run().await.ok();
    assert!(
        status.contains("older than its declaration: coordinator replan items"),
        "{status}"
    );
    let explained = site.command(&["explain", "items"]).await.run().await.ok();
    assert!(
        explained.contains("declared  otherwise since"),
        "{explained}"
    );

    let said = replan(site, &[]).await.failed(4);
    assert!(
        said.contains("nobody can be asked") && said.contains("--yes"),
        "{said}"
    );
    let preview = replan(site, &["--dry-run"]).await.ok();
    assert!(
        preview.contains("mid") && preview.contains("out of use"),
        "{preview}"
    );
    assert!(preview.contains("nothing was changed"), "{preview}");
    assert_eq!(chunks(site, "dst").await, 10);

    // While something runs it is refused; with --drain it waits for that.
    site.db
        .exec(
            "update odf.chunk set status = 'resubmit' where name = 'mid/00003'",
            &[],
        )
        .await;
    let running = eventually("a claim", async || {
        worker.beat().await;
        worker.claim(1).await.pop()
    })
    .await;
    let said = replan(site, &["--yes"]).await.failed(4);
    assert!(
        said.contains("1 chunk of items") && said.contains("--drain"),
        "{said}"
    );
    let mut drain = site
        .command(&["replan", "items", "--yes", "--drain", "--reason", "finer"])
        .await
        .start();
    drain.until_said("still running").await;
    assert_eq!(chunks(site, "items").await, 10);
    worker.complete(&[running]).await;
    assert!(drain.ended().await.success());
    let log = drain.said();
    assert!(log.contains("the new plan is in force"), "{log}");
    for set in ["items", "mid", "dst"] {
        assert_eq!(chunks(site, set).await, 20, "{set}");
    }
    let check = site
        .command(&["plan", "--check", "items"])
        .await
        .run()
        .await
        .ok();
    assert!(check.contains("the plan tiles the table"), "{check}");

    let now = site
        .command(&["explain", "mid/00003"])
        .await
        .run()
        .await
        .ok();
    assert!(now.contains("plan 2"), "{now}");
    assert!(now.contains("explain mid/00003 --plan 1"), "{now}");
    let gone = site
        .command(&["explain", "mid/00003", "--plan", "1"])
        .await
        .run()
        .await
        .ok();
    assert!(
        gone.contains("is in retired plan 1") && gone.contains("finer"),
        "{gone}"
    );
    assert!(
        gone.contains("generation"),
        "its publications are shown: {gone}"
    );
    let events = site.command(&["events"]).await.run().await.ok();
    assert!(events.contains("replan.done"), "{events}");
    let status = site.command(&["status"]).await.run().await.ok();
    assert!(!status.contains("older than"), "{status}");
    assert_eq!(worker.drain(4).await, 40);
    assert_eq!(site.db.bugs().await, [""; 0]);

    // Once more: all is equal, all is kept.
    let same = replan(site, &["--yes", "-o", "json"]).await.ok();
    let same: serde_json::Value = serde_json::from_str(&same).unwrap();
    for set in same["preview"].as_array().unwrap() {
        assert_eq!(
            (set["kept"].as_i64(), set["fresh"].as_i64()),
            (Some(20), Some(0)),
            "{set}"
        );
    }
    worker.beat().await;
    assert_eq!(worker.claim(4).await.len(), 0);
}

#[tokio::test]
async fn a_source_that_is_away_leaves_the_plan_in_force() {
    let (site, mut coordinator) = recut().await;
    site.apply(&chain(TWENTY)).await.ok();
    site.db
        .exec("alter table public.items rename to gone", &[])
        .await;
    let said = replan(&site, &["--yes"]).await.failed(1);
    assert!(
        said.contains("no table items") && said.contains("plan in force stays"),
        "{said}"
    );
    assert_eq!(chunks(&site, "items").await, 10);
    assert_eq!(
        site.db.count("odf.lane where replan_id is not null").await,
        0
    );
    site.db
        .exec("alter table public.gone rename to items", &[])
        .await;
    replan(&site, &["--yes"]).await.ok();
    assert_eq!(chunks(&site, "items").await, 20);
    coordinator.stop().await;
}

#[tokio::test]
async fn it_goes_on_under_the_next_leader_and_without_who_asked() {
    let (site, mut coordinator) = recut().await;
    site.apply(&chain(TWENTY)).await.ok();
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    worker.beat().await;
    let running = worker.claim(2).await;
    coordinator.kill_hard().await;
    let said = replan(&site, &["--withdraw"]).await.failed(3);
    assert!(said.contains("not being planned again"), "{said}");
    let mut asker = site
        .command(&["replan", "items", "--yes", "--drain"])
        .await
        .start();
    asker.until_said("no coordinator leads").await;
    asker.kill_hard().await;
    let mut second = site.serve(10).await;
    eventually("the consent", async || {
        (site.db.count("odf.replan where state = 'confirmed'").await == 1).then_some(())
    })
    .await;
    let status = site.command(&["status"]).await.run().await.ok();
    assert!(status.contains("a new plan is taking force"), "{status}");
    second.kill_hard().await;
    assert_eq!(chunks(&site, "items").await, 10);
    let mut third = site.serve(10).await;
    // Kept alive, so that what it runs is not swept away from it.
    eventually("what runs to end", async || {
        worker.beat().await;
        let leads: bool = site
            .db
            .scalar("select expires > clock_timestamp() from odf.leader")
            .await;
        leads.then_some(())
    })
    .await;
    worker.complete(&running).await;
    eventually("the new plan", async || {
        (chunks(&site, "dst").await == 20).then_some(())
    })
    .await;
    let viewer = site
        .command(&["replan", "items", "--yes"])
        .await
        .database(site.db.url(Role::Viewer));
    let said = viewer.run().await.failed(1);
    assert!(said.contains("odf_operator"), "{said}");
    third.stop().await;
}
