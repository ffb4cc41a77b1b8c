//! A throwaway PostgreSQL for this test binary, and what the tests do with it.
//!
//! One cluster is started when the first test asks for it. A watchdog shell is its parent: when
//! this process ends, however it ends, the watchdog's stdin closes, it stops the server by its
//! process id and removes the directory.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::domain::NewChunk;
use common::endpoint::{PgSession, SecretString, SessionSettings};
use common::flow::model::{ChunkSize, Location, Partition};
use coordinator::split::{
    ChunkSink, Endpoint, SplitError, SplitLimits, SplitRequest, SplitSummary,
};
use tokio::sync::OnceCell;

/// The running cluster.
pub(crate) struct Cluster {
    pub(crate) port: u16,
    pub(crate) dir: PathBuf,
    /// Its stdin is open for as long as this process lives.
    _watchdog: Child,
}

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The cluster of this test binary.
pub(crate) async fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(start).await
}

/// Where the server programs are.
pub(crate) fn binaries() -> PathBuf {
    if let Ok(dir) = std::env::var("ODF_TEST_PG_BIN") {
        return dir.into();
    }
    let mut found: Vec<PathBuf> = glob::glob("/usr/lib/postgresql/*/bin/initdb")
        .unwrap()
        .filter_map(Result::ok)
        .collect();
    found.sort();
    let initdb = found
        .pop()
        .expect("PostgreSQL's server programs in /usr/lib/postgresql or ODF_TEST_PG_BIN");
    initdb.parent().unwrap().to_owned()
}

/// Who runs the server: PostgreSQL refuses root.
fn owner() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("postgres")
        .unwrap()
        .expect("a user postgres");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = owner() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env_remove("LD_PRELOAD");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}

/// An authority, and a server certificate by it that names localhost and nothing else.
const CERTIFICATES: &str = "set -e
ec='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $ec -days 2 -subj '/CN=odf test authority' -keyout ca.key -out ca.pem
openssl req $ec -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout server.key -out server.csr
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy -out server.pem
";

const HBA: &str = "local all all trust
host all walter 127.0.0.1/32 scram-sha-256
hostnossl all tessa all reject
host all all 127.0.0.1/32 trust
host all all ::1/128 trust
";

/// Runs the server, waits for the end of stdin, stops it and removes its directory.
const WATCHDOG: &str = r#"
"$1" -D "$2/data" -k "$2" -p "$3" -c listen_addresses=localhost -c fsync=off -c max_connections=200 \
  -c ssl=on -c ssl_cert_file="$2/server.pem" -c ssl_key_file="$2/server.key" >"$2/log" 2>&1 &
server=$!; cat >/dev/null; kill -INT $server; wait $server; rm -rf "$2"
"#;

async fn start() -> Cluster {
    let dir = tempfile::Builder::new()
        .prefix("odf-split-")
        .tempdir()
        .unwrap()
        .keep();
    if let Some((uid, gid)) = owner() {
        chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    let data = dir.join("data");
    let bin = binaries();
    run(command(&bin.join("initdb"))
        .args(["--no-sync", "-A", "trust", "-U", "postgres"])
        .args(["-E", "UTF8", "--locale=C.UTF-8", "-D"])
        .arg(&data));
    run(command(Path::new("/bin/sh"))
        .args(["-c", CERTIFICATES])
        .current_dir(&dir));
    std::fs::write(data.join("pg_hba.conf"), HBA).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let watchdog = command(Path::new("/bin/sh"))
        .args(["-c", WATCHDOG, "sh"])
        .arg(bin.join("postgres"))
        .arg(&dir)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let cluster = Cluster {
        port,
        dir,
        _watchdog: watchdog,
    };
    let limit = Instant::now() + Duration::from_secs(60);
    while let Err(error) = open(&cluster.url("postgres")).await {
        let log = std::fs::read_to_string(cluster.dir.join("log")).unwrap_or_default();
        assert!(Instant::now() < limit, "{error}\n{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster
}

impl Cluster {
    pub(crate) fn url(&self, database: &str) -> SecretString {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port).into()
    }
}

async fn open(url: &SecretString) -> Result<PgSession, common::endpoint::ConnectError> {
    common::endpoint::connect(url, &SessionSettings::named("odf tests")).await
}

/// A database of its own for a test, with a session that may do everything there.
pub(crate) struct Database {
    pub(crate) url: SecretString,
    pub(crate) name: String,
    pub(crate) admin: PgSession,
}

/// Makes an empty database.
pub(crate) async fn database() -> Database {
    let cluster = cluster().await;
    let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let maker = open(&cluster.url("postgres")).await.unwrap();
    maker
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    let url = cluster.url(&name);
    let admin = open(&url).await.unwrap();
    Database { url, name, admin }
}

/// Keeps what a split pushes.
#[derive(Default)]
pub(crate) struct Collected(pub(crate) Vec<NewChunk>);

#[async_trait::async_trait]
impl ChunkSink for Collected {
    async fn push(&mut self, batch: Vec<NewChunk>) -> anyhow::Result<()> {
        assert!(batch.len() <= coordinator::split::BATCH);
        self.0.extend(batch);
        Ok(())
    }
}

/// Splits and returns the chunks with the summary.
pub(crate) async fn split(
    endpoint: Endpoint,
    table: Option<&str>,
    partition: Partition,
) -> Result<(Vec<NewChunk>, SplitSummary), SplitError> {
    let location = Location {
        connection: "source".to_owned(),
        table: table.map(str::to_owned),
        path: None,
    };
    let request = SplitRequest {
        dataset: "tested",
        endpoint,
        location: &location,
        partition: &partition,
        script_dir: None,
        env: &std::collections::BTreeMap::new(),
        limits: SplitLimits::default(),
    };
    let mut sink = Collected::default();
    let summary = coordinator::split::split(request, &mut sink).await?;
    assert_eq!(summary.chunks, sink.0.len() as u64);
    Ok((sink.0, summary))
}

impl Database {
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Postgres {
            url: self.url.clone(),
        }
    }

    /// Splits a table of this database by key.
    pub(crate) async fn split_by_key(
        &self,
        table: &str,
        columns: &[&str],
        size: ChunkSize,
    ) -> Result<(Vec<NewChunk>, SplitSummary), SplitError> {
        let partition = Partition::Key {
            columns: columns.iter().map(|&c| c.to_owned()).collect(),
            size,
        };
        split(self.endpoint(), Some(table), partition).await
    }

    /// The first column of the first row, a number.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.admin.query_one(sql, &[]).await.unwrap().get(0)
    }
}
