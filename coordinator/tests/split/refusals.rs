//! What a split refuses, and whether the refusal says what to do.

use common::flow::model::{ChunkSize, Partition};
use coordinator::split::{Endpoint, SplitError};

use crate::support::{database, split};

const ROWS: ChunkSize = ChunkSize::Rows(10);

/// Table, columns and size, with words that the refusal holds.
const REFUSED: &[(&str, &[&str], ChunkSize, &[&str])] = &[
    ("plain", &[], ROWS, &["no primary key", "[id] and [id, v]"]),
    (
        "bare",
        &[],
        ROWS,
        &["no primary key", "columns with an order are n integer"],
    ),
    ("seen", &[], ROWS, &["no primary key", "id integer"]),
    (
        "plain",
        &["missing"],
        ROWS,
        &["no column \"missing\"", "id integer, doc json"],
    ),
    (
        "plain",
        &["doc"],
        ROWS,
        &["type json has no order", "hint: choose"],
    ),
    ("plain", &["p"], ROWS, &["type point has no order"]),
    ("plain", &["x"], ROWS, &["type xml has no order"]),
    ("plain", &["m"], ROWS, &["money prints differently"]),
    ("plain", &["reg"], ROWS, &["regclass prints differently"]),
    ("plain", &["r"], ROWS, &["several values"]),
    ("plain", &["a"], ROWS, &["several values"]),
    ("plain", &["id", "ID"], ROWS, &["named twice"]),
    (
        "orders",
        &[],
        ROWS,
        &["no table orders", "did you mean s.\"Orders\""],
    ),
    (
        "nowhere.orders",
        &[],
        ROWS,
        &["no table nowhere.orders", "did you mean"],
    ),
    (
        "counting",
        &[],
        ROWS,
        &["expected at public.counting", "relkind \"S\""],
    ),
    ("a b", &[], ROWS, &["double quotes"]),
    ("plain", &["id"], ChunkSize::Rows(0), &["found 0"]),
    ("plain", &["id"], ChunkSize::Chunks(0), &["found 0"]),
    (
        "plain",
        &["id"],
        ChunkSize::Chunks(u32::MAX),
        &["at most 10000000 chunks"],
    ),
];

#[tokio::test]
async fn keys_that_cannot_be_are_refused_by_name_with_a_hint() {
    let db = database().await;
    db.admin
        .batch_execute(
            "CREATE TABLE plain(id int, doc json, p point, m money, r int4range, a int[], x xml, reg regclass, v int); \
             CREATE UNIQUE INDEX ON plain(id); CREATE UNIQUE INDEX ON plain(id, v); CREATE UNIQUE INDEX ON plain(v) WHERE v > 0; \
             CREATE TABLE bare(doc json, n int); CREATE SCHEMA s; CREATE TABLE s.\"Orders\"(id int primary key); \
             CREATE VIEW seen AS SELECT id FROM plain; CREATE SEQUENCE counting",
        )
        .await
        .unwrap();
    for &(table, columns, size, words) in REFUSED {
        let refused = db
            .split_by_key(table, columns, size)
            .await
            .unwrap_err()
            .to_string();
        for word in words.iter().chain(&["hint:"]) {
            assert!(refused.contains(word), "{table} {columns:?}: {refused}");
        }
    }
}

#[tokio::test]
async fn an_order_that_comes_from_an_extension_is_refused() {
    let db = database().await;
    // What citext does, without needing it: a type whose order lives outside pg_catalog.
    db.admin
        .batch_execute(
            "CREATE TYPE odd; \
             CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'textin'; \
             CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'; \
             CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = text); \
             CREATE CAST (odd AS text) WITHOUT FUNCTION AS IMPLICIT; \
             CREATE FUNCTION odd_cmp(odd, odd) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0'; \
             CREATE OPERATOR CLASS odd_ops DEFAULT FOR TYPE odd USING btree AS FUNCTION 1 odd_cmp(odd, odd); \
             CREATE TABLE k(id odd)",
        )
        .await
        .unwrap();
    let refused = db
        .split_by_key("k", &["id"], ChunkSize::Rows(1))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("ordered by an extension"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_wrong_kind_of_connection_is_refused() {
    let db = database().await;
    let key = || Partition::Key {
        columns: vec![],
        size: ChunkSize::Rows(1),
    };
    let files = Partition::Files {
        pattern: "*".into(),
    };
    let refused =
        |result: Result<_, SplitError>| result.map(|_: (Vec<_>, _)| ()).unwrap_err().to_string();
    let words = refused(split(Endpoint::Other, Some("t"), key()).await);
    assert!(
        words.contains("kind postgres") && words.contains("\"source\""),
        "{words}"
    );
    let words = refused(split(db.endpoint(), None, files).await);
    assert!(words.contains("kind files"), "{words}");
    let words = refused(split(db.endpoint(), None, key()).await);
    assert!(words.contains("needs a table"), "{words}");
}

#[tokio::test]
async fn a_login_that_may_not_read_is_told_so() {
    let db = database().await;
    db.admin
        .batch_execute(
            "CREATE TABLE k(id int primary key); DROP ROLE IF EXISTS rita; CREATE ROLE rita LOGIN",
        )
        .await
        .unwrap();
    let cluster = crate::support::cluster().await;
    let url = format!("postgres://rita@127.0.0.1:{}/{}", cluster.port, db.name).into();
    let partition = Partition::Key {
        columns: vec![],
        size: ChunkSize::Rows(1),
    };
    let refused = split(Endpoint::Postgres { url }, Some("k"), partition)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("permission denied") && refused.contains("42501"),
        "{refused}"
    );
}

#[tokio::test]
async fn row_security_is_noted_and_a_read_only_login_is_enough() {
    let db = database().await;
    db.admin
        .batch_execute(
            "CREATE TABLE k(id int primary key); INSERT INTO k SELECT generate_series(1, 100); \
             DROP ROLE IF EXISTS rosa; CREATE ROLE rosa LOGIN; GRANT SELECT ON k TO rosa; \
             ALTER TABLE k ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON k USING (id <= 40)",
        )
        .await
        .unwrap();
    let cluster = crate::support::cluster().await;
    let url = format!(
        "postgres://rosa@127.0.0.1:{}/{}?options=-c%20default_transaction_read_only%3Don",
        cluster.port, db.name
    )
    .into();
    let partition = Partition::Key {
        columns: vec![],
        size: ChunkSize::Rows(10),
    };
    let (chunks, summary) = split(Endpoint::Postgres { url }, Some("k"), partition)
        .await
        .unwrap();
    assert_eq!((chunks.len(), summary.rows_estimate), (4, Some(40)));
    assert!(
        summary
            .notes
            .iter()
            .any(|note| note.contains("Row security")),
        "{:?}",
        summary.notes
    );
    db.admin
        .batch_execute("DROP OWNED BY rosa; DROP ROLE rosa")
        .await
        .unwrap();
}
