//! Edges and gaps by the protocol: what is planned, promoted, held back, made again and shown.

use common::domain::{Bounds, ChunkId, NewChunk};

use super::{Case, every, flow, job, set, source};
use crate::coordinator_support::Site;
use crate::harness::{TestDb, TestWorker};
use crate::replan_support as replan;

fn hours_to_days() -> String {
    flow(
        &[
            source("raw", &every("hour", "2024-10-26", "2024-10-29")),
            set("hours", ""),
            set("days", &every("day", "2024-10-26", "2024-10-29")),
        ],
        &[
            job("extract", "raw", "hours"),
            job("gather", "{ dataset: hours, chunks: windows }", "days"),
        ],
    )
}

#[tokio::test]
async fn a_day_is_ready_when_its_last_hour_is_and_stale_when_one_is_made_again() {
    let mut case = Case::new(&hours_to_days()).await;
    case.plan().await;
    for (day, hours) in [("2024-10-26", 24), ("2024-10-27", 25), ("2024-10-28", 24)] {
        assert_eq!(case.inputs_of(&format!("days/{day}")).await, hours, "{day}");
    }
    let worker = TestWorker::start(&case.db, "w1", 100).await;
    worker.beat().await;
    let mut items = worker.claim(100).await;
    assert_eq!(items.len(), 73);
    let at = items
        .iter()
        .position(|i| i.key == "2024-10-27T02+0100")
        .unwrap();
    let last = items.remove(at);
    worker.complete(&items).await;
    assert_eq!(
        case.keys("dataset = 'days' and status = 'ready'").await,
        ["2024-10-26", "2024-10-28"],
        "the second pass of the hour is missing"
    );
    worker.complete(&[last]).await;
    worker.beat().await;
    let days = worker.claim(100).await;
    let sunday = days.iter().find(|item| item.key == "2024-10-27").unwrap();
    let keys: Vec<&str> = sunday
        .inputs
        .iter()
        .map(|input| input.key.as_str())
        .collect();
    assert_eq!(keys.len(), 25, "each once");
    assert_eq!(
        keys[..4],
        [
            "2024-10-27T00+0200",
            "2024-10-27T01+0200",
            "2024-10-27T02+0200",
            "2024-10-27T02+0100"
        ],
        "in the order of time"
    );
    worker.complete(&days).await;
    // One hour again: its day becomes stale, the others do not.
    let selector = serde_json::json!({ "dataset": "hours", "keys": ["2024-10-27T05+0100"] });
    case.control_request(&selector).await;
    worker.drain(10).await;
    let stale: Vec<String> = case
        .db
        .column(
            "select c.key from odf.chunk c join odf.publication p on p.chunk_id = c.chunk_id and p.generation = c.generation
              where exists (select from unnest(p.input_ids, p.input_gens) u(id, gen)
                             join odf.chunk_state s on s.chunk_id = u.id where s.generation <> u.gen)",
        )
        .await;
    assert_eq!(stale, ["2024-10-27"]);
}

/// A chunk's own state, whatever was asked of it.
async fn stored(case: &Case, chunk: ChunkId) -> String {
    let sql = "select status::text from odf.chunk_state where chunk_id = $1";
    case.db.get(sql, &[&chunk.0]).await
}

#[tokio::test]
async fn an_hour_is_not_made_again_under_the_day_that_reads_it() {
    let mut case = Case::new(&hours_to_days()).await;
    case.plan().await;
    let worker = TestWorker::start(&case.db, "w1", 100).await;
    worker.beat().await;
    let hours = worker.claim(100).await;
    worker.complete(&hours).await;
    worker.beat().await;
    let day = worker.claim_one().await;
    let hour = day.inputs[3].clone();
    let selector = serde_json::json!({ "dataset": "hours", "keys": [hour.key] });
    case.control_request(&selector).await;
    let status = stored(&case, hour.chunk_id).await;
    assert_eq!(status, "validated", "not overwritten under its reader");
    worker.complete(&[day]).await;
    case.leader.passes().await;
    let status = stored(&case, hour.chunk_id).await;
    assert_eq!(status, "ready", "and made again when that has ended");
}

#[tokio::test]
async fn what_an_input_s_plan_lacks_is_never_run_without() {
    missing_upstream(TestDb::new().await).await;
}

/// Days of which the first has no hours in any plan.
pub(crate) async fn missing_upstream(db: TestDb) {
    let case = lacking(db).await;
    assert_eq!(
        case.keys("dataset = 'days' and status = 'ready'").await,
        ["2024-03-31"]
    );
}

/// The hours begin a day late.
async fn lacking(db: TestDb) -> Case {
    let text = flow(
        &[
            source("hours", &every("hour", "2024-03-31", "2024-04-01")),
            set("days", &every("day", "2024-03-30", "2024-04-01")),
        ],
        &[job("gather", "{ dataset: hours, chunks: windows }", "days")],
    );
    let mut case = Case::over(db, &text).await;
    case.plan().await;
    case
}

#[tokio::test]
async fn what_an_input_s_plan_lacks_is_told_and_filled_in_by_a_later_plan() {
    let case = lacking(TestDb::new().await).await;
    assert_eq!(
        case.keys("dataset = 'days' and status = 'ready'").await,
        ["2024-03-31"]
    );
    assert_eq!(case.db.count("odf.chunk_gap").await, 24);
    case.leader.passes().await;
    let selector = serde_json::json!({ "dataset": "days", "keys": ["2024-03-30"] });
    for verb in ["held", "resubmit"] {
        case.db
            .exec("select odf.request($1, $2, 'try')", &[&verb, &selector])
            .await;
        case.leader.passes().await;
    }
    assert_eq!(
        case.keys("dataset = 'days' and status = 'waiting'").await,
        ["2024-03-30"]
    );
    let site = Site::over(case.db);
    let explained = site
        .command(&["explain", "days/2024-03-30"])
        .await
        .run()
        .await
        .ok();
    let reason = "waits for hours/2024-03-30T00+0100, which the plan of hours does not have";
    assert!(
        explained.contains(reason) && explained.contains("23 more"),
        "{explained}"
    );
    let listed = site
        .command(&["chunks", "days", "-o", "json"])
        .await
        .run()
        .await
        .ok();
    assert!(listed.contains(reason), "{listed}");
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    assert_eq!(worker.drain(4).await, 1, "the whole day and nothing else");
    let status = site.command(&["status"]).await.run().await.ok();
    assert!(
        status.contains("1 chunk waits for what no plan has, such as hours/2024-03-30T"),
        "{status}"
    );
    // A later plan of the hours has them all.
    let refused = replan::ask(&site.db, "days", false, false)
        .await
        .unwrap_err();
    assert!(refused.contains("found by time"), "{refused}");
    replan::replan(&site.db, &case.leader, "hours", &hours("2024-03-30")).await;
    assert_eq!(site.db.count("odf.chunk_gap").await, 0);
    let ready: Vec<String> = site
        .db
        .column("select key from odf.chunk where dataset = 'days' and status = 'ready'")
        .await;
    assert_eq!(ready, ["2024-03-30"]);
    // And a still later one has lost the first day again: what it made of it is not run with less.
    replan::replan(&site.db, &case.leader, "hours", &hours("2024-03-31")).await;
    assert_eq!(site.db.count("odf.chunk_gap").await, 24);
    let waiting: Vec<String> = site
        .db
        .column("select key from odf.chunk where dataset = 'days' and status = 'waiting'")
        .await;
    assert_eq!(waiting, ["2024-03-30"]);
    assert_eq!(worker.drain(4).await, 0);
}

/// Every hour from that day to the end of March.
fn hours(from: &str) -> Vec<NewChunk> {
    let calendar = common::calendar::Calendar {
        every: "hour".parse().unwrap(),
        from: from.parse().unwrap(),
        to: "2024-04-01".parse().unwrap(),
        zone: "Europe/Berlin".parse().unwrap(),
        week_starts: chrono::Weekday::Mon,
    };
    calendar.windows().into_iter().map(hour).collect()
}

fn hour(window: common::calendar::Window) -> NewChunk {
    NewChunk {
        key: window.label.clone(),
        bounds: Bounds::Window {
            start: window.start,
            end: window.end,
            zone: "Europe/Berlin".to_owned(),
            label: window.label,
            rows: None,
        },
        est_rows: None,
        est_bytes: None,
    }
}

#[tokio::test]
async fn today_and_the_day_before_expressions_and_products_are_planned() {
    let product = "{ product: [{ every: day, from: 2024-01-31, to: 2024-02-02, zone: UTC }, { list: [AAPL, MSFT] }] }";
    let from = r#"{ dataset: months, chunks: { match: "^(.{7})", from: "$1" } }"#;
    let to = r#"{ dataset: days, chunks: { match: "^(.{7})-..$", to: "$1" } }"#;
    let mut case = Case::new(&flow(
        &[
            source("days", &every("day", "2024-01-30", "2024-02-03")),
            set("change", ""),
            set("months", ""),
            set("shares", product),
        ],
        &[
            job(
                "compare",
                "[days, { dataset: days, chunks: previous, first: skip }]",
                "change",
            ),
            job("gather", to, "months"),
            job("spread", from, "shares"),
        ],
    ))
    .await;
    case.plan().await;
    assert_eq!(
        case.keys("dataset = 'change'").await,
        ["2024-01-31", "2024-02-01", "2024-02-02"],
        "the first day is left out"
    );
    assert_eq!(
        case.keys("dataset = 'months'").await,
        ["2024-01", "2024-02"]
    );
    assert_eq!(
        case.keys("dataset = 'shares'").await,
        [
            "2024-01-31@AAPL",
            "2024-01-31@MSFT",
            "2024-02-01@AAPL",
            "2024-02-01@MSFT"
        ]
    );
    let worker = TestWorker::start(&case.db, "w1", 20).await;
    worker.beat().await;
    let items = worker.claim(20).await;
    assert_eq!(items.len(), 5, "what is made of sources is ready");
    let second = items.iter().find(|item| item.key == "2024-02-01").unwrap();
    let inputs: Vec<&str> = second
        .inputs
        .iter()
        .map(|input| input.key.as_str())
        .collect();
    assert_eq!(
        inputs,
        ["2024-02-01", "2024-01-31"],
        "in the order of the job's inputs"
    );
    let found: Vec<_> = second.inputs.iter().map(|i| i.mapping.as_deref()).collect();
    assert_eq!(found, [Some("same_key"), Some("previous")]);
    worker.complete(&items).await;
    worker.beat().await;
    let shares = worker.claim(20).await;
    assert_eq!(shares.len(), 4);
    assert!(shares.iter().all(|item| item.inputs.len() == 1));
    assert_eq!(shares[3].inputs[0].key, "2024-02");
    assert!(matches!(&shares[0].bounds, Bounds::Product { parts } if parts.len() == 2));
}

#[tokio::test]
async fn windows_that_do_not_fit_are_an_error_of_the_plan_and_leave_nothing() {
    let mut case = Case::new(&flow(
        &[
            source("weeks", &every("week", "2024-01-01", "2024-02-05")),
            set("months", &every("month", "2024-01-01", "2024-02-01")),
        ],
        &[job(
            "gather",
            "{ dataset: weeks, chunks: windows }",
            "months",
        )],
    ))
    .await;
    case.plan().await;
    let error = case.error("months").await;
    assert!(
        error.contains("weeks/2024-W05") && error.contains("months/2024-01"),
        "{error}"
    );
    assert_eq!(case.db.count("odf.chunk_edge").await, 0);
    assert_eq!(case.db.count("odf.chunk where dataset = 'months'").await, 0);
}

#[tokio::test]
async fn a_plan_drawn_from_plans_that_are_no_more_is_not_sealed() {
    let case = Case::new(&hours_to_days()).await;
    let mut case = case;
    case.plan().await;
    let id: i32 = case
        .db
        .scalar("select data_set_id from odf.data_set where name = 'days'")
        .await;
    let old: i64 = case
        .db
        .scalar("select plan_id from odf.data_set where name = 'hours'")
        .await;
    case.db
        .exec(
            "update odf.data_set set plan_id = null where data_set_id = $1",
            &[&id],
        )
        .await;
    let plan = case.leader.proof.begin_plan(id).await.unwrap();
    let refused = case
        .leader
        .proof
        .seal_linked(plan, 0, &[], &[old + 1000])
        .await;
    assert!(
        matches!(refused, Err(common::store::StoreError::Overtaken(_))),
        "{refused:?}"
    );
    case.leader
        .proof
        .seal_linked(plan, 0, &[], &[old])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_preview_shows_windows_inputs_and_gaps() {
    let site = Site::new().await;
    let text = flow(
        &[
            source("raw", &every("hour", "2024-10-27", "2024-10-29")),
            set("hours", ""),
            set("days", &every("day", "2024-10-26", "2024-10-29")),
        ],
        &[
            job("extract", "raw", "hours"),
            job("gather", "{ dataset: hours, chunks: windows }", "days"),
        ],
    );
    let file = site.write("flow.yaml", &text);
    let shown = site.command(&["plan"]).await.arg(&file).run().await.ok();
    for part in [
        "raw (source): 49 chunks",
        "2024-10-27T00+0200  2024-10-27T00+0200 Europe/Berlin (2024-10-26T22:00:00Z to below 2024-10-26T23:00:00Z)",
        "hours (made by extract): 49 chunks",
        "days (made by gather): 3 chunks",
        "0 to 25 chunks of hours in each",
        "24 chunks that are needed of hours are not in its plan",
        "2024-10-26 waits for hours/2024-10-26T00+0200, which the plan of hours does not have",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
