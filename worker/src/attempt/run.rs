//! The order of an attempt: prepare, run the job, check its claim, publish, clean up.
//!
//! Whatever happens in here, a panic of a job included, becomes an outcome; nothing escapes to
//! the worker. Blocking work is done where blocking is allowed, since a hung mount under an
//! attempt must not keep the worker from beating.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use common::domain::{
    AttemptResult, FailureClass, InputChunk, JobSpec, Outcome, OutputReport, RuleOutcome,
    Validation, Verdict, WorkItem,
};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::place::published_path;
use super::publish::{Published, publish};
use super::staging::remove_any;
use super::validate::open_staged;
use super::{AttemptContext, AttemptControl, Failure, Mask, OutputPlace, WorkerEnv};
use crate::audit::{self, Audited, InputRows, Reported, Subject, audit_file, staged_rejects};
use crate::gate::{self, Passage, Refusal};
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
    let run = Run {
        env,
        job: &job,
        guard: Some(guard),
        control: &control,
        dry: false,
        shown: OnceLock::new(),
    };
    run.whole(item, spec, fan_in).await.result
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
        guard: None,
        control: &control,
        dry: false,
        shown: OnceLock::new(),
    };
    run.whole(item, spec, fan_in).await.result
}

/// What a dry run came to.
#[derive(Debug)]
pub struct DryRun {
    /// As the attempt would have settled, had it published.
    pub result: AttemptResult,
    /// What the first inputs answered to the five questions.
    pub verdicts: Vec<Verdict>,
    /// The staged output, left in place to be looked at; removed as any staged leftover later.
    pub staged: Option<PathBuf>,
    /// Where it would have been published.
    pub would_publish: Option<PathBuf>,
    /// What every rule answered, also where the output was refused.
    pub rules: Vec<RuleOutcome>,
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
        guard: Some(guard),
        control: &control,
        dry: true,
        shown: OnceLock::new(),
    };
    run.whole(item, spec, fan_in).await
}

struct Run<'a> {
    env: &'a WorkerEnv,
    job: &'a dyn ChunkJob,
    /// Parent of the programs that rules name.
    guard: Option<&'a GuardHandle>,
    control: &'a AttemptControl,
    dry: bool,
    /// What the rules answered, for a dry run.
    shown: OnceLock<Vec<RuleOutcome>>,
}

impl Run<'_> {
    async fn whole(&self, item: &WorkItem, spec: &JobSpec, fan_in: Vec<InputChunk>) -> DryRun {
        let started = Instant::now();
        let mut verdicts = Vec::new();
        let (mut result, context, mask) = match self.prepare(item, spec, fan_in).await {
            Ok(context) => {
                let result = self.gated(&context, &mut verdicts).await;
                let mask = context.mask.clone();
                (result, Some(context), mask)
            }
            Err((outcome, mask)) => (AttemptResult::bare(outcome), None, mask),
        };
        result.duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.hide_secrets(&mut result, &mask);
        let mut dry = DryRun {
            result,
            verdicts,
            staged: None,
            would_publish: None,
            rules: self.shown.get().cloned().unwrap_or_default(),
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

    /// Asks the five questions; only then runs the job.
    async fn gated(
        &self,
        context: &Arc<AttemptContext>,
        verdicts: &mut Vec<Verdict>,
    ) -> AttemptResult {
        let stop = self.control.kill.child_token();
        let asking = gate::ask(context, &*self.env.probes, &stop);
        let asked = tokio::select! {
            biased;
            asked = asking => asked,
            () = self.control.term.cancelled() => {
                stop.cancel();
                Err(Refusal::Stopped)
            }
        };
        match asked {
            Ok(passage) => {
                verdicts.clone_from(&passage.verdicts);
                let evidence = passage.evidence.encode();
                let mut result = self.make(context, Arc::new(passage)).await;
                result.evidence = Some(evidence);
                result
            }
            // Who tries a script wants to see it run, and what keeps a real attempt from it.
            Err(Refusal::No { failure, passage }) if self.dry => {
                tracing::warn!("a real attempt would not start: {}", failure.error);
                verdicts.clone_from(&passage.verdicts);
                self.make(context, Arc::from(passage)).await
            }
            Err(Refusal::No { failure, passage }) => {
                let mut result = AttemptResult::from(failure);
                result.evidence = Some(passage.evidence.encode());
                verdicts.clone_from(&passage.verdicts);
                result
            }
            Err(Refusal::Stopped) => AttemptResult::bare(self.released()),
        }
    }

    /// Runs the job, then checks and publishes what it claims.
    async fn make(&self, context: &Arc<AttemptContext>, passage: Arc<Passage>) -> AttemptResult {
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
            result.outcome = match self.finish(context, passage, claim).await {
                Ok(outcome) => outcome,
                Err(failure) => failure.into(),
            };
        }
        result
    }

    /// Audits what was made and publishes it.
    async fn finish(
        &self,
        context: &Arc<AttemptContext>,
        passage: Arc<Passage>,
        claim: OutputReport,
    ) -> Result<Outcome, Failure> {
        // Before anything is audited: what was made from changed inputs is not worth it.
        let again = self
            .blocking("look at the inputs again", move || gate::recheck(&passage))
            .await?;
        match again {
            Some(checked) => checked?,
            None => return Ok(self.released()),
        }
        let finished = async {
            match &context.output {
                OutputPlace::File { .. } => self.finish_file(context, claim).await,
                OutputPlace::Table { table } => self.finish_table(context, table, claim).await,
                OutputPlace::Elsewhere => self.finish_elsewhere(context, claim).await,
            }
        };
        tokio::select! {
            biased;
            finished = finished => finished,
            () = self.control.kill.cancelled() => Ok(self.released()),
        }
    }

    /// Audits a staged file and publishes it.
    async fn finish_file(
        &self,
        context: &Arc<AttemptContext>,
        claim: OutputReport,
    ) -> Result<Outcome, Failure> {
        let OutputPlace::File { staging, .. } = &context.output else {
            return Ok(Outcome::Validated(claim));
        };
        let inputs = audit::input_rows(context).await?;
        let work = {
            let (context, control, claim) =
                (Arc::clone(context), self.control.clone(), claim.clone());
            move || audit_staged(&context, &claim, &inputs, &control)
        };
        let Some(audited) = self.blocking("audit", work).await? else {
            return Ok(self.released());
        };
        let Some(mut audited) = audited? else {
            return Ok(self.released());
        };
        let mut rules = std::mem::take(&mut audited.rules);
        rules.extend(audit::custom_rules(context, self.control, self.guard).await?);
        let checks = &context.spec.checks;
        let format = checks.format.as_ref().map(ToString::to_string);
        let validation = audit::validation(format, Some(&audited), rules.clone());
        // In a dry run the table of rules is wanted most where one is broken.
        self.show(&rules);
        audit::conclude(&rules, Some(staging))?;
        let (context, control, dry) = (Arc::clone(context), self.control.clone(), self.dry);
        let work = move || publish_file(&context, claim, &audited, validation, &control, dry);
        match self.blocking("publish", work).await? {
            Some(outcome) => outcome,
            None => Ok(self.released()),
        }
    }

    /// Audits the rows of the chunk in a table, where the job left them.
    async fn finish_table(
        &self,
        context: &Arc<AttemptContext>,
        table: &str,
        claim: OutputReport,
    ) -> Result<Outcome, Failure> {
        let reported = Reported::of(&claim, &context.files.result, &context.spec.checks)?;
        let inputs = audit::input_rows(context).await?;
        let mut rules = audit::audit_table(context, table, &reported, &inputs).await?;
        rules.extend(audit::custom_rules(context, self.control, self.guard).await?);
        self.show(&rules);
        audit::conclude(&rules, None)?;
        Ok(Outcome::Validated(OutputReport {
            location: Some(table.to_owned()),
            validation: audit::validation(None, None, rules),
            ..claim
        }))
    }

    /// Takes the script's word for where its output is, unless the word tells a secret.
    async fn finish_elsewhere(
        &self,
        context: &Arc<AttemptContext>,
        claim: OutputReport,
    ) -> Result<Outcome, Failure> {
        if let Some(location) = &claim.location
            && context.mask.text(location) != *location
        {
            return Err(Failure::invalid(
                "the location in the result file of the script holds a secret of one of its connections (hint: report it without login and signature)",
            ));
        }
        let rules = audit::custom_rules(context, self.control, self.guard).await?;
        self.show(&rules);
        audit::conclude(&rules, None)?;
        Ok(Outcome::Validated(OutputReport {
            validation: audit::validation(None, None, rules),
            ..claim
        }))
    }

    /// Keeps the rules of a dry run for whoever runs it.
    fn show(&self, rules: &[RuleOutcome]) {
        if self.dry {
            let _ = self.shown.set(rules.to_vec());
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
                remove_any(&staged_rejects(&staged));
            }
            keep.then_some(staged)
        };
        dry.staged = tokio::task::spawn_blocking(work).await.unwrap_or_default();
    }
}

/// Reads a staged file again and judges it; `None` when told to stop meanwhile.
fn audit_staged(
    context: &AttemptContext,
    claim: &OutputReport,
    inputs: &[InputRows],
    control: &AttemptControl,
) -> Result<Option<Audited>, Failure> {
    let OutputPlace::File { staging, .. } = &context.output else {
        return Ok(None);
    };
    let checks = &context.spec.checks;
    let reported = Reported::of(claim, &context.files.result, checks)?;
    let file = open_staged(staging)?;
    let subject = Subject {
        path: staging,
        checks,
        bounds: &context.item.bounds,
        reported: &reported,
        inputs,
        work_dir: &context.files.dir,
        stop: &|| control.kill.is_cancelled(),
    };
    audit_file(file, &subject)
}

/// Publishes an audited file, its rejects before it.
fn publish_file(
    context: &AttemptContext,
    claim: OutputReport,
    audited: &Audited,
    validation: Option<Validation>,
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
    let may_publish = || !control.kill.is_cancelled() && (control.may_publish)();
    let location = relative.to_string_lossy().into_owned();
    let report = audit::report(claim, audited, validation, location);
    if dry {
        return Ok(Outcome::Validated(report));
    }
    let mut published = Published::Yes;
    if audited.rejected.is_some_and(|rejected| rejected > 0) {
        let rejects = staged_rejects(staging);
        let file = open_staged(&rejects)?;
        let place = rejects_path(context, relative)?;
        published = publish(&file, &rejects, root, &place, &may_publish)?;
    }
    if published == Published::Yes {
        published = publish(&audited.file, staging, root, relative, &may_publish)?;
    }
    Ok(match published {
        Published::Yes => Outcome::Validated(report),
        Published::Forbidden => Outcome::Released {
            reason: "not published: the worker may no longer hold the lease".to_owned(),
        },
    })
}

/// Where the rejects of a chunk are published, below the root.
fn rejects_path(context: &AttemptContext, relative: &Path) -> Result<PathBuf, Failure> {
    let declared = context.spec.checks.rejects.as_ref();
    if let Some(template) = declared.and_then(|rejects| rejects.path.as_ref()) {
        return published_path(template, &context.item);
    }
    Ok(staged_rejects(relative))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
