//! Every awkward key of `tests/fixtures/keys.sql`, in several sizes: the chunks tile the table, as
//! judged by the check and by counting through each chunk's own condition.

use common::domain::{Bounds, NewChunk};
use common::endpoint::sql_predicate;
use common::flow::model::ChunkSize;
use coordinator::split::SplitLimits;
use coordinator::split::check::check_tiling;

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
