//! Asking a program for a secret: argv without a shell, a limit in time, nothing left behind.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a program may print at most, in bytes.
pub(super) const MAX_OUTPUT: u64 = 1024 * 1024;

/// How often a program is looked at after it has closed its output.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Runs a program and returns what it printed.
///
/// # Errors
/// A sentence part that follows the program's name; it never holds anything the program printed.
pub(super) fn ask(argv: &[String], name: &str, limit: Duration) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + limit;
    let (program, arguments) = argv.split_first().ok_or("is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, so that a time-out also reaches what it started.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let answer = collect(&mut child, deadline);
    if answer.is_err() {
        stop(&mut child);
    }
    let (output, status) = answer.map_err(|failure| match failure {
        Failure::Late => format!("gave no answer within {} s", limit.as_secs()),
        Failure::Io(error) => format!("cannot be read: {error}"),
    })?;
    if !status.success() {
        return Err(match status.code() {
            Some(code) => format!("ended with exit code {code}"),
            None => "was ended by a signal".to_owned(),
        });
    }
    if output.len() as u64 > MAX_OUTPUT {
        return Err(format!("printed more than {MAX_OUTPUT} bytes"));
    }
    Ok(output)
}

enum Failure {
    Late,
    Io(io::Error),
}

fn collect(child: &mut Child, deadline: Instant) -> Result<(Vec<u8>, ExitStatus), Failure> {
    let output = child
        .stdout
        .take()
        .ok_or_else(|| Failure::Io(io::ErrorKind::BrokenPipe.into()))?;
    let (sender, receiver) = mpsc::channel();
    // The reader ends with the pipe: at the latest when the whole group has been killed.
    std::thread::spawn(move || {
        let mut read = Vec::new();
        let result = output.take(MAX_OUTPUT + 1).read_to_end(&mut read);
        let _ = sender.send(result.map(|_| read));
    });
    let left = deadline.saturating_duration_since(Instant::now());
    let output = receiver
        .recv_timeout(left)
        .map_err(|_| Failure::Late)?
        .map_err(Failure::Io)?;
    loop {
        if let Some(status) = child.try_wait().map_err(Failure::Io)? {
            return Ok((output, status));
        }
        if Instant::now() >= deadline {
            return Err(Failure::Late);
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

fn stop(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // It may have ended meanwhile; then there is nothing to kill.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
