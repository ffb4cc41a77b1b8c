//! What a person sees when the database is not there, not ours, or does not let them.

use coordinator::cli::Exit;

use super::support::{run, run_words};
use crate::harness::cluster::PASSWORD;
use crate::harness::{Program, Role, Shape, TestDb};

#[tokio::test]
async fn a_database_without_the_schema_says_init() {
    let db = TestDb::empty().await;
    for line in [
        "status",
        "chunks",
        "scale extract 3",
        "resubmit mid",
        "workers",
        "events",
        "failures",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ran = run_words(Some(&db.admin_url()), &words).await;
        assert_eq!(ran.exit, Exit::Error, "{line}");
        assert_eq!(
            ran.err, "error: this database has no OpenDataFlow schema\nhint: coordinator init\n",
            "{line}"
        );
    }
}

#[tokio::test]
async fn no_database_a_wrong_one_and_a_wrong_password_are_told_apart() {
    let db = TestDb::new().await;
    let none = run_words(None, &["status"]).await;
    assert_eq!(none.exit, Exit::Usage);
    assert!(
        none.err
            .starts_with("error: no control database is named\nhint: set ODF_DATABASE_URL"),
        "{}",
        none.err
    );

    let url = db.url(Role::Viewer);
    let cases = [
        (
            url.replace(db.name(), "nowhere"),
            "database \"nowhere\" does not exist",
        ),
        (url.replace("odf_test_viewer", "nobody"), "nobody"),
        (
            url.replace(&db.port().to_string(), "9"),
            "Connection refused",
        ),
    ];
    for (url, expected) in cases {
        let ran = run_words(Some(&url), &["status"]).await;
        assert_eq!(ran.exit, Exit::Error);
        assert!(
            ran.err.contains("cannot reach the control database"),
            "{}",
            ran.err
        );
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
        assert!(ran.err.contains("\nhint: "), "{}", ran.err);
        assert!(!ran.err.contains(":test@"), "no password: {}", ran.err);
    }
}

#[tokio::test]
async fn a_viewer_reads_everything_and_is_told_which_role_may_change_things() {
    let db = TestDb::new().await;
    Shape::chain(3).build(&db).await;
    let reads = [
        "status",
        "status --loops",
        "chunks",
        "chunks --status running",
        "explain mid",
        "explain mid/00001",
        "explain extract",
        "workers --all",
        "pools",
        "events",
        "failures",
        "resubmit mid --dry-run -o json",
    ];
    for line in &reads[..11] {
        let ran = run(&db, Role::Viewer, line).await;
        assert_eq!(ran.exit, Exit::Ok, "{line}: {}", ran.err);
    }
    for line in [
        "scale extract 3",
        "pause mid",
        "resume mid",
        "hold mid",
        "drain w1",
        "cancel mid --yes",
    ] {
        let ran = run(&db, Role::Viewer, line).await;
        assert_eq!(ran.exit, Exit::Error, "{line}");
        assert!(
            ran.err
                .starts_with("error: permission denied for function "),
            "{line}: {}",
            ran.err
        );
        assert!(
            ran.err.ends_with(
                "hint: the login needs the role odf_operator: grant odf_operator to LOGIN\n"
            ),
            "{line}: {}",
            ran.err
        );
    }
    let worker = run(&db, Role::Worker, "status").await;
    assert_eq!(worker.exit, Exit::Error);
    assert!(worker.err.contains("odf_viewer"), "{}", worker.err);
}

#[tokio::test]
async fn key_value_text_names_the_database_for_every_command() {
    let db = TestDb::new().await;
    let pairs = |role: Role| {
        format!(
            "host=127.0.0.1 port={} user={} password={PASSWORD} dbname={} sslmode=disable",
            db.port(),
            role.login(),
            db.name()
        )
    };
    for (args, role) in [
        (&["status"][..], Role::Viewer),
        (&["pause", "all"], Role::Operator),
        (&["plan", "--check", "none"], Role::Operator),
    ] {
        let ran = Program::coordinator(args)
            .await
            .database(pairs(role))
            .run()
            .await;
        let reached = ran.code == Some(0) || ran.code == Some(3);
        assert!(reached, "{args:?}: {ran:?}");
    }
    let init = Program::coordinator(&["init"])
        .await
        .database(pairs(Role::Viewer));
    let said = init.run().await.failed(1);
    assert!(said.contains("may not install"), "it was reached: {said}");
    let broken = Program::coordinator(&["status"])
        .await
        .database("host=a,b password=sesame")
        .run()
        .await;
    let said = broken.failed(2);
    assert!(
        said.contains("one host") && !said.contains("sesame"),
        "{said}"
    );
}
