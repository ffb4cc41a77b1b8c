//! `coordinator dev`: everything in one process tree, for a first try.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use common::runtime::Shutdown;

use crate::dev::{DevSettings, Urls, dev};

/// Run everything here for a first try: a private PostgreSQL, a coordinator and workers
///
/// All of it lives in one folder and ends with this command; the data stays for the next start.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// Where everything is kept
    #[arg(long, default_value = ".odf", value_name = "DIR")]
    pub dir: PathBuf,
    /// Folder of PostgreSQL's programs (15 to 18); found by itself where it is usual
    #[arg(long, env = "ODF_PG_BIN", value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// Worker processes
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub workers: u32,
    /// Slots of each worker
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub slots: u32,
    /// Where jobs' scripts are
    #[arg(
        long,
        env = "ODF_SCRIPT_DIR",
        default_value = "scripts",
        value_name = "DIR"
    )]
    pub script_dir: PathBuf,
}

/// Runs until a signal.
///
/// # Errors
/// Where something cannot start.
pub async fn run(args: &DevArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.script_dir)
        .with_context(|| format!("make the script folder {}", args.script_dir.display()))?;
    let settings = DevSettings {
        dir: args.dir.clone(),
        pg_bin: args.pg_bin.clone(),
        workers: args.workers,
        slots: args.slots,
        script_dir: args
            .script_dir
            .canonicalize()
            .context("resolve the script folder")?,
    };
    let env_file = args.dir.join("env");
    let shutdown = Shutdown::new();
    shutdown.install()?;
    let mut announced = false;
    let outcome = dev(settings, shutdown, |urls| {
        announced = true;
        announce(&env_file, urls);
    })
    .await;
    if announced {
        // The urls in it end with the server; a leftover would only mislead.
        let _removed = std::fs::remove_file(&env_file);
    }
    outcome
}

/// Writes the operator's url where another terminal can source it, and says how to go on.
fn announce(env_file: &Path, urls: &Urls) {
    let body = format!("export ODF_DATABASE_URL='{}'\n", urls.operator);
    let written = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(env_file)
        .and_then(|mut file| file.write_all(body.as_bytes()));
    if let Err(error) = written {
        tracing::warn!(error = %error, path = %env_file.display(), "cannot write the environment file");
        return;
    }
    tracing::info!(
        "ready; in another terminal:  . {}  and then  coordinator status",
        env_file.display()
    );
}
