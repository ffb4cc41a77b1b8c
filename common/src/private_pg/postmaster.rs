//! Processes that serve a data directory: finding them, telling them from others, signalling them.
//!
//! A process id is never trusted alone: it may belong to another process since the file was
//! written. A process is ours when its working directory is the data directory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::PrivatePgError;
use super::privileges::plain_environment;
use crate::runtime::wait;

/// What `postmaster.pid` says about a running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: i32,
    pub(super) port: u16,
}

/// What is known about a data directory's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// No server, and no trace of one.
    None,
    /// A pid file whose process is gone or is another program.
    Stale,
    /// A pid file that is being written by a live process: look again.
    Unclear,
    /// A server runs, or is starting or stopping.
    Running(Postmaster),
}

/// Looks at the data directory's pid file and at the process that it names.
pub(super) fn look(data_dir: &Path) -> Result<Presence, PrivatePgError> {
    let path = data_dir.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Presence::None),
        Err(error) => return Err(PrivatePgError::io("read", &path)(error)),
    };
    let mut lines = text.lines();
    let Some(pid) = lines.next().and_then(|line| line.trim().parse().ok()) else {
        // Empty after a full disk or a power cut: no server writes it twice.
        return Ok(Presence::Stale);
    };
    if !serves(pid, data_dir) {
        return Ok(Presence::Stale);
    }
    let port = lines.nth(2).and_then(|line| line.trim().parse().ok());
    Ok(port.map_or(Presence::Unclear, |port| {
        Presence::Running(Postmaster { pid, port })
    }))
}

/// The folder of the running server's socket, as its pid file says; `None` where it has none.
pub(super) fn socket_folder(data_dir: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let folder = text.lines().nth(4)?.trim();
    (!folder.is_empty()).then(|| PathBuf::from(folder))
}

/// Removes a stale pid file, after what its server left running has ended.
///
/// Backends of a killed postmaster end by themselves when they next wait for something; one that
/// computes does not, and PostgreSQL rightly refuses to start beside it, so it is told to end.
pub(super) async fn clear_stale(data_dir: &Path) -> Result<(), PrivatePgError> {
    let pause = Duration::from_millis(50);
    let gone = |seconds: u64| async move {
        let none_left = async || left_behind(data_dir).is_empty().then_some(());
        let limit = Duration::from_secs(seconds);
        let waited = wait::until(limit, pause, "old backends to end", none_left).await;
        waited.is_ok()
    };
    if !gone(3).await {
        for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
            for pid in left_behind(data_dir) {
                tracing::warn!(pid, %signal, "a backend outlived its killed PostgreSQL: ending it");
                send(pid, signal);
            }
            if gone(5).await {
                break;
            }
        }
    }
    let path = data_dir.join("postmaster.pid");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PrivatePgError::io("remove the stale", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether process `pid` is alive and serves `data_dir`. `false` for a zombie.
pub(super) fn serves(pid: i32, data_dir: &Path) -> bool {
    if pid <= 0 || !exists(pid) {
        return false;
    }
    if Path::new("/proc/self/stat").exists() {
        !is_zombie(pid) && is_inside(pid, data_dir)
    } else {
        is_postgres_by_ps(pid)
    }
}

/// Sends a signal; a process that is gone already is as good as signalled.
pub(super) fn send(pid: i32, signal: Signal) {
    if pid <= 1 {
        // Zero and below would reach whole groups of processes.
        return;
    }
    if let Err(error) = kill(Pid::from_raw(pid), signal)
        && error != Errno::ESRCH
    {
        tracing::warn!(pid, %signal, %error, "cannot signal PostgreSQL");
    }
}

/// A child's process id as the system's calls want it.
pub(super) fn pid_of(child: &Child) -> i32 {
    // No system has process ids beyond i32; 0 is refused by `serves` and `send` alike.
    i32::try_from(child.id()).unwrap_or(0)
}

fn exists(pid: i32) -> bool {
    // EPERM: it exists and is somebody else's.
    !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// The processes inside `data_dir`, on systems with /proc.
fn left_behind(data_dir: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_server_program(*pid) && !is_zombie(*pid) && is_inside(*pid, data_dir))
        .collect()
}

/// Whether the working directory of `pid` is `data_dir`: compared by device and inode, because
/// another mount namespace may have the same path.
fn is_inside(pid: i32, data_dir: &Path) -> bool {
    let theirs = fs::metadata(format!("/proc/{pid}/cwd"));
    let ours = fs::metadata(data_dir);
    matches!((theirs, ours), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

fn is_server_program(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.trim().starts_with("postgres"))
}

fn is_zombie(pid: i32) -> bool {
    // "pid (name) S ...": the name may hold anything, the state follows the last parenthesis.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| {
        text.rsplit(')')
            .next()
            .is_some_and(|rest| matches!(rest.trim_start().chars().next(), Some('Z' | 'X')))
    })
}

/// Without /proc (macOS): the program's name must do, and the connection test decides.
fn is_postgres_by_ps(pid: i32) -> bool {
    let mut command = Command::new("ps");
    plain_environment(&mut command);
    let output = command
        .args(["-o", "stat=,command=", "-p", &pid.to_string()])
        .output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("postgres") && !text.trim_start().starts_with('Z')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_of_another_program_is_stale() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(look(root.path()).unwrap(), Presence::None);
        let file = root.path().join("postmaster.pid");
        fs::write(&file, format!("{}\n/x\n1\n5432\n", std::process::id())).unwrap();
        assert_eq!(look(root.path()).unwrap(), Presence::Stale);
        fs::write(&file, "").unwrap();
        assert_eq!(look(root.path()).unwrap(), Presence::Stale);
        // pid 0 and -1 would signal whole groups.
        fs::write(&file, "-1\n/x\n1\n5432\n").unwrap();
        assert_eq!(look(root.path()).unwrap(), Presence::Stale);
    }

    #[test]
    fn a_process_in_the_data_directory_is_its_server() {
        let root = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep")
            .arg("600")
            .current_dir(root.path())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let file = root.path().join("postmaster.pid");
        fs::write(&file, format!("{pid}\n/x\n1\n5432\n")).unwrap();
        let seen = look(root.path()).unwrap();
        fs::write(&file, format!("{pid}\n/x\n")).unwrap();
        let half = look(root.path()).unwrap();
        child.kill().unwrap();
        // Until it is waited for, it is a zombie, and a zombie serves nobody.
        let dead = loop {
            if look(root.path()).unwrap() == Presence::Stale {
                break true;
            }
            std::thread::yield_now();
        };
        child.wait().unwrap();
        assert_eq!(seen, Presence::Running(Postmaster { pid, port: 5432 }));
        assert_eq!(half, Presence::Unclear);
        assert!(dead);
    }
}
