//! The folder of a private server's Unix socket: short enough for the system, closed to everybody else.
//!
//! It lies beside the data directory or, where that path is too long for a socket, below the folder for
//! temporary files. A folder that somebody else put there is never used: the server then has TCP alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::privileges::RunAs;

/// The longest path of a socket in bytes: `sun_path` with its closing NUL has 108 on Linux, 104 on
/// macOS and the BSDs.
const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The longest name that a server gives its socket in the folder, with the slash before it.
const LONGEST_NAME: usize = "/.s.PGSQL.65535".len();

/// Where the sockets of the cluster in `data_dir` go, `beside` being the place next to it.
pub(super) fn folder(data_dir: &Path, beside: PathBuf) -> PathBuf {
    if fits(&beside) {
        return beside;
    }
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let name = format!("odf-pg-{}", hex::encode(&digest[..8]));
    let short = std::env::temp_dir().join(&name);
    if fits(&short) {
        short
    } else {
        Path::new("/tmp").join(name)
    }
}

fn fits(folder: &Path) -> bool {
    folder.as_os_str().len() + LONGEST_NAME <= LONGEST_PATH
}

/// Makes the folder for the server's user alone (0700), or finds it as it was made before.
///
/// # Errors
/// Where it cannot be made, or is somebody else's, a link, or open to others.
pub(super) fn make(folder: &Path, run_as: &RunAs) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => run_as
            .own(folder)
            .map_err(|error| io::Error::other(error.to_string()))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // Not following a link: whoever could put one there would choose what we open.
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() {
        return Err(io::Error::other("it is no folder"));
    }
    if found.uid() != run_as.uid() || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "it belongs to another user or is open to others",
        ));
    }
    Ok(())
}

/// The folder as a value of `unix_socket_directories`, which is a list.
pub(super) fn setting(folder: &Path) -> String {
    format!("\"{}\"", folder.display().to_string().replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_long_path_gives_way_to_a_short_one_of_its_own() {
        let near = PathBuf::from("/srv/odf/pg.socket");
        assert_eq!(folder(Path::new("/srv/odf/pg"), near.clone()), near);
        let deep = PathBuf::from(format!("/{}/pg", "x".repeat(100)));
        let deeper = PathBuf::from(format!("/{}/pg", "y".repeat(100)));
        let far = folder(&deep, deep.with_extension("socket"));
        assert!(fits(&far), "{far:?}");
        assert_eq!(far, folder(&deep, deep.with_extension("socket")));
        assert_ne!(far, folder(&deeper, deeper.with_extension("socket")));
        let edge = |n: usize| PathBuf::from(format!("/{}", "z".repeat(n - 1)));
        assert!(fits(&edge(LONGEST_PATH - LONGEST_NAME)));
        assert!(!fits(&edge(LONGEST_PATH - LONGEST_NAME + 1)));
    }

    #[test]
    fn what_somebody_else_put_there_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let run_as = RunAs::choose(root.path()).unwrap();
        let own = root.path().join("own");
        make(&own, &run_as).unwrap();
        make(&own, &run_as).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make(&own, &run_as).is_err());
        let link = root.path().join("link");
        symlink(root.path(), &link).unwrap();
        assert!(make(&link, &run_as).is_err());
    }

    #[test]
    fn a_list_of_one_folder_is_written_whatever_its_name() {
        assert_eq!(setting(Path::new("/a, b")), "\"/a, b\"");
        assert_eq!(setting(Path::new("/a\"b")), "\"/a\"\"b\"");
    }
}
