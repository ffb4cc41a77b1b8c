//! Starting a script from its keeper: files, signals and environment as if nobody were above it.
//!
//! `posix_spawn` and not `std::process::Command`: that one passes on the caller's signal mask, and a
//! script that cannot hear TERM because its keeper does not want to is of no use. Nothing of the
//! keeper's reaches the script but what is named here.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use super::protocol::{Output, ScriptSpec};
use super::wire;

/// The kernel's out-of-memory killer takes scripts before the worker and its guard.
const SCRIPT_OOM_SCORE: i32 = 500;

/// Starts the script as the leader of its own process group.
pub(super) fn start(script: &ScriptSpec) -> io::Result<Pid> {
    // Told in words and without a number, which would be taken for the program's own.
    let own = |what: &'static str| move |error| io::Error::other(format!("{what}: {error}"));
    let files = standard_files(&script.output).map_err(own("open its output"))?;
    let mut actions = PosixSpawnFileActions::init()?;
    for (file, number) in files.iter().zip(0..) {
        actions.add_dup2(file.as_raw_fd(), number)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    attributes.set_pgroup(Pid::from_raw(0))?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    let args = std::iter::once(script.program.as_str())
        .chain(script.args.iter().map(String::as_str))
        .map(CString::new)
        .collect::<Result<Vec<_>, _>>()?;
    let env = script
        .env
        .iter()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<Vec<_>, _>>()?;
    // A keeper has one script only, so its own directory may be the script's.
    std::env::set_current_dir(&script.cwd).map_err(own("enter its work directory"))?;
    let own_score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    prefer_for_oom_killer(&own_score);
    let spawned = posix_spawn(script.program.as_str(), &actions, &attributes, &args, &env);
    let _ = std::fs::write("/proc/self/oom_score_adj", own_score.trim());
    Ok(spawned?)
}

/// Opens what becomes the script's stdin, stdout and stderr.
fn standard_files(output: &Output) -> io::Result<[File; 3]> {
    match output {
        Output::Fifo(path) => {
            // Non-blocking, so that a reader that has gone away is an error and not a wait for ever.
            let output = OpenOptions::new()
                .write(true)
                .custom_flags(nix::libc::O_NONBLOCK)
                .open(path)?;
            wire::set_nonblocking(&output, false)?;
            Ok([File::open("/dev/null")?, output.try_clone()?, output])
        }
        Output::Of(pid) => {
            let open = |number: u32| {
                OpenOptions::new()
                    .read(number == 0)
                    // Where it is a file, two writers must not overwrite each other.
                    .append(number != 0)
                    .custom_flags(nix::libc::O_NOCTTY)
                    .open(format!("/proc/{pid}/fd/{number}"))
            };
            Ok([open(0)?, open(1)?, open(2)?])
        }
    }
}

/// Raises this process's own score, which the script inherits; the caller restores it.
fn prefer_for_oom_killer(own_score: &str) {
    let own: i32 = own_score.trim().parse().unwrap_or(0);
    let raised = (own + SCRIPT_OOM_SCORE).clamp(-1000, 1000);
    let _ = std::fs::write("/proc/self/oom_score_adj", raised.to_string());
}
