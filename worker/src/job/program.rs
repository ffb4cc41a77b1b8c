//! Finding a script: below the script directory only, pinned by its hash, ready to be executed.
//!
//! Blocking. Every refusal names the script as the flow does and the directory of this worker.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use sha2::{Digest, Sha256};

use crate::attempt::Failure;

/// A script that may be run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// SHA-256, hex.
    pub(crate) sha256: String,
}

/// Looks a script up and compares it with the pinned hash.
///
/// # Errors
/// `permanent` for a name that leads out of the directory; `host` for a script that is
/// missing, not executable or not the pinned one.
pub(crate) fn find(
    script_dir: &Path,
    script: &str,
    pinned: Option<&str>,
) -> Result<Program, Failure> {
    let path = locate(script_dir, script)?;
    let sha256 = hash(&path).map_err(|error| {
        Failure::host(format!(
            "script {script} cannot be read on this worker: {error}"
        ))
    })?;
    if let Some(pinned) = pinned
        && !pinned.eq_ignore_ascii_case(&sha256)
    {
        return Err(Failure::host(format!(
            "script {script} on this worker differs from the one pinned at apply: expected sha256 {pinned}, found {sha256} (hint: deploy the same script here, or apply the flow again)"
        )));
    }
    access(&path, AccessFlags::X_OK).map_err(|_| {
        Failure::host(format!(
            "script {script} is not executable on this worker (hint: chmod +x {})",
            path.display()
        ))
    })?;
    Ok(Program { path, sha256 })
}

fn locate(script_dir: &Path, script: &str) -> Result<PathBuf, Failure> {
    let plain = !script.is_empty()
        && !script.contains('\0')
        && Path::new(script)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(Failure::permanent(format!(
            "script {script:?} is not below the script directory (expected a relative path without ..)"
        )));
    }
    let directory = script_dir
        .canonicalize()
        .map_err(|error| Failure::io("find the script directory", script_dir, &error))?;
    // Executed under the name that was declared: a script finds its neighbours by its own name.
    let named = directory.join(script);
    let path = named.canonicalize().map_err(|error| {
        Failure::host(format!(
            "script {script} is not in the script directory {} of this worker: {error} (hint: deploy it there)",
            directory.display()
        ))
    })?;
    if !path.starts_with(&directory) {
        return Err(Failure::host(format!(
            "script {script} leads out of the script directory {} by a symbolic link to {}",
            directory.display(),
            path.display()
        )));
    }
    if !path.is_file() {
        return Err(Failure::host(format!(
            "script {script} is no regular file on this worker"
        )));
    }
    Ok(named)
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut block = vec![0_u8; 1 << 16];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(hex::encode(digest.finalize())),
            Ok(count) => digest.update(&block[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Explains why the operating system did not start a script that was found.
pub(crate) fn explain_refusal(path: &Path, errno: Option<i32>, message: &str) -> Failure {
    let name = path.display();
    let first = first_line(path);
    match errno {
        Some(nix::libc::ETXTBSY) => Failure::transient(format!(
            "script {name} is being written to at this moment (text file busy; hint: deploy by rename, not by writing in place)"
        )),
        Some(nix::libc::ENOEXEC) if first.starts_with(b"\x7fELF") => Failure::host(format!(
            "program {name} is not made for this machine (exec format error)"
        )),
        Some(nix::libc::ENOEXEC) => Failure::permanent(format!(
            "script {name} has no #! line, and no shell is used to guess (hint: begin it with #!/bin/sh or what it is written in)"
        )),
        Some(nix::libc::ENOENT) if first.ends_with(b"\r") => Failure::permanent(format!(
            "script {name} has Windows line ends, so its interpreter is not found (hint: dos2unix)"
        )),
        Some(nix::libc::ENOENT) if first.starts_with(b"#!") => Failure::host(format!(
            "the interpreter of script {name} is not on this worker: {}",
            String::from_utf8_lossy(&first)
        )),
        Some(nix::libc::E2BIG) => Failure::permanent(format!(
            "arguments and environment of script {name} are too long for the kernel (hint: the context file of ODF_CONTEXT has no such limit)"
        )),
        Some(nix::libc::EACCES) => Failure::host(format!(
            "script {name} may not be executed on this worker: {message} (hint: check the mount for noexec, and the rights of the interpreter)"
        )),
        _ => Failure::host(format!("start script {name}: {message}")),
    }
}

/// At most 200 bytes of a file up to its first line end.
fn first_line(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(200).read_to_end(&mut start);
    }
    let end = start.iter().position(|byte| *byte == b'\n');
    start.truncate(end.unwrap_or(start.len()));
    start
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use common::domain::FailureClass;

    use super::{explain_refusal, find};

    #[test]
    fn scripts_are_found_below_their_directory_only() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("sub/s.sh");
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        symlink("sub/s.sh", dir.path().join("inside")).unwrap();
        fs::write(outside.path().join("evil"), "#!/bin/sh\n").unwrap();
        symlink(outside.path().join("evil"), dir.path().join("escape")).unwrap();
        symlink(outside.path(), dir.path().join("escapedir")).unwrap();
        let class = |script: &str| {
            find(dir.path(), script, None)
                .map(|program| program.path.ends_with(script))
                .map_err(|failure| failure.class)
        };
        assert_eq!(class("sub/s.sh"), Ok(true));
        assert_eq!(class("inside"), Ok(true));
        for outside in ["", "/bin/sh", "../x", "sub/../../x", "a\0b"] {
            assert_eq!(class(outside), Err(FailureClass::Permanent), "{outside:?}");
        }
        for wrong in ["escape", "escapedir/evil", "missing.sh", "sub"] {
            assert_eq!(class(wrong), Err(FailureClass::Host), "{wrong:?}");
        }
    }

    #[test]
    fn a_script_is_the_pinned_one_and_executable() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("s.sh");
        fs::write(&script, "hello").unwrap();
        let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let failure = find(dir.path(), "s.sh", Some(sum)).unwrap_err();
        assert!(failure.error.contains("not executable"), "{failure}");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(dir.path(), "s.sh", Some(sum)).unwrap().sha256, sum);
        let failure = find(dir.path(), "s.sh", Some("00")).unwrap_err();
        assert_eq!(failure.class, FailureClass::Host);
        assert!(failure.error.contains("pinned"), "{failure}");
    }

    #[test]
    fn refusals_are_explained_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let class = |text: &[u8], errno| {
            fs::write(&path, text).unwrap();
            explain_refusal(&path, Some(errno), "message").class
        };
        use nix::libc::{ENOENT, ENOEXEC, ETXTBSY};
        assert_eq!(class(b"echo", ENOEXEC), FailureClass::Permanent);
        assert_eq!(class(b"\x7fELF...", ENOEXEC), FailureClass::Host);
        assert_eq!(class(b"#!/bin/sh\r\n", ENOENT), FailureClass::Permanent);
        assert_eq!(class(b"#!/no/such\n", ENOENT), FailureClass::Host);
        assert_eq!(class(b"x", ETXTBSY), FailureClass::Transient);
    }
}
