//! Partitions by list, files, query, command and single.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::calendar::Calendar;
use common::domain::{Bounds, NewChunk};
use common::endpoint::SecretString;
use common::flow::model::{Location, Partition, Rest};
use coordinator::split::{Endpoint, SplitError, SplitLimits, SplitRequest};

use crate::support::{Collected, Database, database, split};

fn keys(chunks: &[NewChunk]) -> Vec<&str> {
    chunks.iter().map(|chunk| chunk.key.as_str()).collect()
}

fn values(chunk: &NewChunk) -> Vec<(&str, Option<&str>)> {
    match &chunk.bounds {
        Bounds::Row { values } => values
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_deref()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_list_is_cut_by_its_values() {
    let list = |values: &[&str]| Partition::List {
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    let (chunks, _) = split(Endpoint::Other, None, list(&["EU", "us/east", "us_east"]))
        .await
        .unwrap();
    assert_eq!(chunks[0].key, "EU");
    assert!(chunks[1].key.starts_with("us_east~") && chunks[2].key.starts_with("us_east~"));
    assert_eq!(
        chunks[1].bounds,
        Bounds::Value {
            value: "us/east".into()
        }
    );
    for (bad, words) in [
        (&["a", "b", "a"][..], "value 3 of the list repeats value 1"),
        (&[""], "value 1"),
        (&[], "is empty"),
    ] {
        let refused = split(Endpoint::Other, None, list(bad))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains(words) && refused.contains("hint:"),
            "{refused}"
        );
    }
    let (chunks, _) = split(Endpoint::Other, None, Partition::Single)
        .await
        .unwrap();
    assert_eq!(
        (keys(&chunks), &chunks[0].bounds),
        (vec!["all"], &Bounds::Single)
    );
}

#[tokio::test]
async fn a_product_has_every_combination_once_the_first_dimension_slowest() {
    let list = |values: &[&str]| Partition::List {
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    let days = Partition::Windows {
        calendar: Calendar {
            every: "day".parse().unwrap(),
            from: "2024-03-30".parse().unwrap(),
            to: "2024-04-01".parse().unwrap(),
            zone: "Europe/Berlin".parse().unwrap(),
            week_starts: "monday".parse().unwrap(),
        },
        column: None,
        rest: Rest::Error,
    };
    let parts = vec![days, list(&["AAPL", "a@b"]), list(&["x"])];
    let (chunks, _) = split(Endpoint::Other, None, Partition::Product { parts })
        .await
        .unwrap();
    assert_eq!(
        keys(&chunks),
        [
            "2024-03-30@AAPL@x",
            "2024-03-30@a_b@x",
            "2024-03-31@AAPL@x",
            "2024-03-31@a_b@x"
        ]
    );
    let Bounds::Product { parts } = &chunks[3].bounds else {
        panic!("{:?}", chunks[3])
    };
    assert!(matches!(&parts[1], Bounds::Value { value } if value == "a@b"));
    let (start, end, ..) = chunks[3].bounds.window().unwrap();
    assert_eq!((end - start).num_hours(), 23);
    let values: Vec<String> = (0..4000).map(|n| n.to_string()).collect();
    let large = || Partition::List {
        values: values.clone(),
    };
    let parts = vec![large(), large()];
    let refused = split(Endpoint::Other, None, Partition::Product { parts }).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("10000000"), "{text}");
}

#[tokio::test]
async fn files_are_cut_one_by_one_with_their_sizes() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("in")).unwrap();
    for (name, bytes) in [("in/b.csv", 20), ("in/a $(x).csv", 10), ("in/skip.txt", 1)] {
        std::fs::write(root.path().join(name), vec![b'x'; bytes]).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("in/z.csv")).unwrap();
    let endpoint = || Endpoint::Files {
        root: root.path().to_owned(),
    };
    let files = |pattern: &str| Partition::Files {
        pattern: pattern.to_owned(),
    };
    let (chunks, summary) = split(endpoint(), None, files("in/*.csv")).await.unwrap();
    assert_eq!(keys(&chunks), ["in_a___x_.csv", "in_b.csv"]);
    assert_eq!(
        chunks[0].bounds,
        Bounds::File {
            path: "in/a $(x).csv".into(),
            bytes: 10
        }
    );
    assert_eq!(
        (summary.bytes_estimate, summary.rows_estimate),
        (Some(30), None)
    );
    assert!(
        summary.notes.iter().any(|note| note.contains("in/z.csv")),
        "{:?}",
        summary.notes
    );
    let (chunks, summary) = split(endpoint(), None, files("none/*")).await.unwrap();
    assert!(chunks.is_empty() && summary.notes[0].contains("plan is empty"));
    let refused = split(endpoint(), None, files("../*")).await.unwrap_err();
    assert!(matches!(refused, SplitError::Files(_)), "{refused}");
}

async fn by_query(
    db: &Database,
    sql: &str,
    key: Option<&str>,
) -> Result<Vec<NewChunk>, SplitError> {
    let partition = Partition::Query {
        sql: sql.to_owned(),
        key: key.map(str::to_owned),
    };
    split(db.endpoint(), None, partition)
        .await
        .map(|(chunks, _)| chunks)
}

#[tokio::test]
async fn a_query_makes_a_chunk_of_each_row() {
    let db = database().await;
    let sql = "SELECT i AS id, nullif(i, 2) * 1.5 AS x, '2024-01-02'::timestamptz AS t, E'a''\\\\' AS s FROM generate_series(3, 1, -1) i; -- done";
    let chunks = by_query(&db, sql, None).await.unwrap();
    assert_eq!(keys(&chunks), ["00001", "00002", "00003"]);
    assert_eq!(
        values(&chunks[1]),
        [
            ("id", Some("2")),
            ("x", None),
            ("t", Some("2024-01-02 00:00:00+00")),
            ("s", Some("a'\\"))
        ]
    );
    let chunks = by_query(&db, "VALUES ('b', 1), ('a', 2)", Some("column1"))
        .await
        .unwrap();
    assert_eq!(keys(&chunks), ["b", "a"]);
    let many = by_query(&db, "SELECT generate_series(1, 100001) AS n", None)
        .await
        .unwrap();
    assert_eq!(
        (many.len(), many[0].key.as_str(), many[100_000].key.as_str()),
        (100_001, "000001", "100001")
    );
    assert!(
        by_query(&db, "SELECT 1 AS a WHERE false", None)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_query_that_cannot_plan_is_refused() {
    let db = database().await;
    db.admin
        .batch_execute("CREATE TABLE k(id int)")
        .await
        .unwrap();
    for (sql, key, words) in [
        (
            "SELECT 'a' AS k UNION ALL SELECT 'b' UNION ALL SELECT 'a'",
            Some("k"),
            "row 3 names its chunk \"a\", as row 1",
        ),
        ("SELECT NULL AS k", Some("k"), "row 1 names its chunk NULL"),
        (
            "SELECT '' AS k",
            Some("k"),
            "row 1 names its chunk \"\": it is empty",
        ),
        ("SELECT 'a/b' AS k", Some("k"), "it holds `/`"),
        ("SELECT 1 AS a, 2 AS a", None, "column \"a\" twice"),
        ("SELECT 1 AS a", Some("key"), "no column \"key\""),
        ("SELECT", None, "at least one column"),
        ("SELECT 1; DROP TABLE k", None, "42601"),
        ("SELECT 1) x; DROP TABLE k; --", None, "42601"),
        ("DELETE FROM k RETURNING 1", None, "42601"),
        (
            "WITH x AS (DELETE FROM k RETURNING 1) SELECT * FROM x",
            None,
            "0A000",
        ),
        ("SELECT nextval('missing')", None, "42P01"),
        (
            "SELECT set_config('transaction_read_only', 'off', true), lo_create(0)",
            None,
            "SQLSTATE",
        ),
    ] {
        let refused = by_query(&db, sql, key).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{sql}: {refused}");
    }
    assert_eq!(db.number("SELECT count(*) FROM k").await, 0);
}

fn script(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

async fn by_command(
    dir: &Path,
    argv: &[&str],
    env: &[(&str, &str)],
    seconds: u64,
) -> Result<Vec<NewChunk>, SplitError> {
    let partition = Partition::Command {
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
    };
    let location = Location {
        connection: "source".into(),
        table: None,
        path: None,
    };
    let env: BTreeMap<String, SecretString> = env
        .iter()
        .map(|(k, v)| ((*k).to_owned(), SecretString::from(*v)))
        .collect();
    let request = SplitRequest {
        dataset: "tested",
        endpoint: Endpoint::Other,
        location: &location,
        partition: &partition,
        script_dir: Some(dir),
        env: &env,
        limits: SplitLimits {
            command: Duration::from_secs(seconds),
            ..SplitLimits::default()
        },
    };
    let mut sink = Collected::default();
    coordinator::split::split(request, &mut sink).await?;
    Ok(sink.0)
}

#[tokio::test]
async fn a_command_makes_a_chunk_of_each_line() {
    let dir = tempfile::tempdir().unwrap();
    script(
        dir.path(),
        "plan.sh",
        "#!/bin/sh\nprintf '%s\\n' '{\"key\": \"one\", \"n\": 1, \"x\": null, \"deep\": {\"a\": [1]}}' '' \"plain $1\" \"$ODF_DATASET $GIVEN ${CARGO:-unset}\"\nprintf 'no newline\\r'\n",
    );
    let chunks = by_command(
        dir.path(),
        &["plan.sh", "$(id) ; ls"],
        &[("GIVEN", "value")],
        60,
    )
    .await
    .unwrap();
    assert_eq!(keys(&chunks), ["one", "00002", "00003", "00004"]);
    assert_eq!(
        values(&chunks[0]),
        [
            ("key", Some("one")),
            ("n", Some("1")),
            ("x", None),
            ("deep", Some("{\"a\":[1]}"))
        ]
    );
    assert_eq!(values(&chunks[1]), [("line", Some("plain $(id) ; ls"))]);
    assert_eq!(values(&chunks[2]), [("line", Some("tested value unset"))]);
    assert_eq!(values(&chunks[3]), [("line", Some("no newline"))]);
    let refused = by_command(dir.path(), &["echo", "from PATH"], &[], 60).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("script directory")
    );
}

#[tokio::test]
async fn a_command_that_fails_makes_no_plan() {
    let dir = tempfile::tempdir().unwrap();
    script(
        dir.path(),
        "bad.sh",
        "#!/bin/sh\necho 1; echo \"cannot log in with $TOKEN\" >&2; exit 3\n",
    );
    script(
        dir.path(),
        "twice.sh",
        "#!/bin/sh\necho '{\"key\":\"a\"}'; echo '{\"key\":\"a\"}'\n",
    );
    script(dir.path(), "null.sh", "#!/bin/sh\necho '{\"key\":null}'\n");
    script(dir.path(), "json.sh", "#!/bin/sh\necho '{\"key\":'\n");
    script(dir.path(), "binary.sh", "#!/bin/sh\nprintf '\\377\\n'\n");
    script(
        dir.path(),
        "long.sh",
        "#!/bin/sh\nhead -c 2000000 /dev/zero | tr '\\0' x\n",
    );
    script(dir.path(), "killed.sh", "#!/bin/sh\nkill -9 $$\n");
    for (program, words) in [
        (
            "bad.sh",
            "failed with exit status: 3; its last words: cannot log in with ***",
        ),
        ("twice.sh", "line 2 names its chunk \"a\", as line 1 does"),
        ("null.sh", "line 1 names its chunk NULL"),
        (
            "json.sh",
            "line 1 of the planning command starts as a JSON object",
        ),
        ("binary.sh", "line 1, which is not UTF-8"),
        ("long.sh", "at most 1 MiB a line"),
        ("killed.sh", "signal: 9"),
        ("missing.sh", "no program \"missing.sh\""),
        ("sub/missing.sh", "no program \"sub/missing.sh\""),
        ("../bad.sh", "it holds `..`"),
        ("/bin/sh", "it is absolute"),
    ] {
        let refused = by_command(dir.path(), &[program], &[("TOKEN", "s3cret-token")], 60)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains(words) && !refused.contains("s3cret"),
            "{program}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    script(
        dir.path(),
        "hang.sh",
        "#!/bin/sh\nsleep 1000 &\necho $! > child\nwait\n",
    );
    let refused = by_command(dir.path(), &["hang.sh"], &[], 1)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("did not end within 1 s"), "{refused}");
    let child: i32 = std::fs::read_to_string(dir.path().join("child"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(30);
    // A killed orphan may stay as a zombie until its new parent reaps it: dead all the same.
    let dead = || match std::fs::read_to_string(format!("/proc/{child}/stat")) {
        Err(_) => true,
        Ok(stat) => stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z')),
    };
    while !dead() {
        assert!(Instant::now() < limit, "process {child} lives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
