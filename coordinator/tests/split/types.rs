//! Types a key may have, each with values that print oddly, and names that need quotes.

use common::domain::Bounds;
use common::endpoint::{ExposeSecret, SessionSettings, sql_predicate};
use common::flow::model::ChunkSize;

use crate::keys::{assert_tiles, assert_well_formed};
use crate::support::{binaries, database};

/// Types, each with a query for its values.
const TYPES: &[(&str, &str)] = &[
    (
        "smallint",
        "SELECT i::smallint FROM generate_series(-32768, 32767, 1111) i",
    ),
    ("boolean", "SELECT i % 2 = 0 FROM generate_series(1, 20) i"),
    (
        r#""My Schema"."odd ""mood""""#,
        r#"SELECT unnest(enum_range(NULL::"My Schema"."odd ""mood"""))"#,
    ),
    (
        r#""My Schema".code"#,
        "SELECT chr(60 + i) || '\\' || i FROM generate_series(1, 40) i",
    ),
    (
        r#""My Schema".deep"#,
        "SELECT 'x''' || i FROM generate_series(1, 40) i",
    ),
    (
        r#"text COLLATE "My Schema"."mine ""x""""#,
        "SELECT unnest(ARRAY['Ärger','Aerger','Arger','Az','ä','ae','Zoo'])",
    ),
    (
        "char(6)",
        "SELECT (CASE WHEN i % 2 = 0 THEN 'a ' ELSE 'a' END) || i % 9 FROM generate_series(1, 40) i",
    ),
    (
        "char(3)",
        "SELECT unnest(ARRAY['', ' ', 'a', E'a\\t', E'a\\n', 'b'])",
    ),
    (
        "varchar(5)",
        "SELECT 'v' || i FROM generate_series(1, 99) i",
    ),
    ("name", "SELECT 'n' || i FROM generate_series(1, 40) i"),
    ("\"char\"", "SELECT unnest(ARRAY['a', 'Z', '''', '\\'])"),
    (
        "bytea",
        "SELECT decode(lpad(to_hex(i * 37 % 256), 2, '0'), 'hex') FROM generate_series(0, 255) i",
    ),
    (
        "interval",
        "SELECT unnest(ARRAY['1 mon', '30 days', '720:00:00', '-1 mon +2 days', '-00:00:01', '1 year -3 days']::interval[])",
    ),
    (
        "time",
        "SELECT unnest(ARRAY['00:00', '24:00', '12:34:56.789']::time[])",
    ),
    (
        "timetz",
        "SELECT unnest(ARRAY['00:00+02', '22:00+00', '12:34:56.789-08']::timetz[])",
    ),
    (
        "timestamp(3)",
        "SELECT '2024-01-01'::timestamp + i * interval '1.5 ms' FROM generate_series(1, 50) i",
    ),
    (
        "date",
        "SELECT unnest(ARRAY['infinity', '-infinity', '0001-01-01 BC', '4713-01-01 BC', '5874897-12-31', '2024-02-29']::date[])",
    ),
    ("real", "SELECT i / 3.0 FROM generate_series(-20, 20) i"),
    (
        "inet",
        "SELECT ('10.0.' || i || '.0/' || 20 + i % 8)::inet FROM generate_series(1, 40) i",
    ),
    (
        "cidr",
        "SELECT ('10.0.' || i || '.0/24')::cidr FROM generate_series(1, 40) i",
    ),
    (
        "macaddr",
        "SELECT ('08:00:2b:01:02:' || lpad(to_hex(i), 2, '0'))::macaddr FROM generate_series(1, 40) i",
    ),
    (
        "oid",
        "SELECT i::bigint * 100000000 FROM generate_series(0, 40) i",
    ),
    (
        "numeric(12,2)",
        "SELECT i / 4.0 FROM generate_series(-50, 50) i",
    ),
    (
        "bit varying(9)",
        "SELECT i::bit(5)::varbit(9) FROM generate_series(0, 31) i",
    ),
    (
        "uuid",
        "SELECT md5(i::text)::uuid FROM generate_series(1, 99) i",
    ),
    (
        "jsonb",
        "SELECT unnest(ARRAY['1', '1.0', '\"a\\\\b''\"', '{\"a\": null}', '[]', 'null']::jsonb[])",
    ),
];

#[tokio::test]
async fn types_with_odd_text_tile() {
    let mut db = database().await;
    db.admin
        .batch_execute(
            r#"
            CREATE SCHEMA "My Schema";
            CREATE TYPE "My Schema"."odd ""mood""" AS ENUM ('z', 'it''s', 'a b', E'back\\slash', 'A');
            CREATE DOMAIN "My Schema".code AS varchar(8) COLLATE "C" CHECK (value <> 'forbidden');
            CREATE DOMAIN "My Schema".deep AS "My Schema".code NOT NULL;
            CREATE COLLATION "My Schema"."mine ""x""" (provider = icu, locale = 'de-u-co-phonebk');
            "#,
        )
        .await
        .unwrap();
    for &(sql_type, values) in TYPES {
        let make = format!(
            "DROP TABLE IF EXISTS k; CREATE TABLE k(id {sql_type}, v int); INSERT INTO k SELECT v, 1 FROM ({values}) AS s(v), generate_series(1, 2)"
        );
        db.admin.batch_execute(&make).await.expect(sql_type);
        for size in [ChunkSize::Rows(1), ChunkSize::Rows(5), ChunkSize::Chunks(4)] {
            let (chunks, _) = db.split_by_key("k", &["id"], size).await.expect(sql_type);
            assert_well_formed(&chunks, sql_type);
            assert!(size != ChunkSize::Rows(1) || chunks.len() > 1, "{sql_type}");
            assert_tiles(&mut db, "k", &chunks, sql_type).await;
        }
    }
}

#[tokio::test]
async fn conditions_mean_the_same_in_a_session_with_other_settings() {
    let mut db = database().await;
    db.admin
        .batch_execute(
            r#"
            CREATE TYPE mood AS ENUM ('sad', 'ok');
            CREATE TABLE "odd ""table"""("col'1 \" text COLLATE "en-US-x-icu", "select" timestamptz, d interval, m mood);
            INSERT INTO "odd ""table""" SELECT unnest(ARRAY['\', '''', '\''', E'\n', '$(x)', 'é', '😀']), '2024-03-09'::timestamptz + i * interval '7 hours', i * interval '-1 day 1 hour', 'ok'
              FROM generate_series(1, 20) i;
            "#,
        )
        .await
        .unwrap();
    let table = "\"odd \"\"table\"\"\"";
    let columns = ["m", "col'1 \\", "select", "d"];
    let (chunks, _) = db
        .split_by_key(table, &columns, ChunkSize::Rows(3))
        .await
        .unwrap();
    assert!(chunks.len() > 20);
    assert_tiles(&mut db, table, &chunks, "plain").await;
    let other = common::endpoint::connect(&db.url, &SessionSettings::named("other"))
        .await
        .unwrap();
    other
        .batch_execute(
            "SET standard_conforming_strings = off; SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kathmandu'; \
             SET IntervalStyle = 'sql_standard'; SET search_path = ''; SET bytea_output = 'escape'",
        )
        .await
        .unwrap();
    for chunk in &chunks {
        let condition = sql_predicate(&chunk.bounds).unwrap();
        let sql = format!("SELECT count(*) FROM public.{table} WHERE {condition}");
        let held: i64 = other.query_one(&sql, &[]).await.expect(&condition).get(0);
        assert_eq!(Some(held), chunk.est_rows, "{condition}");
    }
}

#[tokio::test]
async fn equal_keys_are_never_parted() {
    let db = database().await;
    db.admin
        .batch_execute("CREATE TABLE k(id numeric, v int); INSERT INTO k SELECT 1.0 + (i / 10), i FROM generate_series(0, 99) i; UPDATE k SET id = id::numeric(9,3) WHERE v % 2 = 0")
        .await
        .unwrap();
    for rows in [1, 3, 7, 10, 11, 25] {
        let (chunks, summary) = db
            .split_by_key("k", &["id"], ChunkSize::Rows(rows))
            .await
            .unwrap();
        for chunk in &chunks {
            assert_eq!(chunk.est_rows.unwrap() % 10, 0, "{chunk:?}");
        }
        assert!(
            chunks.len() as u64 <= 100 / rows.max(10) + 1,
            "{rows}: {}",
            chunks.len()
        );
        let told = summary
            .notes
            .iter()
            .any(|note| note.contains("equal keys stay together"));
        assert_eq!(told, rows < 10, "{rows}: {:?}", summary.notes);
    }
    db.admin.batch_execute("UPDATE k SET id = 7").await.unwrap();
    let (chunks, summary) = db
        .split_by_key("k", &["id"], ChunkSize::Chunks(10))
        .await
        .unwrap();
    assert_eq!((chunks.len(), summary.chunks), (1, 1));
    assert!(matches!(
        &chunks[0].bounds,
        Bounds::KeyRange {
            lower: None,
            upper: None,
            ..
        }
    ));
}

#[tokio::test]
async fn the_summary_describes_the_plan() {
    let db = database().await;
    db.admin
        .batch_execute("CREATE TABLE k(id int, v int); INSERT INTO k SELECT nullif(i, 0), i FROM generate_series(0, 100) i")
        .await
        .unwrap();
    let (chunks, summary) = db
        .split_by_key("k", &["id"], ChunkSize::Rows(30))
        .await
        .unwrap();
    let keys: Vec<&str> = chunks.iter().map(|chunk| chunk.key.as_str()).collect();
    assert_eq!(keys, ["00001", "00002", "00003", "00004", "null"]);
    assert_eq!(
        summary.outer,
        Some((vec!["1".to_owned()], vec!["100".to_owned()]))
    );
    assert_eq!(summary.rows_estimate, Some(101));
    let rows = summary.rows.unwrap();
    assert_eq!((rows.min, rows.median, rows.max), (1, 30, 30));
    assert!((rows.skew - 30.0 / 20.2).abs() < 1e-9);
    assert_eq!(
        summary.notes,
        ["1 rows with NULL in the key get their own chunk, `null`."]
    );
    assert_eq!(summary.columns[0].sql_type, "integer");
    db.admin.batch_execute("DELETE FROM k").await.unwrap();
    let (chunks, summary) = db
        .split_by_key("k", &["id"], ChunkSize::Rows(30))
        .await
        .unwrap();
    assert_eq!(
        (chunks.len(), chunks[0].est_rows, summary.outer),
        (1, Some(0), None)
    );
}

#[tokio::test]
async fn psql_takes_conditions_as_text_and_nothing_else() {
    let db = database().await;
    let hostile = "\\! touch pwned\n\\q :x :'x' $(touch pwned) `touch pwned` '; SELECT 1/0; --";
    let column = hostile.split(' ').next().unwrap().to_owned() + "\n\\! \"x\" :x";
    let name = common::endpoint::quote_ident(&column).unwrap();
    let make = format!("CREATE TABLE k({name} text COLLATE \"C\", b int)");
    db.admin.batch_execute(&make).await.unwrap();
    db.admin
        .execute(
            "INSERT INTO k VALUES ($1, 1), ('', 2), ($1 || 'z', 3), (chr(1), 4)",
            &[&hostile],
        )
        .await
        .unwrap();
    let (chunks, _) = db
        .split_by_key("k", &[&column, "b"], ChunkSize::Rows(1))
        .await
        .unwrap();
    assert_eq!(chunks.len(), 4);
    let dir = tempfile::tempdir().unwrap();
    for chunk in &chunks {
        let condition = sql_predicate(&chunk.bounds).unwrap();
        let script = dir.path().join("query.sql");
        std::fs::write(
            &script,
            format!("SELECT count(*) FROM k WHERE {condition};\n"),
        )
        .unwrap();
        let output = std::process::Command::new(binaries().join("psql"))
            .args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-v", "x=BAD", "-d"])
            .arg(db.url.expose_secret())
            .arg("-f")
            .arg(&script)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "1\n",
            "{condition}: {stderr}"
        );
    }
    assert!(!dir.path().join("pwned").exists());
}
