//! Who the server runs as, and whether that user can reach its files.
//!
//! PostgreSQL refuses uid 0. As root, its programs therefore run as another user; otherwise they
//! run as ourselves. Nothing here changes the identity of our own process.

use std::env;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Uid, User, geteuid};
use sha2::{Digest as _, Sha256};

use super::error::PrivatePgError;

/// The users tried when root starts a new cluster, in this order.
const SERVER_USERS: [&str; 2] = ["postgres", "nobody"];

/// The variables that the server's programs get from our environment: enough to run a relocated
/// installation, and no secret.
const KEPT_VARIABLES: [&str; 5] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
];

/// The user that the server's programs run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunAs {
    /// Ourselves: we are not root.
    Ourselves,
    /// Another user: we are root.
    Other {
        /// Its name, or its number when it has none.
        name: String,
        /// Its uid.
        uid: u32,
        /// Its primary group, the only one it gets.
        gid: u32,
    },
}

impl RunAs {
    /// The user for `data_dir`: the owner of an existing cluster, else `postgres`, else `nobody`.
    pub(super) fn choose(data_dir: &Path) -> Result<Self, PrivatePgError> {
        if !geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        if let Ok(meta) = fs::metadata(data_dir.join("PG_VERSION")) {
            if meta.uid() == 0 {
                return Err(PrivatePgError::NotOurs {
                    data_dir: data_dir.to_owned(),
                    why: "its files belong to root, as whom PostgreSQL refuses to run".into(),
                });
            }
            let user = User::from_uid(Uid::from_raw(meta.uid())).ok().flatten();
            return Ok(Self::Other {
                name: user.map_or_else(|| meta.uid().to_string(), |user| user.name),
                uid: meta.uid(),
                gid: meta.gid(),
            });
        }
        SERVER_USERS
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Other {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            })
            .ok_or(PrivatePgError::NoUser)
    }

    /// A command of `program` as this user, with a plain environment, in a process group of its
    /// own so that Ctrl-C in the terminal reaches us and not the server.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        plain_environment(&mut command);
        command.process_group(0);
        if let Self::Other { uid, gid, .. } = self {
            // The standard library drops all supplementary groups when root sets a uid.
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// This user's uid.
    pub(super) fn uid(&self) -> u32 {
        match self {
            Self::Ourselves => geteuid().as_raw(),
            Self::Other { uid, .. } => *uid,
        }
    }

    /// Gives `path` to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), PrivatePgError> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Other { uid, gid, .. } => std::os::unix::fs::chown(path, Some(*uid), Some(*gid))
                .map_err(PrivatePgError::io("give away", path)),
        }
    }

    /// Checks that this user may enter every directory above `path`.
    pub(super) fn can_reach(&self, path: &Path) -> Result<(), PrivatePgError> {
        let Self::Other { name, uid, gid } = self else {
            return Ok(());
        };
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for folder in above {
            let Ok(meta) = fs::metadata(folder) else {
                // It does not exist yet: we shall make it, open to all.
                return Ok(());
            };
            let bit = if meta.uid() == *uid {
                0o100
            } else if meta.gid() == *gid {
                0o010
            } else {
                0o001
            };
            if meta.mode() & bit == 0 {
                return Err(PrivatePgError::Unreachable {
                    path: path.to_owned(),
                    blocked_at: folder.to_owned(),
                    user: name.clone(),
                });
            }
        }
        Ok(())
    }
}

/// Replaces the environment of `command` by the few variables a server needs. Messages are in
/// English because we look for some of them.
pub(super) fn plain_environment(command: &mut Command) {
    command.env_clear();
    command.envs(KEPT_VARIABLES.iter().filter_map(|name| {
        let value = env::var_os(name)?;
        Some((name, value))
    }));
    command.env("LC_ALL", "C").env("TZ", "UTC");
}

/// Makes `folder` and what is missing above it, open to all for passing through.
pub(super) fn make_folder(folder: &Path) -> Result<(), PrivatePgError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(PrivatePgError::io("make the folder", folder))
}

/// A place for a data directory that the server's user can reach, `preferred` if possible.
///
/// Only root can need another one (its home is closed to the user that the server has to run as):
/// then it is `/var/lib/opendataflow/<hash of preferred>/<name>`, or the same below `/tmp` where
/// `/var/lib` cannot be written. The answer is the same each time, so a later start finds the data.
/// The folder above the answer is made.
#[must_use]
pub fn reachable_place(preferred: &Path) -> PathBuf {
    let preferred = std::path::absolute(preferred).unwrap_or_else(|_| preferred.to_owned());
    let reachable =
        |place: &Path| RunAs::choose(place).is_ok_and(|run_as| run_as.can_reach(place).is_ok());
    if reachable(&preferred) {
        return preferred;
    }
    let digest = hex::encode(Sha256::digest(preferred.as_os_str().as_encoded_bytes()));
    let name = preferred.file_name().unwrap_or("pg".as_ref());
    for root in ["/var/lib/opendataflow", "/tmp/opendataflow"] {
        // Below /tmp somebody else may have been here first, with a link of theirs.
        let ours = make_folder(Path::new(root)).is_ok()
            && fs::symlink_metadata(root).is_ok_and(|meta| meta.is_dir() && meta.uid() == 0);
        let folder = Path::new(root).join(&digest[..12]);
        let place = folder.join(name);
        if ours && make_folder(&folder).is_ok() && reachable(&place) {
            return place;
        }
    }
    preferred
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn somebody() -> RunAs {
        RunAs::Other {
            name: "somebody".into(),
            uid: 54_321,
            gid: 54_321,
        }
    }

    #[test]
    fn names_the_closed_folder_on_the_way() {
        let root = tempfile::tempdir().unwrap();
        let closed = root.path().join("closed");
        fs::create_dir(&closed).unwrap();
        let open = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        open(0o700);
        let data = closed.join("new/data");
        let text = somebody().can_reach(&data).unwrap_err().to_string();
        assert!(
            text.contains(&format!("cannot enter {} on", closed.display())),
            "{text}"
        );
        open(0o711);
        assert!(somebody().can_reach(&data).is_ok());
        assert!(RunAs::Ourselves.can_reach(&data).is_ok());
    }

    #[test]
    fn the_servers_environment_has_no_secret() {
        let mut command = Command::new("x");
        command.env("PGPASSWORD", "secret");
        plain_environment(&mut command);
        for (name, value) in command.get_envs() {
            let name = name.to_str().unwrap();
            let known = KEPT_VARIABLES.contains(&name) || name == "LC_ALL" || name == "TZ";
            assert!(known || value.is_none(), "{name}");
        }
    }

    #[test]
    fn an_open_place_is_kept() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = root.path().join("data");
        assert_eq!(reachable_place(&place), place);
    }
}
