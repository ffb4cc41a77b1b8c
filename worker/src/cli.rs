//! The `worker` command line: reads arguments and environment, checks them, runs a command.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use common::domain::size::parse_bytes;
use common::runtime::{Shutdown, error_text, telemetry};
use common::secret::literal_url_password;
use secrecy::{ExposeSecret as _, SecretString};

use crate::daemon::config::{
    Config, ConfigError, Liveness, default_state_dir, host_name, usable_name,
};
use crate::doctor::{Verdict, examine};
use crate::try_chunk::try_chunk;

/// Runs attempts of chunks for OpenDataFlow.
#[derive(Debug, Parser)]
#[command(name = "worker", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Claim chunks and run their jobs until told to stop.
    ///
    /// The first SIGTERM or Ctrl-C stops claiming and lets what runs finish within --grace; the
    /// second ends it at once. What is left unfinished is handed back and costs no attempt.
    Run(Box<RunArgs>),
    /// Run one chunk here and publish nothing.
    ///
    /// The script gets this terminal. Nothing is claimed or recorded; the staged output stays to be
    /// looked at.
    Try {
        #[command(flatten)]
        place: Box<PlaceArgs>,
        /// The chunk, as dataset/key or flow:dataset/key.
        chunk: String,
        /// Run it although its job writes to a database itself.
        #[arg(long)]
        allow_writes: bool,
    },
    /// Look at everything that a worker needs and say what is missing.
    Doctor {
        #[command(flatten)]
        place: Box<PlaceArgs>,
    },
}

/// Where things are.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The control database, as a login in role odf_worker.
    #[arg(
        long,
        env = "ODF_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    database_url: Option<SecretString>,
    /// Name of this worker, unique among living workers [default: the host's name].
    #[arg(long, env = "ODF_WORKER_NAME")]
    name: Option<String>,
    /// Directory of the scripts that jobs may run; nothing outside it is ever run.
    #[arg(
        long,
        env = "ODF_SCRIPT_DIR",
        value_name = "DIR",
        default_value = "scripts"
    )]
    script_dir: PathBuf,
    /// Locks, the session and work directories of attempts [default: $XDG_STATE_HOME/odf or ~/.local/state/odf].
    #[arg(long, env = "ODF_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Logs of attempts [default: logs below the state directory].
    #[arg(long, env = "ODF_LOG_DIR", value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// How many chunks to run at once [default: the number of processors].
    #[arg(long, env = "ODF_SLOTS", value_parser = slots)]
    slots: Option<u32>,
    /// A label that jobs may ask for; may be given several times.
    #[arg(
        long = "label",
        value_name = "LABEL",
        env = "ODF_LABELS",
        value_delimiter = ','
    )]
    labels: Vec<String>,
    /// How long running attempts may finish after the end was asked for, such as 30s or 2h, or none
    /// for as long as they need.
    #[arg(long, env = "ODF_GRACE", value_name = "TIME", default_value = "30s", value_parser = grace)]
    grace: Grace,
    /// Logs older than this are deleted.
    #[arg(long, env = "ODF_LOG_KEEP", value_name = "TIME", default_value = "14d", value_parser = time)]
    log_keep: Duration,
    /// The oldest logs are deleted while all take more than this.
    #[arg(long, env = "ODF_LOG_MAX", value_name = "SIZE", default_value = "10GB", value_parser = parse_bytes)]
    log_max: u64,
}

/// The time that attempts get at the end; `None` is all they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grace(Option<Duration>);

fn grace(text: &str) -> Result<Grace, String> {
    if text == "none" {
        return Ok(Grace(None));
    }
    time(text)
        .map(|time| Grace(Some(time)))
        .map_err(|error| format!("{error}, or none"))
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected a time such as 30s or 2h"))
}

/// 0 passes: it has an answer of its own.
fn slots(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "expected a whole number, 1 or more".to_owned())
}

/// Reads the command line and runs it to its end.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::init(None) {
        complain(&error.to_string());
        return ExitCode::from(USAGE);
    }
    if std::env::args().any(|arg| literal_url_password(&arg).is_some()) {
        tracing::warn!(
            "a password on the command line can be read by every user of this host (hint: set ODF_DATABASE_URL)"
        );
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(execute(cli.command));
    // A hung mount may hold a blocking thread for ever: it is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&error_text(error.as_ref()));
            let asked = error.downcast_ref::<ConfigError>();
            if asked.is_some_and(ConfigError::is_usage) {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The exit code of whoever is asked wrongly; the command line's parser uses it as well.
const USAGE: u8 = 2;

fn complain(text: &str) {
    eprintln!("worker: {text}");
}

async fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => {
            let config = args.config()?;
            let signals = Shutdown::new();
            signals.install()?;
            crate::daemon::run(config, signals).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Try {
            place,
            chunk,
            allow_writes,
        } => {
            let good = try_chunk(place.config()?, &chunk, allow_writes).await?;
            Ok(if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Doctor { place } => {
            let checks = examine(&place.config()?).await;
            let mut out = std::io::stdout().lock();
            for check in &checks {
                writeln!(out, "{check}")?;
            }
            let failed = checks.iter().any(|check| check.verdict == Verdict::Failed);
            Ok(if failed {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        }
    }
}

impl RunArgs {
    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.place.config()?;
        if let Some(slots) = self.slots {
            config.slots = slots;
        }
        if config.slots == 0 {
            return Err(ConfigError::NoSlots);
        }
        config.labels = self
            .labels
            .iter()
            .map(|label| label.trim().to_owned())
            .filter(|label| !label.is_empty())
            .collect();
        config.grace = self.grace.0;
        config.log_keep = self.log_keep;
        config.log_max = self.log_max;
        Ok(config)
    }
}

impl PlaceArgs {
    /// The settings of these places, everything else as by default.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let name = self.name.clone().unwrap_or_else(host_name);
        if !usable_name(&name) {
            return Err(ConfigError::Name(name));
        }
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let state_dir = absolute(self.state_dir.clone().unwrap_or_else(default_state_dir));
        let log_dir = self
            .log_dir
            .clone()
            .map_or_else(|| state_dir.join("logs"), absolute);
        Ok(Config {
            database_url: self
                .database_url
                .clone()
                .filter(|url| !url.expose_secret().is_empty())
                .ok_or(ConfigError::NoDatabase)?,
            name,
            slots: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            labels: Vec::new(),
            script_dir: absolute(self.script_dir.clone()),
            state_dir,
            log_dir,
            grace: Some(Duration::from_secs(30)),
            log_keep: Duration::from_hours(14 * 24),
            log_max: 10_000_000_000,
            liveness: liveness()?,
        })
    }
}

/// Intervals from the environment: for tests, and for whoever knows why.
fn liveness() -> Result<Liveness, ConfigError> {
    let millis = |name, default: u64| -> Result<Duration, ConfigError> {
        let value = number(name, "milliseconds, 1 or more", default as f64)?;
        Ok(Duration::from_secs_f64(value / 1000.0))
    };
    Ok(Liveness::scaled(
        millis("ODF_BEAT_MS", 4000)?,
        millis("ODF_POLL_MS", 5000)?,
        number("ODF_TIME_SCALE", "a number from 1 to 1000", 1.0)?,
    ))
}

fn number(name: &'static str, expected: &'static str, default: f64) -> Result<f64, ConfigError> {
    let Some(given) = std::env::var(name).ok().filter(|text| !text.is_empty()) else {
        return Ok(default);
    };
    match given.parse::<f64>() {
        Ok(value) if (1.0..=3_600_000.0).contains(&value) => Ok(value),
        _ => Err(ConfigError::Setting {
            name,
            given,
            expected,
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_grace_is_a_time_or_none() {
        assert_eq!(grace("none"), Ok(Grace(None)));
        assert_eq!(grace("2m"), Ok(Grace(Some(Duration::from_secs(120)))));
        assert!(grace("soon").unwrap_err().contains("none"));
    }
}
