//! A control database of its own for one test, copied from the migrated template.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use common::domain::ChunkId;
use common::endpoint::{PgSession, SecretString, describe};
use common::store::ControlDb;
use tokio_postgres::types::{FromSqlOwned, ToSql};

use super::cluster::{Cluster, PASSWORD, TEMPLATE, run, session};

/// The group role of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// `odf_coordinator`.
    Coordinator,
    /// `odf_worker`.
    Worker,
    /// `odf_operator`.
    Operator,
    /// `odf_viewer`.
    Viewer,
}

impl Role {
    /// The test login of that role.
    pub(crate) fn login(self) -> &'static str {
        match self {
            Self::Coordinator => "odf_test_coordinator",
            Self::Worker => "odf_test_worker",
            Self::Operator => "odf_test_operator",
            Self::Viewer => "odf_test_viewer",
        }
    }
}

/// A test's own database. It is dropped some time after this value.
pub(crate) struct TestDb {
    name: String,
    cluster: &'static Cluster,
    admin: PgSession,
}

impl TestDb {
    /// A fresh copy of the template: nothing applied, the clock at the server's time and movable.
    pub(crate) async fn new() -> Self {
        Self::copy_of(TEMPLATE).await
    }

    /// An empty database without our schema.
    pub(crate) async fn empty() -> Self {
        Self::copy_of("template1").await
    }

    /// A fresh copy of the template with the functions of another test database, should it have
    /// others than this build's.
    pub(crate) async fn like(other: &Self) -> Self {
        let db = Self::new().await;
        let functions: Vec<String> = other
            .column(
                "select pg_get_functiondef(oid) from pg_proc where pronamespace = 'odf'::regnamespace",
            )
            .await;
        db.exec("set role odf_owner", &[]).await;
        for function in functions {
            db.exec(&function, &[]).await;
        }
        db.exec("reset role", &[]).await;
        db
    }

    async fn copy_of(template: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cluster = Cluster::get().await;
        let name = format!("odf_t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let maker = cluster.connect("postgres").await;
        run(
            &maker,
            &format!("create database {name} template {template}"),
        )
        .await;
        maker.close().await;
        let admin = cluster.connect(&name).await;
        Self {
            name,
            cluster,
            admin,
        }
    }

    /// The superuser's own session.
    pub(crate) fn admin(&self) -> &PgSession {
        &self.admin
    }

    /// One more session of the superuser.
    pub(crate) async fn another_admin(&self) -> PgSession {
        self.cluster.connect(&self.name).await
    }

    /// The database's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The superuser's URL.
    pub(crate) fn admin_url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// The URL of a role's test login.
    pub(crate) fn url(&self, role: Role) -> String {
        self.url_at(role, self.cluster.port())
    }

    /// As [`Self::url`], by way of another port, such as a proxy's.
    pub(crate) fn url_at(&self, role: Role, port: u16) -> String {
        format!(
            "postgres://{}:{PASSWORD}@127.0.0.1:{port}/{}?sslmode=disable",
            role.login(),
            self.name
        )
    }

    /// The server's port.
    pub(crate) fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// The store, as a role.
    pub(crate) fn control(&self, role: Role) -> ControlDb {
        self.control_at(role, self.cluster.port())
    }

    /// The store, as a role, by way of another port.
    pub(crate) fn control_at(&self, role: Role, port: u16) -> ControlDb {
        ControlDb::new(SecretString::from(self.url_at(role, port)), 8, "odf-it").unwrap()
    }

    /// A plain session of a role's login.
    pub(crate) async fn login(&self, role: Role) -> PgSession {
        session(&self.url(role)).await
    }

    /// Moves the database's clock forward.
    pub(crate) async fn advance(&self, by: Duration) {
        self.exec(
            "select odf.move_clock($1::float8 * interval '1 second')",
            &[&by.as_secs_f64()],
        )
        .await;
    }

    /// Has every transaction that writes a table linger for some milliseconds before it goes on, so
    /// that those which run at once really overlap.
    pub(crate) async fn linger(&self, event: &str, table: &str, milliseconds: u32) {
        run(
            &self.admin,
            &format!(
                "create function public.linger_{table}() returns trigger language plpgsql as
                   $$ begin perform pg_sleep({milliseconds} / 1000.0); return null; end $$;
                 create trigger linger after {event} on odf.{table}
                   for each statement execute function public.linger_{table}()"
            ),
        )
        .await;
    }

    /// The first column of the one row that a query answers.
    pub(crate) async fn scalar<T: FromSqlOwned>(&self, sql: &str) -> T {
        self.get(sql, &[]).await
    }

    /// As [`Self::scalar`], with parameters.
    pub(crate) async fn get<T: FromSqlOwned>(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> T {
        match self.admin.query_one(sql, params).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{sql}: {}", describe(&error)),
        }
    }

    /// The first column of all rows.
    pub(crate) async fn column<T: FromSqlOwned>(&self, sql: &str) -> Vec<T> {
        match self.admin.query(sql, &[]).await {
            Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
            Err(error) => panic!("{sql}: {}", describe(&error)),
        }
    }

    /// Runs one statement; answers how many rows it touched.
    pub(crate) async fn exec(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> u64 {
        match self.admin.execute(sql, params).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {}", describe(&error)),
        }
    }

    /// What people see of a chunk.
    pub(crate) async fn status(&self, chunk: ChunkId) -> String {
        self.get(
            "select status::text from odf.chunk where chunk_id = $1",
            &[&chunk.0],
        )
        .await
    }

    /// The fences that published a chunk, by generation.
    pub(crate) async fn published(&self, chunk: ChunkId) -> Vec<i64> {
        self.column(&format!(
            "select fence from odf.publication where chunk_id = {chunk} order by generation"
        ))
        .await
    }

    /// How many rows a query counts.
    pub(crate) async fn count(&self, from: &str) -> i64 {
        self.scalar(&format!("select count(*) from {from}")).await
    }

    /// Transactions of this database that the server aborted to break a deadlock.
    pub(crate) async fn deadlocks(&self) -> i64 {
        self.exec("select pg_stat_clear_snapshot()", &[]).await;
        self.scalar("select deadlocks from pg_stat_database where datname = current_database()")
            .await
    }

    /// Repairs that should never have been needed, by name.
    pub(crate) async fn bugs(&self) -> Vec<String> {
        self.column("select name || ': ' || coalesce(last, '') from odf.bug_count")
            .await
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        // Only space is at stake, and the whole server goes in the end.
        let _ = JANITOR.send((self.cluster.url("postgres"), self.name.clone()));
    }
}

/// Drops databases beside the tests, one after the other.
static JANITOR: LazyLock<mpsc::Sender<(String, String)>> = LazyLock::new(|| {
    let (sender, orders) = mpsc::channel::<(String, String)>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for (url, name) in orders {
            runtime.block_on(async {
                let admin = session(&url).await;
                let _ = admin
                    .batch_execute(&format!("drop database if exists {name} with (force)"))
                    .await;
            });
        }
    });
    sender
});
