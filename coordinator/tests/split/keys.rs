//! Every awkward key of `tests/fixtures/keys.sql`, in several sizes: the chunks tile the table, as
//! judged by the check and by counting through each chunk's own condition.

use common::domain::{Bounds, NewChunk};
use common::endpoint::sql_predicate;
use common::flow::model::{ChunkSize, Location, Partition};
use coordinator::split::check::check_tiling;
use coordinator::split::{SplitLimits, SplitRequest, split};

use crate::support::{Database, database};

const FIXTURE: &str = include_str!("../../../tests/fixtures/keys.sql");

const SIZES: [ChunkSize; 8] = [
    ChunkSize::Rows(1),
    ChunkSize::Rows(7),
    ChunkSize::Rows(100),
    ChunkSize::Rows(1_000_000),
    ChunkSize::Chunks(1),
    ChunkSize::Chunks(2),
    ChunkSize::Chunks(10),
    ChunkSize::Chunks(97),
];

/// Judges chunks of a table by both oracles.
pub(crate) async fn assert_tiles(db: &mut Database, table: &str, chunks: &[NewChunk], what: &str) {
    let bounds = chunks.iter().map(|c| (c.key.clone(), c.bounds.clone()));
    let report = check_tiling(&mut db.admin, SplitLimits::default(), table, bounds)
        .await
        .unwrap();
    let rows = db.number(&format!("SELECT count(*) FROM {table}")).await;
    assert!(
        report.tiles() && report.rows == rows,
        "{what}: {report:?} of {rows}"
    );
    assert_eq!((report.uncovered, report.covered_more), (0, 0), "{what}");
    if chunks.len() > 150 {
        return;
    }
    let mut total = 0;
    for chunk in chunks {
        let condition = sql_predicate(&chunk.bounds).unwrap();
        let held = db
            .number(&format!("SELECT count(*) FROM {table} WHERE {condition}"))
            .await;
        assert_eq!(Some(held), chunk.est_rows, "{what}: {condition}");
        total += held;
    }
    assert_eq!(total, rows, "{what}");
    let times: Vec<String> = chunks
        .iter()
        .map(|chunk| {
            format!(
                "coalesce({}, false)::int",
                sql_predicate(&chunk.bounds).unwrap()
            )
        })
        .collect();
    let wrong = format!(
        "SELECT count(*) FROM {table} WHERE {} <> 1",
        times.join(" + ")
    );
    assert_eq!(db.number(&wrong).await, 0, "{what}");
}

/// What holds for the chunks of any split by key, whatever the table.
pub(crate) fn assert_well_formed(chunks: &[NewChunk], what: &str) {
    let ranges: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| match &chunk.bounds {
            Bounds::KeyRange { lower, upper, .. } => Some((&chunk.key, lower, upper)),
            _ => None,
        })
        .collect();
    let (first, last) = (ranges.first().unwrap(), ranges.last().unwrap());
    assert!(first.1.is_none() && last.2.is_none(), "{what}");
    for (i, pair) in ranges.windows(2).enumerate() {
        assert!(pair[0].0 < pair[1].0, "{what}: names sort as text");
        assert!(
            pair[0].2.is_some() && pair[0].2 == pair[1].1,
            "{what}: range {i} meets the next"
        );
    }
    assert!(ranges.iter().all(|range| range.0.len() >= 5), "{what}");
}

async fn zoo() -> Database {
    let db = database().await;
    db.admin.batch_execute(FIXTURE).await.unwrap();
    db.admin.batch_execute("RESET search_path").await.unwrap();
    db
}

async fn try_all_sizes(db: &mut Database, table: &str, columns: &[&str]) {
    for size in SIZES {
        let what = format!("{table} {columns:?} {size:?}");
        let (chunks, summary) = db.split_by_key(table, columns, size).await.expect(&what);
        let rows = db.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(summary.rows_estimate, Some(rows), "{what}");
        if let ChunkSize::Chunks(wanted) = size {
            assert!(chunks.len() as u64 <= u64::from(wanted) + 1, "{what}");
        }
        assert_well_formed(&chunks, &what);
        assert_tiles(db, table, &chunks, &what).await;
    }
}

#[tokio::test]
async fn every_table_of_the_zoo_is_tiled_by_its_primary_key() {
    let mut db = zoo().await;
    let tables = db
        .admin
        .query(
            "SELECT i.indrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
             WHERE i.indisprimary AND c.relnamespace = 'zoo'::regnamespace ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    assert!(tables.len() >= 18, "{}", tables.len());
    for row in tables {
        let table: String = row.get(0);
        try_all_sizes(&mut db, &table, &[]).await;
    }
}

#[tokio::test]
async fn named_columns_that_are_no_key_tile_as_well() {
    let mut db = zoo().await;
    for (table, columns) in [
        ("zoo.k_nopk", &["id"][..]),
        ("zoo.k_dupkey", &["id"]),
        ("zoo.k_nullkey", &["id"]),
        ("zoo.k_comp2", &["a"]),
        ("zoo.k_comp2", &["b", "a"]),
        ("zoo.gen", &["b", "i"]),
        ("zoo.part", &["aa"]),
    ] {
        try_all_sizes(&mut db, table, columns).await;
    }
}

/// Writes to the table that is being split with every batch, then fails if asked to.
struct Meddler<'a> {
    admin: &'a common::endpoint::PgSession,
    taken: Vec<NewChunk>,
    fail_at: usize,
}

#[async_trait::async_trait]
impl coordinator::split::ChunkSink for Meddler<'_> {
    async fn push(&mut self, batch: Vec<NewChunk>) -> anyhow::Result<()> {
        self.taken.extend(batch);
        anyhow::ensure!(self.taken.len() < self.fail_at, "the store is full");
        self.admin
            .batch_execute(
                "INSERT INTO k SELECT id + 1 FROM k WHERE id % 1000 = 0 ON CONFLICT DO NOTHING; \
                 INSERT INTO k SELECT min(id) - 1 FROM k; INSERT INTO k SELECT max(id) + 1 FROM k; \
                 DELETE FROM k WHERE id % 1400 = 0",
            )
            .await?;
        Ok(())
    }
}

#[tokio::test]
async fn keys_written_while_splitting_are_covered_and_a_failing_sink_ends_it() {
    let mut db = database().await;
    db.admin
        .batch_execute("CREATE TABLE k(id bigint PRIMARY KEY); INSERT INTO k SELECT i * 10 FROM generate_series(1, 12000) i")
        .await
        .unwrap();
    let location = Location {
        connection: "source".to_owned(),
        table: Some("k".to_owned()),
        path: None,
    };
    let partition = Partition::Key {
        columns: vec![],
        size: ChunkSize::Rows(1),
    };
    let env = std::collections::BTreeMap::new();
    let request = || SplitRequest {
        dataset: "tested",
        endpoint: db.endpoint(),
        location: &location,
        partition: &partition,
        script_dir: None,
        env: &env,
        limits: SplitLimits::default(),
    };
    let meddler = |fail_at| Meddler {
        admin: &db.admin,
        taken: Vec::new(),
        fail_at,
    };
    let mut failing = meddler(7_000);
    let failed = split(request(), &mut failing).await.unwrap_err();
    assert_eq!(failed.to_string(), "store the chunks: the store is full");
    assert_eq!(failing.taken.len(), 10_000);

    let mut sink = meddler(usize::MAX);
    let before = db.number("SELECT count(*) FROM k").await;
    let summary = split(request(), &mut sink).await.unwrap();
    let taken = sink.taken;
    assert_eq!(summary.chunks as i64, before, "one snapshot");
    assert_well_formed(&taken, "meddled with");
    assert!(taken.iter().all(|chunk| chunk.est_rows == Some(1)));
    let bounds = taken.into_iter().map(|chunk| (chunk.key, chunk.bounds));
    let report = check_tiling(&mut db.admin, SplitLimits::default(), "k", bounds)
        .await
        .unwrap();
    assert!(report.tiles() && report.rows != before, "{report:?}");
}
