//! The command line: parse, run, print, exit code.

pub mod apply;
pub mod dev;
pub mod init;
pub mod plan;
pub mod serve;

use clap::{Parser, Subcommand};
use common::endpoint::SecretString;
use common::runtime::telemetry;

/// Move data in thousands of pieces, for weeks, with nobody watching
#[derive(Debug, Parser)]
#[command(name = "coordinator", version)]
struct Cli {
    /// The control database
    #[arg(long, env = "ODF_DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Dev(dev::DevArgs),
    Serve(serve::ServeArgs),
    Plan(plan::PlanArgs),
    Apply(apply::ApplyArgs),
}

/// Parses the command line and runs it.
///
/// # Errors
/// Whatever the command came to.
#[allow(
    clippy::print_stdout,
    reason = "the answer of a command is what stdout is for"
)]
pub async fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    telemetry::init(None)?;
    let url = || {
        cli.database_url
            .clone()
            .map(SecretString::from)
            .ok_or_else(|| {
                anyhow::anyhow!(
                    "no control database was named; hint: --database-url or ODF_DATABASE_URL"
                )
            })
    };
    match &cli.command {
        Command::Init(_) => println!("{}", init::run(&url()?).await?),
        Command::Dev(args) => dev::run(args).await?,
        Command::Serve(args) => serve::run(args, url()?).await?,
        Command::Plan(args) => match &args.check {
            Some(dataset) => println!("{}", plan::check(dataset, url()?).await?),
            None => println!("{}", plan::preview(args).await?),
        },
        Command::Apply(args) => {
            println!(
                "{}",
                apply::preview(args, url()?)
                    .await?
                    .apply(args.reset_limits)
                    .await?
            );
        }
    }
    Ok(())
}
