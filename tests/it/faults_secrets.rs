//! Secrets: a script that shouts them wherever it can, and a search for them wherever they could be.

use crate::faults_process::Sql;
use crate::faults_support::{Estate, HEAD};

/// A password as it is, with what a URL has to encode.
const PASSWORD: &str = "hush-7f3a@&é %41";
/// The same as it stands in the URL.
const ENCODED: &str = "hush-7f3a%40%26%C3%A9%20%2541";
/// A secret that a job passes on under a name of its own.
const TOKEN: &str = "tok-91c5-\"quoted\"-\\back";

/// What may be found nowhere: the secrets as they are, encoded, and in parts.
const NEEDLES: &[&str] = &[PASSWORD, ENCODED, TOKEN, "hush-7f3a", "tok-91c5"];

/// Says every secret on both streams, in the result, and as the last word of a failure.
const LOUD: &str = r#"
env | sort
echo "url=$ODF_INPUT_URL" >&2
cat "$ODF_CONTEXT"
printf 'in two: %s' "${ODF_INPUT_URL%%a@*}"; printf '%s\n' "$TOKEN"
echo "pw=$ODF_CONN_SRC_PASSWORD token=$TOKEN"
case $ODF_CHUNK in
  *1) echo "rows=1" >>"$ODF_PROGRESS"; echo x >"$ODF_STAGING" ;;
  *2) echo "cannot connect to $ODF_INPUT_URL with $TOKEN"; exit 1 ;;
  *3) printf '{"rows": "%s"}' "$ODF_CONN_SRC_PASSWORD" >"$ODF_RESULT"; echo x >"$ODF_STAGING" ;;
esac
echo "by $ODF_CHUNK" >>"$WITNESS"
until [ "$(cat "$GATE")" = 1 ]; do sleep 0.05; done
"#;

/// Where a needle was found in a text, in words.
fn found(place: &str, text: &str) -> Vec<String> {
    NEEDLES
        .iter()
        .filter(|needle| text.contains(**needle))
        .map(|needle| {
            let at = text.find(needle).unwrap();
            let from = text[..at]
                .char_indices()
                .rev()
                .nth(60)
                .map_or(0, |(i, _)| i);
            let around: String = text[from..].chars().take(160).collect();
            format!("{place} tells {needle:?}: {around:?}")
        })
        .collect()
}

/// The command lines of all processes.
fn command_lines() -> String {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " ") + "\n")
        .collect()
}

/// Every row of every table of the control schema, as text.
async fn everything(control: &Sql) -> String {
    let tables: Vec<String> = control
        .column(
            "select format('%I.%I', relnamespace::regnamespace, relname) from pg_class
              where relkind in ('r', 'p', 'm') and relnamespace in ('odf'::regnamespace, 'public'::regnamespace)",
        )
        .await;
    assert!(tables.len() > 15, "{tables:?}");
    let mut all = String::new();
    for table in tables {
        let rows: Vec<String> = control
            .column(&format!("select t::text from {table} t"))
            .await;
        all += &rows.join("\n");
    }
    // What the server itself remembers of statements.
    let statements: Vec<String> = control.column("select query from pg_stat_activity").await;
    all + &statements.join("\n")
}

#[tokio::test]
async fn secrets_stay_where_they_are_used() {
    let estate = Estate::new().await;
    let login = format!("hush_{}", std::process::id());
    let made = format!(
        "create role {login} login password '{PASSWORD}'; grant create on schema public to {login};
         create table t (id int primary key); insert into t select generate_series(1, 9);
         grant select on t to {login}"
    );
    estate.source.run(&made).await;
    let (_, address) = estate.urls.source.rsplit_once('@').unwrap();
    let url = format!("postgres://{login}:{ENCODED}@{address}");
    estate.script(LOUD);
    let yaml = format!(
        "{HEAD}datasets:
  t: {{ at: {{ connection: src, table: t }}, partition: {{ key: id, chunks: 3 }} }}
  made: {{ at: {{ connection: lake, path: \"made/{{chunk}}.{{fence}}\" }} }}
jobs:
  make: {{ input: t, output: made, run: {{ script: run.sh, env: {{ TOKEN: \"${{secret:TOKEN}}\" }} }}, silence: 10m, retry: {{ attempts: 1 }} }}
"
    );
    estate.apply(&yaml).await;
    let coordinator = estate
        .coordinator("coordinator")
        .env("SRC_URL", &url)
        .env("TOKEN", TOKEN)
        .env("ODF_LOG", "debug")
        .start();
    let worker = estate
        .worker("w1")
        .env("SRC_URL", &url)
        .env("TOKEN", TOKEN)
        .env("ODF_LOG", "debug")
        .start();
    // While a script runs, nobody's arguments tell.
    estate
        .until_witness("a script runs", |witness| witness.contains("by "))
        .await;
    let mut told = found("the process list", &command_lines());
    estate.open_gate(1);
    estate
        .until(
            "select count(*) = 3 and bool_and(status in ('validated', 'exhausted')) from odf.chunk where dataset = 'made'",
        )
        .await;

    told.extend(found(
        "the control database",
        &everything(&estate.control).await,
    ));
    for args in [
        vec!["status", "-o", "json"],
        vec!["failures", "-o", "json"],
        vec!["explain", "made/00002"],
        vec!["explain", "made/00003", "-o", "json"],
        vec!["logs", "made/00001"],
        vec!["logs", "made/00002"],
        vec!["events", "-o", "json"],
        vec!["chunks", "made", "-o", "wide"],
        vec!["workers", "-o", "json"],
    ] {
        let ran = estate.cli(&args).await;
        assert!(ran.code == Some(0), "{args:?}: {ran:?}");
        told.extend(found(
            &args.join(" "),
            &format!("{}{}", ran.stdout, ran.stderr),
        ));
    }
    worker.stop().await;
    coordinator.stop().await;
    for file in estate.files(".") {
        let name = file.display().to_string();
        let ours = name.ends_with(".log") || name.contains("/state/") || name.contains("/lake/");
        if ours {
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            told.extend(found(&name, &text));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
    let logs: Vec<String> = estate
        .control
        .column("select log_tail from odf.attempt")
        .await;
    assert!(logs.iter().all(|log| log.contains("***")), "{logs:?}");
    let ends = estate.ends().await;
    assert!(ends.iter().any(|end| end.contains("***")), "{ends:?}");
    assert_eq!(estate.count("made", "validated").await, 1);
    estate
        .source
        .run(&format!("drop owned by {login}; drop role {login}"))
        .await;
}
