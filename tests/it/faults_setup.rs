//! Wrong settings: every program says what is wrong and what to do, and never a
//! password.

use crate::faults_process::Ran;
use crate::faults_support::Estate;
use crate::harness::TestDb;

/// The password that no message may hold.
const PASSWORD: &str = "s3same-Öffne-dich%41";

/// What went wrong with a control url, and words that say so.
const WRONG: &[(&str, &[&str])] = &[
    ("nonsense", &["url", "postgres"]),
    ("mysql://u:PASSWORD@127.0.0.1/odf", &["url", "postgres"]),
    ("postgres://u:PASSWORD@127.0.0.1:1/odf", &["127.0.0.1:1"]),
    (
        "postgres://u:PASSWORD@no-such-host.invalid/odf",
        &["no-such-host.invalid"],
    ),
    (
        "postgres://odf_test_worker:PASSWORD@127.0.0.1:PORT/DB",
        &["password", "odf_test_worker"],
    ),
    (
        "postgres://odf_test_worker:test@127.0.0.1:PORT/no_such_db",
        &["no_such_db"],
    ),
    (
        "postgres://odf_test_viewer:test@127.0.0.1:PORT/DB",
        &["odf_"],
    ),
    (
        "postgres://odf_test_worker:test@127.0.0.1:PORT/EMPTY",
        &["coordinator init"],
    ),
];

/// What is wrong with how a program ended that could not work, if anything is.
fn misleads(ran: &Ran, words: &[&str], ended: bool) -> Option<String> {
    let said = &ran.stderr;
    let encoded = PASSWORD.replace('%', "%25").replace('Ö', "%C3%96");
    let lower = said.to_lowercase();
    let told = words
        .iter()
        .all(|word| lower.contains(&word.to_lowercase()));
    let silent = ![PASSWORD, &encoded, "s3same"]
        .iter()
        .any(|secret| said.contains(secret));
    // Warnings of the start have hints of their own. The parser of arguments points at --help.
    let errors = said.lines().filter(|line| !line.contains(" WARN "));
    let hints =
        errors.map(|line| line.matches("hint: ").count() + line.matches("try '--help'").count());
    // A cause told twice is a bug of ours, and so is a panic.
    let once = hints.sum::<usize>() == 1 && !said.contains("panicked");
    let ended = ended && ran.stdout.is_empty();
    (!(told && silent && ended && once))
        .then(|| format!("words {told}, silent {silent}, ended {ended}, hint {once}: {ran:?}"))
}

/// Settings beside the control database: program and arguments, variable, value, exit code, words.
const SETTINGS: &[(&str, &str, &str, i32, &[&str])] = &[
    (
        "worker run",
        "ODF_DATABASE_URL",
        "",
        2,
        &["ODF_DATABASE_URL", "expected"],
    ),
    (
        "worker run",
        "ODF_SLOTS",
        "many",
        2,
        &["--slots", "expected a whole number"],
    ),
    (
        "worker run",
        "ODF_SLOTS",
        "0",
        2,
        &["--slots", "expected 1 or more"],
    ),
    (
        "worker run",
        "ODF_GRACE",
        "soon",
        2,
        &["--grace", "expected a time", "none"],
    ),
    (
        "worker run",
        "ODF_LOG_KEEP",
        "7",
        2,
        &["--log-keep", "expected a time"],
    ),
    (
        "worker run",
        "ODF_LOG_MAX",
        "lots",
        2,
        &["--log-max", "expected a size"],
    ),
    (
        "worker run",
        "ODF_TIME_SCALE",
        "fast",
        2,
        &["ODF_TIME_SCALE", "expected a number"],
    ),
    (
        "worker run",
        "ODF_BEAT_MS",
        "0",
        2,
        &["ODF_BEAT_MS", "expected milliseconds"],
    ),
    (
        "worker run",
        "ODF_WORKER_NAME",
        "a b",
        2,
        &["\"a b\"", "expected 1 to 63"],
    ),
    ("worker run", "ODF_LOG", "a=b=c", 2, &["ODF_LOG", "a=b=c"]),
    (
        "worker run",
        "ODF_LOG_FORMAT",
        "xml",
        2,
        &["ODF_LOG_FORMAT", "json"],
    ),
    (
        "worker run",
        "ODF_SCRIPT_DIR",
        "/no/such",
        1,
        &["/no/such", "--script-dir"],
    ),
    (
        "worker run",
        "ODF_STATE_DIR",
        "gate",
        1,
        &["gate", "--state-dir"],
    ),
    (
        "worker run",
        "ODF_LOG_DIR",
        "gate/logs",
        1,
        &["gate/logs", "--log-dir"],
    ),
    (
        "worker doctor",
        "ODF_DATABASE_URL",
        "",
        2,
        &["ODF_DATABASE_URL", "expected"],
    ),
    (
        "coordinator serve",
        "ODF_DATABASE_URL",
        "",
        2,
        &["no control database", "ODF_DATABASE_URL"],
    ),
    (
        "coordinator status",
        "ODF_DATABASE_URL",
        "",
        2,
        &["no control database", "ODF_DATABASE_URL"],
    ),
    (
        "coordinator serve",
        "ODF_TIME_SCALE",
        "0",
        2,
        &["--time-scale", "expected a number"],
    ),
    (
        "coordinator serve",
        "ODF_LOG",
        "a=b=c",
        2,
        &["ODF_LOG", "a=b=c"],
    ),
    (
        "coordinator serve",
        "ODF_LOG_FORMAT",
        "xml",
        2,
        &["ODF_LOG_FORMAT", "json"],
    ),
    (
        "coordinator serve",
        "ODF_SCRIPT_DIR",
        "/no/such",
        1,
        &["/no/such", "--script-dir"],
    ),
];

#[tokio::test]
async fn every_wrong_setting_is_named_with_what_was_expected() {
    let estate = Estate::new().await;
    let state = estate.path("state").display().to_string();
    let mut wrong = Vec::new();
    for (program, name, value, code, words) in SETTINGS {
        let (program, command) = program.split_once(' ').unwrap();
        let url = format!(
            "postgres://u:{}@127.0.0.1:1/odf",
            PASSWORD.replace('%', "%25")
        );
        let settings = [
            ("ODF_DATABASE_URL", url.as_str()),
            ("ODF_SCRIPT_DIR", "scripts"),
            ("ODF_STATE_DIR", &state),
            (name, value),
        ];
        let ran = estate.run_with(program, &[command], &settings).await;
        let ended = ran.code == Some(*code);
        let why = misleads(&ran, words, ended);
        wrong.extend(why.map(|why| format!("{program} {command} with {name}={value}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_wrong_control_database_is_told_by_every_program() {
    let estate = Estate::new().await;
    let (db, empty) = (TestDb::new().await, TestDb::empty().await);
    let mut wrong = Vec::new();
    for (url, words) in WRONG {
        let encoded = PASSWORD.replace('%', "%25").replace('Ö', "%C3%96");
        let url = url
            .replace("PASSWORD", &encoded)
            .replace("PORT", &db.port().to_string())
            .replace("DB", db.name())
            .replace("EMPTY", empty.name());
        let (state, scripts) = (estate.path("state"), estate.path("scripts"));
        let worker = [
            "run",
            "--name",
            "w1",
            "--state-dir",
            state.to_str().unwrap(),
            "--script-dir",
            scripts.to_str().unwrap(),
        ];
        // The viewer is somebody to `status`, and a worker's login to nobody but a worker.
        let is_viewer = url.contains("viewer");
        for (program, ran) in [
            ("worker run", estate.worker_cli(&url, &worker).await),
            ("coordinator serve", estate.cli_as(&url, &["serve"]).await),
            ("coordinator status", estate.cli_as(&url, &["status"]).await),
        ] {
            if is_viewer && program == "coordinator status" {
                ran.ok();
                continue;
            }
            let ended = matches!(ran.code, Some(1 | 2));
            wrong.extend(misleads(&ran, words, ended).map(|why| format!("{program} {url}: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
