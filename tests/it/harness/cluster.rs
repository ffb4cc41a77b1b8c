//! The one PostgreSQL of a test run and the migrated database that all others are copies of.
//!
//! `cargo test` runs all tests in one process, which starts one server. A guard process ends it and
//! removes its files when the test process has ended, panics and kill -9 included. Under a runner
//! that gives every test a process of its own, each has a server of its own: slower, equally clean.

use common::endpoint::{self, PgSession, SecretString, SessionSettings};
use common::private_pg::{self, Lifetime, PrivatePg, Settings};
use tokio::sync::OnceCell;

/// The database that test databases are copies of. Nobody may connect to it.
pub(crate) const TEMPLATE: &str = "odf_template";
/// The password of every test login.
pub(crate) const PASSWORD: &str = "test";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

/// A running server with the template in it.
pub(crate) struct Cluster {
    pg: PrivatePg,
}

impl Cluster {
    /// The cluster of this process, started by whoever asks first.
    pub(crate) async fn get() -> &'static Self {
        CLUSTER.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let pg = own_server(&[]).await;
        let cluster = Self { pg };
        cluster.make_template().await;
        cluster
    }

    /// The superuser's URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        self.pg.url(database)
    }

    /// The server's port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.pg.port()
    }

    /// A superuser's session in a database.
    pub(crate) async fn connect(&self, database: &str) -> PgSession {
        session(&self.url(database)).await
    }

    async fn make_template(&self) {
        let admin = self.connect("postgres").await;
        run(&admin, &format!("create database {TEMPLATE}")).await;
        prepare(&self.url(TEMPLATE)).await;
        for role in ["coordinator", "worker", "operator", "viewer"] {
            run(
                &admin,
                &format!(
                    "create role odf_test_{role} login password '{PASSWORD}' in role odf_{role}"
                ),
            )
            .await;
        }
        run(
            &admin,
            &format!("alter database {TEMPLATE} allow_connections false"),
        )
        .await;
    }
}

/// Installs the schema, lets its clock be moved, and has every change of a chunk's state checked
/// against the transition table.
pub(crate) async fn prepare(url: &str) {
    coordinator::install::install(url).await.unwrap();
    let admin = session(url).await;
    run(&admin, "update odf.installation set clock_movable = true").await;
    run(
        &admin,
        "create function public.check_transition() returns trigger language plpgsql as $$
         begin
           if not exists (select from odf.chunk_transition t
                           where t.old_status = old.status and t.new_status = new.status) then
             raise exception 'chunk % went from % to %, which is no transition',
               new.chunk_id, old.status, new.status using errcode = 'OD099';
           end if;
           return new;
         end $$;
         grant execute on function public.check_transition() to public;
         create trigger check_transition before update of status on odf.chunk_state for each row
           when (old.status <> new.status) execute function public.check_transition();",
    )
    .await;
    admin.close().await;
}

/// A throwaway server with those settings on top of the usual ones.
pub(crate) async fn own_server(extra: &[(&str, &str)]) -> PrivatePg {
    let name = format!(
        "odf-it-{}-{}",
        std::process::id(),
        uuid::Uuid::new_v4().simple()
    );
    let mut settings = Settings {
        durable: false,
        lifetime: Lifetime::Throwaway,
        ..Settings::new(std::env::temp_dir().join(name))
    };
    settings.extra = [("max_connections", "300"), ("jit", "off")]
        .iter()
        .chain(extra)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    private_pg::start(settings).await.unwrap()
}

/// A session under the tests' own name.
pub(crate) async fn session(url: &str) -> PgSession {
    let settings = SessionSettings::named("odf-it");
    endpoint::connect(&SecretString::from(url.to_owned()), &settings)
        .await
        .unwrap()
}

/// Runs statements that answer nothing.
pub(crate) async fn run(session: &PgSession, sql: &str) {
    session
        .batch_execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {}", endpoint::describe(&error)));
}
