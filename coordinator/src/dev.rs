//! Everything in one process tree for a first try: a private PostgreSQL, the schema, a coordinator
//! and workers. Nothing outside the chosen folder is touched, and all of it ends with this process.

mod workers;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use common::endpoint::SecretString;
use common::private_pg::{self, Lifetime, PrivatePg, Settings, StopMode};
use common::runtime::Shutdown;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use crate::install;
use crate::serve::{ServeSettings, serve};
use workers::Workers;

/// The database's name in the private server.
pub const DATABASE: &str = "odf";

/// What to start.
#[derive(Debug, Clone)]
pub struct DevSettings {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// The folder of the server's programs; `None` searches.
    pub pg_bin: Option<PathBuf>,
    /// How many worker processes.
    pub workers: u32,
    /// Slots of each.
    pub slots: u32,
    /// Where jobs' scripts are.
    pub script_dir: PathBuf,
}

/// Urls of a running private installation, one for each role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// Superuser: installs, never used by a daemon.
    pub admin: String,
    /// In `odf_coordinator`.
    pub coordinator: String,
    /// In `odf_worker`.
    pub worker: String,
    /// In `odf_operator`: for the command line.
    pub operator: String,
}

/// Starts (or reuses) the private server in `dir` and installs the schema.
///
/// # Errors
/// Where no PostgreSQL is found or it does not start; the message says what to do.
pub async fn database(dir: &Path, pg_bin: Option<PathBuf>) -> anyhow::Result<(PrivatePg, Urls)> {
    let dir = made(dir)?;
    let mut settings = Settings::new(private_pg::reachable_place(&dir.join("pg")));
    settings.bin_dir = pg_bin;
    settings.lifetime = Lifetime::Process;
    let server = private_pg::start(settings)
        .await
        .context("start the private PostgreSQL")?;
    server.ensure_database(DATABASE).await?;
    let admin = server.url(DATABASE);
    install::install(&admin).await?;
    let urls = logins(&admin).await.context("make logins")?;
    Ok((server, urls))
}

/// Makes a login for each role, with a password of this start alone.
async fn logins(admin: &str) -> anyhow::Result<Urls> {
    let options: PgConnectOptions = admin.parse()?;
    let mut connection = options.disable_statement_logging().connect().await?;
    let mut made = Vec::new();
    for role in ["coordinator", "worker", "operator"] {
        let password = hex::encode(rand::random::<[u8; 16]>());
        let login = format!("dev_{role}");
        // Names and password are ours: letters, digits and underscores only.
        let sql = format!(
            "do $$ begin if not exists (select from pg_roles where rolname = '{login}') \
             then create role {login} login; end if; end $$; \
             alter role {login} password '{password}'; grant odf_{role} to {login};"
        );
        connection.execute(AssertSqlSafe(sql)).await?;
        let address = admin.rsplit_once('@').map_or("", |(_, address)| address);
        made.push(format!("postgres://{login}:{password}@{address}"));
    }
    connection.close().await?;
    let mut made = made.into_iter();
    let mut next = || made.next().unwrap_or_default();
    Ok(Urls {
        admin: admin.to_owned(),
        coordinator: next(),
        worker: next(),
        operator: next(),
    })
}

/// Runs everything until `shutdown`; `ready` is called once the database can be used.
///
/// # Errors
/// Where another one runs in the folder, a part cannot start, or one ends badly or by itself.
pub async fn dev(
    mut settings: DevSettings,
    shutdown: Shutdown,
    ready: impl FnOnce(&Urls),
) -> anyhow::Result<()> {
    settings.dir = made(&settings.dir)?;
    let _alone = alone_in(&settings.dir)?;
    let (server, urls) = database(&settings.dir, settings.pg_bin.clone()).await?;
    let socket = server.socket_folder();
    tracing::info!(
        "PostgreSQL listens on 127.0.0.1:{}{}",
        server.port(),
        socket.map_or_else(String::new, |folder| format!(
            " and on the socket in {}",
            folder.display()
        ))
    );
    let outcome = match Workers::start(&settings, &urls) {
        Ok(workers) => {
            ready(&urls);
            run(&settings, &urls, workers, &shutdown).await
        }
        Err(error) => Err(error),
    };
    server
        .stop(StopMode::Fast)
        .await
        .context("stop the private PostgreSQL")?;
    outcome
}

/// The coordinator in this process, beside the workers, until one of them or somebody ends it.
async fn run(
    settings: &DevSettings,
    urls: &Urls,
    mut workers: Workers,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let serving = serve(
        ServeSettings {
            url: SecretString::from(urls.coordinator.clone()),
            script_dir: Some(settings.script_dir.clone()),
            time_scale: 1.0,
        },
        shutdown.clone(),
    );
    let mut serving = std::pin::pin!(serving);
    let outcome = tokio::select! {
        served = &mut serving => served,
        early = workers.one_ended() => {
            shutdown.begin();
            // What ended everything is the worker.
            serving.await.and(Err(early))
        }
    };
    workers.end(shutdown).await;
    outcome
}

fn made(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("make folder {}", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("resolve folder {}", dir.display()))
}

/// Makes sure that no other `dev` uses the folder: it would share the server and stop it under us.
fn alone_in(dir: &Path) -> anyhow::Result<Flock<File>> {
    let path = dir.join("dev.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow::anyhow!(
            "another 'coordinator dev' runs in {}; hint: use it, end it, or give this one another --dir",
            dir.display()
        ),
        errno => anyhow::anyhow!("lock {}: {errno}", path.display()),
    })
}
