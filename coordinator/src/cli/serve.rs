//! `coordinator serve`: the daemon.

use std::path::PathBuf;

use common::endpoint::SecretString;
use common::runtime::Shutdown;

use crate::serve::{ServeSettings, serve};

/// Run the coordinator daemon: split data sets, release, retry, sweep, give out rights
///
/// Any number may run; one leads, the others take over within about eight seconds.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where planning commands are; nothing outside of it is run
    #[arg(long, env = "ODF_SCRIPT_DIR", value_name = "DIR")]
    pub script_dir: Option<PathBuf>,
    /// Shorten every interval by this factor (tests only)
    #[arg(long, env = "ODF_TIME_SCALE", default_value_t = 1.0, hide = true, value_parser = time_scale)]
    pub time_scale: f64,
}

fn time_scale(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|scale| (1.0..=100.0).contains(scale))
        .ok_or_else(|| "expected a number from 1 to 100".to_owned())
}

/// Runs until a signal: the first ends it in order, the second at once.
///
/// # Errors
/// Where it cannot start, or a part of it ends badly.
pub async fn run(args: &ServeArgs, url: SecretString) -> anyhow::Result<()> {
    if let Some(dir) = &args.script_dir {
        anyhow::ensure!(
            dir.is_dir(),
            "script directory {}: expected a directory; hint: create it or name another one with --script-dir or ODF_SCRIPT_DIR",
            dir.display()
        );
    }
    let shutdown = Shutdown::new();
    shutdown.install()?;
    let settings = ServeSettings {
        url,
        script_dir: args.script_dir.clone(),
        time_scale: args.time_scale,
    };
    serve(settings, shutdown).await
}
