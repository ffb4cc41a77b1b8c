//! Wrong settings: every program says what is wrong and what to do, and never a
//! password.

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
            let said = &ran.stderr;
            println!("## {program} {url} ({:?})\n{said}", ran.code);
            let told = words
                .iter()
                .all(|word| said.to_lowercase().contains(&word.to_lowercase()));
            let silent = ![PASSWORD, &encoded, "s3same"]
                .iter()
                .any(|secret| said.contains(secret));
            let ended = matches!(ran.code, Some(1 | 2)) && ran.stdout.is_empty();
            // A cause told twice is a bug of ours, and so is a panic.
            let hints = said
                .lines()
                .filter(|line| !line.contains(" WARN "))
                .map(|line| line.matches("hint: ").count());
            let once = hints.sum::<usize>() == 1 && !said.contains("panicked");
            if !(told && silent && ended && once) {
                wrong.push(format!(
                    "{program} with {url}: words {told}, silent {silent}, ended {ended}, once {once}: {said}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
