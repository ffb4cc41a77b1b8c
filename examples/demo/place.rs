//! Where the demo keeps its things: `target/demo` and the programs built beside this one.
//!
//! It knows paths and the lock that keeps two demos apart; it starts nothing.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use common::private_pg::reachable_place;

/// The folders and files of one demo.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `target/demo`.
    pub(crate) root: PathBuf,
    /// The folder of `coordinator` and `worker`.
    pub(crate) programs: PathBuf,
    /// The folder of this example's flow file and scripts.
    pub(crate) example: PathBuf,
}

impl Place {
    /// The place of the workspace that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"));
        let this = std::env::current_exe().context("find this program's path")?;
        // target/debug/examples/demo -> target/debug
        let programs = this
            .ancestors()
            .nth(2)
            .context("this program has no folder")?
            .to_owned();
        for name in ["coordinator", "worker"] {
            if !programs.join(name).is_file() {
                bail!(
                    "no program {name} in {}\nhint: run 'make demo', which builds it",
                    programs.display()
                );
            }
        }
        Ok(Self {
            root: workspace.join("target/demo"),
            programs,
            example: workspace.join("examples/demo"),
        })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    pub(crate) fn scripts(&self) -> PathBuf {
        self.example.join("scripts")
    }

    /// The server's data directory; elsewhere only where root's own folders are closed to it.
    pub(crate) fn data_dir(&self) -> PathBuf {
        reachable_place(&self.root.join("pg/data"))
    }

    pub(crate) fn env_file(&self) -> PathBuf {
        self.root.join("env")
    }

    pub(crate) fn flow(&self) -> PathBuf {
        self.root.join("flow.yaml")
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn witness(&self) -> PathBuf {
        self.root.join("witness")
    }

    /// A worker's own folder, kept over its restarts.
    pub(crate) fn state(&self, worker: &str) -> PathBuf {
        self.root.join("state").join(worker)
    }

    /// Takes the lock of this place, for as long as the file is held.
    pub(crate) fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.root)
            .with_context(|| format!("make the folder {}", self.root.display()))?;
        let path = self.root.join("lock");
        let lock = File::create(&path).with_context(|| format!("open {}", path.display()))?;
        if lock.try_lock().is_err() {
            bail!(
                "another demo is using {}\nhint: wait for its end",
                self.root.display()
            );
        }
        Ok(lock)
    }

    /// Removes what an earlier demo wrote, the database's files apart, and makes empty folders.
    pub(crate) fn clear(&self) -> Result<()> {
        for old in [self.files(), self.logs(), self.root.join("state")] {
            remove(&old)?;
            fs::create_dir_all(&old).with_context(|| format!("make {}", old.display()))?;
        }
        for old in [self.witness(), self.env_file(), self.flow()] {
            remove(&old)?;
        }
        File::create(self.witness()).context("make the witness file")?;
        Ok(())
    }

    /// Removes what is only of use while the databases are up; logs and witness stay.
    pub(crate) fn clean_up(&self) -> Result<()> {
        for old in [
            self.files(),
            self.root.join("state"),
            self.env_file(),
            self.flow(),
        ] {
            remove(&old)?;
        }
        Ok(())
    }

    /// Writes the databases' URLs for a shell to source. They hold passwords: for our eyes only.
    pub(crate) fn write_env(&self, urls: &[(&str, String)]) -> Result<()> {
        let path = self.env_file();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("write {}", path.display()))?;
        for (name, url) in urls {
            writeln!(file, "export {name}='{url}'")?;
        }
        Ok(())
    }

    /// A path as short as it can be said from where the person is.
    pub(crate) fn shown(path: &Path) -> String {
        std::env::current_dir()
            .ok()
            .and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf))
            .unwrap_or_else(|| path.to_owned())
            .display()
            .to_string()
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
