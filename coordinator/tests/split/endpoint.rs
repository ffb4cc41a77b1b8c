//! Sessions with a real server: how a connection fails, what TLS verifies, how a session ends.

use std::time::{Duration, Instant};

use common::endpoint::{
    ConnectError, PgSession, PoolSettings, SecretString, SessionSettings, connect, pool,
};

use crate::support::{Database, cluster, database};

async fn attempt(url: String) -> Result<PgSession, ConnectError> {
    connect(
        &SecretString::from(url),
        &SessionSettings::named("odf tests"),
    )
    .await
}

async fn refusal(url: String) -> ConnectError {
    let error = attempt(url).await.expect_err("a refusal");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    error
}

#[tokio::test]
async fn refusals_are_told_apart_and_never_hold_the_password() {
    let db = database().await;
    let port = cluster().await.port;
    db.admin
        .batch_execute("DROP ROLE IF EXISTS walter; CREATE ROLE walter LOGIN PASSWORD 'right'")
        .await
        .unwrap();
    let at = |user: &str, database: &str| format!("postgres://{user}@127.0.0.1:{port}/{database}");
    assert!(attempt(at("walter:right", &db.name)).await.is_ok());
    let wrong = refusal(at("walter:hunter2", &db.name)).await;
    assert!(
        matches!(&wrong, ConnectError::Authentication { user, .. } if user == "walter"),
        "{wrong}"
    );
    let none = refusal(at("walter", &db.name)).await;
    assert!(
        matches!(none, ConnectError::Authentication { .. }),
        "{none}"
    );
    let unknown = refusal(at("nobody:hunter2", &db.name)).await;
    assert!(
        matches!(unknown, ConnectError::Authentication { .. }),
        "{unknown}"
    );
    let missing = refusal(at("postgres:hunter2", "missing")).await;
    assert!(
        matches!(&missing, ConnectError::NoSuchDatabase { address, .. } if address.ends_with("/missing")),
        "{missing}"
    );
    let hba = refusal(format!("{}?sslmode=disable", at("tessa:hunter2", &db.name))).await;
    assert!(matches!(hba, ConnectError::Authentication { .. }), "{hba}");
    assert!(!hba.may_pass());

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = closed.local_addr().unwrap().port();
    drop(closed);
    let gone = refusal(format!("postgres://u:hunter2@127.0.0.1:{free}/db")).await;
    assert!(
        matches!(gone, ConnectError::Unreachable { .. }) && gone.may_pass(),
        "{gone}"
    );
    let nowhere = refusal("postgres://u:hunter2@no-such-host.invalid/db".to_owned()).await;
    assert!(
        matches!(nowhere, ConnectError::Unreachable { .. }),
        "{nowhere}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let started = Instant::now();
    let error = refusal(format!(
        "postgres://u:hunter2@127.0.0.1:{port}/db?connect_timeout=1"
    ))
    .await;
    assert!(
        matches!(&error, ConnectError::Unreachable { problem, .. } if problem.contains("within 2 s")),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn each_sslmode_verifies_what_it_says() {
    let cluster = cluster().await;
    let ca = cluster.dir.join("ca.pem");
    let (ca, port) = (ca.display(), cluster.port);
    let url = |host: &str, options: String| {
        format!("postgres://postgres@{host}:{port}/postgres?{options}")
    };
    for (host, options, encrypted) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={ca}"),
            true,
        ),
        (
            "127.0.0.1",
            format!("sslmode=require&sslrootcert={ca}"),
            true,
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={ca}"),
            true,
        ),
    ] {
        let session = attempt(url(host, options.clone())).await.expect(&options);
        let ssl: bool = session
            .query_one(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(ssl, encrypted, "{options}");
        session.close().await;
    }
    for (host, options, words) in [
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ca}"),
            "sslmode=verify-ca",
        ),
        ("localhost", "sslmode=verify-full".to_owned(), "sslrootcert"),
        (
            "localhost",
            "sslmode=verify-ca&sslrootcert=/nonexistent.pem".to_owned(),
            "/nonexistent.pem",
        ),
    ] {
        let error = refusal(url(host, options.clone())).await;
        assert!(
            matches!(error, ConnectError::Tls { .. }) && error.to_string().contains(words),
            "{options}: {error}"
        );
    }
    let socket = format!(
        "host={} port={port} user=postgres dbname=postgres",
        cluster.dir.display()
    );
    assert!(attempt(socket).await.is_ok());
}

#[tokio::test]
async fn settings_hold_and_what_the_url_says_stands() {
    let db = database().await;
    let port = cluster().await.port;
    let url = format!(
        "postgres://postgres@127.0.0.1:{port}/{}?options=-c%20lock_timeout%3D1234",
        db.name
    );
    let session = attempt(url).await.unwrap();
    let shown = |name: &'static str| {
        let session = &session;
        async move {
            let row = session
                .query_one("SELECT current_setting($1)", &[&name])
                .await
                .unwrap();
            row.get::<_, String>(0)
        }
    };
    assert_eq!(shown("statement_timeout").await, "1min");
    assert_eq!(shown("idle_in_transaction_session_timeout").await, "1min");
    assert_eq!(shown("lock_timeout").await, "1234ms");
    assert_eq!(shown("client_connection_check_interval").await, "10s");
    assert_eq!(shown("application_name").await, "odf tests");
}

async fn until_gone(db: &Database, pid: i32) {
    let limit = Instant::now() + Duration::from_secs(60);
    while db
        .number(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
        ))
        .await
        > 0
    {
        assert!(Instant::now() < limit, "the session of process {pid} lives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn dropping_a_session_ends_it_and_its_running_statement() {
    let db = database().await;
    let session = connect(&db.url, &SessionSettings::named("dropped"))
        .await
        .unwrap();
    let pid: i32 = session
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    drop(session);
    until_gone(&db, pid).await;

    let session = connect(&db.url, &SessionSettings::named("dropped"))
        .await
        .unwrap();
    session
        .batch_execute("SET client_connection_check_interval = '50ms'")
        .await
        .unwrap();
    let pid: i32 = session
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    {
        let running = session.batch_execute("SELECT pg_sleep(50)");
        let cut = tokio::time::timeout(Duration::from_millis(200), running).await;
        assert!(cut.is_err());
    }
    drop(session);
    let started = Instant::now();
    until_gone(&db, pid).await;
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_running_statement_can_be_cancelled() {
    let db = database().await;
    let session = connect(&db.url, &SessionSettings::named("cancelled"))
        .await
        .unwrap();
    let canceller = session.canceller();
    let stop = async {
        let running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cancelled' AND state = 'active' AND query LIKE '%pg_sleep%'";
        while db.number(running).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        canceller.cancel().await.unwrap();
    };
    let (ran, ()) = tokio::join!(session.batch_execute("SELECT pg_sleep(50)"), stop);
    assert_eq!(ran.unwrap_err().code().unwrap().code(), "57014");
    assert!(session.simple_query("SELECT 1").await.is_ok());
}

#[tokio::test]
async fn the_pool_is_bounded_and_explains_its_failures() {
    let db = database().await;
    let mut settings = PoolSettings::new(2, "pooled");
    settings.wait = Duration::from_millis(200);
    let sessions = pool(&db.url, &settings).unwrap();
    let first = sessions.get().await.unwrap();
    let second = sessions.get().await.unwrap();
    let told: String = first
        .query_one("SELECT current_setting('statement_timeout')", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(told, "1min");
    let refused = sessions.get().await.expect_err("a third session");
    let explained = common::endpoint::pool::explain(&db.url, &refused);
    assert!(
        matches!(explained, ConnectError::Unreachable { .. }),
        "{explained}"
    );
    drop(second);
    assert!(sessions.get().await.is_ok());

    let url: SecretString = format!(
        "postgres://postgres:hunter2@127.0.0.1:{}/missing",
        cluster().await.port
    )
    .into();
    let refused = pool(&url, &settings)
        .unwrap()
        .get()
        .await
        .expect_err("no database");
    let explained = common::endpoint::pool::explain(&url, &refused);
    assert!(
        matches!(explained, ConnectError::NoSuchDatabase { .. }),
        "{explained}"
    );
}
