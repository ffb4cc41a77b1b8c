//! The script job: any program of the script directory, run under the guard, its output captured.
//!
//! No shell anywhere: a program file, an argument array, an environment.

use std::time::Duration;

use async_trait::async_trait;
use common::domain::{AttemptResult, Outcome};
use common::flow::model::Run;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::ChunkJob;
use super::outcome::{Ending, Meaning, last_line, meaning};
use super::program::{Program, explain_refusal, find};
use super::watch::{Allowance, watch};
use crate::attempt::{AttemptContext, AttemptControl, AttemptLog, Failure, LogEnd, read_result};
use crate::guard::{GuardHandle, GuardedScript, Output, ScriptSpec, SpawnError};

/// So long the pipe is read after every process of the attempt has ended: only a process that
/// is not ours can still hold it open then.
const DRAINS_WITHIN: Duration = Duration::from_secs(2);

/// Runs the scripts of jobs with `run: {script: ...}`.
#[derive(Debug, Clone)]
pub struct ScriptJob {
    guard: GuardHandle,
}

impl ScriptJob {
    /// Scripts will be children of this guard.
    #[must_use]
    pub fn new(guard: GuardHandle) -> Self {
        Self { guard }
    }

    async fn run_inner(
        &self,
        context: &AttemptContext,
        control: &AttemptControl,
        result: &mut AttemptResult,
    ) -> Result<Outcome, Failure> {
        let program = find_program(context).await?;
        result.script_sha256 = Some(program.sha256.clone());
        let capture = match &context.log_path {
            Some(path) => {
                let log = AttemptLog::create(path, context.log_limits, context.mask.clone())
                    .await
                    .map_err(|error| Failure::io("create the log", path, &error))?;
                result.log_path = path.to_str().map(str::to_owned);
                let pipe = pipe::OpenOptions::new()
                    .open_receiver(&context.files.output)
                    .map_err(|error| {
                        Failure::io("open the output pipe", &context.files.output, &error)
                    })?;
                Some((log, pipe))
            }
            None => None,
        };
        let script = self.start(context, &program, capture.is_some()).await?;
        let (ending, log) = follow(script, capture, context, control).await;
        result.exit_code = ending.code;
        result.signal = ending.signal;
        result.log_tail = log.tail;
        conclude(&ending, &result.log_tail, log.fault, context, control)
    }

    async fn start(
        &self,
        context: &AttemptContext,
        program: &Program,
        captured: bool,
    ) -> Result<GuardedScript, Failure> {
        let Run::Script { args, .. } = &context.spec.job.run;
        if let Some(index) = args.iter().position(|arg| arg.contains('\0')) {
            return Err(Failure::permanent(format!(
                "argument {} of job {} holds a NUL character",
                index + 1,
                context.spec.name
            )));
        }
        let text = |path: &std::path::Path| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| Failure::host(format!("the path {} is not UTF-8", path.display())))
        };
        let spec = ScriptSpec {
            program: text(&program.path)?,
            args: args.clone(),
            env: context.env.clone(),
            cwd: text(&context.files.work)?,
            output: if captured {
                Output::Fifo(text(&context.files.output)?)
            } else {
                Output::Of(std::process::id())
            },
            linger_ms: context.linger.as_millis().try_into().unwrap_or(u64::MAX),
        };
        self.guard.spawn(spec).await.map_err(|error| match error {
            SpawnError::Refused { errno, message } => {
                explain_refusal(&program.path, errno, &message)
            }
            SpawnError::GuardLost(reason) => Failure::host(format!(
                "the guard process of this worker is gone: {reason}"
            )),
        })
    }
}

#[async_trait]
impl ChunkJob for ScriptJob {
    async fn run(&self, context: &AttemptContext, control: &AttemptControl) -> AttemptResult {
        let mut result = AttemptResult::bare(released(control));
        if control.term.is_cancelled() || control.kill.is_cancelled() {
            return result;
        }
        result.outcome = match self.run_inner(context, control, &mut result).await {
            Ok(outcome) => outcome,
            Err(failure) => failure.into(),
        };
        result
    }
}

fn released(control: &AttemptControl) -> Outcome {
    Outcome::Released {
        reason: control.reason(),
    }
}

/// Looks the script up where blocking is allowed: it may lie on a slow mount.
async fn find_program(context: &AttemptContext) -> Result<Program, Failure> {
    let Run::Script { script, .. } = context.spec.job.run.clone();
    let directory = context.script_dir.clone();
    let pinned = context.spec.script_sha256.clone();
    tokio::task::spawn_blocking(move || find(&directory, &script, pinned.as_deref()))
        .await
        .map_err(|error| Failure::transient(format!("look the script up: {error}")))?
}

/// Watches the script and reads its output, both to the end.
async fn follow(
    script: GuardedScript,
    capture: Option<(AttemptLog, pipe::Receiver)>,
    context: &AttemptContext,
    control: &AttemptControl,
) -> (Ending, LogEnd) {
    let job = &context.spec.job;
    let allowance = Allowance {
        timeout: job.timeout_seconds.map(Duration::from_secs),
        kill_grace: Duration::from_secs(job.kill_grace_seconds),
    };
    let gone = CancellationToken::new();
    let watched = async {
        let _gone = gone.clone().drop_guard();
        watch(script, control, allowance, &context.files.progress).await
    };
    let drained = async {
        match capture {
            Some((mut log, pipe)) => {
                drain(pipe, &mut log, &gone).await;
                Some(log)
            }
            None => None,
        }
    };
    let (ending, log) = tokio::join!(watched, drained);
    let Some(mut log) = log else {
        return (ending, LogEnd::default());
    };
    if ending.leftovers > 0 {
        let count = ending.leftovers;
        log.note(&format!(
            "{count} processes outlived the script and were killed"
        ))
        .await;
    }
    (ending, log.finish().await)
}

/// Reads the pipe until it ends. Never stops reading for a full log or disk.
async fn drain(mut pipe: pipe::Receiver, log: &mut AttemptLog, gone: &CancellationToken) {
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
                Ok(0) => return,
                Ok(count) => log.write(&block[..count]).await,
                Err(error) => {
                    log.note(&format!("the output could not be read on: {error}")).await;
                    return;
                }
            },
            () = &mut patience => {
                log.note("a process outside of the attempt holds its output open").await;
                return;
            }
        }
    }
}

/// Turns the ending into an outcome: for a script that is done, its claim.
fn conclude(
    ending: &Ending,
    tail: &str,
    log_fault: Option<String>,
    context: &AttemptContext,
    control: &AttemptControl,
) -> Result<Outcome, Failure> {
    match meaning(ending, &last_line(tail)) {
        Meaning::Released => Ok(released(control)),
        // A log that is cut short is told, but it does not undo an hour's good work.
        Meaning::Done => {
            if let Some(fault) = log_fault {
                tracing::warn!(chunk = %context.item.key, fault, "log incomplete");
            }
            Ok(Outcome::Validated(read_result(&context.files.result)?))
        }
        Meaning::Failed(failure) => Err(match log_fault {
            // The disk that refused our log most likely refused the script as well.
            Some(fault) => Failure::host(format!("{fault}; the script: {}", failure.error)),
            None => failure,
        }),
    }
}
