//! Tables made by chance, with what breaks splitters: few distinct keys, NULLs, odd characters
//! under several collations, numbers that are equal and print differently.

use common::flow::model::ChunkSize;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::keys::{assert_tiles, assert_well_formed};
use crate::support::{Database, database};

type Cell = Option<String>;

fn sizes() -> impl Strategy<Value = ChunkSize> {
    prop_oneof![
        (1_u64..9).prop_map(ChunkSize::Rows),
        (1_u32..25).prop_map(ChunkSize::Chunks),
    ]
}

fn nullable(cells: impl Strategy<Value = String>) -> impl Strategy<Value = Cell> {
    prop_oneof![9 => cells.prop_map(Some), 1 => Just(None)]
}

fn texts() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "a", "A", "b", "ab", "'", "\"", "\\", "\n", "\r\n", "\t", "%", "_", "$(x)", "`x`", "{",
        "}", "--", "/*", ";", "é", "e\u{301}", "ß", "ss", "İ", "ı", "😀", "\u{fffd}", "\u{200b}",
        "城", " ", "\u{7f}", "\u{1}", "-", "co-op", "coop", "\\N", "NULL", "E'", "::int",
    ]);
    vec(odd, 0..4).prop_map(|parts| parts.concat())
}

fn integers() -> impl Strategy<Value = String> {
    prop_oneof![
        (-5_i64..5).prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        select(vec![i64::MIN, i64::MAX, 0, -1]).prop_map(|n| n.to_string()),
    ]
}

fn numerics() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "-0",
        "1",
        "1.0",
        "1.00",
        "1e30",
        "-1e30",
        "0.1",
        "0.10000000000000000000001",
        "99999999999999999999999999999999999999.5",
    ]);
    prop_oneof![
        odd.prop_map(str::to_owned),
        (-300_i32..300, 0_usize..4)
            .prop_map(|(n, places)| format!("{:.places$}", f64::from(n) / 8.0)),
    ]
}

fn timestamps() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "infinity",
        "-infinity",
        "4713-01-01 00:00:00+00 BC",
        "0044-03-15 12:00:00+00 BC",
        "294276-12-31 23:59:59.999999+00",
        "2024-11-03 01:30:00-04",
        "2024-11-03 01:30:00-05",
    ]);
    prop_oneof![
        odd.prop_map(str::to_owned),
        (0_i32..500).prop_map(|n| format!(
            "2024-03-10 {:02}:{:02}:00.{n:06}+00",
            n / 60 % 24,
            n % 60
        )),
    ]
}

fn floats() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "NaN",
        "Infinity",
        "-Infinity",
        "-0",
        "0",
        "5e-324",
        "0.1",
        "1e308",
    ]);
    prop_oneof![
        odd.prop_map(str::to_owned),
        any::<f64>().prop_map(|n| format!("{n:e}").replace("inf", "Infinity")),
    ]
}

/// Makes a table of these rows and tries it.
async fn tile(db: &mut Database, types: &[&str], rows: &[Vec<Cell>], size: ChunkSize) {
    let names: Vec<String> = (0..types.len()).map(|i| format!("k{i}")).collect();
    let columns: Vec<String> = names
        .iter()
        .zip(types)
        .map(|(n, t)| format!("{n} {t}"))
        .collect();
    let make = format!(
        "DROP TABLE IF EXISTS r; CREATE TABLE r({}, v int)",
        columns.join(", ")
    );
    db.admin.batch_execute(&make).await.unwrap();
    let casts: Vec<String> = types
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let bare = t.split(" COLLATE").next().unwrap();
            format!("c{i}::{bare}")
        })
        .collect();
    let arrays: Vec<String> = (1..=types.len()).map(|i| format!("${i}::text[]")).collect();
    let aliases: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let insert = format!(
        "INSERT INTO r SELECT {}, 1 FROM unnest({}) AS u({})",
        casts.join(", "),
        arrays.join(", "),
        aliases.join(", ")
    );
    let cells: Vec<Vec<Cell>> = (0..types.len())
        .map(|i| rows.iter().map(|row| row[i].clone()).collect())
        .collect();
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        cells.iter().map(|column| column as _).collect();
    db.admin.execute(&insert, &parameters).await.unwrap();
    let named: Vec<&str> = names.iter().map(String::as_str).collect();
    let what = format!("{types:?} {rows:?} {size:?}");
    let (chunks, _) = db.split_by_key("r", &named, size).await.expect(&what);
    assert_well_formed(&chunks, &what);
    assert_tiles(db, "r", &chunks, &what).await;
}

/// Runs cases of one shape of table; a panic in a case is shrunk and printed by proptest.
fn try_shape<S>(cases: u32, types: &[&str], row: S)
where
    S: Strategy<Value = Vec<Cell>>,
{
    let runtime = Runtime::new().unwrap();
    let db = runtime.block_on(async {
        let db = database().await;
        db.admin
            .batch_execute(
                "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
            )
            .await
            .unwrap();
        tokio::sync::Mutex::new(db)
    });
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&(vec(row, 0..60), sizes()), |(rows, size)| {
            runtime.block_on(async { tile(&mut *db.lock().await, types, &rows, size).await });
            Ok(())
        })
        .unwrap();
}

fn one(cells: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Cell>> {
    nullable(cells).prop_map(|cell| vec![cell])
}

#[test]
fn integers_tile() {
    try_shape(60, &["bigint"], one(integers()));
}

#[test]
fn text_tiles_under_c() {
    try_shape(60, &["text COLLATE \"C\""], one(texts()));
}

#[test]
fn text_tiles_under_icu() {
    try_shape(60, &["text COLLATE \"en-US-x-icu\""], one(texts()));
}

#[test]
fn text_tiles_where_spellings_are_equal() {
    try_shape(60, &["text COLLATE loose"], one(texts()));
}

#[test]
fn numbers_that_print_differently_stay_together() {
    try_shape(60, &["numeric"], one(numerics()));
    try_shape(30, &["double precision"], one(floats()));
}

#[test]
fn moments_tile() {
    try_shape(40, &["timestamptz"], one(timestamps()));
}

#[test]
fn composite_keys_with_nulls_tile() {
    let row = (
        nullable(texts()),
        nullable((0_i32..4).prop_map(|n| n.to_string())),
        nullable(numerics()),
    )
        .prop_map(|(a, b, c)| vec![a, b, c]);
    try_shape(60, &["text COLLATE \"de-x-icu\"", "int", "numeric"], row);
}
