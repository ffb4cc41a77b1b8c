//! `coordinator plan`: a preview that writes nothing, and a check that counts rows, not bounds.

use crate::coordinator_support::{HEAD, Site, chain};
use crate::harness::{Role, TestDb};

const TEN: &str = "{ key: id, chunks: 10 }";

#[tokio::test]
async fn a_preview_shows_the_chunks_and_writes_nothing() {
    let site = Site::with_items(1000).await;
    site.apply(&chain(TEN)).await.ok();
    let before = site.row_counts().await;
    let file = site.write("flow.yaml", &chain(TEN));
    let shown = site.command(&["plan"]).await.arg(&file).run().await.ok();
    for part in [
        "items (source): 10 chunks",
        "1000 rows",
        "smallest 100, median 100, largest 100",
        "id below 101",
        "id from 901 on",
        "mid (made by extract): 10 chunks",
        "dst (made by load): 10 chunks",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(site.row_counts().await, before);
    let elsewhere = site.write(
        "other.yaml",
        &chain(TEN).replace("flow: test", "flow: other"),
    );
    let no_database = site.command(&["plan"]).await.database("");
    no_database.arg(elsewhere).run().await.ok();
    assert_eq!(site.row_counts().await, before);
}

#[tokio::test]
async fn an_empty_table_one_row_and_one_key_are_previewed() {
    let site = Site::with_items(0).await;
    site.db
        .admin()
        .batch_execute(
            "create table one (id int primary key); insert into one values (42);
             create table same (id int, v int); create index on same (id);
             insert into same select 7, g from generate_series(1, 100) g;",
        )
        .await
        .unwrap();
    let text = format!(
        "{HEAD}datasets:
  items: {{ at: {{ connection: src, table: items }}, partition: {TEN} }}
  one: {{ at: {{ connection: src, table: one }}, partition: {TEN} }}
  same: {{ at: {{ connection: src, table: same }}, partition: {TEN} }}
"
    );
    let file = site.write("flow.yaml", &text);
    let shown = site.command(&["plan"]).await.arg(file).run().await.ok();
    for name in ["items", "one", "same"] {
        let line = format!("{name} (source): 1 chunks");
        assert!(shown.contains(&line), "{line}: {shown}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_told_without_its_password() {
    let site = Site::with_items(1).await;
    let right = site.db.admin_url();
    let login = format!(
        "postgres://odf_test_worker:sesame@127.0.0.1:{}/x",
        site.db.port()
    );
    let cases = [
        (
            chain(TEN).replace("table: items", "table: itmes"),
            right.clone(),
            "no table itmes",
        ),
        (
            chain(TEN).replace("table: items", "table: Items"),
            right.clone(),
            "",
        ),
        (
            chain("{ key: nosuch, chunks: 10 }"),
            right.clone(),
            "nosuch",
        ),
        (chain(TEN), login, "refuses user"),
        (
            chain(TEN),
            "postgres://u:sesame@127.0.0.1:1/x".to_owned(),
            "cannot reach 127.0.0.1:1",
        ),
        (
            chain(TEN),
            "postgres://u:sesame@no-such-host.invalid/x".to_owned(),
            "cannot reach",
        ),
        (chain(TEN), String::new(), "SRC_URL"),
    ];
    for (text, url, reason) in cases {
        let file = site.write("flow.yaml", &text);
        let ran = site
            .command(&["plan"])
            .await
            .env("SRC_URL", url)
            .arg(file)
            .run()
            .await;
        if reason.is_empty() {
            // Names without quotes are folded, as in SQL.
            ran.ok();
            continue;
        }
        let said = ran.failed(1);
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(said.contains("items"), "the data set is named: {said}");
        assert!(!said.contains("sesame"), "{said}");
    }
}

#[tokio::test]
async fn a_check_counts_the_rows_of_the_real_table() {
    let site = Site::with_items(1000).await;
    site.apply(&chain(TEN)).await.ok();
    let said = check(&site, "items").await.failed(3);
    assert!(said.contains("no sealed plan"), "{said}");
    let mut coordinator = site.serve(10).await;
    site.planned("dst").await;
    coordinator.stop().await;

    let shown = check(&site, "items").await.ok();
    assert!(shown.contains("the plan tiles the table"), "{shown}");
    assert!(shown.contains("in exactly one chunk: 1000"), "{shown}");
    let said = check(&site, "nothing").await.failed(3);
    assert!(said.contains("coordinator status"), "{said}");
    let said = check(&site, "mid").await.failed(1);
    assert!(said.contains("not a table"), "{said}");

    let third = "update odf.data_chunk set bounds = jsonb_set(bounds, '{upper}', '[\"251\"]') \
                 where ordinal = 3 and data_set_id = (select data_set_id from odf.data_set where name = 'items')";
    assert_eq!(site.db.exec(third, &[]).await, 1);
    let ran = check(&site, "items").await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stdout.contains("in no chunk: 50"), "{ran:?}");
    assert!(ran.stdout.contains("does NOT tile"), "{ran:?}");

    site.db.exec(&third.replace("251", "311"), &[]).await;
    let ran = check(&site, "items").await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stdout.contains("in more than one: 10"), "{ran:?}");

    let gone = "delete from odf.data_chunk where ordinal = 3 and data_set_id = (select data_set_id from odf.data_set where name = 'items')";
    assert_eq!(site.db.exec(gone, &[]).await, 1);
    let ran = check(&site, "items").await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stdout.contains("in no chunk: 100"), "{ran:?}");
}

#[tokio::test]
async fn a_name_in_two_flows_is_asked_for_with_its_flow() {
    let site = Site::with_items(10).await;
    site.apply(&chain(TEN)).await.ok();
    site.apply(&chain("{ key: id, chunks: 2 }").replace("flow: test", "flow: other"))
        .await
        .ok();
    let mut coordinator = site.serve(10).await;
    site.planned("items").await;
    coordinator.stop().await;
    let said = check(&site, "items").await.failed(2);
    assert!(
        said.contains("other:items") && said.contains("test:items"),
        "{said}"
    );
    let shown = check(&site, "other:items").await.ok();
    assert!(shown.contains("2 chunks"), "{shown}");
}

#[tokio::test]
async fn a_database_without_our_schema_is_told() {
    let site = Site::over(TestDb::empty().await);
    let said = site
        .command(&["plan", "--check", "items"])
        .await
        .database(site.db.admin_url())
        .run()
        .await
        .failed(1);
    assert!(said.contains("coordinator init"), "{said}");
}

async fn check(site: &Site, set: &str) -> crate::harness::Ran {
    site.command(&["plan", "--check", set])
        .await
        .database(site.db.url(Role::Operator))
        .run()
        .await
}
