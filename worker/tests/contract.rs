//! What reaches a script: every variable of the contract byte for byte, the context file, and no
//! secret anywhere else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use common::domain::{Bounds, FailureClass, Fence, KeyColumn};
use common::flow::model::{Connection, ConnectionKind};
use serde_json::Value;
use support::{Bench, at, failure, files_connection, input, postgres, report};
use worker::attempt::{AttemptControl, run_attempt, sanitise, try_attempt};

/// Everything that must go through quoting, if anything quoted.
const HOSTILE: &str = "a'b\"c `id` $(touch pwned) $HOME \\n\n\t*;|&<> \u{fc}\u{1F980}\u{202e}%00=";
/// Writes its environment to the output and its arguments to the log, both separated by NUL.
const DUMP: &str = "#!/bin/sh\ncat /proc/$$/environ > \"$ODF_STAGING\"\nfor a in \"$@\"; do printf '%s\\036' \"$a\"; done\npwd\nls -A\n";

fn other(settings: &[(&str, &str)]) -> Connection {
    let settings = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Connection {
        kind: ConnectionKind::Other { settings },
        environment: None,
    }
}

fn parse_environ(bytes: &[u8]) -> BTreeMap<String, String> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let text = std::str::from_utf8(entry).unwrap();
            let (name, value) = text.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// Runs the dump script and returns the environment that it saw.
async fn environ(bench: &Bench) -> BTreeMap<String, String> {
    let result = bench.run().await;
    let location = report(&result).location.clone().unwrap();
    let path = bench.path("lake").join(location);
    let environ = parse_environ(&fs::read(&path).unwrap());
    fs::remove_file(path).unwrap();
    environ
}

#[tokio::test]
async fn hostile_names_and_values_arrive_byte_for_byte() {
    let mut bench = Bench::new(DUMP).await;
    bench.item.key = HOSTILE.into();
    bench.item.bounds = Bounds::Value {
        value: HOSTILE.into(),
    };
    bench.set_args(&[HOSTILE, "", "-n", "--"]);
    bench.set_env("EXTRA", HOSTILE);
    let result = bench.run().await;
    let location = report(&result).location.clone().unwrap();
    assert_eq!(
        location,
        format!("orders/{}.{}.csv", sanitise(HOSTILE), Fence::new(1, 2))
    );
    let environ = parse_environ(&fs::read(bench.path("lake").join(&location)).unwrap());
    for name in ["ODF_CHUNK", "ODF_VALUE", "EXTRA", "dataid"] {
        assert_eq!(environ[name], HOSTILE, "{name}");
    }
    assert_eq!(environ["ODF_CHUNK_NAME"], format!("orders_file/{HOSTILE}"));
    let mut printed = result.log_tail.split('\u{1e}');
    assert_eq!(printed.next(), Some(HOSTILE));
    assert_eq!(
        (printed.next(), printed.next(), printed.next()),
        (Some(""), Some("-n"), Some("--"))
    );
    // The working directory is its own and was empty.
    assert_eq!(printed.next().unwrap().trim_end(), environ["ODF_WORKDIR"]);
    assert_eq!(bench.published(), [location]);
    bench.assert_clean();
    let everything = Command::new("find")
        .arg(bench.dir.path())
        .output()
        .unwrap()
        .stdout;
    assert!(!String::from_utf8_lossy(&everything).contains("/pwned"));
}

#[tokio::test]
async fn keys_that_would_leave_the_root_do_not() {
    for key in [
        "..",
        ".",
        "../../../../tmp/evil",
        "/etc/passwd",
        "a/b",
        ".odf-staging",
    ] {
        let mut bench =
            Bench::new("#!/bin/sh\nprintf %s \"$ODF_CHUNK\" > \"$ODF_STAGING\"\n").await;
        bench.item.key = key.into();
        bench.spec.output_at.path = Some("{chunk}/{chunk}.csv".into());
        let result = bench.run().await;
        if key == ".odf-staging" {
            assert_eq!(failure(&result).0, FailureClass::Permanent);
            continue;
        }
        let published = bench.published();
        assert_eq!(published.len(), 1, "{key}: {result:?}");
        let text = fs::read_to_string(bench.path("lake").join(&published[0])).unwrap();
        assert_eq!(text, key);
    }
}

/// What the attempt of the test below is told, with its lake at `root`.
fn expected_variables(root: &str) -> Vec<(&'static str, String)> {
    let url = "postgres://reader:hunter2!x@db.example:6432/sales";
    let fence = Fence::new(1, 2).to_string();
    let output = format!("{root}/orders/00042.{fence}.csv");
    let staging = format!("{root}/.odf-staging/orders_file.00042.{fence}.csv");
    let prices = format!("{root}/prices/00042.17.csv");
    let all: &[(&str, &str)] = &[
        ("ODF_FLOW", "warehouse"),
        ("ODF_JOB", "extract"),
        ("ODF_DATASET", "orders_file"),
        ("ODF_CHUNK", "00042"),
        ("ODF_CHUNK_NAME", "orders_file/00042"),
        ("ODF_ORDINAL", "42"),
        ("ODF_CHUNKS", "100"),
        ("ODF_ATTEMPT", "2"),
        ("ODF_FENCE", &fence),
        ("ODF_GENERATION", "1"),
        ("ODF_BOUNDS_KIND", "single"),
        ("ODF_BOUNDS", r#"{"kind":"single"}"#),
        ("ODF_PREDICATE", "Single"),
        ("ODF_STAGING", &staging),
        ("ODF_OUTPUT", &output),
        ("ODF_INPUT_1_DATASET", "orders"),
        ("ODF_INPUT_1_CHUNK", "00042"),
        ("ODF_INPUT_1_GENERATION", "3"),
        ("ODF_INPUT_1_URL", url),
        ("ODF_INPUT_1_TABLE", "\"My Schema\".orders"),
        ("ODF_INPUT_1_ROWS", "12"),
        ("ODF_INPUT_URL", url),
        ("ODF_INPUT_2_PATH", &prices),
        ("ODF_INPUT_2_BYTES", "99"),
        ("ODF_INPUT_2_CHECKSUM", "sha256:ab"),
        ("ODF_CONN_ERP_1_URL", url),
        ("ODF_CONN_ERP_1_HOST", "db.example"),
        ("ODF_CONN_ERP_1_PORT", "6432"),
        ("ODF_CONN_ERP_1_USER", "reader"),
        ("ODF_CONN_ERP_1_PASSWORD", "hunter2!x"),
        ("ODF_CONN_ERP_1_DATABASE", "sales"),
        ("ODF_CONN_LAKE_ROOT", root),
        ("ODF_CONN_API_TOKEN", "Bearer hunter2!x"),
        ("ODF_CONN_API_BASE_URL", "http://x"),
        ("GREETING", "hello"),
        ("LOGIN", "user:hunter2!x"),
        ("dataid", "00042"),
        ("orders_hostname", "db.example"),
        ("orders_port", "6432"),
        ("orders_database", "sales"),
        ("orders_schemaname", "My Schema"),
        ("orders_tablename", "orders"),
        ("orders_username", "reader"),
        ("orders_password", "hunter2!x"),
        ("prices_filename", &prices),
        ("orders_file_filename", &staging),
    ];
    all.iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn identity_places_and_connections_are_all_there() {
    let mut bench = Bench::new(DUMP).await;
    let lake = bench.path("lake");
    let connections = &mut bench.spec.connections;
    connections.insert(
        "erp-1".into(),
        postgres("postgres://reader:${secret:ERP_PW}@db.example:6432/sales"),
    );
    connections.insert(
        "api".into(),
        other(&[
            ("token", "Bearer ${secret:ERP_PW}"),
            ("base url", "http://x"),
        ]),
    );
    let mut from_table = input("orders", at("erp-1", None, Some("\"My Schema\".orders")));
    from_table.rows = Some(12);
    let mut from_file = input("prices", at("lake", Some("prices/{chunk}.csv"), None));
    from_file.location = Some("prices/00042.17.csv".into());
    from_file.bytes = Some(99);
    from_file.checksum = Some("sha256:ab".into());
    bench.lake_file("prices/00042.17.csv", &[b'x'; 99]);
    bench.item.inputs = vec![from_table, from_file];
    bench.set_env("GREETING", "hello");
    bench.set_env("LOGIN", "user:${secret:ERP_PW}");
    let found = environ(&bench).await;
    for (name, value) in expected_variables(lake.to_str().unwrap()) {
        assert_eq!(found.get(name), Some(&value), "{name}");
    }
    // The first input is a table, so there is no input path; nothing of cargo's is inherited.
    for absent in [
        "ODF_INPUT",
        "ODF_INPUT_PATH",
        "ODF_OUTPUT_URL",
        "CARGO",
        "CARGO_MANIFEST_DIR",
    ] {
        assert_eq!(found.get(absent), None, "{absent}");
    }
    assert_eq!(found.get("PATH"), std::env::var("PATH").ok().as_ref());
}

#[tokio::test]
async fn bounds_of_every_kind_have_their_variables() {
    let mut bench = Bench::new(DUMP).await;
    let column = |name: &str| KeyColumn {
        name: name.into(),
        sql_type: "text".into(),
        collation: None,
    };
    bench.item.bounds = Bounds::KeyRange {
        columns: vec![column("id")],
        lower: Some(vec!["a'b".into()]),
        upper: None,
    };
    let found = environ(&bench).await;
    assert_eq!(found["ODF_KEY_COLUMNS"], r#"["id"]"#);
    assert_eq!(found["ODF_LOWER"], "a'b");
    assert!(!found.contains_key("ODF_UPPER"));
    assert!(found["ODF_PREDICATE"].starts_with("KeyRange"));
    bench.item.bounds = Bounds::KeyRange {
        columns: vec![column("a"), column("b")],
        lower: None,
        upper: Some(vec!["1".into(), "x\"y".into()]),
    };
    let found = environ(&bench).await;
    assert_eq!(found["ODF_KEY_COLUMNS"], r#"["a","b"]"#);
    assert_eq!(found["ODF_UPPER"], r#"["1","x\"y"]"#);
    bench.item.bounds = Bounds::Row {
        values: vec![
            ("my col".into(), Some("1".into())),
            ("none".into(), None),
            ("MY-COL".into(), Some("2".into())),
        ],
    };
    let found = environ(&bench).await;
    assert_eq!(
        found["ODF_ROW"],
        r#"{"my col":"1","none":null,"MY-COL":"2"}"#
    );
    assert_eq!(found["ODF_COL_MY_COL"], "1");
    assert!(!found.contains_key("ODF_COL_NONE"));
    let file = Bounds::File {
        path: "in/a b.csv".into(),
        bytes: 5,
    };
    bench.item.bounds = file.clone();
    let mut source = input("drop", at("lake", None, None));
    source.bounds = file;
    bench.item.inputs = vec![source];
    bench.lake_file("in/a b.csv", b"12345");
    let found = environ(&bench).await;
    let path = bench.path("lake/in/a b.csv");
    for name in ["ODF_FILE", "ODF_INPUT", "ODF_INPUT_PATH", "drop_filename"] {
        assert_eq!(found[name], path.to_str().unwrap(), "{name}");
    }
}

#[tokio::test]
async fn windows_and_many_inputs_have_their_variables_and_a_file() {
    let mut bench = Bench::new(&DUMP.replace("ls -A", "cat \"$ODF_INPUTS\"")).await;
    let window = Bounds::Window {
        start: "2024-10-26T22:00:00Z".parse().unwrap(),
        end: "2024-10-27T23:00:00Z".parse().unwrap(),
        zone: "Europe/Berlin".into(),
        label: "2024-10-27".into(),
        rows: None,
    };
    let value = "AAPL".into();
    bench.item.bounds = Bounds::Product {
        parts: vec![window, Bounds::Value { value }],
    };
    let inputs = (1..=40).map(|n| {
        let mut hour = input("hours", at("lake", None, None));
        hour.location = Some(format!("hours/{n}.csv"));
        hour
    });
    bench.item.inputs = inputs.collect();
    let result = bench.run().await;
    let location = report(&result).location.clone().unwrap();
    let found = parse_environ(&fs::read(bench.path("lake").join(location)).unwrap());
    for (name, value) in [
        ("ODF_BOUNDS_KIND", "product"),
        ("ODF_WINDOW_START", "2024-10-26T22:00:00Z"),
        ("ODF_WINDOW_END", "2024-10-27T23:00:00Z"),
        ("ODF_WINDOW_ZONE", "Europe/Berlin"),
        ("ODF_WINDOW_LABEL", "2024-10-27"),
        ("ODF_VALUE", "AAPL"),
        ("ODF_INPUT_COUNT", "40"),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    // Hundreds of inputs would fill the environment; the file has all of them.
    assert!(found.contains_key("ODF_INPUT_32_PATH") && !found.contains_key("ODF_INPUT_33_PATH"));
    let log = String::from_utf8(bench.log(&result)).unwrap();
    let lines = log
        .lines()
        .filter_map(|line| line.find("{\"dataset\"").map(|at| &line[at..]));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = bench.path("lake/hours/40.csv");
    assert_eq!(
        (lines.len(), lines[39]["path"].as_str()),
        (40, expected.to_str())
    );
}

#[tokio::test]
async fn what_cannot_be_handed_over_is_refused_by_name() {
    let mut bench = Bench::new("#!/bin/sh\necho x > $ODF_STAGING\n").await;
    bench.item.bounds = Bounds::Row {
        values: vec![("c".into(), Some("a\0b".into()))],
    };
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Permanent);
    assert!(
        error.contains("ODF_COL_C") && error.contains("NUL"),
        "{error}"
    );
    bench.item.bounds = Bounds::Value {
        value: "x".repeat(200_000),
    };
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Permanent);
    assert!(error.contains("variable ODF_"), "{error}");
    bench.item.bounds = Bounds::Single;
    bench.set_env("ODF_CHUNK", "mine");
    assert_eq!(failure(&bench.run().await).0, FailureClass::Permanent);
    bench.assert_clean();
}

#[tokio::test]
async fn the_context_file_tells_all_and_to_its_owner_only() {
    let mut bench = Bench::new(
        "#!/bin/sh\nstat -c '%a %u' \"$ODF_CONTEXT\" \"$ODF_WORKDIR\"\ncat \"$ODF_CONTEXT\" > \"$ODF_STAGING\"\n",
    )
    .await;
    let lake = bench.path("lake");
    bench.spec.connections.insert(
        "erp".into(),
        postgres("postgres://reader:${secret:ERP_PW}@h/sales"),
    );
    bench.item.inputs = vec![input("orders", at("erp", None, Some("public.orders")))];
    let fan_in: Vec<_> = (1..=3)
        .map(|ordinal| {
            bench.lake_file(&format!("parts/{ordinal}.csv"), b"");
            let mut part = input("parts", at("lake", Some("parts/{chunk}.csv"), None));
            part.ordinal = ordinal;
            part.location = Some(format!("parts/{ordinal}.csv"));
            part
        })
        .collect();
    let (env, guard, item, spec) = (&bench.env, &bench.guard, &bench.item, &bench.spec);
    let result = run_attempt(env, guard, item, spec, fan_in, AttemptControl::default()).await;
    let location = report(&result).location.clone().unwrap();
    let text = fs::read_to_string(lake.join(location)).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["chunk_name"], "orders_file/00042");
    assert_eq!(json["fence"], Fence::new(1, 2).0);
    assert_eq!(json["inputs"][0]["table"], "public.orders");
    assert_eq!(
        json["fan_in"][2]["path"],
        lake.join("parts/3.csv").to_str().unwrap()
    );
    assert_eq!(json["connections"]["erp"]["password"], "hunter2!x");
    assert_eq!(json["bounds"]["kind"], "single");
    let own = nix::unistd::getuid();
    assert_eq!(result.log_tail, format!("600 {own}\n700 {own}\n"));
    bench.assert_clean();
}

#[tokio::test]
async fn secrets_are_masked_wherever_a_script_prints_them() {
    let mut bench = Bench::new(
        "#!/bin/sh\necho \"connecting to $ODF_CONN_ERP_URL\"\n\
         printf hunt; sleep 0.2; printf 'er2!x and '; echo \"$ODF_CONN_ERP_PASSWORD\"\n\
         cat /proc/$$/environ; cat \"$ODF_CONTEXT\"; echo\n\
         echo \"login failed: $TOKEN\"; exit 65\n",
    )
    .await;
    bench.spec.connections.insert(
        "erp".into(),
        postgres("postgres://reader:${secret:ERP_PW}@h/sales"),
    );
    bench.set_env("TOKEN", "${secret:ERP_PW}");
    let result = bench.run().await;
    let log = String::from_utf8(bench.log(&result)).unwrap();
    let all = format!("{result:?} {log}");
    assert!(!all.contains("hunter2"), "{all}");
    assert!(log.starts_with("connecting to ***\n*** and ***\n"), "{log}");
    assert_eq!(
        failure(&result).1,
        "exit code 65 (bad data): login failed: ***"
    );
    // In no command line either: the guard and the keeper get it through a pipe.
    bench.set_env("MISSING", "${secret:NOBODY}");
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Host);
    assert!(error.contains("secret NOBODY is not set"), "{error}");
}

#[tokio::test]
async fn tables_and_other_places_are_the_script_s_to_write() {
    let mut bench = Bench::new(
        "#!/bin/sh\necho \"$ODF_OUTPUT_TABLE ${ODF_STAGING-none}\"\n\
         printf '{\"rows\": 5, \"location\": \"%s\"}' \"$1\" > $ODF_RESULT\n",
    )
    .await;
    bench.set_args(&["s3://bucket/x"]);
    let url = "postgres://w:${secret:ERP_PW}@h/d";
    bench.spec.connections.insert("dwh".into(), postgres(url));
    bench.spec.output_at = at("dwh", None, Some("stage.orders"));
    let result = bench.run().await;
    assert_eq!(report(&result).location.as_deref(), Some("stage.orders"));
    assert_eq!(report(&result).rows, Some(5));
    assert_eq!(result.log_tail, "stage.orders none\n");
    bench
        .spec
        .connections
        .insert("s3".into(), other(&[("key", "${secret:ERP_PW}")]));
    bench.spec.output_at = at("s3", None, None);
    let result = bench.run().await;
    assert_eq!(report(&result).location.as_deref(), Some("s3://bucket/x"));
    bench.set_args(&["https://b/x?sig=hunter2!x"]);
    let result = bench.run().await;
    assert_eq!(failure(&result).0, FailureClass::Invalid);
}

/// A tmpfs of one megabyte, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None`, with the reason printed, where nothing may be mounted.
    fn mount(path: std::path::PathBuf) -> Option<Self> {
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some("size=1m")) {
            Ok(()) => Some(Self(path)),
            Err(errno) => {
                eprintln!("skipped: a tmpfs cannot be mounted here ({errno}); run as root");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_under_the_logs_is_told_and_undoes_no_good_work() {
    let mut bench = Bench::new(
        "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' 'x'\necho\necho end\necho x > $ODF_STAGING\nexit $1\n",
    )
    .await;
    let Some(_disk) = SmallDisk::mount(bench.env.log_dir.clone()) else {
        return;
    };
    bench.set_args(&["0"]);
    let result = bench.run().await;
    report(&result);
    assert!(
        result.log_tail.contains("end\n[write the log"),
        "{}",
        result.log_tail
    );
    assert!(
        result.log_tail.contains("No space left"),
        "{}",
        result.log_tail
    );
    bench.set_args(&["1"]);
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Host);
    assert!(
        error.contains("No space left") && error.contains("exit code 1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_disk_under_the_work_directory_is_the_host_s_fault() {
    let bench = Bench::new("#!/bin/sh\necho x > $ODF_STAGING\n").await;
    let Some(_disk) = SmallDisk::mount(bench.env.work_dir.clone()) else {
        return;
    };
    let mut filler = fs::File::create(bench.env.work_dir.join("filler")).unwrap();
    let full = std::io::copy(&mut std::io::repeat(0), &mut filler).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Host);
    assert!(error.contains("No space left"), "{error}");
}

#[tokio::test]
async fn a_root_on_another_file_system_below_cannot_be_published_to_in_one_step() {
    let mut bench = Bench::new("#!/bin/sh\necho x > $ODF_STAGING\n").await;
    let below = bench.path("lake/other");
    fs::create_dir(&below).unwrap();
    let Some(_disk) = SmallDisk::mount(below) else {
        return;
    };
    bench.spec.output_at.path = Some("other/{chunk}.csv".into());
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Host);
    assert!(error.contains("different file systems"), "{error}");
    let connection = files_connection(&bench.path("lake/other"), 512 << 10);
    bench.spec.connections.insert("lake".into(), connection);
    bench.spec.output_at.path = Some("{chunk}.csv".into());
    report(&bench.run().await);
}

/// Not a test by itself: run as a process of its own, it is `worker try` in a terminal.
#[tokio::test]
async fn helper_that_tries() {
    if std::env::var_os("ODF_TEST_TRY").is_none() {
        return;
    }
    let mut bench = Bench::new(
        "#!/bin/sh\nread line; echo \"heard $line\"; echo complaint >&2; echo data > $ODF_STAGING\n",
    )
    .await;
    let control = AttemptControl::default();
    let (env, guard, item, spec) = (&bench.env, &bench.guard, &bench.item, &bench.spec);
    let dry = try_attempt(env, guard, item, spec, Vec::new(), control.clone()).await;
    assert_eq!(report(&dry.result).bytes, Some(5));
    let staged = dry.staged.unwrap();
    assert_eq!(fs::read_to_string(&staged).unwrap(), "data\n");
    assert!(
        dry.would_publish
            .unwrap()
            .starts_with(bench.path("lake/orders"))
    );
    assert!(bench.published().is_empty());
    assert_eq!(
        (dry.result.log_tail.as_str(), dry.result.log_path),
        ("", None)
    );
    bench.assert_clean();
    bench.script("job.sh", "#!/bin/sh\nexit 75\n", 0o755);
    bench.set_args(&[]);
    let (env, guard, item, spec) = (&bench.env, &bench.guard, &bench.item, &bench.spec);
    let dry = try_attempt(env, guard, item, spec, Vec::new(), control).await;
    assert_eq!(failure(&dry.result).1, "exit code 75 (try again later)");
    assert_eq!(dry.staged, None);
}

#[test]
fn a_dry_run_has_the_terminal_and_publishes_nothing() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_tries", "--nocapture"])
        .env("ODF_TEST_TRY", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"typed by hand\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("heard typed by hand"), "{text}");
    assert!(errors.contains("complaint"), "{errors}");
}
