//! Lines over pipes for processes without a runtime: reading by `poll`, writing without blocking.
//!
//! Nothing here may block: a guard that waits for a stopped worker could not kill its scripts.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollTimeout, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A line longer than this is not from our own worker.
const MAX_LINE: usize = 64 << 20;

/// Collects bytes of a pipe into lines.
#[derive(Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Reads what is there, once; `false` at end of file. Call when `poll` says readable.
    pub(crate) fn fill(&mut self, pipe: impl AsFd) -> io::Result<bool> {
        let mut block = [0_u8; 65536];
        match nix::unistd::read(pipe, &mut block) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.pending.extend_from_slice(&block[..count]);
                if self.pending.len() > MAX_LINE {
                    return Err(io::Error::other("a line of more than 64 MiB"));
                }
                Ok(true)
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next whole line as a value.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        // serde_json's message could quote the line, and lines hold secrets.
        serde_json::from_slice(&line[..end])
            .map(Some)
            .map_err(|error| {
                let place = error.column();
                io::Error::other(format!("a line that is no message (at byte {place})"))
            })
    }
}

/// One value as a line.
pub(crate) fn line_of<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Lines waiting for a pipe whose reader may be stopped.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<u8>,
}

impl Outbox {
    /// Queues a value.
    pub(crate) fn push<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        self.waiting.extend(line_of(value)?);
        Ok(())
    }

    /// Whether something waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes as much as the pipe (set to non-blocking) takes.
    pub(crate) fn flush(&mut self, pipe: impl AsFd) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let (front, _) = self.waiting.as_slices();
            match nix::unistd::write(pipe.as_fd(), front) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// Sets or clears `O_NONBLOCK`.
pub(crate) fn set_nonblocking(file: impl AsFd, on: bool) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file.as_fd(), FcntlArg::F_GETFL)?);
    let flags = if on {
        flags | OFlag::O_NONBLOCK
    } else {
        flags - OFlag::O_NONBLOCK
    };
    fcntl(file, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// `poll` with a duration (`None` waits without limit); a signal counts as a time-out.
pub(crate) fn wait(files: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = match timeout {
        None => PollTimeout::NONE,
        Some(duration) => PollTimeout::try_from(duration).unwrap_or(PollTimeout::MAX),
    };
    match poll(files, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether `poll` found anything to do on this file, end of file and errors included.
pub(crate) fn is_due(file: &PollFd<'_>) -> bool {
    file.revents().is_none_or(|events| !events.is_empty())
}
