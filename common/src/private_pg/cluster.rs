//! The files of a private cluster: where they are, and making them with `initdb`.
//!
//! Beside the data directory `D` lie `D.password` (0600), `D.port`, `D.log`, `D.lock` and `D.socket` (0700). A cluster
//! is made in `D.partial-*` and renamed to `D` when it is whole, so a data directory is never half
//! made; what a crash left behind is removed by the next start. This file never starts a server.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::OFlag;
use secrecy::{ExposeSecret as _, SecretString};

use super::discover::PgBinaries;
use super::error::PrivatePgError;
use super::privileges::{RunAs, make_folder};
use super::socket;
use crate::runtime::wait;

/// The superuser of every private cluster.
pub const SUPERUSER: &str = "odf_admin";

/// A server log above this size is set aside at the next start.
const LOG_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// How much of a log an error shows.
const TAIL_LINES: usize = 25;

/// The paths of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) data_dir: PathBuf,
    pub(super) parent: PathBuf,
    name: String,
}

/// The start lock, held while it lives. The kernel frees it when its holder dies.
pub(super) struct StartLock(#[allow(dead_code, reason = "held for its lock")] File);

impl Layout {
    /// The layout around `data_dir`, made absolute.
    pub(super) fn new(data_dir: &Path) -> Result<Self, PrivatePgError> {
        let data_dir = std::path::absolute(data_dir)
            .map_err(PrivatePgError::io("find the data directory", data_dir))?;
        // With its links resolved, the same cluster has the same lock whatever way leads to it.
        let data_dir = fs::canonicalize(&data_dir).unwrap_or(data_dir);
        match (data_dir.parent(), data_dir.file_name()) {
            (Some(parent), Some(name)) => Ok(Self {
                parent: parent.to_owned(),
                name: name.to_string_lossy().into_owned(),
                data_dir,
            }),
            _ => Err(PrivatePgError::NotOurs {
                why: "it has no name of its own".into(),
                data_dir,
            }),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.parent.join(format!("{}.{suffix}", self.name))
    }

    pub(super) fn log(&self) -> PathBuf {
        self.beside("log")
    }

    /// The folder of its Unix socket.
    pub(super) fn socket_folder(&self) -> PathBuf {
        socket::folder(&self.data_dir, self.beside("socket"))
    }

    fn password_file(&self) -> PathBuf {
        self.beside("password")
    }

    fn port_file(&self) -> PathBuf {
        self.beside("port")
    }

    /// Every file of the cluster, for whoever throws it away.
    pub(super) fn everything(&self) -> Vec<PathBuf> {
        let mut all = vec![self.data_dir.clone(), self.socket_folder()];
        all.extend(["log", "log.1", "password", "port", "lock"].map(|suffix| self.beside(suffix)));
        all
    }

    /// Takes the start lock, so that two starts of one cluster follow each other.
    pub(super) async fn lock(&self, limit: Duration) -> Result<StartLock, PrivatePgError> {
        make_folder(&self.parent)?;
        let path = self.beside("lock");
        let file = open_own(&path, |options| options.write(true))
            .map_err(PrivatePgError::io("open the lock file", &path))?;
        let pause = Duration::from_millis(50);
        let taken = wait::until(limit, pause, "the start lock", async || {
            match file.try_lock() {
                Ok(()) => Some(Ok(())),
                Err(TryLockError::WouldBlock) => None,
                Err(TryLockError::Error(error)) => Some(Err(error)),
            }
        })
        .await;
        match taken {
            Ok(Ok(())) => Ok(StartLock(file)),
            Ok(Err(error)) => Err(PrivatePgError::io("lock", &path)(error)),
            Err(_) => Err(PrivatePgError::Locked { lock: path, limit }),
        }
    }

    /// The major version that made the data directory; `None` when there is no cluster yet.
    pub(super) fn major(&self) -> Result<Option<u32>, PrivatePgError> {
        let path = self.data_dir.join("PG_VERSION");
        let not_ours = |why: String| PrivatePgError::NotOurs {
            data_dir: self.data_dir.clone(),
            why,
        };
        match fs::read_to_string(&path) {
            Ok(text) => {
                // "9.6" and older count two numbers as the major; all of them are refused by the first.
                let digits = text.trim().split('.').next().unwrap_or_default();
                let major = digits.parse();
                major
                    .map(Some)
                    .map_err(|_| not_ours(format!("its PG_VERSION says {:?}", text.trim())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match fs::read_dir(&self.data_dir).map(|mut entries| entries.next().is_none()) {
                    Ok(true) => Ok(None),
                    Ok(false) => Err(not_ours("it is not empty and has no PG_VERSION".into())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(PrivatePgError::io("read", &self.data_dir)(error)),
                }
            }
            Err(error) => Err(PrivatePgError::io("read", &path)(error)),
        }
    }

    /// The password kept for this cluster, if there is one.
    pub(super) fn password(&self) -> Result<Option<SecretString>, PrivatePgError> {
        let path = self.password_file();
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Ok(Some(SecretString::from(text.trim()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PrivatePgError::io("read the password in", &path)(error)),
        }
    }

    /// The port that the cluster had last, so that its URL stays the same if it can.
    pub(super) fn last_port(&self) -> Option<u16> {
        fs::read_to_string(self.port_file())
            .ok()?
            .trim()
            .parse()
            .ok()
            .filter(|port| *port != 0)
    }

    /// Remembers the port. A failure costs nothing but another port next time.
    pub(super) fn remember_port(&self, port: u16) {
        let write = || {
            let mut file = open_own(&self.port_file(), |options| {
                options.write(true).truncate(true)
            })?;
            writeln!(file, "{port}")
        };
        if let Err(error) = write() {
            tracing::debug!(%error, "cannot remember the port of the private PostgreSQL");
        }
    }

    /// Opens the log for appending and tells its present length; an overlong one is set aside.
    pub(super) fn open_log(&self) -> Result<(File, u64), PrivatePgError> {
        let path = self.log();
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_LIMIT_BYTES) {
            fs::rename(&path, self.beside("log.1"))
                .map_err(PrivatePgError::io("set aside the log", &path))?;
        }
        let file = open_own(&path, |options| options.append(true))
            .map_err(PrivatePgError::io("open the log", &path))?;
        let length = file.metadata().map_or(0, |meta| meta.len());
        Ok((file, length))
    }

    /// What the log says beyond `offset`.
    pub(super) fn log_since(&self, offset: u64) -> String {
        let bytes = fs::read(self.log()).unwrap_or_default();
        let offset = usize::try_from(offset).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[offset..]).into_owned()
    }

    /// Makes the cluster: as a whole, or not at all. Blocks for about a second.
    pub(super) fn init(
        &self,
        binaries: &PgBinaries,
        run_as: &RunAs,
        durable: bool,
    ) -> Result<SecretString, PrivatePgError> {
        self.remove_partials()?;
        let password = match self.password()? {
            Some(kept) => kept,
            None => SecretString::from(hex::encode(rand::random::<[u8; 24]>())),
        };
        let partial = self.beside(&format!(
            "partial-{}",
            hex::encode(rand::random::<[u8; 6]>())
        ));
        fs::create_dir(&partial).map_err(PrivatePgError::io("make the folder", &partial))?;
        let made = self.init_in(&partial, binaries, run_as, durable, &password);
        if made.is_err() {
            // The next start tries again to remove it.
            let _ = fs::remove_dir_all(&partial);
        }
        made.map(|()| password)
    }

    fn init_in(
        &self,
        partial: &Path,
        binaries: &PgBinaries,
        run_as: &RunAs,
        durable: bool,
        password: &SecretString,
    ) -> Result<(), PrivatePgError> {
        fs::set_permissions(partial, fs::Permissions::from_mode(0o700))
            .map_err(PrivatePgError::io("close the folder", partial))?;
        let data = partial.join("data");
        fs::create_dir(&data).map_err(PrivatePgError::io("make the folder", &data))?;
        let handed_over = partial.join("password");
        write_secret(&handed_over, password)?;
        for path in [&handed_over, &data, &partial.to_owned()] {
            run_as.own(path)?;
        }
        run_initdb(binaries, run_as, &data, &handed_over, durable)?;
        // The password is in place before the cluster is: a cluster without one is lost.
        write_secret(&self.password_file(), password)?;
        fs::rename(&data, &self.data_dir).map_err(PrivatePgError::io(
            "move the new cluster to",
            &self.data_dir,
        ))?;
        fs::remove_dir_all(partial).map_err(PrivatePgError::io("remove", partial))
    }

    /// Removes what an interrupted `init` left. Only safe under the start lock.
    fn remove_partials(&self) -> Result<(), PrivatePgError> {
        let prefix = format!("{}.partial-", self.name);
        let entries =
            fs::read_dir(&self.parent).map_err(PrivatePgError::io("read", &self.parent))?;
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(PrivatePgError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Runs initdb, with the C locale where C.UTF-8 is unknown.
fn run_initdb(
    binaries: &PgBinaries,
    run_as: &RunAs,
    data: &Path,
    password_file: &Path,
    durable: bool,
) -> Result<(), PrivatePgError> {
    let program = binaries.bin_dir.join("initdb");
    let mut locales = ["C.UTF-8", "C"].into_iter().peekable();
    while let Some(locale) = locales.next() {
        let mut command = run_as.command(&program);
        command
            .arg("--pgdata")
            .arg(data)
            .arg("--pwfile")
            .arg(password_file)
            .args(["--username", SUPERUSER, "--auth", "scram-sha-256"])
            .args([
                "--encoding",
                "UTF8",
                "--locale",
                locale,
                "--no-instructions",
            ])
            .current_dir("/")
            .stdin(Stdio::null());
        if !durable {
            command.arg("--no-sync");
        }
        let output = command
            .output()
            .map_err(PrivatePgError::io("run", &program))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        if said.contains("invalid locale") && locales.peek().is_some() {
            continue;
        }
        return Err(PrivatePgError::Initdb {
            data_dir: data.to_owned(),
            status: output.status.to_string(),
            output: tail(&said),
        });
    }
    Ok(())
}

/// Opens a file of ours, making it if need be. A link that somebody else put there, in a folder
/// that is open to all, is not followed.
fn open_own(
    path: &Path,
    how: impl FnOnce(&mut OpenOptions) -> &mut OpenOptions,
) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits());
    how(&mut options).open(path)
}

/// Writes a secret into a file that nobody else can read, whole or not at all.
fn write_secret(path: &Path, secret: &SecretString) -> Result<(), PrivatePgError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let write = || {
        let mut file = open_own(&draft, |options| options.write(true).truncate(true))?;
        writeln!(file, "{}", secret.expose_secret())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(PrivatePgError::io("write the password to", path))
}

/// The last lines of a text.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(&root.path().join("data")).unwrap();
        (root, layout)
    }

    #[test]
    fn a_folder_with_foreign_files_is_refused() {
        let (_root, layout) = layout();
        assert_eq!(layout.major().unwrap(), None);
        fs::create_dir(&layout.data_dir).unwrap();
        assert_eq!(layout.major().unwrap(), None);
        fs::write(layout.data_dir.join("diary.txt"), "x").unwrap();
        let text = layout.major().unwrap_err().to_string();
        assert!(text.contains("not empty and has no PG_VERSION"), "{text}");
        fs::write(layout.data_dir.join("PG_VERSION"), "9.6\n").unwrap();
        assert_eq!(layout.major().unwrap(), Some(9));
    }

    #[test]
    fn secrets_are_readable_by_their_owner_only() {
        let (_root, layout) = layout();
        write_secret(&layout.password_file(), &SecretString::from("pw")).unwrap();
        let mode = fs::metadata(layout.password_file())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(layout.password().unwrap().unwrap().expose_secret(), "pw");
    }

    #[test]
    fn an_overlong_log_is_set_aside() {
        let (_root, layout) = layout();
        let file = File::create(layout.log()).unwrap();
        file.set_len(LOG_LIMIT_BYTES + 1).unwrap();
        let (_file, length) = layout.open_log().unwrap();
        assert_eq!(length, 0);
        assert!(layout.beside("log.1").exists());
    }

    #[tokio::test]
    async fn a_held_lock_is_waited_for_and_named() {
        let (_root, layout) = layout();
        let held = layout.lock(Duration::from_secs(5)).await.unwrap();
        let limit = Duration::from_millis(120);
        let text = layout.lock(limit).await.err().unwrap().to_string();
        assert!(text.contains("data.lock"), "{text}");
        drop(held);
        assert!(layout.lock(Duration::from_secs(5)).await.is_ok());
    }

    #[test]
    fn the_tail_keeps_the_end() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let tail = tail(&text);
        assert!(tail.ends_with("line 99"));
        assert_eq!(tail.lines().count(), TAIL_LINES);
    }
}
