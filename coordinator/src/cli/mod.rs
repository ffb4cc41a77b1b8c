//! The command line: parse, run, print, exit code.

pub mod apply;
pub mod dev;
pub mod exit_code;
pub mod init;
pub mod plan;
pub mod serve;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use common::endpoint::SecretString;
use common::flow::Diagnostic;
use common::runtime::{error_text, telemetry};

use crate::declare::DeclareError;

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

/// Parses the command line, runs it and answers the process's exit code.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    let ended = match telemetry::init(None) {
        Ok(()) => dispatch(cli).await,
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(code) => code.into(),
        Err(error) => {
            let text = error_text(error.as_ref());
            // The problems of a flow file say of themselves how bad they are.
            match error.downcast_ref::<DeclareError>() {
                Some(DeclareError::Wrong(_)) => complain(&text),
                _ => complain(&format!("error: {text}")),
            }
            exit_code::of(&error).into()
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    let url = || {
        cli.database_url
            .clone()
            .map(SecretString::from)
            .context("no control database was named; hint: --database-url or ODF_DATABASE_URL")
    };
    match &cli.command {
        Command::Init(_) => answer(&init::run(&url()?).await?),
        Command::Dev(args) => dev::run(args).await?,
        Command::Serve(args) => serve::run(args, url()?).await?,
        Command::Plan(args) => match &args.check {
            Some(dataset) => {
                let report = plan::check(dataset, url()?).await?;
                answer(&report);
                if !report.tiling.tiles() {
                    return Ok(exit_code::DEGRADED);
                }
            }
            None => {
                let report = plan::preview(args).await?;
                warn(&report.warnings);
                answer(&report);
            }
        },
        Command::Apply(args) => {
            let preview = apply::preview(args, url()?).await?;
            warn(preview.warnings());
            answer(&preview.apply(args.reset_limits).await?);
        }
    }
    Ok(0)
}

#[allow(
    clippy::print_stdout,
    reason = "the answer of a command is what stdout is for"
)]
fn answer(report: &impl std::fmt::Display) {
    println!("{report}");
}

fn warn(warnings: &[Diagnostic]) {
    for warning in warnings {
        complain(&warning.to_string());
    }
}

fn complain(text: &str) {
    eprintln!("{text}");
}
