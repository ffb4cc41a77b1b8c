//! What the gate looks at: files, file trees and databases, as this worker sees them.
//!
//! A probe reports what it found and decides nothing. It reads only, and never shows a secret.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::endpoint::{ConnectError, SecretString, SessionSettings, connect};
use common::flow::model::Verify;
use sha2::{Digest, Sha256};
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

/// The file at a root that says which environment the tree belongs to.
pub const ENVIRONMENT_FILE: &str = ".odf-environment";

/// What is known of a database is used again for so long: a look costs its server a session.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Longer labels are none.
const MAX_LABEL: u64 = 256;

/// A file as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFound {
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, hex; `None` where only the size was asked for.
    pub sha256: Option<String>,
    /// What changes when it is written to or replaced.
    pub stamp: FileStamp,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileStamp {
    /// The stamp of an open file or a path's metadata.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// A database as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFound {
    /// What `odf.environment` is set to there; `None` where it is not.
    pub environment: Option<String>,
    /// Whether the table that was asked for is there; `None` where none was.
    pub table: Option<bool>,
}

/// Why something could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeError {
    /// There is no such file; its root is there.
    Missing,
    /// Something that is no regular file is in its place.
    NotAFile(&'static str),
    /// This host cannot look at it.
    Host(String),
    /// The other end does not answer, or lets nobody in.
    Away(String),
    /// Our driver cannot speak with it although another program may.
    Unable(String),
    /// The attempt was told to stop meanwhile.
    Stopped,
}

/// Looks at places. A trait so that a test can put a liar in its place and see it caught.
#[async_trait]
pub trait Probes: Send + Sync {
    /// The file at `root/relative`, read whole where a checksum is asked for.
    ///
    /// # Errors
    /// [`ProbeError`]; `Stopped` soon after `stop` is cancelled.
    async fn file(
        &self,
        root: &Path,
        relative: &Path,
        verify: Verify,
        stop: &CancellationToken,
    ) -> Result<FileFound, ProbeError>;

    /// The environment that a file tree says it belongs to; `None` where it says nothing.
    ///
    /// # Errors
    /// [`ProbeError::Host`] where the root cannot be looked at.
    async fn tree(&self, root: &Path) -> Result<Option<String>, ProbeError>;

    /// The database behind a URL, and whether `table` (as SQL writes it) is there.
    ///
    /// # Errors
    /// [`ProbeError::Away`] or [`ProbeError::Unable`].
    async fn database(&self, url: &str, table: Option<&str>) -> Result<DatabaseFound, ProbeError>;
}

type Known = HashMap<(String, Option<String>), (Instant, DatabaseFound)>;

/// The probes that really look.
#[derive(Default)]
pub struct RealProbes {
    databases: Mutex<Known>,
}

#[async_trait]
impl Probes for RealProbes {
    async fn file(
        &self,
        root: &Path,
        relative: &Path,
        verify: Verify,
        stop: &CancellationToken,
    ) -> Result<FileFound, ProbeError> {
        let (root, relative) = (root.to_owned(), relative.to_owned());
        let stopped = stop.clone();
        blocking(stop, move || look_at(&root, &relative, verify, &stopped)).await
    }

    async fn tree(&self, root: &Path) -> Result<Option<String>, ProbeError> {
        let root = root.to_owned();
        blocking(&CancellationToken::new(), move || label_of(&root)).await
    }

    async fn database(&self, url: &str, table: Option<&str>) -> Result<DatabaseFound, ProbeError> {
        let key = (url.to_owned(), table.map(str::to_owned));
        {
            let mut known = self.known();
            known.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
            if let Some((_, found)) = known.get(&key) {
                return Ok(found.clone());
            }
        }
        let found = ask_database(url, table).await?;
        // What is wrong is looked at again by the next attempt.
        if found.table != Some(false) {
            self.known().insert(key, (Instant::now(), found.clone()));
        }
        Ok(found)
    }
}

impl RealProbes {
    /// Probes that remember nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs blocking work and leaves it behind when told to stop: a hung mount must hold nobody.
async fn blocking<T: Send + 'static>(
    stop: &CancellationToken,
    work: impl FnOnce() -> Result<T, ProbeError> + Send + 'static,
) -> Result<T, ProbeError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(ProbeError::Stopped),
        done = tokio::task::spawn_blocking(work) => match done {
            Ok(found) => found,
            Err(error) => Err(ProbeError::Host(format!("a look at a file broke off: {error} (this is a bug)"))),
        },
    }
}

fn look_at(
    root: &Path,
    relative: &Path,
    verify: Verify,
    stop: &CancellationToken,
) -> Result<FileFound, ProbeError> {
    let path = root.join(relative);
    let failed = |error: &io::Error| ProbeError::Host(format!("{}: {error}", path.display()));
    let metadata = match std::fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(root)),
        Err(error) => return Err(failed(&error)),
    };
    let linked = metadata.is_symlink();
    if linked {
        stays_inside(root, &path)?;
    }
    let metadata = if linked {
        std::fs::metadata(&path).map_err(|error| failed(&error))?
    } else {
        metadata
    };
    if !metadata.is_file() {
        return Err(ProbeError::NotAFile(if metadata.is_dir() {
            "a directory"
        } else {
            "something that is no regular file"
        }));
    }
    if verify == Verify::Size {
        return Ok(FileFound {
            bytes: metadata.size(),
            sha256: None,
            stamp: FileStamp::of(&metadata),
        });
    }
    let mut file = File::open(&path).map_err(|error| failed(&error))?;
    // Of the file that is read, not of a name that may be replaced meanwhile.
    let stamp = FileStamp::of(&file.metadata().map_err(|error| failed(&error))?);
    let (bytes, sha256) = digest(&mut file, stop).map_err(|error| match error {
        Some(error) => failed(&error),
        None => ProbeError::Stopped,
    })?;
    Ok(FileFound {
        bytes,
        sha256: Some(sha256),
        stamp,
    })
}

/// A file that is not there means something only where its root is.
fn missing(root: &Path) -> ProbeError {
    if root.is_dir() {
        ProbeError::Missing
    } else {
        ProbeError::Host(format!(
            "the root {} is not a directory on this worker (hint: mount or create it)",
            root.display()
        ))
    }
}

fn stays_inside(root: &Path, path: &Path) -> Result<(), ProbeError> {
    let real = |path: &Path| -> Result<PathBuf, ProbeError> {
        path.canonicalize()
            .map_err(|error| ProbeError::Host(format!("{}: {error}", path.display())))
    };
    if real(path)?.starts_with(real(root)?) {
        Ok(())
    } else {
        Err(ProbeError::NotAFile("a link that leads out of the root"))
    }
}

/// Size and SHA-256 of what is left in a file; `None` as the error when told to stop.
fn digest(file: &mut File, stop: &CancellationToken) -> Result<(u64, String), Option<io::Error>> {
    let mut digest = Sha256::new();
    let mut bytes = 0_u64;
    let mut block = vec![0_u8; 1 << 18];
    loop {
        if stop.is_cancelled() {
            return Err(None);
        }
        match file.read(&mut block) {
            Ok(0) => return Ok((bytes, hex::encode(digest.finalize()))),
            Ok(count) => {
                digest.update(&block[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Some(error)),
        }
    }
}

fn label_of(root: &Path) -> Result<Option<String>, ProbeError> {
    let path = root.join(ENVIRONMENT_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && root.is_dir() => return Ok(None),
        Err(_) if !root.is_dir() => return Err(missing(root)),
        Err(error) => return Err(ProbeError::Host(format!("{}: {error}", path.display()))),
    };
    let mut text = String::new();
    file.take(MAX_LABEL)
        .read_to_string(&mut text)
        .map_err(|error| ProbeError::Host(format!("{}: {error}", path.display())))?;
    let label = text.lines().next().unwrap_or_default().trim();
    Ok((!label.is_empty()).then(|| label.to_owned()))
}

async fn ask_database(url: &str, table: Option<&str>) -> Result<DatabaseFound, ProbeError> {
    let url = SecretString::from(url.to_owned());
    let mut settings = SessionSettings::named("odf worker gate");
    settings.statement_timeout = Some(Duration::from_secs(10));
    let session = connect(&url, &settings)
        .await
        .map_err(|error| match error {
            ConnectError::InvalidUrl { .. } | ConnectError::Tls { .. } => {
                ProbeError::Unable(error.to_string())
            }
            error => ProbeError::Away(error.to_string()),
        })?;
    let asked = session
        .query_typed(
            "select nullif(current_setting('odf.environment', true), ''), to_regclass($1) is not null",
            &[(&table, Type::TEXT)],
        )
        .await;
    let found = asked
        .and_then(|rows| {
            let row = rows.first();
            Ok(DatabaseFound {
                environment: row.map(|row| row.try_get(0)).transpose()?.flatten(),
                table: match table {
                    Some(_) => row.map(|row| row.try_get(1)).transpose()?,
                    None => None,
                },
            })
        })
        .map_err(|error| {
            let problem = common::endpoint::describe(&error);
            ProbeError::Away(format!("{}: {problem}", session.address()))
        });
    session.close().await;
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use common::flow::model::Verify;
    use tokio_util::sync::CancellationToken;

    use super::{ENVIRONMENT_FILE, ProbeError, Probes, RealProbes};

    #[tokio::test]
    async fn files_are_reported_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "hello").unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("out")).unwrap();
        std::os::unix::fs::symlink("a", root.path().join("in")).unwrap();
        let probes = RealProbes::new();
        let stop = CancellationToken::new();
        let look = async |name: &str, verify| {
            probes
                .file(root.path(), Path::new(name), verify, &stop)
                .await
        };
        let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        for name in ["a", "in"] {
            let found = look(name, Verify::Checksum).await.unwrap();
            assert_eq!((found.bytes, found.sha256.as_deref()), (5, Some(sum)));
            let sized = look(name, Verify::Size).await.unwrap();
            assert_eq!((sized.bytes, sized.sha256), (5, None));
            assert_eq!(sized.stamp, found.stamp);
        }
        assert_eq!(look("b", Verify::Size).await, Err(ProbeError::Missing));
        for name in ["d", "out"] {
            let found = look(name, Verify::Checksum).await;
            assert!(matches!(found, Err(ProbeError::NotAFile(_))), "{found:?}");
        }
        let nowhere = probes
            .file(
                Path::new("/nonexistent"),
                Path::new("a"),
                Verify::Size,
                &stop,
            )
            .await;
        assert!(matches!(nowhere, Err(ProbeError::Host(_))), "{nowhere:?}");
        stop.cancel();
        assert_eq!(look("a", Verify::Checksum).await, Err(ProbeError::Stopped));
    }

    #[tokio::test]
    async fn a_tree_says_its_environment() {
        let root = tempfile::tempdir().unwrap();
        let probes = RealProbes::new();
        assert_eq!(probes.tree(root.path()).await, Ok(None));
        fs::write(root.path().join(ENVIRONMENT_FILE), "prod \nmore\n").unwrap();
        assert_eq!(probes.tree(root.path()).await, Ok(Some("prod".to_owned())));
        fs::write(root.path().join(ENVIRONMENT_FILE), "\n").unwrap();
        assert_eq!(probes.tree(root.path()).await, Ok(None));
        let nowhere = probes.tree(Path::new("/nonexistent")).await;
        assert!(matches!(nowhere, Err(ProbeError::Host(_))), "{nowhere:?}");
    }
}
