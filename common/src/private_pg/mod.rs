//! A PostgreSQL server of our own: for `coordinator dev`, the demo and the tests.
//!
//! [`start`] makes a cluster if there is none, reuses a server that runs already, and otherwise
//! starts one on 127.0.0.1 with a password that nobody typed. It uses an installed PostgreSQL
//! (see [`mod@discover`]), works as root (the server then runs as another user) and survives crashes
//! of anything at any moment. It must never touch a server or a data directory that it did not make.
//!
//! The server outlives its [`PrivatePg`] unless [`Settings::lifetime`] says otherwise.

mod cluster;
pub mod discover;
mod error;
mod guard;
mod handle;
mod postmaster;
mod privileges;
mod server;
mod settings;
mod socket;

use secrecy::SecretString;

pub use cluster::SUPERUSER;
pub use discover::{PgBinaries, discover};
pub use error::{INSTALL_HINT, PrivatePgError};
pub use handle::PrivatePg;
pub use privileges::reachable_place;
pub use settings::{Death, Lifetime, Settings, StopMode};

use cluster::Layout;
use privileges::RunAs;

/// Gives a running server: reuses the one of `data_dir`, or starts one, making the cluster first
/// if there is none. Starts of one `data_dir` in several processes follow each other.
///
/// # Errors
/// [`PrivatePgError`]; a failed start shows the last lines of the server's log.
pub async fn start(settings: Settings) -> Result<PrivatePg, PrivatePgError> {
    let layout = Layout::new(&settings.data_dir)?;
    let run_as = RunAs::choose(&layout.data_dir)?;
    run_as.can_reach(&layout.data_dir)?;
    let _lock = layout.lock(settings.start_limit).await?;
    let data_major = layout.major()?;
    let binaries = find_binaries(&settings, &layout, data_major).await?;
    run_as.can_reach(&binaries.bin_dir.join("postgres"))?;

    let password = match (data_major, layout.password()?) {
        (Some(_), Some(password)) => password,
        (Some(_), None) => {
            return Err(PrivatePgError::NotOurs {
                data_dir: layout.data_dir.clone(),
                why: "there is no password beside it, so OpenDataFlow did not make it".into(),
            });
        }
        (None, _) => make_cluster(&layout, &binaries, &run_as, settings.durable).await?,
    };
    let mut pg = PrivatePg {
        // Only now that the directory exists can links in its path be resolved.
        layout: Layout::new(&settings.data_dir)?,
        settings,
        binaries,
        run_as,
        password,
        port: 0,
        pid: 0,
        child: None,
        guard: None,
    };
    pg.bring_up(pg.settings.port).await?;
    Ok(pg)
}

async fn find_binaries(
    settings: &Settings,
    layout: &Layout,
    data_major: Option<u32>,
) -> Result<PgBinaries, PrivatePgError> {
    let search = discover::Search::from_environment(settings.bin_dir.clone());
    let data_dir = layout.data_dir.clone();
    off_thread(move || match data_major {
        Some(major) => search.find_for(&data_dir, major),
        None => search.find(),
    })
    .await
}

async fn make_cluster(
    layout: &Layout,
    binaries: &PgBinaries,
    run_as: &RunAs,
    durable: bool,
) -> Result<SecretString, PrivatePgError> {
    let (layout, binaries, run_as) = (layout.clone(), binaries.clone(), run_as.clone());
    off_thread(move || layout.init(&binaries, &run_as, durable)).await
}

/// Runs blocking work beside the runtime's threads.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrivatePgError> + Send + 'static,
) -> Result<T, PrivatePgError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(PrivatePgError::Thread(error.to_string())))
}
