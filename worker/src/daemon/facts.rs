//! What a worker reports about its host now and then: load, memory, network, free space.
//!
//! Figures for people and for the leader's watch over full disks; nothing here decides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use sysinfo::{MemoryRefreshKind, Networks, RefreshKind, System};
use tokio::task::JoinHandle;

use super::Daemon;
use super::config::Config;

/// How long file systems may take to answer: a hung mount must not hold up a beat.
const PATIENCE: Duration = Duration::from_millis(300);

/// Gathers figures.
pub(crate) struct Facts {
    own_dirs: Vec<(&'static str, PathBuf)>,
    /// A look that has not come back: the next one waits for it instead of joining it.
    stuck: Option<JoinHandle<Value>>,
}

impl Facts {
    /// Nothing gathered yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            own_dirs: vec![
                ("state", config.state_dir.clone()),
                ("log", config.log_dir.clone()),
            ],
            stuck: None,
        }
    }

    /// The figures of now, or of when a hung file system last answered.
    pub(crate) async fn gather(&mut self, daemon: &Daemon) -> Value {
        let mut look = self.stuck.take().unwrap_or_else(|| {
            let roots = daemon.roots.all();
            let own = self.own_dirs.clone();
            tokio::task::spawn_blocking(move || measure(&roots, &own))
        });
        let mut facts = json!({"incomplete": "a file system does not answer"});
        match tokio::time::timeout(PATIENCE, &mut look).await {
            Ok(Ok(measured)) => facts = measured,
            Ok(Err(error)) => tracing::warn!("gather facts: {error}"),
            Err(_) => self.stuck = Some(look),
        }
        facts["version"] = json!(env!("CARGO_PKG_VERSION"));
        facts["settled"] = json!(daemon.counts.done());
        facts["failed"] = json!(daemon.counts.failed());
        facts["running"] = json!(daemon.running.alive());
        facts
    }
}

fn measure(roots: &[(String, PathBuf)], own: &[(&'static str, PathBuf)]) -> Value {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let memory = System::new_with_specifics(memory).ok().map(
        |system| json!({"total": system.total_memory(), "available": system.available_memory()}),
    );
    let load = System::load_average().ok();
    let network = Networks::new_with_refreshed_list().ok().map(|networks| {
        let (mut received, mut sent) = (0, 0);
        for (_, data) in networks.iter().filter(|(name, _)| name.as_os_str() != "lo") {
            received += data.total_received();
            sent += data.total_transmitted();
        }
        json!({"received": received, "sent": sent})
    });
    let mut free = Map::new();
    for (name, path) in roots {
        if let Some(bytes) = free_bytes(path) {
            free.insert(name.clone(), json!(bytes));
        }
    }
    let mut dirs = Map::new();
    for (name, path) in own {
        if let Some(bytes) = free_bytes(path) {
            dirs.insert((*name).to_owned(), json!(bytes));
        }
    }
    json!({
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "load": load.map(|load| [load.one, load.five, load.fifteen]),
        "memory": memory,
        "network": network,
        "host_up_s": System::uptime().ok(),
        "roots": free,
        "dirs": dirs,
    })
}

/// Bytes that this user may still write to the file system of a path; `None` where nobody can say.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let blocks: u64 = stat.blocks_available();
    let size: u64 = stat.fragment_size();
    Some(blocks.saturating_mul(size))
}
