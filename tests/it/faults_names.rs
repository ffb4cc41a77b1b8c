//! Names and values that a shell, SQL, a path or a format could take for more than text, carried end
//! to end; and tables with hardly anything in them. The scripts are those that `coordinator example`
//! hands to every new user.

use std::collections::BTreeMap;

use common::endpoint::name::{quote_ident, quote_literal};

use crate::faults_support::{CALM, Estate};

/// Texts that nothing may read anything into.
const HOSTILE: &[&str] = &[
    "",
    " ",
    "'",
    "''; drop table victim; --",
    "\"",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned #",
    "| touch pwned &",
    "%s %d %n %%",
    "{chunk}.{fence}",
    "${secret:SRC_URL}",
    ":name :'name' \\:name",
    "\\",
    "\\.",
    "\\\\copy x",
    "line\nbreak\r\n\\copy",
    "tab\tand trailing ",
    "../../../../tmp/pwned",
    "NULL",
    "\\N",
    "-rf",
    "zürich 東京 🦀 \u{202e}rtl",
    "e\u{301} and \u{e9}",
    "a,b;\"c\"",
    "$ODF_CHUNK ${HOME} !!",
];

const SCHEMA: &str = "Sales $(touch pwned) 'n \"more\"";
const TABLE: &str = "Order's \"lines\"; drop table victim; -- 50% é `touch pwned`";
const KEY: &str = "Key \"of\" $(touch pwned) 'it' %s; --";

/// The order-independent proof that two tables hold the same.
async fn proof(database: &crate::faults_process::Sql, table: &str) -> String {
    database
        .get(&format!(
            "select count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from {table} t"
        ))
        .await
}

/// A flow that carries tables from `src` by files to `dst`: name of the data set, table, partition.
fn carrying(tables: &[(&str, &str, &str)]) -> String {
    let mut yaml = "flow: faults
connections:
  erp: { kind: postgres, url: \"${secret:SRC_URL}\" }
  dwh: { kind: postgres, url: \"${secret:DST_URL}\" }
  lake: { kind: files, root: \"${env:LAKE}\" }
datasets:
"
    .to_owned();
    for (name, table, partition) in tables {
        let table = serde_json::to_string(table).unwrap();
        let path = "o r'd $(touch pwned) %s é `touch pwned`/{chunk}.{fence}.csv";
        yaml += &format!(
            "  {name}: {{ at: {{ connection: erp, table: {table} }}, partition: {partition} }}
  {name}_file: {{ at: {{ connection: lake, path: \"{name}/{path}\" }} }}
  {name}_copy: {{ at: {{ connection: dwh, table: {table} }} }}
"
        );
    }
    yaml += "jobs:\n";
    for (name, ..) in tables {
        yaml += &format!(
            "  extract_{name}: {{ input: {name}, output: {name}_file, run: {{ script: extract.sh }}{CALM} }}
  load_{name}: {{ input: {name}_file, output: {name}_copy, run: {{ script: load.sh }}{CALM} }}
"
        );
    }
    yaml
}

/// The scripts of the example, where this estate's workers look for scripts.
async fn example_scripts(estate: &Estate) {
    let to = estate.path("example");
    let to = to.to_str().unwrap().to_owned();
    estate.cli(&["example", "warehouse", &to]).await.ok();
    for script in ["extract.sh", "load.sh"] {
        let from = estate.path("example/scripts").join(script);
        std::fs::copy(from, estate.path("scripts").join(script)).unwrap();
    }
}

/// Runs the flow until all of it is validated; every source's plan must tile its table.
async fn carry(estate: &Estate, tables: &[(&str, &str, &str)]) {
    example_scripts(estate).await;
    estate.apply(&carrying(tables)).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    for (name, table, _) in tables {
        let all = format!(
            "select d.plan_id is not null and not exists (select from odf.chunk c
                      where c.dataset = d.name and c.status <> 'validated')
               from odf.data_set d where d.name = '{name}_copy'"
        );
        estate.until(&all).await;
        let check = estate
            .cli_as(&estate.urls.coordinator, &["plan", "--check", name])
            .await;
        check.ok();
        assert_eq!(
            proof(&estate.source, table).await,
            proof(&estate.target, table).await,
            "{name}"
        );
        estate.assert_published_once(&format!("{name}_file")).await;
        estate.assert_published_once(&format!("{name}_copy")).await;
    }
    worker.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}

#[tokio::test]
async fn hostile_names_and_values_arrive_identical() {
    let estate = Estate::new().await;
    let (schema, table, key) = (
        quote_ident(SCHEMA).unwrap(),
        quote_ident(TABLE).unwrap(),
        quote_ident(KEY).unwrap(),
    );
    let whole = format!("{schema}.{table}");
    let ddl = format!(
        "create schema {schema}; create table {whole} ({key} text primary key, n int, {note} text);
         create table victim (id int)",
        note = quote_ident("no\"te").unwrap()
    );
    estate.source.run(&ddl).await;
    estate.target.run(&ddl).await;
    let rows: Vec<String> = HOSTILE
        .iter()
        .enumerate()
        .flat_map(|(i, text)| (0..3).map(move |n| (i, text, n)))
        .map(|(i, text, n)| {
            let key = quote_literal(&format!("{text}{}", "x".repeat(n))).unwrap();
            let note = quote_literal(HOSTILE[(i + 7 * n) % HOSTILE.len()]).unwrap();
            format!("({key}, {n}, {note})")
        })
        .collect();
    let insert = format!("insert into {whole} values {}", rows.join(","));
    estate.source.run(&insert).await;
    let partition = format!(
        "{{ key: {}, chunks: 20 }}",
        serde_json::to_string(KEY).unwrap()
    );
    carry(&estate, &[("weird", &whole, &partition)]).await;
    let victims: i64 = estate.source.get("select count(*) from victim").await;
    assert_eq!(victims, 0, "the victim is still there");
    let chunks: i64 = estate
        .control
        .get("select count(*) from odf.chunk where dataset = 'weird'")
        .await;
    assert!(chunks > 10, "{chunks}");
}

#[tokio::test]
async fn small_and_lopsided_tables_arrive_identical() {
    let estate = Estate::new().await;
    let ddl = "create table none (id bigint primary key, v text);
               create table one (id bigint primary key, v text);
               create table same (k int not null, v text); create index on same (k);
               create table nulls (k text, j int, v text); create index on nulls (k, j);
               create table pair (a text collate \"C\", b numeric, v text, primary key (a, b));";
    estate.source.run(ddl).await;
    estate.target.run(ddl).await;
    estate
        .source
        .run(
            "insert into one values (-9223372036854775808, 'lowest');
             insert into same select 7, 'row ' || n from generate_series(1, 500) n;
             insert into nulls select nullif('k' || n % 7, 'k3'), nullif(n % 5, 2), 'row ' || n
               from generate_series(1, 300) n;
             insert into pair select chr(64 + n % 9), case n when 5 then 'NaN' else n / 3.0 end, 'row ' || n
               from generate_series(1, 200) n",
        )
        .await;
    carry(
        &estate,
        &[
            ("none", "none", "{ key: id, chunks: 5 }"),
            ("one", "public.one", "{ key: primary, chunks: 5 }"),
            ("same", "same", "{ key: k, rows: 50 }"),
            ("nulls", "nulls", "{ key: [k, j], chunks: 6 }"),
            ("pair", "pair", "{ key: [a, b], chunks: 6 }"),
        ],
    )
    .await;
}

/// A file for every chunk of a query and of a listing, made by a script that trusts no name.
const COPY: &str = r#"
printf '%s' "$1|$2" >"$ODF_STAGING"
case $ODF_BOUNDS_KIND in
  row) printf '%s' "$ODF_COL_NAME" >>"$ODF_STAGING" ;;
  file) cat "$ODF_FILE" >>"$ODF_STAGING" ;;
esac"#;

#[tokio::test]
async fn hostile_chunk_keys_and_file_names_arrive_as_they_are() {
    let estate = Estate::new().await;
    estate.script(COPY);
    // As chunk keys go: no blanks at the ends, no control characters, no slash.
    let keys: Vec<&str> = HOSTILE
        .iter()
        .filter(|text| {
            !text.is_empty() && text.trim() == **text && !text.contains(['/', '\n', '\r', '\t'])
        })
        .copied()
        .collect();
    // As file names go: anything but a slash; a pattern's star takes none that begins with a dot.
    let mut files = BTreeMap::new();
    std::fs::create_dir_all(estate.path("lake/in/sub")).unwrap();
    for (n, name) in HOSTILE.iter().enumerate() {
        let name = format!("f{}.csv", name.replace('/', "_"));
        let dir = if n % 2 == 0 { "in" } else { "in/sub" };
        std::fs::write(
            estate.path("lake").join(dir).join(&name),
            format!("file {n}"),
        )
        .unwrap();
        files.insert(format!("{dir}/{name}"), format!("file {n}"));
    }
    let values: Vec<String> = keys
        .iter()
        .map(|key| format!("({})", quote_literal(key).unwrap()))
        .collect();
    let query = format!("select name from (values {}) v (name)", values.join(", "));
    let args = ["$(touch pwned) 'a' \"b\"", "`touch pwned`; *"];
    let yaml = format!(
        "{head}datasets:
  asked: {{ at: {{ connection: src, table: victim }}, partition: {{ query: {query}, name: name }} }}
  found: {{ at: {{ connection: lake }}, partition: {{ files: \"in/**/*\" }} }}
  asked_file: {{ at: {{ connection: lake, path: \"out $(touch pwned)/{{chunk}}.{{fence}}\" }} }}
  found_file: {{ at: {{ connection: lake, path: \"found/{{chunk}}.{{fence}}\" }} }}
jobs:
  ask: {{ input: asked, output: asked_file, run: {run}{CALM} }}
  find: {{ input: found, output: found_file, run: {run}{CALM} }}
",
        head = crate::faults_support::HEAD,
        query = serde_json::to_string(&query).unwrap(),
        run = format_args!(
            "{{ script: run.sh, args: {} }}",
            serde_json::to_string(&args).unwrap()
        ),
    );
    estate.apply(&yaml).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until_count("asked_file", "validated", keys.len() as i64)
        .await;
    estate
        .until_count("found_file", "validated", files.len() as i64)
        .await;
    let head = args.join("|");
    for (set, name, expected) in [
        ("asked_file", "key", None),
        ("found_file", "bounds ->> 'path'", Some(&files)),
    ] {
        let places: Vec<String> = estate
            .control
            .column(&format!(
                "select (c.{name}) || chr(1) || p.location from odf.publication p
                   join odf.chunk c using (chunk_id) where c.dataset = '{set}'"
            ))
            .await;
        for line in places {
            let (name, location) = line.split_once('\u{1}').unwrap();
            let text = std::fs::read_to_string(estate.path("lake").join(location)).unwrap();
            let made = text.strip_prefix(&head).expect("arguments as written");
            match expected {
                Some(files) => assert_eq!(made, files[name], "{name:?}"),
                None => assert_eq!(made, name),
            }
        }
    }
    worker.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
}
