//! Jobs: what they read, make and run, and the times they are given.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, text, variables};
use crate::flow::duration::format_duration;
use crate::flow::model::{Input, Job, Mapping, Retry, Run};
use crate::flow::raw::{RawInputs, RawJob, RawRetry, RawRun};
use crate::flow::read::{At, NamedEntry, Place, Problems};
use crate::flow::scalar::{Environments, Span, Text};
use crate::flow::tree::shorten;

/// How long an attempt may go on unheard unless its job says otherwise, in seconds.
const SILENCE: u64 = 25;

/// The least that beats and sweeps can tell apart from a dead attempt, in seconds.
const MIN_SILENCE: u64 = 5;

/// Time between TERM and KILL unless the job says otherwise, in seconds.
const KILL_GRACE: u64 = 10;

/// Builds every job that can be built.
pub(super) fn build_all(
    context: &Context<'_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Job> {
    let mut built = BTreeMap::new();
    for entry in context.jobs.entries {
        if let Some(job) = build(context, entry, problems) {
            built.insert(entry.name.clone(), job);
        }
    }
    built
}

fn build(
    context: &Context<'_>,
    entry: &NamedEntry<RawJob>,
    problems: &mut Problems<'_>,
) -> Option<Job> {
    let raw = entry.value.as_ref()?;
    let inputs = raw
        .input
        .as_ref()
        .map(|input| inputs(context, input, raw, problems));
    if let Some(output) = raw.output.as_ref() {
        context.dataset_exists(output, problems);
    }
    let run = raw.run.as_ref().and_then(|run| run_script(run, problems));
    let mut pools = list(raw.pools.as_ref(), "pool", problems, |pool, problems| {
        context.pool_exists(pool, problems);
    });
    // A job always draws from the pool of its own name; the model lists the others.
    pools.retain(|pool| *pool != entry.name);
    let connections = list(
        raw.connections.as_ref(),
        "connection",
        problems,
        |name, problems| {
            context.connection_exists(name, problems);
        },
    );
    let labels = list(raw.labels.as_ref(), "label", problems, |label, problems| {
        text::label(label, "a label", problems);
    });
    let mut seconds = |span: Option<&At<Span>>, least: u64| {
        span.map(|span| whole_seconds(span.value, &span.place, least, problems))
    };
    let timeout_seconds = seconds(raw.timeout.as_ref(), 1);
    let silence_seconds = seconds(raw.silence.as_ref(), MIN_SILENCE).unwrap_or(SILENCE);
    let kill_grace_seconds = seconds(raw.kill_grace.as_ref(), 0).unwrap_or(KILL_GRACE);
    let retry = raw
        .retry
        .as_ref()
        .map(|raw| retry(raw, problems))
        .unwrap_or_default();
    Some(Job {
        inputs: inputs?,
        output: raw.output.as_ref()?.value.0.clone(),
        run: run?,
        pools,
        connections,
        labels,
        priority: raw.priority.as_ref().map_or(0, |priority| priority.value.0),
        retry,
        timeout_seconds,
        silence_seconds,
        kill_grace_seconds,
        approve: raw.approve.as_ref().is_some_and(|approve| approve.value),
        mixed_environments: raw
            .environments
            .as_ref()
            .is_some_and(|given| given.value == Environments::Mixed),
    })
}

fn inputs(
    context: &Context<'_>,
    inputs: &At<RawInputs>,
    job: &RawJob,
    problems: &mut Problems<'_>,
) -> Vec<Input> {
    let output = job.output.as_ref().map(|output| output.value.0.as_str());
    let mut seen = BTreeSet::new();
    let mut built = Vec::new();
    for input in &inputs.value.0 {
        let Some(dataset) = input.value.dataset.as_ref() else {
            continue;
        };
        let name = dataset.value.0.as_str();
        context.dataset_exists(dataset, problems);
        if output == Some(name) {
            problems
                .error(
                    &dataset.place,
                    format!("the job reads {:?}, which it makes itself", shorten(name)),
                )
                .expected("an input that is not the job's output");
            continue;
        }
        let Some(mapping) = super::window::mapping(&input.value, problems) else {
            continue;
        };
        // A window and the one before it may come from one data set; anything else twice is a slip.
        let twice = !seen.insert((name, matches!(mapping, Mapping::Previous { .. })));
        if twice {
            problems
                .error(
                    &dataset.place,
                    format!("the input {:?} stands here twice", shorten(name)),
                )
                .hint("keep one of them");
        }
        built.push(Input {
            dataset: name.to_owned(),
            mapping,
            accept_unvalidated: input.value.accept.is_written(),
        });
    }
    built
}

/// A list of names, each checked and none twice.
fn list(
    names: Option<&At<Vec<At<Text>>>>,
    what: &str,
    problems: &mut Problems<'_>,
    check: impl Fn(&At<Text>, &mut Problems<'_>),
) -> Vec<String> {
    let mut built: Vec<String> = Vec::new();
    for name in names.into_iter().flat_map(|names| &names.value) {
        check(name, problems);
        if built.contains(&name.value.0) {
            let shown = shorten(&name.value.0);
            problems.error(
                &name.place,
                format!("the {what} {shown:?} stands here twice"),
            );
            continue;
        }
        built.push(name.value.0.clone());
    }
    built
}

fn run_script(run: &At<RawRun>, problems: &mut Problems<'_>) -> Option<Run> {
    let raw = &run.value;
    let args = raw
        .args
        .as_ref()
        .map_or(&[][..], |args| args.value.as_slice());
    for arg in args {
        text::argument(arg, problems);
    }
    let env = raw.env.as_ref().map(|env| {
        for entry in &env.value.0 {
            variables::name(&entry.name, &entry.place.at_key(), problems);
        }
        variables::build(&env.value, problems)
    });
    let script = raw.script.as_ref()?;
    text::relative_path(
        script,
        "the script",
        "the worker's script directory",
        problems,
    );
    Some(Run::Script {
        script: script.value.0.clone(),
        args: args.iter().map(|arg| arg.value.0.clone()).collect(),
        env: env.unwrap_or_default(),
    })
}

fn retry(raw: &At<RawRetry>, problems: &mut Problems<'_>) -> Retry {
    let default = Retry::default();
    let given = &raw.value;
    let retry = Retry {
        attempts: given
            .attempts
            .as_ref()
            .map_or(default.attempts, |attempts| attempts.value.0),
        backoff_ms: given
            .backoff
            .as_ref()
            .map_or(default.backoff_ms, |span| span.value.millis),
        max_backoff_ms: given
            .max_backoff
            .as_ref()
            .map_or(default.max_backoff_ms, |span| span.value.millis),
    };
    if let Some(backoff) = given.backoff.as_ref().filter(|span| span.value.millis == 0) {
        problems
            .error(&backoff.place, format!("{} is 0s", backoff.place.path))
            .expected("a first delay longer than nothing");
    }
    if retry.max_backoff_ms < retry.backoff_ms {
        let place = given
            .max_backoff
            .as_ref()
            .or_else(|| given.backoff.as_ref())
            .map(|span| &span.place);
        let show = |millis| format_duration(std::time::Duration::from_millis(millis));
        let (first, longest) = (show(retry.backoff_ms), show(retry.max_backoff_ms));
        problems
            .error(
                place.unwrap_or(&raw.place),
                format!("the longest delay ({longest}) is shorter than the first ({first})"),
            )
            .expected(format!("max_backoff of at least {first}"))
            .hint("unless given, backoff is 10s and max_backoff is 10m");
    }
    retry
}

/// A duration that is kept in seconds.
pub(super) fn whole_seconds(
    span: Span,
    place: &Place,
    least: u64,
    problems: &mut Problems<'_>,
) -> u64 {
    let seconds = span.millis / 1000;
    let shown = format_duration(std::time::Duration::from_millis(span.millis));
    if seconds < least {
        problems
            .error(place, format!("{} is {shown}", place.path))
            .expected(format!("at least {least}s"));
    } else if !span.millis.is_multiple_of(1000) {
        problems
            .error(place, format!("{} is {shown}", place.path))
            .expected("whole seconds");
    }
    seconds
}
