//! One chunk for each line that a command prints: a JSON object, or plain text.
//!
//! The command is run without a shell, in a process group of its own that ends with it, with a
//! small environment, a time-out and a bound on what it may print. The command line comes from the
//! flow file; nothing of a chunk or a secret is ever put into it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use common::domain::{Bounds, NewChunk};
use common::endpoint::{ExposeSecret, files};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::batcher::Batcher;
use super::chunk_key::Ordinals;
use super::query::named;
use super::{SplitError, SplitRequest};

/// The longest line, in bytes.
const LINE: usize = 1 << 20;
/// The most that a command may print, in bytes.
const OUTPUT: usize = 256 << 20;
/// How much of stderr is kept, in bytes.
const TAIL: usize = 4 << 10;
/// What a command inherits.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_NUMERIC",
    "LC_TIME",
    "TZ",
    "TMPDIR",
];

pub(super) async fn split(
    request: &SplitRequest<'_>,
    argv: &[String],
    out: &mut Batcher<'_>,
) -> Result<(), SplitError> {
    let [program, arguments @ ..] = argv else {
        return Err(SplitError::refused(
            "a command with a program was expected, it is empty",
            "write command: [PROGRAM, ARGUMENT, ...]",
        ));
    };
    let mut command = Command::new(found(request.script_dir, program)?);
    command.args(arguments).env_clear();
    for name in INHERITED {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    for (name, value) in request.env {
        command.env(name, value.expose_secret());
    }
    command.env("ODF_DATASET", request.dataset);
    if let Some(dir) = request.script_dir {
        command.current_dir(dir);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut run = Run::start(command, program)?;
    let mut lines = Lines::default();
    let ended = tokio::time::timeout(request.limits.command, run.end(&mut lines)).await;
    let failed = |problem: String, stderr: &[u8]| SplitError::Command {
        program: program.clone(),
        problem,
        stderr: masked(request, stderr),
    };
    let (problem, stderr) = match ended {
        Err(_) => {
            let seconds = request.limits.command.as_secs();
            (
                Some(format!("did not end within {seconds} s and was killed")),
                Vec::new(),
            )
        }
        Ok(Err(error)) => (Some(error), Vec::new()),
        Ok(Ok((status, stderr))) if status.success() => (None, stderr),
        Ok(Ok((status, stderr))) => (Some(format!("failed with {status}")), stderr),
    };
    drop(run);
    match problem {
        Some(problem) => Err(failed(problem, &stderr)),
        None => lines.into_chunks(out).await,
    }
}

/// The program below the script directory, and nowhere else: the database holds its name, so a search
/// of `PATH` would let whoever owns the database run any program of this host.
fn found(script_dir: Option<&Path>, program: &str) -> Result<PathBuf, SplitError> {
    let Some(dir) = script_dir else {
        return Err(SplitError::refused(
            format!("no script directory is set to look for {program:?} in"),
            "start with --script-dir, or set ODF_SCRIPT_DIR",
        ));
    };
    let path = files::resolve(dir, program)?;
    if path.is_file() {
        return Ok(path);
    }
    Err(SplitError::refused(
        format!(
            "no program {program:?} in the script directory {}",
            dir.display()
        ),
        "put the program, or a small script that calls it, there",
    ))
}

/// A running command; dropping it kills its whole process group.
struct Run {
    child: tokio::process::Child,
    group: Option<Pid>,
}

impl Run {
    fn start(mut command: Command, program: &str) -> Result<Self, SplitError> {
        let child = command.spawn().map_err(|error| SplitError::Command {
            program: program.to_owned(),
            problem: format!("cannot be started: {error}"),
            stderr: String::new(),
        })?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Reads both streams until they are closed and waits for the end; the end of stderr comes back.
    async fn end(&mut self, lines: &mut Lines) -> Result<(ExitStatus, Vec<u8>), String> {
        let (Some(stdout), Some(stderr)) = (self.child.stdout.take(), self.child.stderr.take())
        else {
            return Err("has no output to read".to_owned());
        };
        let (read, tail) = tokio::join!(lines.read(stdout), tail_of(stderr));
        read?;
        let status = self.child.wait().await;
        Ok((
            status.map_err(|error| format!("cannot be waited for: {error}"))?,
            tail,
        ))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // An error means that the group is gone already, which is what was wanted.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Keeps the last bytes of a stream, reading it to its end so that its writer never blocks.
async fn tail_of(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut portion = vec![0; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut portion).await {
        tail.extend_from_slice(&portion[..read]);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
    }
    tail
}

fn masked(request: &SplitRequest<'_>, stderr: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(stderr).replace('\0', "");
    for secret in request.env.values().map(ExposeSecret::expose_secret) {
        if secret.len() >= 4 {
            text = text.replace(secret, "***");
        }
    }
    text
}

/// What the command printed. It is kept whole until the command has ended well, since a list that
/// breaks off must not become a plan; [`OUTPUT`] bounds it.
#[derive(Default)]
struct Lines {
    lines: Vec<String>,
}

impl Lines {
    async fn read(&mut self, stdout: impl AsyncRead + Unpin) -> Result<(), String> {
        let mut reader = BufReader::new(stdout);
        let mut total = 0;
        loop {
            let mut line = Vec::new();
            let limit = (LINE + 1) as u64;
            let read = (&mut reader)
                .take(limit)
                .read_until(b'\n', &mut line)
                .await
                .map_err(|error| format!("cannot be read: {error}"))?;
            if read == 0 {
                return Ok(());
            }
            total += read;
            let number = self.lines.len() + 1;
            if line.len() > LINE || total > OUTPUT {
                return Err(format!(
                    "printed more than expected at line {number}: at most 1 MiB a line and 256 MiB in all"
                ));
            }
            let line = String::from_utf8(line)
                .ok()
                .filter(|line| !line.contains('\0'))
                .ok_or_else(|| {
                    format!("printed line {number}, which is not UTF-8 text without NUL")
                })?;
            let line = line.strip_suffix('\n').unwrap_or(&line);
            self.lines
                .push(line.strip_suffix('\r').unwrap_or(line).to_owned());
        }
    }

    async fn into_chunks(self, out: &mut Batcher<'_>) -> Result<(), SplitError> {
        let filled = self
            .lines
            .iter()
            .filter(|line| !line.trim().is_empty())
            .count();
        let ordinals = Ordinals::up_to(filled as u64);
        let mut seen = HashMap::new();
        for (index, line) in self.lines.iter().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let place = index as u64 + 1;
            let (values, key) = row(line, place)?;
            let key = match key {
                Some(key) => key,
                None => Some(ordinals.key(out.chunks() + 1)),
            };
            out.push(NewChunk {
                key: named(key, place, "line", &mut seen)?,
                bounds: Bounds::Row { values },
                est_rows: None,
                est_bytes: None,
            })
            .await?;
        }
        if filled == 0 {
            out.note("The planning command printed no lines: the plan is empty.");
        }
        Ok(())
    }
}

/// A row's columns with their text values, NULL as `None`.
type Values = Vec<(String, Option<String>)>;

/// A line as a row: the fields of a JSON object in their order, or one column `line`. The key is
/// `Some(None)` where the line gives it as null.
fn row(line: &str, place: u64) -> Result<(Values, Option<Option<String>>), SplitError> {
    if !line.trim_start().starts_with('{') {
        return Ok((vec![("line".to_owned(), Some(line.to_owned()))], None));
    }
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line).map_err(|error| {
            SplitError::refused(
                format!("line {place} of the planning command starts as a JSON object and is none: {error}"),
                "print one JSON object on each line, or plain text that does not start with `{`",
            )
        })?;
    let values: Values = object
        .into_iter()
        .map(|(name, value)| {
            let text = match value {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text),
                other => Some(other.to_string()),
            };
            (name, text)
        })
        .collect();
    if values
        .iter()
        .any(|(_, value)| value.as_ref().is_some_and(|v| v.contains('\0')))
    {
        return Err(SplitError::refused(
            format!("line {place} of the planning command holds the character NUL"),
            "print text only",
        ));
    }
    let key = values
        .iter()
        .find(|(name, _)| name == "key")
        .map(|(_, value)| value.clone());
    Ok((values, key))
}
