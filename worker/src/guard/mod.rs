//! The guard: one process beside the worker that is the parent of every script, so that no
//! script outlives the worker's right to run it.
//!
//! It must never touch the database, hold state that outlives it, or act on its own but to kill.
//!
//! # Who watches whom
//! `worker` -> `worker guard` -> one `worker guard keeper` for each attempt -> the script.
//! Each arrow is a pair of pipes; whoever reads end of file on its command pipe kills all that
//! is below it with KILL and ends. So the death of any of the three by any signal leaves no
//! script behind. A worker that is only stopped (SIGSTOP, a debugger, a hung runtime) sends no
//! ticks, and after `tick_timeout` (or what the worker said since) the guard acts as if it had died.
//!
//! # Which process belongs to which attempt
//! A keeper is the child subreaper of exactly one script. Whatever the script starts, however
//! it forks, whatever session or process group it moves to and however it clears its
//! environment, it stays a descendant of its keeper; when the keeper has no child left (the
//! kernel says `ECHILD`) the attempt has no process left. No marker in the environment and no
//! guess is needed. Should a keeper itself be killed, the guard (a subreaper too) inherits its
//! tree and kills it: a child of the guard that is no live keeper has no owner.
//! What a script asks of another daemon (`at`, `systemd-run`, `docker run`) is beyond this.
//!
//! # Locks
//! The guard holds an exclusive `flock` on the file it is given, each keeper a shared one on
//! the same name with `.scripts` appended. A new guard takes both before it says that it is
//! ready, so a restarted worker begins only when nothing of its predecessor is alive.

mod daemon;
mod handle;
mod keeper;
mod launch;
mod protocol;
pub(crate) mod tree;
mod wire;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

pub use handle::{GuardError, GuardHandle, GuardSettings, GuardedScript, SpawnError};
pub use protocol::{KeeperEvent, Output, ScriptSpec, Stop};

/// What a guard or a keeper was asked to be, from its hidden command line.
enum Role {
    Guard {
        lock: PathBuf,
        tick_timeout: Duration,
    },
    Keeper {
        lock: PathBuf,
    },
}

/// Runs the hidden `worker guard` subcommand to its end; reads the program's own arguments.
///
/// Synchronous, single-threaded and without a runtime: it must work when the worker does not.
#[must_use]
pub fn guard_main() -> ExitCode {
    close_inherited_files();
    let result = match role(std::env::args_os().skip(2)) {
        Ok(Role::Guard { lock, tick_timeout }) => daemon::run(&lock, tick_timeout),
        Ok(Role::Keeper { lock }) => keeper::run(&lock),
        Err(problem) => Err(std::io::Error::other(problem)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("worker guard: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Reads `--lock PATH --tick-timeout-ms N` or `keeper --lock PATH`.
fn role(mut args: impl Iterator<Item = OsString>) -> Result<Role, String> {
    let usage = "expected `guard --lock PATH --tick-timeout-ms N`, started by the worker itself";
    let mut keeper = false;
    let mut lock = None;
    let mut tick_timeout = None;
    while let Some(word) = args.next() {
        match word.to_str() {
            Some("keeper") => keeper = true,
            Some("--lock") => lock = args.next().map(PathBuf::from),
            Some("--tick-timeout-ms") => {
                tick_timeout = args
                    .next()
                    .and_then(|value| value.to_str()?.parse().ok())
                    .map(Duration::from_millis);
            }
            _ => return Err(usage.to_owned()),
        }
    }
    match (keeper, lock, tick_timeout) {
        (true, Some(lock), None) => Ok(Role::Keeper { lock }),
        (false, Some(lock), Some(tick_timeout)) => Ok(Role::Guard { lock, tick_timeout }),
        _ => Err(usage.to_owned()),
    }
}

/// Closes whatever the worker's own parent left open above stderr, so that no script gets it.
///
/// Runs first, while this process holds no file of its own but the directory being listed.
fn close_inherited_files() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The listing's own descriptor is closed by now: EBADF is expected for one of them.
        let _ = nix::unistd::close(fd);
    }
}

/// Says something on stderr, where the worker's own log goes; never fails.
fn complain(text: &str) {
    let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
}
