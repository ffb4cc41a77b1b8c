//! A keeper: parent and child subreaper of one script, and of nothing else.
//!
//! It starts the script, says how it ended, and ends only when no process of the attempt is
//! left. It kills everything at once when its command pipe closes. It must never outlive its
//! script's tree, nor exit while a process of it lives.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::launch::start;
use super::protocol::{KeeperEvent, ScriptSpec, Stop};
use super::{tree, wire};

/// Between two passes over a tree that is being killed.
const KILL_EVERY: Duration = Duration::from_millis(20);
/// After so long a tree that does not die is reported.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// Blocks the signals that a terminal or a service manager sends to a whole group: the guard's
/// processes end when their pipe closes, and not before.
pub(super) fn block_signals() -> io::Result<()> {
    let mut blocked = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGTSTP,
    ] {
        blocked.add(signal);
    }
    blocked.thread_block()?;
    Ok(())
}

/// The lock file that keepers share.
pub(super) fn scripts_lock(lock: &Path) -> std::path::PathBuf {
    let mut name = lock.as_os_str().to_owned();
    name.push(".scripts");
    name.into()
}

/// Runs one script, described by the first line of stdin, to the end of its whole tree.
pub(super) fn run(lock: &Path) -> io::Result<()> {
    block_signals()?;
    prctl::set_child_subreaper(true)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // Held to the end of this process. Taken before the pipe is read: a guard that died
    // meanwhile leaves end of file there, and then no script is started.
    let held = OpenOptions::new().read(true).open(scripts_lock(lock))?;
    held.lock_shared()?;
    let mut commands = wire::Lines::default();
    let Some(script) = first_line(&mut commands)? else {
        return Ok(());
    };
    match start(&script) {
        Ok(pid) => {
            let mut keeper = Keeper::new(pid, Duration::from_millis(script.linger_ms));
            drop(script);
            keeper.tell(&KeeperEvent::Spawned { pid: pid.as_raw() });
            keeper.watch(&mut commands, &signals)
        }
        Err(error) => {
            say(&KeeperEvent::Refused {
                errno: error.raw_os_error(),
                message: error.to_string(),
            })?;
            say(&KeeperEvent::Gone {
                leftovers: 0,
                fault: None,
            })
        }
    }
}

/// Waits for the description of the script; `None` when the guard is gone.
fn first_line(commands: &mut wire::Lines) -> io::Result<Option<ScriptSpec>> {
    let stdin = io::stdin();
    loop {
        if let Some(script) = commands.next::<ScriptSpec>()? {
            // The guard may have died after it wrote the line.
            let mut files = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
            wire::wait(&mut files, Some(Duration::ZERO))?;
            return Ok((!wire::is_due(&files[0])).then_some(script));
        }
        if !commands.fill(&stdin)? {
            return Ok(None);
        }
    }
}

/// Writes one event; the pipe's reader is the guard, which always reads.
fn say(event: &KeeperEvent) -> io::Result<()> {
    let line = wire::line_of(event)?;
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        match nix::unistd::write(io::stdout(), rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// One script being watched.
struct Keeper {
    script: Pid,
    linger: Duration,
    /// When the script itself ended.
    ended: Option<Instant>,
    /// Since when the tree is being killed.
    killing: Option<Instant>,
    guard_gone: bool,
    stuck_told: bool,
    leftovers: HashSet<i32>,
}

impl Keeper {
    fn new(script: Pid, linger: Duration) -> Self {
        Self {
            script,
            linger,
            ended: None,
            killing: None,
            guard_gone: false,
            stuck_told: false,
            leftovers: HashSet::new(),
        }
    }

    /// Tells the guard; a guard that cannot be told is gone, and then everything is killed.
    fn tell(&mut self, event: &KeeperEvent) {
        if !self.guard_gone && say(event).is_err() {
            self.guard_gone = true;
            self.kill_from_now();
        }
    }

    fn kill_from_now(&mut self) {
        self.killing.get_or_insert_with(Instant::now);
    }

    /// Until no process is left.
    fn watch(&mut self, commands: &mut wire::Lines, signals: &SignalFd) -> io::Result<()> {
        let stdin = io::stdin();
        loop {
            let any_left = self.reap()?;
            if !any_left && self.ended.is_some() {
                self.tell(&KeeperEvent::Gone {
                    leftovers: self.leftovers.len() as u32,
                    fault: None,
                });
                return Ok(());
            }
            self.kill_where_due();
            let mut files = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if !self.guard_gone {
                files.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            wire::wait(&mut files, self.patience())?;
            let commanded = files.get(1).is_some_and(wire::is_due);
            while signals.read_signal()?.is_some() {}
            if commanded {
                self.obey(commands, &stdin);
            }
        }
    }

    /// How long nothing needs to be done if nothing happens.
    fn patience(&self) -> Option<Duration> {
        if let Some(since) = self.killing {
            // What does not die at once will not die sooner for being asked more often.
            return Some(if since.elapsed() < STUCK_AFTER {
                KILL_EVERY
            } else {
                KILL_EVERY * 25
            });
        }
        self.ended
            .map(|ended| self.linger.saturating_sub(ended.elapsed()))
    }

    /// Reads commands; end of file or a line that is none means that the guard is gone.
    fn obey(&mut self, commands: &mut wire::Lines, stdin: &io::Stdin) {
        let open = commands.fill(stdin).unwrap_or(false);
        loop {
            match commands.next::<Stop>() {
                Ok(Some(Stop::Term)) => {
                    tree::term(&tree::descendants(own_pid(), &HashSet::new()));
                }
                Ok(Some(Stop::Kill)) => self.kill_from_now(),
                Ok(None) if open => return,
                Ok(None) | Err(_) => {
                    self.guard_gone = true;
                    self.kill_from_now();
                    return;
                }
            }
        }
    }

    /// Collects ended children, the script's status among them; `false` when none is left.
    fn reap(&mut self) -> io::Result<bool> {
        self.look_for_end()?;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return Ok(true),
                Ok(status) if status.pid() == Some(self.script) => self.note_status(status),
                // nix knows no real-time signals: whoever ended by one is collected as EINVAL.
                Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
                Err(Errno::ECHILD) => {
                    // The script ended by one since it was looked for.
                    self.note_end(None, Some(nix::libc::SIGRTMIN()));
                    return Ok(false);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Looks whether the script itself has ended, without collecting it: only so can the
    /// number of a real-time signal still be read.
    fn look_for_end(&mut self) -> io::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.script), flags) {
            Ok(status) => self.note_status(status),
            Err(Errno::EINVAL) => {
                let signal = tree::ending_signal(self.script.as_raw());
                self.note_end(None, Some(signal.unwrap_or(nix::libc::SIGRTMIN())));
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn note_status(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(_, code) => self.note_end(Some(code), None),
            WaitStatus::Signaled(_, signal, _) => self.note_end(None, Some(signal as i32)),
            _ => {}
        }
    }

    fn note_end(&mut self, code: Option<i32>, signal: Option<i32>) {
        if self.ended.is_none() {
            self.ended = Some(Instant::now());
            self.tell(&KeeperEvent::Exited { code, signal });
        }
    }

    /// One pass of killing, where the tree is to be killed or has outlived its script too long.
    fn kill_where_due(&mut self) {
        let lingered = self
            .ended
            .is_some_and(|ended| ended.elapsed() >= self.linger);
        if lingered {
            self.kill_from_now();
        }
        let Some(since) = self.killing else {
            return;
        };
        let alive = tree::descendants(own_pid(), &HashSet::new());
        if lingered {
            self.leftovers
                .extend(alive.iter().map(|process| process.pid));
        }
        tree::kill_all(&alive);
        if !self.stuck_told && since.elapsed() >= STUCK_AFTER && !alive.is_empty() {
            self.stuck_told = true;
            self.tell(&KeeperEvent::Stuck {
                pids: alive.iter().map(|process| process.pid).collect(),
            });
        }
    }
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

/// Opens a lock file, creating it for its owner only.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
