//! The order of an attempt: prepare, run the job, check its claim, publish, clean up.
//!
//! Whatever happens in here, a panic of a job included, becomes an outcome; nothing escapes to
//! the worker. Blocking work is done where blocking is allowed, since a hung mount under an
//! attempt must not keep the worker from beating.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use common::domain::{
    AttemptResult, FailureClass, InputChunk, JobSpec, Outcome, OutputReport, WorkItem,
};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::publish::{Published, publish};
use super::staging::remove_any;
use super::validate::check_staged;
use super::{AttemptContext, AttemptControl, Failure, Mask, OutputPlace, WorkerEnv};
use crate::guard::GuardHandle;
use crate::job::{ChunkJob, ScriptJob};

/// Runs one attempt of a script job from a claimed chunk to its published output.
pub async fn run_attempt(
    env: &WorkerEnv,
    guard: &GuardHandle,
    item: &WorkItem,
    spec: &JobSpec,
    fan_in: Vec<InputChunk>,
    control: AttemptControl,
) -> AttemptResult {
    let job = ScriptJob::new(guard.clone());
    run_attempt_with(env, &job, item, spec, fan_in, control).await
}

/// Runs one attempt with any kind of job.
pub async fn run_attempt_with(
    env: &WorkerEnv,
    job: &dyn ChunkJob,
    item: &WorkItem,
    spec: &JobSpec,
    fan_in: Vec<InputChunk>,
    control: AttemptControl,
) -> AttemptResult {
    let run = Run {
        env,
        job,
        control: &control,
        dry: false,
    };
    run.whole(item, spec, fan_in).await.result
}

/// What a dry run came to.
#[derive(Debug)]
pub struct DryRun {
    /// As the attempt would have settled, had it published.
    pub result: AttemptResult,
    /// The staged output, left in place to be looked at; removed as any staged leftover later.
    pub staged: Option<PathBuf>,
    /// Where it would have been published.
    pub would_publish: Option<PathBuf>,
}

/// Runs an attempt as [`run_attempt`], but with stdin, stdout and stderr of this process, and
/// publishes nothing.
pub async fn try_attempt(
    env: &WorkerEnv,
    guard: &GuardHandle,
    item: &WorkItem,
    spec: &JobSpec,
    fan_in: Vec<InputChunk>,
    control: AttemptControl,
) -> DryRun {
    let job = ScriptJob::new(guard.clone());
    let run = Run {
        env,
        job: &job,
        control: &control,
        dry: true,
    };
    run.whole(item, spec, fan_in).await
}

struct Run<'a> {
    env: &'a WorkerEnv,
    job: &'a dyn ChunkJob,
    control: &'a AttemptControl,
    dry: bool,
}

impl Run<'_> {
    async fn whole(&self, item: &WorkItem, spec: &JobSpec, fan_in: Vec<InputChunk>) -> DryRun {
        let started = Instant::now();
        let (mut result, context, mask) = match self.prepare(item, spec, fan_in).await {
            Ok(context) => {
                let result = self.make(&context).await;
                let mask = context.mask.clone();
                (result, Some(context), mask)
            }
            Err((outcome, mask)) => (AttemptResult::bare(outcome), None, mask),
        };
        result.duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.hide_secrets(&mut result, &mask);
        let mut dry = DryRun {
            result,
            staged: None,
            would_publish: None,
        };
        if let Some(context) = context {
            self.clean_up(context, &mut dry).await;
        }
        dry
    }

    /// Prepares where blocking is allowed; gives up when killed meanwhile.
    async fn prepare(
        &self,
        item: &WorkItem,
        spec: &JobSpec,
        fan_in: Vec<InputChunk>,
    ) -> Result<Arc<AttemptContext>, (Outcome, Mask)> {
        let (env, item, spec) = (self.env.clone(), item.clone(), spec.clone());
        let with_log = !self.dry;
        let work = move || super::prepare::prepare(&env, item, spec, fan_in, with_log);
        match self.blocking("prepare", work).await {
            Ok(Some(Ok(context))) => Ok(Arc::new(context)),
            Ok(Some(Err((failure, mask)))) => Err((failure.into(), mask)),
            Ok(None) => Err((self.released(), Mask::default())),
            Err(failure) => Err((failure.into(), Mask::default())),
        }
    }

    /// Runs the job, then checks and publishes what it claims.
    async fn make(&self, context: &Arc<AttemptContext>) -> AttemptResult {
        let running = AssertUnwindSafe(self.job.run(context, self.control)).catch_unwind();
        let mut result = match running.await {
            Ok(result) => result,
            Err(panic) => Failure::transient(format!(
                "the job panicked: {} (this is a bug)",
                panic_text(&*panic)
            ))
            .into(),
        };
        if let Outcome::Validated(claim) = result.outcome {
            result.outcome = match self.finish(context, claim).await {
                Ok(outcome) => outcome,
                Err(failure) => failure.into(),
            };
        }
        result
    }

    /// Checks the claim and publishes.
    async fn finish(
        &self,
        context: &Arc<AttemptContext>,
        claim: OutputReport,
    ) -> Result<Outcome, Failure> {
        if self.control.kill.is_cancelled() {
            return Ok(self.released());
        }
        let (context, control, dry) = (Arc::clone(context), self.control.clone(), self.dry);
        let work = move || match &context.output {
            OutputPlace::File { .. } => finish_file(&context, claim, &control, dry),
            OutputPlace::Table { table } => Ok(Outcome::Validated(OutputReport {
                location: Some(table.clone()),
                ..claim
            })),
            OutputPlace::Elsewhere => finish_elsewhere(&context, claim),
        };
        match self.blocking("publish", work).await? {
            Some(outcome) => outcome,
            None => Ok(self.released()),
        }
    }

    /// Runs blocking work; `None` when the attempt is killed before it ends.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Failure> {
        tokio::select! {
            biased;
            done = tokio::task::spawn_blocking(work) => done
                .map(Some)
                .map_err(|error| Failure::transient(format!("{what}: {error} (this is a bug)"))),
            () = self.control.kill.cancelled() => Ok(None),
        }
    }

    fn released(&self) -> Outcome {
        Outcome::Released {
            reason: self.control.reason(),
        }
    }

    /// No secret leaves in a message or a log, whoever wrote it.
    fn hide_secrets(&self, result: &mut AttemptResult, mask: &Mask) {
        let hide = |text: &mut String| *text = self.env.secrets.mask(&mask.text(text));
        hide(&mut result.log_tail);
        match &mut result.outcome {
            Outcome::Failed { error, .. } => hide(error),
            // A location is a pointer: it is refused where it holds a secret, never changed.
            Outcome::Validated(_) | Outcome::Released { .. } => {}
        }
    }

    /// Removes the private directory, and what is staged unless somebody should look at it.
    async fn clean_up(&self, context: Arc<AttemptContext>, dry: &mut DryRun) {
        let keep = self.dry
            || matches!(
                dry.result.outcome,
                Outcome::Failed {
                    class: FailureClass::Invalid,
                    ..
                }
            );
        let mut staged = None;
        if let OutputPlace::File {
            root,
            staging,
            relative,
        } = &context.output
        {
            staged = Some(staging.clone());
            dry.would_publish = Some(root.join(relative));
        }
        let dir = context.files.dir.clone();
        let work = move || {
            remove_any(&dir);
            let staged = staged.filter(|path| path.symlink_metadata().is_ok())?;
            if !keep {
                remove_any(&staged);
            }
            keep.then_some(staged)
        };
        dry.staged = tokio::task::spawn_blocking(work).await.unwrap_or_default();
    }
}

/// Checks and publishes a staged file.
fn finish_file(
    context: &AttemptContext,
    claim: OutputReport,
    control: &AttemptControl,
    dry: bool,
) -> Result<Outcome, Failure> {
    let OutputPlace::File {
        root,
        staging,
        relative,
    } = &context.output
    else {
        return Ok(Outcome::Validated(claim));
    };
    let stop = || control.kill.is_cancelled();
    let Some(staged) = check_staged(staging, &claim, &stop)? else {
        return Ok(Outcome::Released {
            reason: control.reason(),
        });
    };
    let may_publish = || !stop() && (control.may_publish)();
    let published = if dry {
        Published::Yes
    } else {
        publish(&staged.file, staging, root, relative, &may_publish)?
    };
    match published {
        Published::Yes => Ok(Outcome::Validated(OutputReport {
            location: Some(relative.to_string_lossy().into_owned()),
            rows: claim.rows,
            bytes: Some(staged.bytes),
            checksum: Some(staged.checksum),
            validation: None,
        })),
        Published::Forbidden => Ok(Outcome::Released {
            reason: "not published: the worker may no longer hold the lease".to_owned(),
        }),
    }
}

/// Takes the script's word for where its output is, unless the word tells a secret.
fn finish_elsewhere(context: &AttemptContext, claim: OutputReport) -> Result<Outcome, Failure> {
    if let Some(location) = &claim.location
        && context.mask.text(location) != *location
    {
        return Err(Failure::invalid(
            "the location in the result file of the script holds a secret of one of its connections (hint: report it without login and signature)",
        ));
    }
    Ok(Outcome::Validated(claim))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
