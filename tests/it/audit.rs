//! Validation by real daemons: what a publication keeps, rules over tables, queries with the chunk's
//! own values, and that nothing refused is ever visible.

use crate::faults_support::{Estate, HEAD};

/// Sources of 100 rows in four chunks, copied to a file and to a table.
fn flow(file_rules: &str, table_rules: &str) -> String {
    format!(
        "{HEAD}datasets:
  orders: {{ at: {{ connection: src, table: orders }}, partition: {{ key: id, chunks: 4 }} }}
  orders_file: {{ at: {{ connection: lake, path: \"orders/{{chunk}}.{{fence}}.csv.gz\" }}, validate: [{file_rules}] }}
  orders_copy: {{ at: {{ connection: dst, table: orders }}, validate: [{table_rules}] }}
jobs:
  extract: {{ input: orders, output: orders_file, run: {{ script: extract.sh }}, silence: 10m, retry: {{ attempts: 1 }} }}
  load: {{ input: orders_file, output: orders_copy, run: {{ script: load.sh }}, silence: 10m, retry: {{ attempts: 1 }} }}
"
    )
}

const TABLE: &str =
    "create table orders (id bigint primary key, state text, price numeric(12,2), at timestamptz)";
const ROWS: &str = "insert into orders select n, (array['O','F','P'])[1 + n % 3], n / 4.0, now() from generate_series(1, 100) n";

const EXTRACT: &str = r#"
psql -X -q -v ON_ERROR_STOP=1 -c "copy (select * from $ODF_INPUT_TABLE where $ODF_PREDICATE) to stdout (format csv, header)" "$ODF_INPUT_URL" | gzip >"$ODF_STAGING"
"#;

const LOAD: &str = r#"
gzip -dc "$ODF_INPUT" >rows.csv
psql -X -q -v ON_ERROR_STOP=1 "$ODF_OUTPUT_URL" <<SQL
begin;
delete from $ODF_OUTPUT_TABLE where $ODF_PREDICATE;
\copy $ODF_OUTPUT_TABLE from 'rows.csv' (format csv, header)
commit;
SQL
"#;

/// An estate whose databases have the tables and whose daemons have run the flow to its end.
async fn run(flow: &str, spoil: &str) -> Estate {
    let estate = Estate::new().await;
    estate.source.run(TABLE).await;
    estate.target.run(TABLE).await;
    estate.source.run(ROWS).await;
    estate.script_named("extract.sh", EXTRACT);
    estate.script_named("load.sh", &format!("{LOAD}\n{spoil}"));
    estate.apply(flow).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until(
            "select count(*) > 0 and bool_and(status in ('validated', 'exhausted', 'waiting'))
                    and not exists (select from odf.chunk where dataset = 'orders_file' and status not in ('validated', 'exhausted'))
                    and not exists (select from odf.chunk o join odf.chunk f on f.key = o.key and f.dataset = 'orders_file'
                                     where o.dataset = 'orders_copy' and f.status = 'validated' and o.status = 'waiting')
               from odf.chunk where dataset = 'orders_copy'",
        )
        .await;
    worker.stop().await;
    coordinator.stop().await;
    estate
}

const FILE_RULES: &str = "row_count: input, not_null: [id, state], unique: id, accepted: { state: [O, F, P] },
    range: { price: { min: 0, max: 25 } }, freshness: { column: at, within: 1d },
    schema: [{ name: id, type: long }, { name: state, type: string }, { name: price, type: { decimal: [12, 2] } },
             { name: at, type: timestamp-micros }],
    sql: { query: \"select count(*) = 100 and $1 <> '' and $4::bigint > 0, count(*) as n from orders\", connection: src }";

const TABLE_RULES: &str = "row_count: input, not_null: [id, state], unique: id, accepted: { state: [O, F, P] },
    range: { price: { min: 0, max: 25 } }, freshness: { column: at, within: 1d },
    sql: { query: \"select count(*) = 25 as ok, count(*) from orders where id >= coalesce($2::bigint, 0) and id < coalesce($3::bigint, 1000)\" }";

#[tokio::test]
async fn every_rule_is_asked_and_what_was_found_is_kept() {
    let estate = run(&flow(FILE_RULES, TABLE_RULES), "").await;
    let reasons: String = estate
        .control
        .get("select coalesce(string_agg(name || ': ' || coalesce(reason, ''), E'\\n'), '') from odf.chunk where status <> 'validated'")
        .await;
    assert_eq!(reasons, "");
    assert_eq!(estate.count("orders_copy", "validated").await, 4);
    let kept: String = estate
        .control
        .get(
            "select string_agg(distinct d.name || ' ' || coalesce(p.validation::jsonb ->> 'format', '-') || ' '
                    || jsonb_array_length(p.validation::jsonb -> 'rules') || ' '
                    || (select bool_and((r ->> 'ok')::boolean and r ->> 'found' <> '') from jsonb_array_elements(p.validation::jsonb -> 'rules') r), '; ')
               from odf.publication p join odf.chunk d on d.chunk_id = p.chunk_id
               cross join lateral (select d.dataset as name) x",
        )
        .await
        ;
    println!("{kept}");
    assert!(kept.contains("csv.gz 13 true"), "{kept}");
    assert!(kept.contains("- 7 true"), "{kept}");
    let rows: i64 = estate
        .control
        .get("select sum((validation::jsonb ->> 'rows')::bigint)::bigint from odf.publication where validation::jsonb ? 'format'")
        .await;
    assert_eq!(rows, 100, "counted by us in the staged bytes");
    let longest: i64 = estate
        .control
        .get("select max(octet_length(validation))::bigint from odf.publication")
        .await;
    println!("longest validation: {longest} bytes");
}

#[tokio::test]
async fn a_table_that_lost_rows_is_not_validated() {
    let spoil = r#"psql -X -q -c "delete from orders where id % 25 = 7" "$ODF_OUTPUT_URL""#;
    let estate = run(&flow("", "row_count: input"), spoil).await;
    assert_eq!(estate.count("orders_file", "validated").await, 4);
    assert_eq!(estate.count("orders_copy", "exhausted").await, 4);
    let reason: String = estate
        .control
        .get("select min(reason) from odf.chunk where dataset = 'orders_copy'")
        .await;
    println!("{reason}");
    assert!(
        reason.contains(
            "rule row_count(input): expected 25 rows of orders_file, as published, found 24 rows"
        ),
        "{reason}"
    );
}

#[tokio::test]
async fn rules_that_do_not_fit_the_table_say_so() {
    let cases = [
        (
            "not_null: [stat]",
            "no column \"stat\", there are at, id, price, state",
        ),
        (
            "range: { price: { min: cheap } }",
            "invalid input syntax for type numeric",
        ),
        (
            "accepted: { state: [O] }",
            "of 100 values are others, for example",
        ),
        (
            "sum: { price: { equals: 1 } }",
            "expected price: 1, found price: ",
        ),
        (
            "freshness: { column: at, within: 1d }, max: { id: { equals: 1 } }",
            "rule max(id)",
        ),
        (
            "sql: { query: 'select 1' }",
            "expected a boolean as the first column",
        ),
        (
            "sql: { query: 'select nothing' }",
            "column \"nothing\" does not exist",
        ),
        ("sql: { query: 'select true where false' }", "no row"),
    ];
    let estate = Estate::new().await;
    estate.source.run(TABLE).await;
    estate.source.run(ROWS).await;
    estate.script_named(
        "load.sh",
        r#"psql -X -q "$ODF_INPUT_URL" -c "copy orders to stdout" >rows
psql -X -q -v ON_ERROR_STOP=1 "$ODF_OUTPUT_URL" -c "\copy $ODF_OUTPUT_TABLE from rows""#,
    );
    let (mut sets, mut jobs) = (String::new(), String::new());
    for (number, (rules, _)) in cases.iter().enumerate() {
        let table = TABLE.replace("orders", &format!("copy{number}"));
        estate.target.run(&table).await;
        sets += &format!(
            "  copy{number}: {{ at: {{ connection: dst, table: copy{number} }}, validate: [{rules}] }}\n"
        );
        jobs += &format!(
            "  load{number}: {{ input: orders, output: copy{number}, run: {{ script: load.sh }}, silence: 10m, retry: {{ attempts: 1 }} }}\n"
        );
    }
    let orders =
        "  orders: { at: { connection: src, table: orders }, partition: { key: id, chunks: 1 } }\n";
    estate
        .apply(&format!("{HEAD}datasets:\n{orders}{sets}jobs:\n{jobs}"))
        .await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until(&format!(
            "select count(*) = {} and bool_and(status in ('validated', 'exhausted')) from odf.chunk where dataset like 'copy%'",
            cases.len()
        ))
        .await;
    worker.stop().await;
    coordinator.stop().await;
    for (number, (rules, says)) in cases.iter().enumerate() {
        let reason: String = estate
            .control
            .get(&format!(
                "select coalesce(reason, 'validated') from odf.chunk where dataset = 'copy{number}'"
            ))
            .await;
        assert!(reason.contains(says), "{rules}: {reason}");
    }
}

#[tokio::test]
async fn an_extract_that_lost_its_server_in_the_middle_publishes_nothing() {
    let estate = Estate::new().await;
    estate
        .source
        .run("create table orders (id bigint primary key, state text)")
        .await;
    estate
        .target
        .run("create table orders (id bigint primary key, state text)")
        .await;
    estate
        .source
        .run("insert into orders select n, 'O' from generate_series(1, 100) n")
        .await;
    // The server ends the query after some rows; without pipefail the pipe ends with gzip's 0.
    estate.script_named(
        "extract.sh",
        r#"set +e
psql -X -q -c "copy (select id, case when id % 25 = 20 then (1 / (id % 5))::text else state end as state
  from $ODF_INPUT_TABLE where $ODF_PREDICATE order by id) to stdout (format csv, header)" "$ODF_INPUT_URL" | gzip >"$ODF_STAGING"
exit 0"#,
    );
    estate.script_named("load.sh", LOAD);
    estate.apply(&flow("row_count: input", "")).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until("select count(*) = 4 and bool_and(status in ('validated', 'exhausted')) from odf.chunk where dataset = 'orders_file'")
        .await;
    worker.stop().await;
    coordinator.stop().await;
    assert_eq!(estate.count("orders_file", "validated").await, 0);
    assert_eq!(estate.files("lake/orders").len(), 0, "nothing has a name");
    let reason: String = estate
        .control
        .get("select min(reason) from odf.chunk where dataset = 'orders_file'")
        .await;
    assert!(
        reason.contains("row_count(input)") && reason.contains("counted there now"),
        "{reason}"
    );
    assert_eq!(
        estate.files("lake/.odf-staging").len(),
        4,
        "kept to be looked at"
    );
}
