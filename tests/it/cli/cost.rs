//! What people look at all day costs the same for ten chunks and for ten million.

use crate::harness::{Shape, TestDb, TestFlow, TestLeader, TestWorker};

/// Tables with a row for every chunk, attempt or publication.
const LARGE: [&str; 6] = [
    "data_chunk",
    "chunk_state",
    "chunk_edge",
    "publication",
    "attempt_default",
    "progress_delta",
];

#[tokio::test]
async fn status_reads_no_table_that_grows_with_the_chunks() {
    let db = TestDb::new().await;
    let flow = Shape::chain(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    worker.drain(4).await;
    // As if 60,000 chunks of mid had been published in the last hour: rows that status could read.
    publish(&db, &flow, "mid", 60_000).await;
    leader.passes().await;
    db.admin().batch_execute("analyze").await.unwrap();

    let sql = coordinator::read::status::DATA_SETS_SQL.replace("$1", "null");
    let plan = db
        .column::<String>(&format!("explain (analyze, buffers, timing off) {sql}"))
        .await
        .join("\n");
    for table in LARGE.iter().take(5) {
        assert!(
            !plan.contains(&format!("Seq Scan on {table}")),
            "{table} is read whole:\n{plan}"
        );
    }
    let buffers = buffers(&plan);
    // 2,000 publications and a lookup for each; all 60,000 would be beyond 100,000.
    assert!(buffers < 20_000, "{buffers} buffers:\n{plan}");
}

/// As if so many chunks of a data set had been published in the last hour.
async fn publish(db: &TestDb, flow: &TestFlow, set: &str, chunks: i64) {
    let set = flow.set_id(db, set).await;
    let plan: i64 = db
        .get(
            "select plan_id from odf.data_set where data_set_id = $1",
            &[&set],
        )
        .await;
    let first = 1_000_000 * i64::from(set);
    let many = format!("generate_series({}, {}) n", first + 1, first + chunks);
    for sql in [
        format!(
            "insert into odf.data_chunk (chunk_id, plan_id, data_set_id, ordinal, key, bounds) overriding system value \
             select n, {plan}, {set}, n, n::text, '{{\"kind\": \"single\"}}' from {many}"
        ),
        format!(
            "insert into odf.chunk_state (chunk_id, data_set_id, status, generation, changed_at) \
             select n, {set}, 'validated', 1, odf.clock() from {many}"
        ),
        format!(
            "insert into odf.publication (chunk_id, generation, fence, attempt, worker, claimed_at, published_at) \
             select n, 1, n, 1, 'w1', odf.clock() - interval '1 minute', odf.clock() - ({} - n) * interval '50 ms' from {many}",
            first + chunks
        ),
    ] {
        db.exec(&sql, &[]).await;
    }
}

/// The buffers of a plan's outermost node.
fn buffers(plan: &str) -> i64 {
    plan.lines()
        .find_map(|line| line.trim().strip_prefix("Buffers: shared hit="))
        .and_then(|rest| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<i64>()
                .ok()
        })
        .unwrap()
}

#[tokio::test]
async fn stale_costs_what_is_stale() {
    let db = TestDb::new().await;
    let flow = Shape::chain(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    worker.drain(4).await;
    publish(&db, &flow, "dst", 60_000).await;
    db.exec(
        "select odf.request('resubmit', '{\"dataset\": \"mid\"}', 'x')",
        &[],
    )
    .await;
    worker.drain(4).await;
    assert_eq!(
        db.count("odf.chunk_state where stale_since is not null")
            .await,
        3
    );
    db.admin().batch_execute("vacuum analyze").await.unwrap();
    let page = coordinator::read::stale::LIST_SQL;
    let values = [
        ("$1", "null"),
        ("$2", "null"),
        ("$3", "0"),
        ("$4", "0"),
        ("$5", "50"),
    ];
    for sql in [coordinator::read::stale::COUNTS_SQL, page] {
        let sql = values.iter().fold(sql.to_owned(), |sql, (name, value)| {
            sql.replace(name, value)
        });
        let plan = db
            .column::<String>(&format!("explain (analyze, buffers, timing off) {sql}"))
            .await
            .join("\n");
        // The other large ones are small here: only these were filled.
        for table in ["data_chunk", "chunk_state", "publication"] {
            assert!(
                !plan.contains(&format!("Seq Scan on {table}")),
                "{table} is read whole:\n{plan}"
            );
        }
        let buffers = buffers(&plan);
        assert!(buffers < 500, "{buffers} buffers:\n{plan}");
    }
}
