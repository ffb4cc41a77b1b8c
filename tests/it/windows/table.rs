//! Windows over a column of a real table: what is inside, what is outside, what cannot be cut.

use common::domain::Bounds;

use crate::coordinator_support::Site;

/// The table that the tests below cut: a row each hour of two days of UTC, one far away, one without.
async fn events(site: &Site) {
    site.db
        .admin()
        .batch_execute(
            "create table public.events (at timestamptz, local timestamp);
             insert into events select t, t at time zone 'Europe/Berlin'
               from generate_series(timestamptz '2024-10-26 22:00Z', '2024-10-28 22:00Z', '1 hour') t;
             insert into events values ('2020-01-01Z', '2020-01-01'), (null, null);",
        )
        .await
        .unwrap();
}

fn over_events(every_and_more: &str) -> String {
    format!(
        "flow: test
connections:
  src: {{ kind: postgres, url: \"${{secret:SRC_URL}}\" }}
  lake: {{ kind: files, root: /nowhere }}
datasets:
  events: {{ at: {{ connection: src, table: events }}, partition: {{ from: 2024-10-27, to: 2024-10-29, zone: Europe/Berlin, {every_and_more} }} }}
  out: {{ at: {{ connection: lake, path: \"out/{{chunk}}.{{fence}}\" }} }}
jobs:
  extract: {{ input: events, output: out, run: {{ script: run.sh }} }}
"
    )
}

#[tokio::test]
async fn rows_outside_of_all_windows_are_refused_kept_or_left_out_as_declared() {
    let site = Site::new().await;
    events(&site).await;
    let file = site.write("flow.yaml", &over_events("every: day, column: at"));
    let refused = site.command(&["plan"]).await.arg(&file).run().await;
    let said = refused.failed(1);
    assert!(
        said.contains("1 rows before the first window, 0 after the last and 1 without a time"),
        "{said}"
    );
    for (rest, line) in [
        ("chunk", "in exactly one chunk: 51"),
        ("ignore", "left out by declaration: 2"),
    ] {
        let site = Site::new().await;
        events(&site).await;
        site.apply(&over_events(&format!(
            "every: hour, column: at, rest: {rest}"
        )))
        .await
        .ok();
        let mut serve = site.serve(10).await;
        site.planned("events").await;
        let checked = site
            .command(&["plan", "--check", "events"])
            .await
            .run()
            .await
            .ok();
        assert!(
            checked.contains(line) && checked.contains("the plan tiles the table"),
            "{rest}: {checked}"
        );
        serve.stop().await;
        // What each chunk's own condition finds, added up, is the table; the rest is the rest.
        let bounds: Vec<serde_json::Value> = site
            .db
            .column("select bounds from odf.chunk where dataset = 'events' order by ordinal")
            .await;
        let mut found = 0;
        for one in bounds {
            let bounds: Bounds = serde_json::from_value(one).unwrap();
            let condition = common::endpoint::predicate::sql_predicate(&bounds).unwrap();
            found += site
                .db
                .scalar::<i64>(&format!("select count(*) from events where {condition}"))
                .await;
        }
        assert_eq!(found, if rest == "chunk" { 51 } else { 49 }, "{rest}");
    }
}

#[tokio::test]
async fn a_clock_that_shows_an_hour_twice_cannot_cut_by_hours() {
    let site = Site::new().await;
    events(&site).await;
    let file = site.write(
        "flow.yaml",
        &over_events("every: hour, column: local, rest: ignore"),
    );
    let said = site
        .command(&["plan"])
        .await
        .arg(&file)
        .run()
        .await
        .failed(1);
    assert!(
        said.contains("2024-10-27T02+0200") && said.contains("timestamp without time zone"),
        "{said}"
    );
    let file = site.write(
        "flow.yaml",
        &over_events("every: day, column: local, rest: ignore"),
    );
    let shown = site.command(&["plan"]).await.arg(&file).run().await.ok();
    assert!(shown.contains("events (source): 2 chunks"), "{shown}");
}
