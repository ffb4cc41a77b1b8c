//! The file roots that this worker's jobs use, and deleting files there that nothing points to.
//!
//! Every deletion in published places goes through here: below a declared root only, a plain file
//! only, and only where the root shows the mark of a tree that workers publish to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use common::domain::{AttemptResult, JobSpec, Outcome};
use common::endpoint::files;
use common::flow::model::{Connection, ConnectionKind};
use common::secret::SecretSource;
use secrecy::ExposeSecret;

use super::running::Held;
use crate::attempt::STAGING_DIR;

/// Roots by `flow/connection`, as declared.
#[derive(Debug)]
pub(crate) struct Roots {
    declared: Mutex<BTreeMap<String, String>>,
    secrets: SecretSource,
}

impl Roots {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            declared: Mutex::default(),
            secrets: SecretSource::from_process(),
        }
    }

    /// Remembers the roots of a job.
    pub(crate) fn note(&self, flow: &str, spec: &JobSpec) {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, connection) in &spec.connections {
            if let ConnectionKind::Files { root, .. } = &connection.kind {
                declared.insert(format!("{flow}/{name}"), root.clone());
            }
        }
    }

    /// Every root seen so far that can be resolved here.
    pub(crate) fn all(&self) -> Vec<(String, PathBuf)> {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared
            .iter()
            .filter_map(|(name, root)| Some((name.clone(), self.resolve(root).ok()?)))
            .collect()
    }

    /// The root of a connection to files.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn root_of(&self, connection: &Connection) -> Result<PathBuf, String> {
        match &connection.kind {
            ConnectionKind::Files { root, .. } => self.resolve(root),
            _ => Err("only outputs in file trees can be deleted".to_owned()),
        }
    }

    fn resolve(&self, root: &str) -> Result<PathBuf, String> {
        let resolved =
            common::secret::resolve(root, &self.secrets).map_err(|error| error.to_string())?;
        Ok(PathBuf::from(resolved.expose_secret()))
    }
}

/// Deletes one published file. Answers `false` where it was not there.
///
/// # Errors
/// A sentence for people: a path that leads out, a root that is not mounted here, no plain file.
pub(crate) fn delete(root: &Path, location: &str) -> Result<bool, String> {
    // An empty mount point would make every file look deleted.
    if !root.join(STAGING_DIR).is_dir() {
        return Err(format!(
            "{} is not reachable on this host: it has no {STAGING_DIR}",
            root.display()
        ));
    }
    let path = files::resolve(root, location).map_err(|error| error.to_string())?;
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("{}: {error}", path.display())),
        Ok(metadata) if !metadata.is_file() => {
            return Err(format!("{} is not a plain file", path.display()));
        }
        Ok(_) => {}
    }
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Deletes what an attempt published after its lease was lost. Its name carries the fence, so no
/// publication points to it.
pub(crate) async fn remove(roots: &Roots, held: &Held, result: &AttemptResult) {
    let Outcome::Validated(report) = &result.outcome else {
        return;
    };
    let (Some(location), Some(connection)) = (
        report.location.clone(),
        held.spec.connections.get(&held.spec.output_at.connection),
    ) else {
        return;
    };
    if !location.contains(&held.item.fence.to_string()) {
        return;
    }
    let Ok(root) = roots.root_of(connection) else {
        return;
    };
    let shown = root.join(&location);
    match tokio::task::spawn_blocking(move || delete(&root, &location)).await {
        Ok(Ok(_)) => tracing::info!(path = %shown.display(), "removed the orphaned output"),
        Ok(Err(error)) => tracing::warn!("cannot remove an orphaned output: {error}"),
        Err(error) => tracing::warn!("cannot remove an orphaned output: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_of_a_living_tree_are_deleted() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a"), "x").unwrap();
        let error = delete(root.path(), "a").unwrap_err();
        assert!(error.contains("not reachable"), "{error}");
        std::fs::create_dir_all(root.path().join(STAGING_DIR)).unwrap();
        assert_eq!(delete(root.path(), "a"), Ok(true));
        assert_eq!(delete(root.path(), "a"), Ok(false));
        assert!(delete(root.path(), STAGING_DIR).is_err());
        assert!(delete(root.path(), "../a").is_err());
        assert!(delete(root.path(), "/etc/hostname").is_err());
    }
}
