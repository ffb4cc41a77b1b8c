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

/// Chunks of a large data set here; `ODF_COST_CHUNKS=1000000` measures and prints.
fn many() -> (i64, bool) {
    let asked = std::env::var("ODF_COST_CHUNKS").ok();
    let chunks = asked.as_deref().map(|text| text.parse().unwrap());
    (chunks.unwrap_or(60_000), chunks.is_some())
}

/// Makes `mid` and `dst` data sets of so many published chunks each, one made from the other, with
/// evidence, validation and reconciliation.
async fn grow(db: &TestDb, flow: &crate::harness::TestFlow, chunks: i64) {
    for (set, first) in [("mid", 10_000_000), ("dst", 20_000_000)] {
        let id = flow.set_id(db, set).await;
        let series = format!("generate_series(1, {chunks}) n");
        let inputs = if set == "dst" {
            "array[10000000 + n], array[1]"
        } else {
            "'{}', '{}'"
        };
        let statements = format!(
            "with plan as (
               insert into odf.plan (data_set_id, version, state, partition, chunks, digest, started_at, sealed_at)
               values ({id}, 99, 'sealed', '{{}}', {chunks}, 'x', now(), now()) returning plan_id)
             update odf.data_set set plan_id = (select plan_id from plan) where data_set_id = {id};
             insert into odf.data_chunk (chunk_id, plan_id, data_set_id, ordinal, key, bounds) overriding system value
             select {first} + n, (select plan_id from odf.data_set where data_set_id = {id}), {id}, n, lpad(n::text, 7, '0'), '{{\"kind\": \"single\"}}' from {series};
             insert into odf.chunk_state (chunk_id, data_set_id, status, generation, changed_at)
             select {first} + n, {id}, 'validated', case when n % 1000 = 0 and '{set}' = 'mid' then 2 else 1 end, now() from {series};
             insert into odf.publication (chunk_id, generation, fence, attempt, worker, location, rows_out, bytes_out, claimed_at, published_at, input_ids, input_gens, evidence, validation)
             select {first} + n, 1, n, 1, 'w1', 'x', 10, 1000, now(), now(), {inputs}, '{{\"ms\":3,\"inputs\":[{{\"how\":\"pub sum stat rules share\",\"bytes\":1000}}]}}',
                    case when n % 10 > 0 then '{{\"format\":\"csv\",\"rows\":10,\"row_sum\":\"0000000000000001\"}}' end from {series};"
        );
        db.admin().batch_execute(&statements).await.unwrap();
    }
    let rest = format!(
        "insert into odf.chunk_edge select 10000000 + n, 20000000 + n from generate_series(1, {chunks}) n;
         insert into odf.publication (chunk_id, generation, fence, attempt, worker, claimed_at, published_at)
         select 10000000 + n, 2, n, 2, 'w1', now(), now() from generate_series(1000, {chunks}, 1000) n;
         insert into odf.reconciliation (chunk_id, generation, verdict, expected_rows, expected_sum, found_rows, found_sum, checked_at, checked_by)
         select 20000000 + n, 1, 'equal', 10, 'a', 10, 'a', now(), 'ann' from generate_series(1, {chunks}) n where n % 4 > 0;
         analyze"
    );
    db.admin().batch_execute(&rest).await.unwrap();
}

/// The buffers that a statement touches, by `explain (analyze, buffers)`.
async fn buffers_of(db: &TestDb, sql: &str) -> (i64, String) {
    let plan = db
        .column::<String>(&format!("explain (analyze, buffers, timing off) {sql}"))
        .await
        .join("\n");
    let line = plan
        .lines()
        .find_map(|line| line.trim().strip_prefix("Buffers: "))
        .unwrap();
    let sum = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse::<i64>().ok())
        .sum();
    (sum, plan)
}

#[tokio::test]
async fn explaining_a_chunk_or_a_data_set_costs_the_same_at_any_size() {
    let (chunks, measure) = many();
    let db = TestDb::new().await;
    let flow = Shape::chain(3).build(&db).await;
    grow(&db, &flow, chunks).await;
    let dst = flow.set_id(&db, "dst").await;
    let sum = coordinator::read::evidence::SUM_SQL
        .replace("$1", &dst.to_string())
        .replace("$2", &coordinator::read::evidence::LOOKED.to_string());
    let (touched, plan) = buffers_of(&db, &sum).await;
    // Some twenty for each of the 2,000 that are looked at, whatever the plan's size.
    assert!(touched < 60_000, "{touched} buffers:\n{plan}");
    for table in ["data_chunk", "publication", "reconciliation"] {
        assert!(
            !plan.contains(&format!("Seq Scan on {table}")),
            "{table} is read whole:\n{plan}"
        );
    }
    // What a chunk's explanation asks of the database about that chunk.
    for sql in [
        include_str!("../../../coordinator/src/read/chunk.sql"),
        include_str!("../../../coordinator/src/read/card.sql"),
    ] {
        let sql = sql.replace("$1", "20031000").replace("$2", "5");
        let (touched, plan) = buffers_of(&db, &sql).await;
        if measure {
            println!("{chunks} chunks: {touched} buffers for a part of a chunk's explanation");
        }
        assert!(touched < 2_000, "{touched} buffers:\n{plan}");
    }
    let text = super::support::ok(&db, "explain dst").await;
    for part in [
        "2,000 chunks taken evenly from",
        "2,000 published",
        "compared with the source: ",
        "right data      2,000 yes (SHA-256",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for line in ["explain dst/0031000", "explain dst", "explain dst -o wide"] {
        let started = std::time::Instant::now();
        super::support::ok(&db, line).await;
        let took = started.elapsed();
        if measure {
            println!("{chunks} chunks: {line}: {took:?}, {touched} buffers for the evidence");
        }
        if line.contains('/') {
            assert!(took.as_secs_f64() < 1.0, "{line}: {took:?}");
        }
    }
    if measure {
        let out = tempfile::tempdir().unwrap();
        let line = format!("certify dst --no-source --out {}", out.path().display());
        let started = std::time::Instant::now();
        let ran = super::support::run(&db, crate::harness::Role::Operator, &line).await;
        println!(
            "{chunks} chunks: certify dst: {:?}\n{}",
            started.elapsed(),
            ran.out
        );
        for file in std::fs::read_dir(out.path()).unwrap() {
            let file = file.unwrap();
            println!(
                "{:?}: {} bytes",
                file.file_name(),
                file.metadata().unwrap().len()
            );
        }
    }
    let wide = super::support::ok(&db, "explain dst -o wide").await;
    let stale = format!("{} stale", chunks / 1000);
    assert!(wide.replace(',', "").contains(&stale), "{stale}: {wide}");
}
