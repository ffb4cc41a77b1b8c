//! Keeping house beside the work: free space, old logs, abandoned staging, outputs given up, database
//! sessions that nobody needs.
//!
//! Every step is bounded and may fail without harm; the next round is the retry.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::domain::size::format_bytes;
use common::domain::{ChunkId, Fence};
use common::store::session::Removal;

use super::Daemon;
use super::config::MIN_FREE;
use super::facts::free_bytes;
use super::pause::Cause;
use crate::attempt::{Fate, belongs_to, clean_staging};

/// Between two looks at free space.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Looks between two questions for outputs to delete.
const REMOVALS_EVERY: u32 = 3;
/// Looks between two clean-ups of logs and staging: an hour.
const CLEAN_EVERY: u32 = 360;
/// Staged files of unknown attempts are removed when nobody has written to them for so long.
const STAGING_KEPT: Duration = Duration::from_hours(24);
/// Outputs deleted in one go.
const REMOVALS: i32 = 100;

/// Keeps house until the loops end.
pub(crate) async fn keep(daemon: Arc<Daemon>) -> Result<(), Infallible> {
    let mut round: u32 = 0;
    loop {
        watch_space(&daemon).await;
        if round.is_multiple_of(REMOVALS_EVERY) {
            remove_given_up(&daemon).await;
        }
        if round.is_multiple_of(CLEAN_EVERY) {
            clean(&daemon).await;
        }
        daemon.registrar.main.close_unneeded();
        round = round.wrapping_add(1);
        if !daemon
            .sleep(LOOK_EVERY.div_f64(daemon.config.liveness.scale))
            .await
        {
            return Ok(());
        }
    }
}

/// Stops claims while our own directories are nearly full.
async fn watch_space(daemon: &Daemon) {
    let dirs = [
        daemon.config.state_dir.clone(),
        daemon.config.log_dir.clone(),
    ];
    let look = move || {
        dirs.into_iter()
            .filter_map(|dir| Some((free_bytes(&dir)?, dir)))
            .find(|(free, _)| *free < MIN_FREE)
    };
    let Ok(full) = tokio::task::spawn_blocking(look).await else {
        return;
    };
    let why = full.map(|(free, dir)| {
        format!(
            "{} has {} free, {} wanted",
            dir.display(),
            format_bytes(free),
            format_bytes(MIN_FREE)
        )
    });
    if daemon.pauses.set(Cause::Disk, why.as_deref()) {
        daemon.wake_claims.notify_one();
    }
}

/// Deletes published outputs that their keep rule gives up.
async fn remove_given_up(daemon: &Daemon) {
    let session = daemon.session();
    let removals = match session.main.take_removals(REMOVALS).await {
        Ok(removals) if removals.is_empty() => return,
        Ok(removals) => removals,
        Err(error) => {
            tracing::debug!("ask for outputs to delete: {error}");
            return;
        }
    };
    let mut work = Vec::new();
    for removal in removals {
        let root = daemon.roots.root_of(&removal.connection);
        work.push((removal, root));
    }
    let Ok(done) = tokio::task::spawn_blocking(move || delete_all(work)).await else {
        return;
    };
    let failed = done.iter().filter(|(_, _, error)| error.is_some()).count();
    tracing::info!(
        deleted = done.len() - failed,
        failed,
        "outputs given up by their keep rule"
    );
    if let Err(error) = session.main.settle_removals(&done).await {
        tracing::debug!("settle deleted outputs, offered again later: {error}");
    }
}

fn delete_all(
    work: Vec<(Removal, Result<PathBuf, String>)>,
) -> Vec<(ChunkId, i32, Option<String>)> {
    work.into_iter()
        .map(|(removal, root)| {
            let outcome = match (root, &removal.location) {
                (Ok(root), Some(location)) => super::orphan::delete(&root, location).map(|_| ()),
                (Ok(_), None) => Err("its publication names no place".to_owned()),
                (Err(error), _) => Err(error),
            };
            (removal.chunk_id, removal.generation, outcome.err())
        })
        .collect()
}

/// Logs beyond their age or size and staged files that nobody writes any more.
async fn clean(daemon: &Daemon) {
    let (logs, keep, most) = (
        daemon.config.log_dir.clone(),
        daemon.config.log_keep,
        daemon.config.log_max,
    );
    let roots = daemon.roots.all();
    let live: Vec<(String, String, Fence)> = daemon
        .running
        .all_alive()
        .iter()
        .map(|held| {
            (
                held.item.dataset.clone(),
                held.item.key.clone(),
                held.item.fence,
            )
        })
        .collect();
    let work = move || {
        let removed = clean_logs(&logs, SystemTime::now(), keep, most);
        if removed > 0 {
            tracing::info!(removed, "old logs deleted");
        }
        let fate = |name: &str| {
            let ours = live
                .iter()
                .any(|(dataset, key, fence)| belongs_to(name, dataset, key, *fence));
            if ours { Fate::Live } else { Fate::Unknown }
        };
        for (_, root) in roots {
            match clean_staging(&root, &fate, STAGING_KEPT) {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(removed, root = %root.display(), "abandoned staging deleted")
                }
                Err(error) => tracing::warn!(root = %root.display(), "clean staging: {error}"),
            }
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::warn!("clean up: {error}");
    }
}

/// Deletes logs older than `keep`, then the oldest until all together have at most `most` bytes.
/// Answers how many. Only files named `<number>.log` two levels down are ours.
pub(crate) fn clean_logs(dir: &Path, now: SystemTime, keep: Duration, most: u64) -> usize {
    let mut logs = Vec::new();
    for dataset in entries(dir) {
        for key in entries(&dataset) {
            for file in entries(&key) {
                let ours = file.extension().is_some_and(|ext| ext == "log")
                    && file
                        .file_stem()
                        .and_then(|stem| stem.to_str())
                        .is_some_and(|stem| stem.parse::<i64>().is_ok());
                let Ok(metadata) = file.symlink_metadata() else {
                    continue;
                };
                if ours && metadata.is_file() {
                    let written = metadata.modified().unwrap_or(now);
                    logs.push((written, metadata.len(), file));
                }
            }
        }
    }
    logs.sort();
    let mut total: u64 = logs.iter().map(|(_, bytes, _)| bytes).sum();
    let mut removed = 0;
    for (written, bytes, file) in logs {
        let old = now.duration_since(written).is_ok_and(|age| age > keep);
        if !old && total <= most {
            break;
        }
        if fs::remove_file(&file).is_ok() {
            removed += 1;
            total -= bytes;
            // Not empty yet: refused, and that is all right.
            let _kept = file.parent().map(fs::remove_dir);
        }
    }
    removed
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_go_by_age_and_then_by_size_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let log = |name: &str, hours: u64, bytes: usize| {
            let path = dir.path().join("orders").join(name).join("7.log");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, vec![b'x'; bytes]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_hours(hours))
                .unwrap();
            path
        };
        let (ancient, old, young) = (log("a", 100, 10), log("b", 5, 600), log("c", 1, 600));
        let other = dir.path().join("orders/a/notes.txt");
        fs::write(&other, "mine").unwrap();
        assert_eq!(
            clean_logs(dir.path(), now, Duration::from_hours(50), 10_000),
            1
        );
        assert!(!ancient.exists() && other.exists());
        assert_eq!(
            clean_logs(dir.path(), now, Duration::from_hours(50), 1000),
            1
        );
        assert!(!old.exists() && young.exists());
        assert!(!old.parent().unwrap().exists());
    }
}
