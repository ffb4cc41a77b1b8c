//! `completions`: a completion script for a shell, on stdout.

use clap_complete::Shell;

use super::Session;
use super::failure::{Exit, Failure};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// bash, zsh, fish, elvish or powershell
    pub shell: Shell,
}

/// Runs `completions`.
///
/// # Errors
/// Where stdout cannot be written.
pub fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut super::command(),
        "coordinator",
        &mut script,
    );
    session.out.raw(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
