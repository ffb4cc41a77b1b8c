//! Making a staged file the published one: durable, in one step, under a name that carries the fence.
//!
//! It must never publish without asking first, and never write outside of the root.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::Failure;

/// Whether the file was published.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    Yes,
    /// The worker may no longer do so.
    Forbidden,
}

/// Publishes a staged file (open in `file`) under `relative` below `root`.
///
/// # Errors
/// `host` for what the file system refuses, `permanent` for a path that a link leads elsewhere.
pub(crate) fn publish(
    file: &File,
    staging: &Path,
    root: &Path,
    relative: &Path,
    may_publish: &dyn Fn() -> bool,
) -> Result<Published, Failure> {
    // Data first: a name must never be durable before what it names.
    file.sync_all()
        .map_err(|error| Failure::io("write to disk", staging, &error))?;
    let directory = make_parent(root, relative)?;
    let name = relative.file_name().unwrap_or_default();
    let target = directory.join(name);
    if !may_publish() {
        return Ok(Published::Forbidden);
    }
    fs::rename(staging, &target).map_err(|error| {
        if error.kind() == io::ErrorKind::CrossesDevices {
            return Failure::host(format!(
                "{} and {} are on different file systems, so nothing can be published there in one step (hint: give each file system a connection of its own)",
                staging.display(),
                target.display()
            ));
        }
        Failure::io("publish", &target, &error)
    })?;
    for directory in [Some(directory.as_path()), staging.parent()]
        .into_iter()
        .flatten()
    {
        sync_directory(directory)?;
    }
    Ok(Published::Yes)
}

/// Makes the directories of a path below the root, each durable, and returns the last one.
fn make_parent(root: &Path, relative: &Path) -> Result<PathBuf, Failure> {
    let root = root
        .canonicalize()
        .map_err(|error| Failure::io("find the root", root, &error))?;
    let mut at = root.clone();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        let next = at.join(part);
        match fs::create_dir(&next) {
            Ok(()) => sync_directory(&at)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io("create the directory", &next, &error)),
        }
        let real = next
            .canonicalize()
            .map_err(|error| Failure::io("find the directory", &next, &error))?;
        if !real.starts_with(&root) {
            return Err(Failure::permanent(format!(
                "{} leads out of its root {} by a symbolic link to {}",
                next.display(),
                root.display(),
                real.display()
            )));
        }
        at = real;
    }
    Ok(at)
}

fn sync_directory(directory: &Path) -> Result<(), Failure> {
    let sync = || File::open(directory)?.sync_all();
    match sync() {
        Ok(()) => Ok(()),
        // Some network file systems have no such call for directories and need none.
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Ok(()),
        Err(error) => Err(Failure::io(
            "write to disk the directory",
            directory,
            &error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use common::domain::FailureClass;

    use super::{Published, publish};

    fn staged(root: &Path) -> (File, std::path::PathBuf) {
        let staging = root.join("staged");
        fs::write(&staging, "data").unwrap();
        (File::open(&staging).unwrap(), staging)
    }

    #[test]
    fn a_file_appears_whole_under_its_name() {
        let root = tempfile::tempdir().unwrap();
        let (file, staging) = staged(root.path());
        let relative = Path::new("a/b/x.1.csv");
        let published = publish(&file, &staging, root.path(), relative, &|| true).unwrap();
        assert_eq!(published, Published::Yes);
        let text = fs::read_to_string(root.path().join(relative)).unwrap();
        assert_eq!(text, "data");
        assert!(!staging.exists());
    }

    #[test]
    fn nothing_is_published_when_it_is_forbidden() {
        let root = tempfile::tempdir().unwrap();
        let (file, staging) = staged(root.path());
        let published = publish(&file, &staging, root.path(), Path::new("x"), &|| false).unwrap();
        assert_eq!(published, Published::Forbidden);
        assert!(staging.exists() && !root.path().join("x").exists());
    }

    #[test]
    fn a_link_out_of_the_root_is_refused_and_one_inside_is_not() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("out")).unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.path().join("in")).unwrap();
        let (file, staging) = staged(root.path());
        let refused = publish(&file, &staging, root.path(), Path::new("out/d/x"), &|| true);
        let failure = refused.unwrap_err();
        assert_eq!(failure.class, FailureClass::Permanent, "{failure}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        let inside = publish(&file, &staging, root.path(), Path::new("in/x"), &|| true);
        assert_eq!(inside, Ok(Published::Yes));
        assert!(root.path().join("real/x").exists());
    }
}
