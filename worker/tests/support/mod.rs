//! A worker's directories, a guard and a flow of one script job, for tests with real scripts.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part; a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::domain::{
    AttemptResult, Bounds, ChunkId, FailureClass, Fence, InputChunk, JobSpec, Outcome,
    OutputReport, WorkItem,
};
use common::flow::model::{Connection, ConnectionKind, Job, Location, Retry, Run, Verify};
use common::flow::rules::Checks;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use worker::attempt::{AttemptControl, LogLimits, SecretResolver, WorkerEnv, run_attempt};
use worker::gate::probe::{DatabaseFound, FileFound};
use worker::gate::{ProbeError, Probes, RealProbes};
use worker::guard::{GuardHandle, GuardSettings};

/// Longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Secrets from a map.
pub(crate) struct Secrets(pub(crate) BTreeMap<String, String>);

impl SecretResolver for Secrets {
    fn resolve(&self, text: &str) -> Result<SecretString, String> {
        let mut out = text.to_owned();
        while let Some(start) = out.find("${") {
            let end = out[start..]
                .find('}')
                .map(|end| start + end)
                .ok_or("no }")?;
            let name = out[start + 2..end].trim_start_matches("secret:").to_owned();
            let value = self
                .0
                .get(&name)
                .ok_or(format!("secret {name} is not set (hint: set it)"))?;
            out.replace_range(start..=end, value);
        }
        Ok(out.into())
    }
}

/// One worker in a temporary directory, and one job with an output in a file tree.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) env: WorkerEnv,
    pub(crate) guard: GuardHandle,
    pub(crate) item: WorkItem,
    pub(crate) spec: JobSpec,
}

pub(crate) fn guard_settings(dir: &Path) -> GuardSettings {
    GuardSettings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_worker")),
        tick_every: Duration::from_millis(100),
        tick_timeout: Duration::from_secs(2),
        start_timeout: Duration::from_secs(20),
        ..GuardSettings::new(dir.join("guard.lock"))
    }
}

pub(crate) fn files_connection(root: &Path, min_free_bytes: u64) -> Connection {
    Connection {
        kind: ConnectionKind::Files {
            root: root.to_str().unwrap().to_owned(),
            min_free_bytes,
        },
        environment: None,
    }
}

pub(crate) fn postgres(url: &str) -> Connection {
    Connection {
        kind: ConnectionKind::Postgres { url: url.into() },
        environment: None,
    }
}

pub(crate) fn at(connection: &str, path: Option<&str>, table: Option<&str>) -> Location {
    Location {
        connection: connection.into(),
        table: table.map(str::to_owned),
        path: path.map(str::to_owned),
    }
}

pub(crate) fn input(dataset: &str, at: Location) -> InputChunk {
    InputChunk {
        dataset: dataset.into(),
        at,
        chunk_id: ChunkId(99),
        key: "00042".into(),
        ordinal: 42,
        bounds: Bounds::Single,
        generation: 3,
        location: None,
        rows: None,
        bytes: None,
        checksum: None,
        connection: None,
        environment: None,
        validation: None,
        attempt: None,
        published_by: None,
        mapping: None,
        verify: Default::default(),
    }
}

/// Really looks at files; databases of these tests do not exist and answer all the same.
pub(crate) struct FilesOnly(Arc<RealProbes>);

#[async_trait::async_trait]
impl Probes for FilesOnly {
    async fn file(
        &self,
        root: &Path,
        relative: &Path,
        verify: Verify,
        stop: &CancellationToken,
    ) -> Result<FileFound, ProbeError> {
        self.0.file(root, relative, verify, stop).await
    }

    async fn tree(&self, root: &Path) -> Result<Option<String>, ProbeError> {
        self.0.tree(root).await
    }

    async fn database(&self, _: &str, table: Option<&str>) -> Result<DatabaseFound, ProbeError> {
        Ok(DatabaseFound {
            environment: None,
            table: table.map(|_| true),
        })
    }
}

impl Bench {
    /// A worker whose one job runs this script (its text, made executable as `job.sh`).
    pub(crate) async fn new(script: &str) -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["scripts", "work", "logs", "lake"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let guard = GuardHandle::start(guard_settings(dir.path()))
            .await
            .unwrap();
        let env = WorkerEnv {
            script_dir: dir.path().join("scripts"),
            work_dir: dir.path().join("work"),
            log_dir: dir.path().join("logs"),
            log_limits: LogLimits::default(),
            secrets: Arc::new(Secrets(BTreeMap::from([(
                "ERP_PW".to_owned(),
                "hunter2!x".to_owned(),
            )]))),
            predicate: |bounds| format!("{bounds:?}"),
            probes: Arc::new(FilesOnly(RealProbes::new())),
            linger: Duration::from_millis(300),
        };
        let bench = Self {
            env,
            guard,
            item: item("00042"),
            spec: spec(&dir.path().join("lake")),
            dir,
        };
        bench.script("job.sh", script, 0o755);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file below the root of the connection `lake`, with its directories.
    pub(crate) fn lake_file(&self, path: &str, content: &[u8]) {
        let path = self.path("lake").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn script(&self, name: &str, text: &str, mode: u32) {
        let path = self.env.script_dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn set_args(&mut self, new: &[&str]) {
        let Run::Script { args, .. } = &mut self.spec.job.run;
        *args = new.iter().map(|arg| (*arg).to_owned()).collect();
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let Run::Script { env, .. } = &mut self.spec.job.run;
        env.insert(name.into(), value.into());
    }

    pub(crate) async fn run(&self) -> AttemptResult {
        self.run_with(AttemptControl::default()).await
    }

    pub(crate) async fn run_with(&self, control: AttemptControl) -> AttemptResult {
        let attempt = run_attempt(
            &self.env,
            &self.guard,
            &self.item,
            &self.spec,
            Vec::new(),
            control,
        );
        tokio::time::timeout(LIMIT, attempt)
            .await
            .expect("the attempt ends")
    }

    /// Everything published below the root, and nothing that is only staged.
    pub(crate) fn published(&self) -> Vec<String> {
        let lake = self.path("lake");
        let mut found = Vec::new();
        let mut next = vec![lake.clone()];
        while let Some(directory) = next.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    next.push(path);
                } else {
                    let relative = path.strip_prefix(&lake).unwrap();
                    found.push(relative.to_str().unwrap().to_owned());
                }
            }
        }
        found.retain(|path| !path.starts_with(".odf-staging/"));
        found.sort();
        found
    }

    pub(crate) fn staged(&self) -> usize {
        fs::read_dir(self.path("lake/.odf-staging")).map_or(0, Iterator::count)
    }

    pub(crate) fn log(&self, result: &AttemptResult) -> Vec<u8> {
        fs::read(result.log_path.as_ref().expect("a log")).unwrap()
    }

    /// No private directory of an attempt is left.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(&self.env.work_dir).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

pub(crate) fn item(key: &str) -> WorkItem {
    WorkItem {
        chunk_id: ChunkId(7),
        flow: "warehouse".into(),
        dataset: "orders_file".into(),
        key: key.into(),
        ordinal: 42,
        plan_chunks: 100,
        bounds: Bounds::Single,
        attempt: 2,
        fence: Fence::new(1, 2),
        generation: 1,
        lane_id: 1,
        job_id: 1,
        job_version: 1,
        inputs: Vec::new(),
        fan_in: Vec::new(),
    }
}

pub(crate) fn spec(lake: &Path) -> JobSpec {
    JobSpec {
        name: "extract".into(),
        job: Job {
            inputs: Vec::new(),
            output: "orders_file".into(),
            run: Run::Script {
                script: "job.sh".into(),
                args: Vec::new(),
                env: BTreeMap::new(),
            },
            pools: Vec::new(),
            connections: Vec::new(),
            labels: Vec::new(),
            priority: 0,
            retry: Retry::default(),
            timeout_seconds: None,
            silence_seconds: 25,
            kill_grace_seconds: 10,
            approve: false,
            mixed_environments: false,
        },
        script_sha256: None,
        output_at: at("lake", Some("orders/{chunk}.csv"), None),
        output: "orders_file".into(),
        checks: Checks::default(),
        connections: BTreeMap::from([("lake".to_owned(), files_connection(lake, 0))]),
    }
}

pub(crate) fn failure(result: &AttemptResult) -> (FailureClass, &str) {
    match &result.outcome {
        Outcome::Failed { class, error } => (*class, error),
        other => panic!(
            "expected a failure, found {other:?} with log {}",
            result.log_tail
        ),
    }
}

pub(crate) fn report(result: &AttemptResult) -> &OutputReport {
    match &result.outcome {
        Outcome::Validated(report) => report,
        other => panic!(
            "expected success, found {other:?} with log {}",
            result.log_tail
        ),
    }
}

/// Waits for a condition, generously.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for a file with whole numbers, one a line, and reads them.
pub(crate) async fn pids_in(file: &Path, count: usize) -> Vec<i32> {
    let read = || -> Vec<i32> {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect()
    };
    until(&format!("{} has {count} pids", file.display()), || {
        read().len() >= count
    })
    .await;
    read()
}

/// Whether a process runs; a zombie does not.
pub(crate) fn alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit(')').next().unwrap_or("").trim_start();
    !state.starts_with(['Z', 'X'])
}
