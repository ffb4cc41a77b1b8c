//! Everything in one process tree for a first try: a private PostgreSQL, the schema, a coordinator
//! and workers. Nothing outside the chosen folder is touched, and all of it ends with this process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use common::endpoint::SecretString;
use common::private_pg::{self, Lifetime, PrivatePg, Settings, StopMode};
use common::runtime::Shutdown;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tokio::process::{Child, Command};

use crate::install;
use crate::serve::{ServeSettings, serve};

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
    std::fs::create_dir_all(dir).with_context(|| format!("make folder {}", dir.display()))?;
    let dir = dir
        .canonicalize()
        .with_context(|| format!("resolve folder {}", dir.display()))?;
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
/// Where a part cannot start or ends badly.
pub async fn dev(
    settings: DevSettings,
    shutdown: Shutdown,
    ready: impl FnOnce(&Urls),
) -> anyhow::Result<()> {
    let (server, urls) = database(&settings.dir, settings.pg_bin.clone()).await?;
    ready(&urls);
    let mut workers = Vec::new();
    let outcome = match start_workers(&settings, &urls, &mut workers) {
        Ok(()) => {
            let serving = ServeSettings {
                url: SecretString::from(urls.coordinator.clone()),
                script_dir: Some(settings.script_dir.clone()),
                time_scale: 1.0,
            };
            serve(serving, shutdown.clone()).await
        }
        Err(error) => Err(error),
    };
    for worker in &mut workers {
        end_worker(worker).await;
    }
    server
        .stop(StopMode::Fast)
        .await
        .context("stop the private PostgreSQL")?;
    outcome
}

fn start_workers(
    settings: &DevSettings,
    urls: &Urls,
    started: &mut Vec<Child>,
) -> anyhow::Result<()> {
    let program = std::env::current_exe()?.with_file_name("worker");
    for number in 1..=settings.workers {
        let child = Command::new(&program)
            .arg("run")
            .args([
                "--name",
                &format!("dev-{number}"),
                "--slots",
                &settings.slots.to_string(),
            ])
            .arg("--script-dir")
            .arg(&settings.script_dir)
            .arg("--state-dir")
            .arg(settings.dir.join("worker"))
            .env("ODF_DATABASE_URL", &urls.worker)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}; build it with 'cargo build'", program.display()))?;
        started.push(child);
    }
    Ok(())
}

/// TERM, and KILL when it has not drained in time.
async fn end_worker(worker: &mut Child) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let Some(pid) = worker.id().and_then(|pid| i32::try_from(pid).ok()) else {
        return;
    };
    // A worker that has ended meanwhile needs no signal.
    let _told = kill(Pid::from_raw(pid), Signal::SIGTERM);
    if tokio::time::timeout(Duration::from_secs(60), worker.wait())
        .await
        .is_err()
    {
        let _killed = worker.kill().await;
    }
}
