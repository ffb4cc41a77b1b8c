//! The `coordinator` program.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    coordinator::cli::run().await
}
