//! The guard's own loop: starts keepers as the worker asks, passes on what they say, and ends
//! them all when the worker is gone or silent.
//!
//! Single-threaded, never blocks on the worker, keeps nothing but its living keepers.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::keeper::{block_signals, open_lock, scripts_lock};
use super::protocol::{FromGuard, KeeperEvent, ScriptSpec, Stop, ToGuard};
use super::{tree, wire};

/// Between two looks at a lock that somebody else holds, or at orphans that are dying.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the guard to its end: the worker closed the pipe or fell silent, and all is killed.
pub(super) fn run(lock: &Path, tick_timeout: Duration) -> io::Result<()> {
    block_signals()?;
    // A session of its own: Ctrl-C in the worker's terminal is the worker's business.
    let _ = nix::unistd::setsid();
    prctl::set_child_subreaper(true)?;
    wire::set_nonblocking(io::stdout(), true)?;
    let lock = std::path::absolute(lock)?;
    let Some(_own) = lock_when_free(&lock)? else {
        return Ok(());
    };
    // The keepers of a guard that was killed may still be killing.
    let Some(scripts) = lock_when_free(&scripts_lock(&lock))? else {
        return Ok(());
    };
    drop(scripts);
    Guard {
        lock,
        tick_timeout,
        last_tick: Instant::now(),
        commands: wire::Lines::default(),
        outbox: wire::Outbox::default(),
        keepers: BTreeMap::new(),
        ending: false,
    }
    .serve()
}

/// Waits for an exclusive lock; `None` when the worker went away meanwhile.
fn lock_when_free(path: &Path) -> io::Result<Option<File>> {
    let file = open_lock(path)?;
    let stdin = io::stdin();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // No events asked for: only the other end closing the pipe is reported.
        let mut files = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
        wire::wait(&mut files, Some(LOOK_EVERY))?;
        if wire::is_due(&files[0]) {
            return Ok(None);
        }
    }
}

/// One keeper process and its pipes.
struct Keeper {
    process: Child,
    /// Closed to make it kill everything.
    commands: Option<ChildStdin>,
    events: ChildStdout,
    lines: wire::Lines,
    gone_told: bool,
}

impl Keeper {
    /// Lets it go on if somebody stopped it: a stopped keeper cannot kill.
    fn wake(&self) {
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGCONT);
    }
}

struct Guard {
    lock: PathBuf,
    tick_timeout: Duration,
    last_tick: Instant,
    commands: wire::Lines,
    outbox: wire::Outbox,
    keepers: BTreeMap<u64, Keeper>,
    /// Everything is being killed: what scripts come to now is our doing and not told.
    ending: bool,
}

impl Guard {
    /// Until the worker is gone; everything is killed when this returns, errors included.
    fn serve(mut self) -> io::Result<()> {
        let served = self.outbox.push(&FromGuard::Ready).and_then(|()| {
            let reason = self.listen()?;
            self.outbox.push(&FromGuard::Lost { reason })
        });
        self.ending = true;
        for keeper in self.keepers.values_mut() {
            keeper.commands = None;
            keeper.wake();
        }
        while !self.keepers.is_empty() {
            // The worker may be stopped or gone: what cannot be told is not told.
            self.turn(false, None)?;
        }
        self.kill_orphans()?;
        let _ = self.outbox.flush(io::stdout());
        served
    }

    /// Serves the worker; returns why it stopped.
    fn listen(&mut self) -> io::Result<String> {
        loop {
            let left = self.tick_timeout.saturating_sub(self.last_tick.elapsed());
            let open = self.turn(true, Some(left))?;
            while let Some(message) = self.commands.next()? {
                self.obey(message)?;
            }
            if !open {
                return Ok("the worker closed its pipe".to_owned());
            }
            // Judged after the pipe was read: ticks that waited there count.
            if self.last_tick.elapsed() >= self.tick_timeout {
                let silent = self.tick_timeout.as_secs_f64();
                return Ok(format!("no tick came from the worker for {silent} s"));
            }
        }
    }

    /// Waits for one round of input and reads it; `false` when the worker's pipe has ended.
    fn turn(&mut self, with_worker: bool, timeout: Option<Duration>) -> io::Result<bool> {
        let stdin = io::stdin();
        let stdout = io::stdout();
        let mut files: Vec<PollFd<'_>> = self
            .keepers
            .values()
            .map(|keeper| PollFd::new(keeper.events.as_fd(), PollFlags::POLLIN))
            .collect();
        let keepers = files.len();
        if with_worker {
            files.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            if !self.outbox.is_empty() {
                files.push(PollFd::new(stdout.as_fd(), PollFlags::POLLOUT));
            }
        }
        wire::wait(&mut files, timeout)?;
        let due: Vec<bool> = files.iter().map(wire::is_due).collect();
        drop(files);
        let ids: Vec<u64> = self.keepers.keys().copied().collect();
        for (id, due) in ids.into_iter().zip(&due[..keepers]) {
            if *due {
                self.hear(id)?;
            }
        }
        let open = due.get(keepers) != Some(&true) || self.commands.fill(&stdin)?;
        if let Err(error) = self.outbox.flush(&stdout)
            && with_worker
        {
            // The reading end is closed: the worker is gone, whatever its other pipe says.
            return Err(error);
        }
        Ok(open)
    }

    fn obey(&mut self, message: ToGuard) -> io::Result<()> {
        match message {
            ToGuard::Tick => {
                self.last_tick = Instant::now();
                self.outbox.push(&FromGuard::Tock)
            }
            ToGuard::Patience { ms } => {
                self.tick_timeout = Duration::from_millis(ms);
                Ok(())
            }
            ToGuard::Spawn { id, script } => match self.start_keeper(&script) {
                Ok(keeper) => {
                    self.keepers.insert(id, keeper);
                    Ok(())
                }
                Err(error) => {
                    let message = format!("cannot start a keeper process: {error}");
                    self.tell(
                        id,
                        KeeperEvent::Refused {
                            errno: None,
                            message,
                        },
                    )?;
                    self.tell_gone(id, None)
                }
            },
            ToGuard::Stop { id, how } => self.pass_on(id, how),
        }
    }

    fn tell(&mut self, id: u64, event: KeeperEvent) -> io::Result<()> {
        if self.ending {
            return Ok(());
        }
        self.outbox.push(&FromGuard::Script { id, event })
    }

    fn tell_gone(&mut self, id: u64, fault: Option<String>) -> io::Result<()> {
        let leftovers = 0;
        self.tell(id, KeeperEvent::Gone { leftovers, fault })
    }

    fn start_keeper(&self, script: &ScriptSpec) -> io::Result<Keeper> {
        // The link and not the path behind it: the file may have been replaced by an upgrade.
        let mut process = Command::new("/proc/self/exe")
            .arg0("worker")
            .args(["guard", "keeper", "--lock"])
            .arg(&self.lock)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (Some(mut commands), Some(events)) = (process.stdin.take(), process.stdout.take())
        else {
            return Err(io::Error::other("no pipes to the keeper"));
        };
        if let Err(error) = commands.write_all(&wire::line_of(script)?) {
            drop(commands);
            process.kill()?;
            process.wait()?;
            return Err(error);
        }
        Ok(Keeper {
            process,
            commands: Some(commands),
            events,
            lines: wire::Lines::default(),
            gone_told: false,
        })
    }

    /// Passes a stop to a keeper; one that has just ended needs none.
    fn pass_on(&mut self, id: u64, how: Stop) -> io::Result<()> {
        if let Some(keeper) = self.keepers.get_mut(&id)
            && let Some(commands) = &mut keeper.commands
        {
            let _ = commands.write_all(&wire::line_of(&how)?);
            keeper.wake();
        }
        Ok(())
    }

    /// Reads what a keeper says; at its end, makes sure that nothing of its tree is left.
    fn hear(&mut self, id: u64) -> io::Result<()> {
        let Some(keeper) = self.keepers.get_mut(&id) else {
            return Ok(());
        };
        let open = keeper.lines.fill(&keeper.events).unwrap_or(false);
        let mut events = Vec::new();
        while let Ok(Some(event)) = keeper.lines.next::<KeeperEvent>() {
            keeper.gone_told |= matches!(event, KeeperEvent::Gone { .. });
            events.push(event);
        }
        for event in events {
            self.tell(id, event)?;
        }
        if open {
            return Ok(());
        }
        let Some(mut keeper) = self.keepers.remove(&id) else {
            return Ok(());
        };
        let status = keeper.process.wait()?;
        if !keeper.gone_told {
            self.kill_orphans()?;
            let how = match status.signal() {
                Some(signal) => format!("was killed by signal {signal}"),
                None => format!("ended with {status}"),
            };
            self.tell_gone(id, Some(format!("the process that kept the script {how}")))?;
        }
        Ok(())
    }

    /// Kills and collects every child that is no keeper: it belonged to a keeper that died.
    fn kill_orphans(&mut self) -> io::Result<()> {
        let keepers: HashSet<i32> = self
            .keepers
            .values()
            .map(|keeper| keeper.process.id() as i32)
            .collect();
        let own = std::process::id() as i32;
        loop {
            let orphans = tree::orphans(own, &keepers);
            if orphans.is_empty() {
                return Ok(());
            }
            tree::kill_all(&tree::descendants(own, &keepers));
            for orphan in orphans {
                match waitpid(Pid::from_raw(orphan), Some(WaitPidFlag::WNOHANG)) {
                    Ok(_) | Err(Errno::ECHILD | Errno::EINTR | Errno::EINVAL) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            wire::wait(&mut [], Some(LOOK_EVERY / 10))?;
        }
    }
}
