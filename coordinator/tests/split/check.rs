//! The check itself: it must find what is wrong, or its praise is worth nothing.

use common::domain::{Bounds, KeyColumn, NewChunk};
use common::flow::model::ChunkSize;
use coordinator::split::check::{TilingReport, check_tiling};
use coordinator::split::{SplitError, SplitLimits};

use crate::support::{Database, database};

async fn table() -> Database {
    let db = database().await;
    db.admin
        .batch_execute(
            "CREATE TABLE k(a int, b text COLLATE \"C\", PRIMARY KEY (a, b)); \
             INSERT INTO k SELECT i / 5, 'x' || i % 5 FROM generate_series(0, 99) i; \
             CREATE TABLE n(a int); INSERT INTO n SELECT nullif(i % 10, 0) FROM generate_series(1, 100) i",
        )
        .await
        .unwrap();
    db
}

async fn check(db: &mut Database, table: &str, chunks: &[NewChunk]) -> TilingReport {
    let bounds = chunks.iter().map(|c| (c.key.clone(), c.bounds.clone()));
    check_tiling(&mut db.admin, SplitLimits::default(), table, bounds)
        .await
        .unwrap()
}

/// The ends of a range, to be bent.
fn ends(chunk: &mut NewChunk) -> (&mut Option<Vec<String>>, &mut Option<Vec<String>>) {
    match &mut chunk.bounds {
        Bounds::KeyRange { lower, upper, .. } => (lower, upper),
        other => panic!("{other:?}"),
    }
}

fn key(a: &str, b: &str) -> Vec<String> {
    vec![a.to_owned(), b.to_owned()]
}

#[tokio::test]
async fn a_gap_and_an_overlap_are_counted_and_named() {
    let mut db = table().await;
    let (chunks, _) = db
        .split_by_key("k", &[], ChunkSize::Rows(10))
        .await
        .unwrap();
    let whole = check(&mut db, "k", &chunks).await;
    assert!(
        whole.tiles() && whole.rows == 100 && whole.examples.is_empty(),
        "{whole:?}"
    );

    let mut gap = chunks.clone();
    gap.remove(3);
    let report = check(&mut db, "k", &gap).await;
    assert_eq!(
        (report.uncovered, report.covered_once, report.covered_more),
        (10, 90, 0)
    );
    assert_eq!(report.examples.len(), 10);
    assert_eq!(
        report.examples[0].key,
        [Some("6".to_owned()), Some("x0".to_owned())]
    );
    assert_eq!((report.examples[0].times, report.examples[0].rows), (0, 1));
    assert!(!report.tiles());

    let mut overlap = chunks.clone();
    *ends(&mut overlap[2]).1 = Some(key("6", "x3"));
    let report = check(&mut db, "k", &overlap).await;
    assert_eq!(
        (report.uncovered, report.covered_once, report.covered_more),
        (0, 97, 3)
    );
    assert_eq!(
        report.examples[2].key,
        [Some("6".to_owned()), Some("x2".to_owned())]
    );

    // A gap and an overlap of the same size do not cancel out.
    let mut both = chunks.clone();
    *ends(&mut both[0]).1 = Some(key("2", "x1"));
    *ends(&mut both[5]).1 = Some(key("11", "x4"));
    let report = check(&mut db, "k", &both).await;
    assert_eq!(
        (report.uncovered, report.covered_once, report.covered_more),
        (1, 98, 1)
    );

    let mut closed = chunks.clone();
    *ends(&mut closed[9]).1 = Some(key("19", "x4"));
    assert_eq!(
        check(&mut db, "k", &closed).await.uncovered,
        1,
        "the upper bound is outside"
    );
    *ends(&mut closed[0]).0 = Some(key("0", "x0"));
    assert_eq!(
        check(&mut db, "k", &closed).await.uncovered,
        1,
        "the lower bound is inside"
    );
}

#[tokio::test]
async fn an_inverted_range_is_named_and_hides_nothing() {
    let mut db = table().await;
    let (mut chunks, _) = db
        .split_by_key("k", &[], ChunkSize::Rows(10))
        .await
        .unwrap();
    let (lower, upper) = ends(&mut chunks[4]);
    std::mem::swap(lower, upper);
    let report = check(&mut db, "k", &chunks).await;
    assert_eq!(report.empty_ranges, ["00005"]);
    assert!(!report.tiles());
    let counts = |r: &TilingReport| (r.uncovered, r.covered_once, r.covered_more);
    assert_eq!(counts(&report), (10, 90, 0));
    // Two ranges over the same rows, of which one counted backwards would hide the other.
    let mut right = chunks[4].clone();
    let (lower, upper) = ends(&mut right);
    std::mem::swap(lower, upper);
    chunks.extend([right.clone(), right]);
    let report = check(&mut db, "k", &chunks).await;
    assert_eq!(counts(&report), (0, 90, 10));
}

#[tokio::test]
async fn rows_with_null_keys_need_exactly_one_chunk() {
    let mut db = table().await;
    let (chunks, _) = db
        .split_by_key("n", &["a"], ChunkSize::Chunks(3))
        .await
        .unwrap();
    assert!(check(&mut db, "n", &chunks).await.tiles());
    let without = &chunks[..chunks.len() - 1];
    let report = check(&mut db, "n", without).await;
    assert_eq!((report.uncovered, report.covered_once), (10, 90));
    assert_eq!(
        (&report.examples[0].key[..], report.examples[0].rows),
        (&[None][..], 10)
    );
    let mut twice = chunks.clone();
    twice.push(chunks[chunks.len() - 1].clone());
    assert_eq!(check(&mut db, "n", &twice).await.covered_more, 10);
    let single = NewChunk {
        key: "all".into(),
        bounds: Bounds::Single,
        est_rows: None,
        est_bytes: None,
    };
    assert!(
        check(&mut db, "n", std::slice::from_ref(&single))
            .await
            .tiles()
    );
    assert_eq!(
        check(&mut db, "n", &[single.clone(), single])
            .await
            .covered_more,
        100
    );
    assert_eq!(check(&mut db, "n", &[]).await.uncovered, 100);
}

#[tokio::test]
async fn rows_inserted_after_planning_are_seen_and_covered() {
    let mut db = table().await;
    let (chunks, _) = db
        .split_by_key("k", &[], ChunkSize::Rows(10))
        .await
        .unwrap();
    db.admin
        .batch_execute("INSERT INTO k VALUES (-5, ''), (3, 'x2b'), (9999, 'zz')")
        .await
        .unwrap();
    let report = check(&mut db, "k", &chunks).await;
    assert!(report.tiles() && report.rows == 103, "{report:?}");
}

#[tokio::test]
async fn bounds_that_are_not_a_tables_are_refused() {
    let mut db = table().await;
    let column = |name: &str| KeyColumn {
        name: name.into(),
        sql_type: "integer".into(),
        collation: None,
    };
    let range = |columns, lower: &[&str]| Bounds::KeyRange {
        columns,
        lower: Some(lower.iter().map(|v| (*v).to_owned()).collect()),
        upper: None,
    };
    for (bounds, words) in [
        (
            vec![Bounds::Value { value: "x".into() }],
            "not a part of a table",
        ),
        (
            vec![
                range(vec![column("a")], &["1"]),
                range(vec![column("b")], &["1"]),
            ],
            "other key columns",
        ),
        (
            vec![range(vec![column("a")], &["1", "2"])],
            "2 values for 1 columns",
        ),
        (vec![range(vec![], &[])], "other key columns"),
    ] {
        let named = bounds.into_iter().map(|b| ("00001".to_owned(), b));
        let refused = check_tiling(&mut db.admin, SplitLimits::default(), "k", named)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, SplitError::Refused { .. }) && refused.to_string().contains(words),
            "{refused}"
        );
    }
    let hostile = KeyColumn {
        name: "a".into(),
        sql_type: "int); DROP TABLE k; --".into(),
        collation: None,
    };
    let named = [("00001".to_owned(), range(vec![hostile], &["1"]))];
    let refused = check_tiling(&mut db.admin, SplitLimits::default(), "k", named)
        .await
        .unwrap_err();
    assert!(matches!(refused, SplitError::Bounds(_)), "{refused}");
}
