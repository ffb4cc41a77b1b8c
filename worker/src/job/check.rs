//! A program that judges an output: run as a script is, in the attempt's directory and environment.
//!
//! It must never decide what an answer means for the attempt; that is the audit's business.

use std::path::Path;
use std::time::Duration;

use nix::sys::stat::Mode;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::outcome::{Meaning, last_line, meaning};
use super::program::{explain_refusal, find};
use super::watch::{Allowance, watch};
use crate::attempt::{AttemptContext, AttemptControl, Failure};
use crate::guard::{GuardHandle, Output, ScriptSpec, SpawnError};

/// How long a program may judge where its job has no time-out.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// So much of what it prints is looked at.
const TAIL: usize = 8192;
/// So long the pipe is read after every process of it has ended.
const DRAINS_WITHIN: Duration = Duration::from_secs(2);

/// What a program answered, with the last line that it printed, secrets masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It ended with 0.
    Kept(String),
    /// It ended with 65.
    Broken(String),
}

/// Runs a program of the script directory; `number` tells several of one attempt apart.
///
/// # Errors
/// As a script's failure for every other end; `transient` where the worker wanted its end.
pub(crate) async fn run_check(
    guard: &GuardHandle,
    context: &AttemptContext,
    control: &AttemptControl,
    argv: &[String],
    number: usize,
) -> Result<Checked, Failure> {
    let Some((script, args)) = argv.split_first() else {
        return Err(Failure::permanent("a command rule names no program"));
    };
    let named = |failure: Failure| {
        Failure::new(
            failure.class,
            format!("rule command({script}): {}", failure.error),
        )
    };
    let (directory, name) = (context.script_dir.clone(), script.clone());
    let program = tokio::task::spawn_blocking(move || find(&directory, &name, None))
        .await
        .map_err(|error| Failure::transient(format!("look the program up: {error}")))?
        .map_err(named)?;
    let fifo = context.files.dir.join(format!("check.{number}"));
    let pipe = open_fifo(&fifo).map_err(|error| Failure::io("make the pipe", &fifo, &error))?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let spec = ScriptSpec {
        program: text(&program.path),
        args: args.to_vec(),
        env: context.env.clone(),
        cwd: text(&context.files.work),
        output: Output::Fifo(text(&fifo)),
        linger_ms: context.linger.as_millis().try_into().unwrap_or(u64::MAX),
    };
    let process = guard.spawn(spec).await.map_err(|error| {
        named(match error {
            SpawnError::Refused { errno, message } => {
                explain_refusal(&program.path, errno, &message)
            }
            SpawnError::GuardLost(reason) => Failure::host(format!(
                "the guard process of this worker is gone: {reason}"
            )),
        })
    })?;
    let job = &context.spec.job;
    let allowance = Allowance {
        timeout: Some(job.timeout_seconds.map_or(TIMEOUT, Duration::from_secs)),
        kill_grace: Duration::from_secs(job.kill_grace_seconds),
    };
    let gone = CancellationToken::new();
    let watched = async {
        let _gone = gone.clone().drop_guard();
        // Its progress is not the attempt's.
        watch(
            process,
            control,
            allowance,
            &context.files.dir.join("check.progress"),
        )
        .await
    };
    let (ending, tail) = tokio::join!(watched, tail_of(pipe, &gone));
    let line = last_line(&context.mask.text(&String::from_utf8_lossy(&tail)));
    if ending.ours.is_none() && ending.fault.is_none() && ending.code == Some(65) {
        return Ok(Checked::Broken(line));
    }
    match meaning(&ending, &line) {
        Meaning::Done => Ok(Checked::Kept(line)),
        Meaning::Released => Err(Failure::transient(format!(
            "rule command({script}): {}",
            control.reason()
        ))),
        Meaning::Failed(failure) => Err(named(failure)),
    }
}

fn open_fifo(path: &Path) -> std::io::Result<pipe::Receiver> {
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    pipe::OpenOptions::new().open_receiver(path)
}

/// Reads a pipe to its end and keeps the last of it.
async fn tail_of(mut pipe: pipe::Receiver, gone: &CancellationToken) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut block = vec![0_u8; 1 << 16];
    let patience = async {
        gone.cancelled().await;
        tokio::time::sleep(DRAINS_WITHIN).await;
    };
    tokio::pin!(patience);
    loop {
        tokio::select! {
            biased;
            read = pipe.read(&mut block) => match read {
                Ok(0) | Err(_) => return tail,
                Ok(count) => {
                    tail.extend_from_slice(&block[..count]);
                    let over = tail.len().saturating_sub(TAIL);
                    tail.drain(..over);
                }
            },
            () = &mut patience => return tail,
        }
    }
}
