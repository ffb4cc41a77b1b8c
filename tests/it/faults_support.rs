//! What the tests of faults share: the whole system as real processes over real databases.
//!
//! An estate is a control database, a source, a target and a folder. Nothing in here judges; the
//! coordinator, the workers and the commands are the programs that a person would start.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use common::private_pg::PrivatePg;
use common::runtime::wait;
use tempfile::TempDir;

use crate::faults_process::{Daemon, LIMIT, Ran, Sql, Starting, ran, until};
use crate::harness::{Role, TestDb, cluster};

/// How much faster than life the daemons live.
pub(crate) const SCALE: u32 = 10;

/// The head of a flow file: two databases and a tree of files.
pub(crate) const HEAD: &str = r#"flow: faults
connections:
  src: { kind: postgres, url: "${secret:SRC_URL}" }
  dst: { kind: postgres, url: "${secret:DST_URL}" }
  lake: { kind: files, root: "${env:LAKE}" }
"#;

/// A flow of `items`, so many values of a list, and `made`, a file for each, by `run.sh`, which is
/// told `$WHO` runs it. `job` is added to the job, such as `, silence: 25s`.
pub(crate) fn listed(chunks: usize, job: &str) -> String {
    let values: Vec<String> = (1..=chunks).map(|n| format!("k{n:03}")).collect();
    format!(
        "{HEAD}datasets:
  items: {{ at: {{ connection: lake, path: items }}, partition: {{ list: [{}] }} }}
  made: {{ at: {{ connection: lake, path: \"made/{{chunk}}.{{fence}}\" }} }}
jobs:
  make: {{ input: items, output: made, run: {{ script: run.sh, env: {{ WHO: \"${{env:WHO}}\" }} }}{job} }}
",
        values.join(", ")
    )
}

/// A job's `silence` and retries that a slow machine does not touch.
pub(crate) const CALM: &str = ", silence: 10m, retry: { attempts: 5, backoff: 1s }";

/// The script of tests that judge who ran when: it writes to the witness all its life, and ends when
/// the gate is open for it (see [`Estate::open_gate`]).
pub(crate) const TICKING: &str = r#"
echo "by $WHO $ODF_CHUNK_NAME $ODF_FENCE" >>"$WITNESS"
seen() { echo "$1 $ODF_CHUNK_NAME $ODF_FENCE" >>"$WITNESS"; }
seen start
open=0
until [ "$open" -ge "$ODF_ORDINAL" ]; do
  sleep 0.1
  seen tick
  read -r open <"$GATE" || true
done
echo "$ODF_CHUNK $ODF_FENCE" >"$ODF_STAGING"
seen end"#;

/// The built programs' folder.
fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "-q", "--workspace", "--bins"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo tells a test about its package would make build scripts run again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&name);
            }
        }
        assert!(build.status().unwrap().success());
        // target/debug/deps/it-...: the programs lie one level up.
        let me = std::env::current_exe().unwrap();
        me.parent().unwrap().parent().unwrap().to_owned()
    })
}

/// Where everything is reached.
#[derive(Clone)]
pub(crate) struct Urls {
    pub(crate) admin: String,
    pub(crate) coordinator: String,
    pub(crate) worker: String,
    pub(crate) operator: String,
    pub(crate) source: String,
    pub(crate) target: String,
}

/// One test's databases and folder.
pub(crate) struct Estate {
    pub(crate) urls: Urls,
    /// The control database.
    pub(crate) control: Sql,
    /// Where `src` leads.
    pub(crate) source: Sql,
    /// Where `dst` leads.
    pub(crate) target: Sql,
    dir: TempDir,
    _databases: Vec<TestDb>,
}

impl Estate {
    /// Databases in the server of all tests.
    pub(crate) async fn new() -> Self {
        let (control, source, target) = (
            TestDb::new().await,
            TestDb::empty().await,
            TestDb::empty().await,
        );
        let urls = Urls {
            admin: control.admin_url(),
            coordinator: control.url(Role::Coordinator),
            worker: control.url(Role::Worker),
            operator: control.url(Role::Operator),
            source: source.admin_url(),
            target: target.admin_url(),
        };
        Self::over(urls, vec![control, source, target])
    }

    /// Databases in a server of the test's own, which it may kill.
    pub(crate) async fn on(pg: &PrivatePg) -> Self {
        for name in ["control", "source", "target"] {
            pg.ensure_database(name).await.unwrap();
        }
        cluster::prepare(&pg.url("control")).await;
        let login =
            |role: &str| format!("postgres://it_{role}:test@127.0.0.1:{}/control", pg.port());
        let urls = Urls {
            admin: pg.url("control"),
            coordinator: login("coordinator"),
            worker: login("worker"),
            operator: login("operator"),
            source: pg.url("source"),
            target: pg.url("target"),
        };
        let estate = Self::over(urls, Vec::new());
        for role in ["coordinator", "worker", "operator"] {
            let sql = format!("create role it_{role} login password 'test' in role odf_{role}");
            estate.control.run(&sql).await;
        }
        estate
    }

    fn over(urls: Urls, databases: Vec<TestDb>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["scripts", "lake", "state"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("gate"), "0\n").unwrap();
        Self {
            control: Sql::new(&urls.admin),
            source: Sql::new(&urls.source),
            target: Sql::new(&urls.target),
            urls,
            dir,
            _databases: databases,
        }
    }

    /// A place below the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the script `run.sh`, in bash. It may append to `$WITNESS` and read `$GATE`.
    pub(crate) fn script(&self, body: &str) {
        self.script_named("run.sh", body);
    }

    /// Writes a script of that name.
    pub(crate) fn script_named(&self, name: &str, body: &str) {
        let path = self.path("scripts").join(name);
        let witness = self.path("witness");
        let text = format!(
            "#!/usr/bin/env bash\nset -eu\nWITNESS='{}' GATE='{}'\n{body}\n",
            witness.display(),
            self.path("gate").display()
        );
        // Written aside and renamed: a running shell reads its script as it goes.
        let fresh = self.path("scripts").join(format!(".{name}.new"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(fresh, path).unwrap();
    }

    /// Lets chunks up to that number end.
    pub(crate) fn open_gate(&self, ordinal: usize) {
        let fresh = self.path("gate.new");
        std::fs::write(&fresh, format!("{ordinal}\n")).unwrap();
        std::fs::rename(fresh, self.path("gate")).unwrap();
    }

    /// Appends a line of the test's own to the witness.
    pub(crate) fn remark(&self, line: &str) {
        use std::io::Write as _;
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("witness"))
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }

    /// What scripts (and the test) appended to the witness.
    pub(crate) fn witness(&self) -> String {
        std::fs::read_to_string(self.path("witness")).unwrap_or_default()
    }

    fn program(&self, name: &str, url: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ODF_") {
                command.env_remove(variable);
            }
        }
        command
            .current_dir(self.dir.path())
            .env("ODF_DATABASE_URL", url)
            .env("SRC_URL", &self.urls.source)
            .env("DST_URL", &self.urls.target)
            .env("LAKE", self.path("lake"))
            .env("WHO", "nobody")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// A command of the operator to its end.
    pub(crate) async fn cli(&self, args: &[&str]) -> Ran {
        self.cli_as(&self.urls.operator, args).await
    }

    /// A command under another control url.
    pub(crate) async fn cli_as(&self, url: &str, args: &[&str]) -> Ran {
        let mut command = self.program("coordinator", url);
        command.args(args);
        ran(command).await
    }

    /// `worker` with those arguments to its end.
    pub(crate) async fn worker_cli(&self, url: &str, args: &[&str]) -> Ran {
        let mut command = self.program("worker", url);
        command.args(args);
        ran(command).await
    }

    /// A program of ours with those arguments and variables to its end.
    pub(crate) async fn run_with(
        &self,
        program: &str,
        args: &[&str],
        settings: &[(&str, &str)],
    ) -> Ran {
        let mut command = self.program(program, &self.urls.worker);
        command.args(args).envs(settings.iter().copied());
        ran(command).await
    }

    /// Applies a flow file with that text, scripts pinned.
    pub(crate) async fn apply(&self, yaml: &str) {
        let file = self.path("flow.yaml");
        std::fs::write(&file, yaml).unwrap();
        let file = file.to_str().unwrap().to_owned();
        self.cli(&["apply", "-y", &file]).await.ok();
    }

    /// A coordinator daemon, in short time.
    pub(crate) fn serve(&self) -> Daemon {
        self.coordinator("coordinator").start()
    }

    /// A coordinator daemon to be.
    pub(crate) fn coordinator(&self, name: &str) -> Starting {
        let mut command = self.program("coordinator", &self.urls.coordinator);
        command
            .args(["serve", "--script-dir"])
            .arg(self.path("scripts"))
            .env("ODF_TIME_SCALE", SCALE.to_string());
        self.starting(name, command)
    }

    /// A worker daemon to be, of four slots.
    pub(crate) fn worker(&self, name: &str) -> Starting {
        let mut command = self.program("worker", &self.urls.worker);
        command
            .args(["run", "--name", name])
            .env("ODF_SCRIPT_DIR", self.path("scripts"))
            .env("ODF_STATE_DIR", self.path("state"))
            .env("ODF_SLOTS", "4")
            .env("WHO", name)
            .env("ODF_TIME_SCALE", SCALE.to_string());
        self.starting(name, command)
    }

    fn starting(&self, name: &str, command: Command) -> Starting {
        let log = (1..)
            .map(|n| self.path(&format!("{name}.{n}.log")))
            .find(|path| !path.exists())
            .unwrap();
        // Taken at once, so that two of one name do not choose the same.
        std::fs::write(&log, "").unwrap();
        Starting::new(command, log)
    }

    /// How many chunks of a data set have a status.
    pub(crate) async fn count(&self, set: &str, status: &str) -> i64 {
        let sql = format!(
            "select count(*) from odf.chunk where dataset = '{set}' and status::text = '{status}'"
        );
        self.control.get(&sql).await
    }

    /// Waits until that many chunks of a data set have a status.
    pub(crate) async fn until_count(&self, set: &str, status: &str, n: i64) {
        let sql = format!(
            "select count(*) = {n} from odf.chunk where dataset = '{set}' and status::text = '{status}'"
        );
        self.until(&sql).await;
    }

    /// Waits until a query answers true; a server that is away is waited for.
    pub(crate) async fn until(&self, sql: &str) {
        self.until_in(&self.control, sql).await;
    }

    /// As [`Self::until`], in another database.
    pub(crate) async fn until_in(&self, database: &Sql, sql: &str) {
        let look = async || match database.try_column::<bool>(sql).await {
            Ok(rows) => (rows == [true]).then_some(()),
            Err(_) => None,
        };
        let state = match wait::until(LIMIT, Duration::from_millis(50), sql, look).await {
            Ok(()) => return,
            Err(_) => self.state().await,
        };
        panic!("never true: {sql}\n{state}");
    }

    /// Waits until the witness satisfies a condition.
    pub(crate) async fn until_witness(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let seen = until(what, || holds(&self.witness()).then_some(())).await;
        if seen.is_none() {
            panic!("{what}: {}\n{}", self.witness(), self.state().await);
        }
    }

    /// Where everything stands, for the message of a test that fails.
    async fn state(&self) -> String {
        let chunks = self
            .control
            .try_column::<String>(
                "select concat_ws(' ', dataset, status, count(*)) from odf.chunk
                  group by dataset, status order by 1",
            )
            .await;
        let attempts = self
            .control
            .try_column::<String>(
                "select concat_ws(' ', chunk_id, fence, outcome, class, error) from odf.attempt
                  order by ended_at desc limit 20",
            )
            .await;
        format!("chunks: {chunks:#?}\nattempts: {attempts:#?}")
    }

    /// How attempts ended, in order: outcome, class, error or reason.
    pub(crate) async fn ends(&self) -> Vec<String> {
        self.control
            .column(
                "select concat_ws(' ', outcome, class, error) from odf.attempt
                  order by ended_at, chunk_id",
            )
            .await
    }

    /// Nothing is left that only a defect of ours leaves behind.
    pub(crate) async fn assert_sound(&self) {
        let bugs: Vec<String> = self
            .control
            .column("select name || ': ' || coalesce(last, '') from odf.bug_count")
            .await;
        assert_eq!(bugs, [""; 0], "repairs that should never be needed");
        assert!(!self.anywhere("pwned"), "something was executed");
    }

    /// Every chunk of a data set has been published once, and by the highest of its fences.
    pub(crate) async fn assert_published_once(&self, set: &str) {
        let wrong: Vec<String> = self
            .control
            .column(&format!(
                "select c.name || ': ' || count(p.*) || ' publications, fence ' || coalesce(max(p.fence), 0)
                        || ' of ' || coalesce((select max(a.fence) from odf.attempt a where a.chunk_id = c.chunk_id), 0)
                   from odf.chunk c left join odf.publication p using (chunk_id)
                  where c.dataset = '{set}' group by c.chunk_id, c.name
                 having count(p.*) <> 1
                     or max(p.fence) <> (select max(a.fence) from odf.attempt a where a.chunk_id = c.chunk_id)"
            ))
            .await;
        assert_eq!(wrong, [""; 0]);
    }

    /// Every publication leads to a file that its own attempt wrote (see [`ticking`]).
    pub(crate) async fn assert_files_are_theirs(&self, set: &str) {
        let published: Vec<String> = self
            .control
            .column(&format!(
                "select concat_ws(' ', p.location, c.key, p.fence) from odf.publication p
                   join odf.chunk c using (chunk_id) where c.dataset = '{set}'"
            ))
            .await;
        for line in published {
            let (location, wrote) = line.split_once(' ').unwrap();
            let text = std::fs::read_to_string(self.path("lake").join(location)).unwrap();
            assert_eq!(text.trim_end(), wrote);
        }
    }

    /// Whether a file of that name lies anywhere below the folder.
    fn anywhere(&self, name: &str) -> bool {
        files_below(self.dir.path())
            .iter()
            .any(|path| path.file_name().is_some_and(|file| file == name))
    }

    /// Every file below a place of the folder.
    pub(crate) fn files(&self, place: &str) -> Vec<PathBuf> {
        files_below(&self.path(place))
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
