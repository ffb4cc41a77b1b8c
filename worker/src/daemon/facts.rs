//! What a worker reports about its host now and then: load, memory, network, free space.
//!
//! Figures for people and for the leader's watch over full disks; nothing here decides.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sysinfo::{MemoryRefreshKind, Networks, RefreshKind, System};

use super::Daemon;
use super::config::Config;

/// Gathers figures.
pub(crate) struct Facts {
    own_dirs: Vec<(&'static str, PathBuf)>,
}

impl Facts {
    /// Nothing gathered yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            own_dirs: vec![
                ("state", config.state_dir.clone()),
                ("log", config.log_dir.clone()),
            ],
        }
    }

    /// The figures of now. File systems that do not answer within two seconds are left out: a hung
    /// mount must not hold up a beat.
    pub(crate) async fn gather(&self, daemon: &Daemon) -> Value {
        let roots = daemon.roots.all();
        let own = self.own_dirs.clone();
        let work = tokio::task::spawn_blocking(move || measure(&roots, &own));
        let limit = std::time::Duration::from_secs(2);
        let mut facts = match tokio::time::timeout(limit, work).await {
            Ok(Ok(facts)) => facts,
            Ok(Err(_)) | Err(_) => json!({"incomplete": "a file system does not answer"}),
        };
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
