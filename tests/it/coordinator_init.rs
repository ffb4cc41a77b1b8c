//! `coordinator init`: repeatable, interruptible, by logins that may little, refused where it must be.

use common::private_pg::StopMode;
use futures_util::join;

use crate::harness::{Fault, Program, Proxy, Ran, TestDb, cluster};

async fn init(url: &str) -> Ran {
    Program::coordinator(&["init"])
        .await
        .database(url)
        .run()
        .await
}

/// Demands that the schema is whole: tables, functions, rights.
async fn assert_whole(db: &TestDb) {
    let migrations: i64 = db.count("odf._sqlx_migrations where success").await;
    assert_eq!(
        migrations,
        coordinator::install::MIGRATIONS.iter().count() as i64
    );
    let version: i32 = db.scalar("select api_version from odf.installation").await;
    assert_eq!(version, coordinator::install::API_VERSION);
    let rights: bool = db
        .scalar("select has_function_privilege('odf_worker', 'odf.claim(bigint, bytea, bigint, int)', 'execute')")
        .await;
    assert!(rights);
    let foreign =
        "pg_proc where pronamespace = 'odf'::regnamespace and proowner <> 'odf_owner'::regrole";
    assert_eq!(db.count(foreign).await, 0);
}

#[tokio::test]
async fn it_may_be_repeated_and_run_twice_at_once() {
    let db = TestDb::empty().await;
    let url = db.admin_url();
    let (one, other) = join!(init(&url), init(&url));
    let said = [one.ok(), other.ok()];
    assert_eq!(
        said.iter()
            .filter(|said| said.contains("applied 0001"))
            .count(),
        1,
        "{said:?}"
    );
    assert_whole(&db).await;
    let id = "select installation_id::text from odf.installation";
    let before: String = db.scalar(id).await;
    let said = init(&url).await.ok();
    assert!(said.contains("schema is up to date"), "{said}");
    assert_eq!(db.scalar::<String>(id).await, before);
}

#[tokio::test]
async fn it_goes_on_where_it_was_cut_off() {
    let db = TestDb::empty().await;
    let proxy = Proxy::start(db.port()).await;
    let through = db
        .admin_url()
        .replace(&format!(":{}/", db.port()), &format!(":{}/", proxy.port()))
        + "?sslmode=disable";
    let stages = [
        "create table worker_session",
        "create or replace function odf.clock",
    ];
    for (n, stage) in stages.into_iter().enumerate() {
        proxy.arm(Fault::CutBefore(stage.to_owned()));
        init(&through).await.failed(1);
        assert_eq!(proxy.struck(), 2 * n + 1);
        proxy.arm(Fault::CutAfterCommit(stage.to_owned()));
        init(&through).await.failed(1);
        assert_eq!(proxy.struck(), 2 * n + 2);
    }
    init(&through).await.ok();
    assert_whole(&db).await;
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let db = TestDb::new().await;
    db.exec(
        "insert into odf._sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'from the future', true, '', 0)",
        &[],
    )
    .await;
    db.exec("drop function odf.resign(bigint)", &[]).await;
    let said = init(&db.admin_url()).await.failed(4);
    assert!(
        said.contains("9999") && said.contains("nothing was changed"),
        "{said}"
    );
    assert!(said.contains("hint"), "{said}");
    let gone = db.count("pg_proc where proname = 'resign'").await;
    assert_eq!(gone, 0, "nothing was replaced");

    let db = TestDb::new().await;
    db.exec("update odf.installation set api_version = 1000000", &[])
        .await;
    db.exec("drop function odf.resign(bigint)", &[]).await;
    let said = init(&db.admin_url()).await.ok();
    assert!(said.contains("version 1000000"), "{said}");
    assert_eq!(db.count("pg_proc where proname = 'resign'").await, 0);

    let db = TestDb::new().await;
    db.exec(
        "update odf._sqlx_migrations set checksum = '' where version = 2",
        &[],
    )
    .await;
    let said = init(&db.admin_url()).await.failed(1);
    assert!(said.contains("migration 2"), "{said}");
}

#[tokio::test]
async fn logins_that_may_and_may_not_install() {
    let server = cluster::own_server(&[]).await;
    let admin = cluster::session(&server.url("postgres")).await;
    for sql in [
        "create role maker login createrole password 'test'",
        "create role nobody login password 'test'",
        "create database one",
        "create database two",
        "create database three",
        "grant create on database one, two to maker",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let url = |login: &str, database: &str| {
        format!(
            "postgres://{login}:test@127.0.0.1:{}/{database}",
            server.port()
        )
    };
    let said = init(&url("nobody", "one")).await.failed(1);
    assert!(said.contains("CREATEROLE"), "{said}");
    let (one, other) = (url("maker", "one"), url("maker", "two"));
    let (one, other) = join!(init(&one), init(&other));
    // The roles are new and the cluster's: whoever is slower may have to come again.
    for (ran, database) in [(one, "one"), (other, "two")] {
        if ran.code != Some(0) {
            init(&url("maker", database)).await.ok();
        }
    }
    let said = init(&url("maker", "three")).await.failed(1);
    assert!(said.contains("CREATE on the database"), "{said}");
    let said = init(&url("maker", "one")).await.ok();
    assert!(said.contains("schema is up to date"), "{said}");
    let wrong = init(&url("maker", "one").replace(":test@", ":sesame@"))
        .await
        .failed(1);
    assert!(
        wrong.contains("refuses user") && !wrong.contains("sesame"),
        "{wrong}"
    );
    admin.close().await;
    server.stop(StopMode::Immediate).await.unwrap();
}
