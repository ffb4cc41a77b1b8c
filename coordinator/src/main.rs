//! The `coordinator` program.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    coordinator::cli::run().await
}
