//! Everything that is up during the demo, and taking it down again in whatever state it is.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use common::runtime::wait;
use nix::sys::signal::Signal;

use crate::console::Console;
use crate::daemons::{self, Daemon, Environment};
use crate::databases::Databases;
use crate::options::Options;
use crate::place::Place;
use crate::verdict::Killed;

/// The longest that anything may live on after its worker was killed.
const SURVIVAL_LIMIT: Duration = Duration::from_secs(30);

/// The variable by which every process of a worker knows which start of which worker it belongs to.
const LABEL: &str = "DEMO_WORKER";

/// What is up.
pub(crate) struct Stage {
    pub(crate) options: Options,
    pub(crate) place: Place,
    pub(crate) console: Console,
    pub(crate) databases: Option<Databases>,
    environment: Option<Environment>,
    coordinator: Option<Daemon>,
    workers: Vec<Worker>,
}

/// One worker over its starts.
struct Worker {
    name: String,
    starts: u32,
    daemon: Option<Daemon>,
}

impl Worker {
    fn label(&self) -> String {
        format!("{}.{}", self.name, self.starts)
    }
}

/// Seconds since 1970, as the scripts write them.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

impl Stage {
    pub(crate) fn new(options: Options, place: Place) -> Self {
        Self {
            options,
            place,
            console: Console::new(),
            databases: None,
            environment: None,
            coordinator: None,
            workers: Vec::new(),
        }
    }

    /// The databases, which are up for all of the play.
    pub(crate) fn databases(&self) -> Result<&Databases> {
        self.databases.as_ref().context("the databases are not up")
    }

    /// What daemons and commands are given: secrets and settings of the flow among it.
    fn environment(&mut self) -> Result<&Environment> {
        if self.environment.is_none() {
            let databases = self.databases()?;
            let place = &self.place;
            let environment = Environment::new(&[databases.programs(), place.programs.clone()])?
                .with([
                    ("SOURCE_URL", databases.url("demo_reader")),
                    ("TARGET_URL", databases.url("demo_writer")),
                    ("DEMO_FAIL_PERCENT", self.options.fail_percent.to_string()),
                ])
                .with([
                    ("DEMO_FILES", place.files()),
                    ("DEMO_WITNESS", place.witness()),
                ]);
            self.environment = Some(environment);
        }
        self.environment.as_ref().context("no environment")
    }

    /// Runs `coordinator` as a login, shows the command and gives what it printed.
    pub(crate) async fn command(&mut self, login: &str, arguments: &[&str]) -> Result<String> {
        let url = match login {
            "" => self.databases()?.owner_url(crate::databases::CONTROL),
            login => self.databases()?.url(login),
        };
        let environment = self.environment()?.as_login(&url);
        let shown: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        self.console
            .command(&format!("coordinator {}", shown.join(" ")));
        let program = self.place.program("coordinator");
        let output = daemons::run(&program, arguments, &environment, &self.place.logs()).await?;
        if !output.status.success() {
            let said = [output.stdout.trim(), output.stderr.trim()].join("\n");
            bail!(
                "'coordinator {}' failed ({}):\n{}",
                shown.join(" "),
                output.status,
                said.trim()
            );
        }
        Ok(output.stdout)
    }

    /// Starts the coordinator daemon.
    pub(crate) fn start_coordinator(&mut self) -> Result<()> {
        let url = self.databases()?.url("demo_coordinator");
        let environment = self.environment()?.as_login(&url);
        self.console.command("coordinator serve &");
        self.coordinator = Some(Daemon::start(
            "coordinator",
            &self.place.program("coordinator"),
            &["serve"],
            &environment,
            self.place.logs().join("coordinator.log"),
        )?);
        Ok(())
    }

    /// Starts all workers.
    pub(crate) fn start_workers(&mut self) -> Result<()> {
        for number in 1..=self.options.workers {
            self.workers.push(Worker {
                name: format!("w{number}"),
                starts: 0,
                daemon: None,
            });
            self.start_worker(self.workers.len() - 1)?;
        }
        Ok(())
    }

    fn start_worker(&mut self, index: usize) -> Result<()> {
        let url = self.databases()?.url("demo_worker");
        let slots = self.options.slots.to_string();
        let environment = self.environment()?.as_login(&url);
        let worker = &mut self.workers[index];
        worker.starts += 1;
        let scripts = self.place.scripts();
        let state = self.place.state(&worker.name);
        let arguments = [
            "run",
            "--name",
            &worker.name,
            "--slots",
            &slots,
            "--script-dir",
            text(&scripts)?,
            "--state-dir",
            text(&state)?,
        ];
        std::fs::create_dir_all(&state)?;
        let shown = format!("worker run --name {} --slots {slots} &", worker.name);
        self.console.command(&shown);
        worker.daemon = Some(Daemon::start(
            &worker.name,
            &self.place.program("worker"),
            &arguments,
            &environment.with([(LABEL, worker.label())]),
            self.place.logs().join(format!("{}.log", worker.name)),
        )?);
        Ok(())
    }

    /// Fails where a daemon has ended that nobody ended.
    pub(crate) fn all_up(&mut self) -> Result<()> {
        let daemons = self.coordinator.iter_mut().chain(
            self.workers
                .iter_mut()
                .filter_map(|worker| worker.daemon.as_mut()),
        );
        for daemon in daemons {
            if let Some(status) = daemon.ended() {
                bail!(
                    "{} ended by itself ({status}); its last lines, of {}:\n{}",
                    daemon.name,
                    Place::shown(&daemon.log),
                    daemon.tail()
                );
            }
        }
        Ok(())
    }

    /// Kills the last worker with -9 while it runs scripts, waits until nothing of it is left, and
    /// starts it again.
    pub(crate) async fn kill_a_worker(&mut self) -> Result<Killed> {
        let index = self.workers.len() - 1;
        let (name, label) = (
            self.workers[index].name.clone(),
            self.workers[index].label(),
        );
        // Worker and guard are two; more are scripts and what they started.
        let _ = wait::until(
            Duration::from_secs(5),
            Duration::from_millis(5),
            "scripts of the worker",
            async || (daemons::with_variable(LABEL, &label).len() > 5).then_some(()),
        )
        .await;
        let daemon = self.workers[index].daemon.as_mut();
        let daemon = daemon.context("the worker to kill is not up")?;
        let at = now();
        daemon.kill_hard()?;
        self.console.command(&format!("kill -9 {name}"));
        let gone = wait::until(
            SURVIVAL_LIMIT,
            Duration::from_millis(5),
            "the end of its processes",
            async || daemons::with_variable(LABEL, &label).is_empty().then(now),
        )
        .await;
        let Ok(gone) = gone else {
            bail!(
                "{name} was killed with -9, and after {} s these processes of it are alive: {:?}",
                SURVIVAL_LIMIT.as_secs(),
                daemons::with_variable(LABEL, &label)
            );
        };
        self.console.step(&format!(
            "{name} and everything it had started are gone after {:.0} ms; it is started again",
            (gone - at) * 1000.0
        ));
        self.start_worker(index)?;
        Ok(Killed {
            name,
            label,
            at,
            gone,
        })
    }

    /// In a few words for the live block.
    pub(crate) fn workers_shown(&self) -> String {
        let words: Vec<String> = self
            .workers
            .iter()
            .map(|worker| match worker.starts {
                1 => worker.name.clone(),
                _ => format!("{} (restarted)", worker.name),
            })
            .collect();
        words.join(", ")
    }

    /// Ends the daemons, gently.
    pub(crate) async fn end_daemons(&mut self) -> Result<()> {
        let workers = self
            .workers
            .iter_mut()
            .filter_map(|worker| worker.daemon.take());
        let daemons: Vec<Daemon> = workers.chain(self.coordinator.take()).collect();
        for daemon in &daemons {
            daemon.signal(Signal::SIGTERM);
        }
        let mut outcome = Ok(());
        for daemon in daemons {
            // The others are ended whatever becomes of one.
            outcome = outcome.and(daemon.end().await);
        }
        outcome
    }

    /// Processes of any worker of this demo that are left.
    pub(crate) fn left_over(&self) -> Vec<i32> {
        self.workers
            .iter()
            .flat_map(|worker| (1..=worker.starts).map(|start| format!("{}.{start}", worker.name)))
            .flat_map(|label| daemons::with_variable(LABEL, &label))
            .collect()
    }

    /// Takes everything down. `keep` leaves the databases up.
    pub(crate) async fn clean_up(&mut self, keep: bool) -> Result<()> {
        let mut outcome = self.end_daemons().await;
        if let Some(databases) = self.databases.take()
            && !keep
        {
            outcome = outcome.and(databases.remove().await);
            outcome = outcome.and(self.place.clean_up());
        }
        outcome
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("the path {} is not UTF-8", path.display()))
}

/// A word as a person would type it, as a shell needs it.
fn quoted(word: &str) -> String {
    let word = &Place::shown(Path::new(word));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
