//! Real `worker` processes on a test's database: scripts, a file tree, witnesses, logs.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use common::endpoint::SecretString;
use common::runtime::Shutdown;
use coordinator::serve::{ServeSettings, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::{Role, Shape, TestDb, eventually};

/// How much faster than life the daemons of these tests live.
pub(crate) const SCALE: u32 = 10;

/// The built `worker` program.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "-q", "-p", "worker", "--bin", "worker"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo tells a test about its package would make build scripts run again.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_")
                && name != "CARGO_HOME"
                && name != "CARGO_TARGET_DIR"
            {
                build.env_remove(name);
            }
        }
        assert!(build.status().unwrap().success());
        // target/debug/deps/it-...: the programs lie one level up.
        let me = std::env::current_exe().unwrap();
        me.parent().unwrap().parent().unwrap().join("worker")
    })
}

/// A database with a flow, and the places that its workers use.
pub(crate) struct Site {
    pub(crate) db: TestDb,
    dir: TempDir,
}

impl Site {
    /// Applies and plans the flow, with its files below a directory of this test.
    pub(crate) async fn new(shape: &Shape) -> Self {
        let db = TestDb::new().await;
        let dir = tempfile::Builder::new()
            .prefix("odf-it-worker-")
            .tempdir()
            .unwrap();
        for name in ["scripts", "lake", "state"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        shape.build(&db).await;
        let lake = dir.path().join("lake").display().to_string();
        for column in [
            "job set spec = replace(spec",
            "flow_version set model = replace(model",
        ] {
            let sql = format!("update odf.{column}::text, '/nowhere', $1)::jsonb");
            db.exec(&sql, &[&lake]).await;
        }
        // Its source is nowhere, and these scripts do not ask for it: no gate can look at it either.
        db.exec(
            "update odf.job set spec = jsonb_set(spec, '{connections,db}', '{\"kind\": \"other\"}')
              where spec #> '{connections,db}' is not null",
            &[],
        )
        .await;
        Self { db, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the script that every job of a test flow runs. It may append to `$WITNESS`.
    pub(crate) fn script(&self, body: &str) {
        self.script_named("run.sh", body);
    }

    pub(crate) fn script_named(&self, name: &str, body: &str) {
        let path = self.path("scripts").join(name);
        let witness = self.path("witness");
        let text = format!("#!/bin/sh\nWITNESS='{}'\n{body}\n", witness.display());
        // Written aside and renamed: a running shell reads its script as it goes.
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, text).unwrap();
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(fresh, path).unwrap();
    }

    /// The lines that scripts appended to `$WITNESS`.
    pub(crate) fn witness(&self) -> Vec<String> {
        std::fs::read_to_string(self.path("witness"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Waits until a script has appended a line that begins so; answers the rest of it.
    pub(crate) async fn until_witnessed(&self, start: &str) -> String {
        eventually(&format!("a witness of {start:?}"), async || {
            self.witness()
                .iter()
                .find_map(|line| line.strip_prefix(start).map(|rest| rest.trim().to_owned()))
        })
        .await
    }

    /// A worker on the test's server.
    pub(crate) fn worker(&self, name: &str) -> WorkerOptions<'_> {
        self.worker_at(name, self.db.port())
    }

    /// A worker that reaches the server by way of another port.
    pub(crate) fn worker_at(&self, name: &str, port: u16) -> WorkerOptions<'_> {
        let mut command = Command::new(program());
        command
            // By environment, so that a test's own arguments win.
            .env("ODF_WORKER_NAME", name)
            .env("ODF_SLOTS", "4")
            .env("ODF_SCRIPT_DIR", self.path("scripts"))
            .env("ODF_STATE_DIR", self.path("state"))
            .env("ODF_DATABASE_URL", self.db.url_at(Role::Worker, port))
            .env("ODF_TIME_SCALE", SCALE.to_string())
            .env("ODF_LOG", "debug,tokio_postgres=warn")
            .env("NO_COLOR", "1");
        WorkerOptions {
            site: self,
            command,
            args: Vec::new(),
            name: name.to_owned(),
        }
    }

    /// A coordinator in this process, on the same short time.
    pub(crate) fn coordinator(&self) -> Coordinator {
        coordinator_at(&self.db.url(Role::Coordinator))
    }

    /// How many chunks of a data set have a status.
    pub(crate) async fn count(&self, set: &str, status: &str) -> i64 {
        self.db
            .get(
                "select count(*) from odf.chunk where dataset = $1 and status::text = $2",
                &[&set, &status],
            )
            .await
    }

    /// Waits until that many chunks of a data set have a status.
    pub(crate) async fn until_count(&self, set: &str, status: &str, n: i64) {
        eventually(&format!("{n} chunks of {set} {status}"), async || {
            (self.count(set, status).await == n).then_some(())
        })
        .await;
    }

    /// How attempts ended, in order: outcome, class, error or reason.
    pub(crate) async fn ends(&self) -> Vec<String> {
        self.db
            .column(
                "select concat_ws(' ', outcome, class, error) from odf.attempt order by ended_at, chunk_id",
            )
            .await
    }
}

/// A coordinator of any database, on the same short time.
pub(crate) fn coordinator_at(url: &str) -> Coordinator {
    let shutdown = Shutdown::new();
    let settings = ServeSettings {
        url: SecretString::from(url.to_owned()),
        script_dir: None,
        time_scale: f64::from(SCALE),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(settings, shutdown.clone()));
    Coordinator { shutdown, tasks }
}

/// A coordinator in this process; ends with the value.
pub(crate) struct Coordinator {
    shutdown: Shutdown,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Coordinator {
    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        self.shutdown.begin();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}

/// A worker to be started.
pub(crate) struct WorkerOptions<'a> {
    site: &'a Site,
    command: Command,
    args: Vec<String>,
    name: String,
}

impl WorkerOptions<'_> {
    /// More arguments.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// One more variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs another subcommand with the same settings to its end: exit code, stdout, stderr.
    pub(crate) async fn output(
        mut self,
        subcommand: &str,
        args: &[&str],
    ) -> (Option<i32>, String, String) {
        self.command.arg(subcommand).args(args).stdin(Stdio::null());
        let mut command = self.command;
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Starts it; its log goes to a file of its own.
    pub(crate) fn start(mut self) -> WorkerProcess {
        let log = (1..)
            .map(|n| self.site.path(&format!("{}.{n}.log", self.name)))
            .find(|path| !path.exists())
            .unwrap();
        self.command
            .arg("run")
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        // A group of its own: the terminal's Ctrl-C is the tests' and not the workers'.
        let child = self.command.process_group(0).spawn().unwrap();
        WorkerProcess { child, log }
    }
}

/// A running worker; killed with the value.
pub(crate) struct WorkerProcess {
    child: Child,
    log: PathBuf,
}

impl WorkerProcess {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has logged a text.
    pub(crate) async fn until_logged(&self, text: &str) {
        eventually(&format!("the log to say {text:?}"), async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the worker to end", || {
            let status = child.try_wait().unwrap();
            async move { status }
        })
        .await
    }

    /// Asks it to drain and waits for a good end.
    pub(crate) async fn drain(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
        let mut out = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut out).unwrap();
        assert_eq!(out, "", "stdout is for data");
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// Whether a process lives (a zombie does not).
pub(crate) fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim()
            .starts_with('Z')
    })
}
