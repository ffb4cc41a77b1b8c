//! What people look at all day costs the same for ten chunks and for ten million.

use crate::harness::{Shape, TestDb, TestLeader, TestWorker};

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
    let set = flow.set_id(&db, "mid").await;
    let plan: i64 = db
        .get(
            "select plan_id from odf.data_set where data_set_id = $1",
            &[&set],
        )
        .await;
    let many = "generate_series(1000001, 1060000) n";
    db.exec(
        &format!("insert into odf.data_chunk (chunk_id, plan_id, data_set_id, ordinal, key, bounds) overriding system value \
                  select n, {plan}, {set}, n, n::text, '{{\"kind\": \"single\"}}' from {many}"),
        &[],
    )
    .await;
    db.exec(
        &format!(
            "insert into odf.chunk_state (chunk_id, data_set_id, status, generation, changed_at) \
                  select n, {set}, 'validated', 1, odf.clock() from {many}"
        ),
        &[],
    )
    .await;
    db.exec(
        &format!("insert into odf.publication (chunk_id, generation, fence, attempt, worker, claimed_at, published_at) \
                  select n, 1, n, 1, 'w1', odf.clock() - interval '1 minute', odf.clock() - (1060000 - n) * interval '50 ms' from {many}"),
        &[],
    )
    .await;
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
    let buffers = plan
        .lines()
        .find_map(|line| line.trim().strip_prefix("Buffers: shared hit="))
        .and_then(|rest| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<i64>()
                .ok()
        })
        .unwrap();
    // 2,000 publications and a lookup for each; all 60,000 would be beyond 100,000.
    assert!(buffers < 20_000, "{buffers} buffers:\n{plan}");
}
