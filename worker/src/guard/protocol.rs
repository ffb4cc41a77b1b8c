//! What worker, guard and keeper say to each other: one JSON object a line over pipes.
//!
//! Only shapes live here. Lines carry environments with secrets, so nothing here prints them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A program to run under a keeper. Paths are absolute.
#[derive(Clone, Serialize, Deserialize)]
pub struct ScriptSpec {
    /// The program file; never looked up in PATH and never given to a shell.
    pub program: String,
    /// Its arguments, without the program's own name.
    pub args: Vec<String>,
    /// Its whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub cwd: String,
    /// Where its output goes.
    pub output: Output,
    /// How long processes that outlive the script may take to end by themselves, in
    /// milliseconds, before they are killed.
    pub linger_ms: u64,
}

/// What a script's stdin, stdout and stderr are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// stdin is empty; a FIFO with an open reader becomes both stdout and stderr.
    Fifo(String),
    /// All three are those of this process, usually the worker in somebody's terminal.
    Of(u32),
}

impl fmt::Debug for ScriptSpec {
    /// Names the program only: arguments and environment may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptSpec")
            .field("program", &self.program)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// How a tree of processes is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// SIGTERM to every process of the attempt.
    Term,
    /// SIGKILL, repeated until none is left.
    Kill,
}

/// From the worker to the guard.
#[derive(Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum ToGuard {
    /// The worker is alive; answered by [`FromGuard::Tock`].
    Tick,
    /// From now on that many milliseconds without a tick mean that the worker is dead.
    Patience { ms: u64 },
    /// Start a script.
    Spawn { id: u64, script: ScriptSpec },
    /// End a script and all that it started.
    Stop { id: u64, how: Stop },
}

/// From the guard to the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "snake_case")]
pub(crate) enum FromGuard {
    /// The locks are held: scripts may be started.
    Ready,
    /// Answer to a tick.
    Tock,
    /// Something about one script.
    Script { id: u64, event: KeeperEvent },
    /// The last line: everything was killed, for this reason.
    Lost { reason: String },
}

/// What a keeper says about its script, in this order: `spawned`, `exited`, `gone`; or
/// `refused`, `gone`. `stuck` may come before `gone`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum KeeperEvent {
    /// It runs.
    Spawned {
        /// The script's process id, also its process group.
        pid: i32,
    },
    /// It could not be started.
    Refused {
        /// The operating system's error number, where there is one.
        errno: Option<i32>,
        /// The error in words.
        message: String,
    },
    /// The script itself ended; what it started may still be there.
    Exited {
        /// Its exit code.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// Processes do not die of SIGKILL (uninterruptible I/O, or another user's).
    Stuck {
        /// Their process ids.
        pids: Vec<i32>,
    },
    /// No process of the attempt is left.
    Gone {
        /// How many outlived the script and had to be killed.
        leftovers: u32,
        /// Why the end is not an ordinary one, where it is not.
        fault: Option<String>,
    },
}
