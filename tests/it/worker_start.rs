//! What a worker says before it works: refusals at the start, the doctor, trying a chunk.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Role, Shape, TestDb};
use crate::worker_support::Site;

const COPY: &str = r#"
echo "$ODF_CHUNK_NAME from $ODF_INPUT_CHUNK" > "$ODF_STAGING"
echo "seen by the terminal"
"#;

#[tokio::test]
async fn a_worker_that_cannot_work_says_why() {
    let site = Site::new(&Shape::single(1)).await;
    let empty = TestDb::empty().await;
    let file = site.path("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let none = site.path("none").display().to_string();
    let wrong_login = site.db.url(Role::Viewer);
    let no_schema = empty.url(Role::Worker);
    let nobody = "postgres://odf_test_worker:wrong@127.0.0.1:1/x?connect_timeout=2";
    let cases: [(&[&str], &str); 9] = [
        (&["--slots", "0"], "--slots 0 would run nothing"),
        (&["--name", "a b"], "not usable"),
        (&["--script-dir", &none], "--script-dir"),
        (&["--script-dir", file], "not a directory"),
        (&["--state-dir", file], "--state-dir"),
        (&["--database-url", nobody], "cannot reach 127.0.0.1:1"),
        (
            &["--database-url", "nonsense"],
            "PostgreSQL url was expected",
        ),
        (&["--database-url", &no_schema], "coordinator init"),
        (&["--database-url", &wrong_login], "odf_worker"),
    ];
    for (args, expected) in cases {
        let mut worker = site.worker("w1").args(args).start();
        let code = worker.ended().await.code();
        let log = worker.log();
        let asked_wrongly = ["--slots", "--name"].contains(&args[0]);
        let expected_code = if asked_wrongly { 2 } else { 1 };
        assert_eq!(code, Some(expected_code), "{args:?}: {log}");
        assert!(log.contains(expected), "{args:?}: {log}");
        assert!(!log.contains("wrong"), "no password: {log}");
        assert!(
            log.contains("hint") || log.contains("expected"),
            "{args:?}: {log}"
        );
    }
    let left: i64 = site
        .db
        .scalar("select count(*) from odf.worker_session")
        .await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_failing_host_stops_claiming_and_goes_on_when_it_is_mended() {
    let site = Site::new(&Shape::single(4).with(
        "extract",
        "retry: { attempts: 2, backoff: 100ms, max_backoff: 200ms }",
    ))
    .await;
    let coordinator = site.coordinator();
    let worker = site.worker("w1").args(&["--slots", "1"]).start();
    worker.until_logged("this host is at fault").await;
    site.until_count("mid", "failed", 1).await;
    site.script(COPY);
    site.until_count("mid", "validated", 4).await;
    let charged: i64 = site
        .db
        .scalar("select max(charged)::bigint from odf.chunk")
        .await;
    assert_eq!(charged, 0, "a missing script is the host's fault");
    coordinator.stop().await;
    worker.drain().await;
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong() {
    let site = Site::new(&Shape::single(1)).await;
    site.script(COPY);
    let (code, text, _) = site.worker("w1").output("doctor", &[]).await;
    assert_eq!(code, Some(0), "{text}");
    for expected in [
        "ok    database",
        "ok    role",
        "ok    protocol",
        "ok    guard",
        "ok    name",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("FAIL"), "{text}");
    let script = site.path("scripts/run.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o644)).unwrap();
    let viewer = site.db.url(Role::Viewer);
    let (code, text, _) = site
        .worker("w1")
        .output("doctor", &["--database-url", &viewer])
        .await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("FAIL  role") && text.contains("grant odf_worker"),
        "{text}"
    );
    assert!(text.contains("chmod +x"), "{text}");
    let left: Vec<_> = std::fs::read_dir(site.path("state"))
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("doctor")),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_chunk_is_tried_and_nothing_is_published() {
    let site = Site::new(&Shape::fan_in(2)).await;
    site.script(COPY);
    let (code, out, err) = site.worker("w1").output("try", &["mid/00002"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "seen by the terminal\n");
    assert!(err.contains("would be published"), "{err}");
    let staged = err
        .split("staged at ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(staged).unwrap(),
        "mid/00002 from 00002\n"
    );
    assert!(!site.path("lake/mid").exists());
    assert_eq!(site.count("mid", "ready").await, 2, "nothing was claimed");
    let (code, _, err) = site.worker("w1").output("try", &["dst/00002"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("never published"), "{err}");
    let (_, _, err) = site.worker("w1").output("try", &["mid/9"]).await;
    assert!(
        err.contains("no chunk named 'mid/9'") && err.contains("mid/00001"),
        "{err}"
    );
    let (_, _, err) = site.worker("w1").output("try", &["src/00001"]).await;
    assert!(err.contains("belongs to a source"), "{err}");

    site.script("exit 65");
    let (code, _, err) = site.worker("w1").output("try", &["total/all"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("failed (permanent)"), "{err}");
    let left: Vec<_> = std::fs::read_dir(site.path("state"))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
