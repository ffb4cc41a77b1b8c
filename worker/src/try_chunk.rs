//! `worker try`: runs one chunk here, in this terminal, and publishes nothing.
//!
//! Nothing is claimed and nothing recorded: the control database is only read. A chunk whose job
//! writes to a database itself would write for real, so that must be asked for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use common::domain::{ChunkId, ChunkStatus, Fence, InputChunk, Outcome, RuleOutcome, Severity};
use common::flow::model::ConnectionKind;
use common::runtime::Shutdown;
use common::store::ControlDb;
use common::store::peek::Peeked;

use crate::attempt::{AttemptControl, DryRun, try_attempt};
use crate::daemon::config::{Config, check_script_dir, make_private_dir};
use crate::daemon::{start_guard, worker_env};

/// Chunks of an input taken whole that are asked for at once.
const PAGE: i32 = 1000;

/// Runs the chunk; answers whether it would have been published.
///
/// # Errors
/// Why it cannot be run, each with a hint.
pub(crate) async fn try_chunk(
    mut config: Config,
    chunk: &str,
    allow_writes: bool,
) -> anyhow::Result<bool> {
    if let Some(warning) = check_script_dir(&config.script_dir)? {
        tracing::warn!("{warning}");
    }
    let db = ControlDb::new(config.database_url.clone(), 1, "odf-worker try")?;
    let mut peeked = db.peek(chunk).await?;
    refuse_writes(&peeked, allow_writes)?;
    warn(&peeked);
    let fan_in = inputs_taken_whole(&db, &peeked).await?;
    // Two tries at the same time must not share a staged file.
    peeked.item.fence = Fence::new(0, rand::random::<u32>() | 1);
    // Places of its own, so that a running worker of that name is not in the way.
    config.name = format!("try-{}", std::process::id());
    make_private_dir(&config.state_dir, "state", "--state-dir")?;
    make_private_dir(&config.work_dir(), "state", "--state-dir")?;
    let guard = start_guard(&config).await?;
    let control = AttemptControl::new(Arc::new(|| false));
    let signals = Shutdown::new();
    signals.install()?;
    let run = {
        let env = worker_env(&config);
        let run = try_attempt(
            &env,
            &guard,
            &peeked.item,
            &peeked.spec,
            fan_in,
            control.clone(),
        );
        let stop = stop_on(&signals, &control);
        tokio::select! {
            run = run => run,
            never = stop => match never {},
        }
    };
    guard.shutdown().await;
    clean_up(&config);
    Ok(tell(&run))
}

/// Passes the user's signals on, for as long as it is polled.
async fn stop_on(signals: &Shutdown, control: &AttemptControl) -> std::convert::Infallible {
    signals.graceful().cancelled().await;
    control.because("interrupted");
    control.term.cancel();
    signals.forced().cancelled().await;
    control.kill.cancel();
    std::future::pending().await
}

fn refuse_writes(peeked: &Peeked, allow_writes: bool) -> anyhow::Result<()> {
    let output = &peeked.spec.output_at.connection;
    let kind = peeked.spec.connections.get(output).map(|c| &c.kind);
    if !allow_writes && !matches!(kind, Some(ConnectionKind::Files { .. })) {
        bail!(
            "job {} writes to {output} itself, so trying it may change what is there; hint: add --allow-writes if that is wanted",
            peeked.spec.name
        );
    }
    Ok(())
}

fn warn(peeked: &Peeked) {
    if peeked.status == ChunkStatus::Running {
        tracing::warn!("a worker runs this chunk right now");
    }
    for input in &peeked.item.inputs {
        if input.generation == 0 {
            tracing::warn!(
                "input {}/{} was never published: the job would not run yet",
                input.dataset,
                input.key
            );
        }
    }
}

async fn inputs_taken_whole(db: &ControlDb, peeked: &Peeked) -> anyhow::Result<Vec<InputChunk>> {
    let mut all: Vec<InputChunk> = Vec::new();
    if peeked.item.fan_in.is_empty() {
        return Ok(all);
    }
    loop {
        let after = all.last().map_or(ChunkId(0), |input| input.chunk_id);
        let page = db
            .peek_inputs(peeked.item.chunk_id, after, PAGE)
            .await
            .context("list the inputs")?;
        let last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

fn clean_up(config: &Config) {
    let lock = config.guard_lock();
    let mut scripts = lock.as_os_str().to_owned();
    scripts.push(".scripts");
    let _absent = std::fs::remove_file(&lock);
    let _absent = std::fs::remove_file(scripts);
    let _absent = std::fs::remove_dir_all(config.state_dir.join(&config.name));
}

/// One row of the table of rules.
fn rule_line(rule: &RuleOutcome) -> String {
    let answer = match (rule.ok, rule.severity) {
        (true, _) => "yes",
        (false, Severity::Fail) => "NO",
        (false, Severity::Warn) => "warn",
    };
    let expected = if rule.expected.is_empty() {
        String::new()
    } else {
        format!("; expected {}", rule.expected)
    };
    format!("{answer:<5} {:<28} {}{expected}", rule.rule, rule.found)
}

/// Says on stderr what came of it; stdout is the script's.
fn tell(run: &DryRun) -> bool {
    let took = Duration::from_millis(run.result.duration_ms.unsigned_abs());
    let took = humantime::format_duration(took);
    for verdict in &run.verdicts {
        eprintln!("{verdict}");
    }
    match &run.result.outcome {
        Outcome::Validated(report) => {
            eprintln!("would be published, after {took}");
            for (name, value) in [
                ("rows", report.rows.map(|n| n.to_string())),
                ("bytes", report.bytes.map(|n| n.to_string())),
                ("checksum", report.checksum.clone()),
                ("location", report.location.clone()),
            ] {
                if let Some(value) = value {
                    eprintln!("  {name:<9} {value}");
                }
            }
        }
        Outcome::Failed { class, error } => {
            eprintln!("failed ({}), after {took}: {error}", class.word());
        }
        Outcome::Released { reason } => eprintln!("ended, after {took}: {reason}"),
    }
    for rule in &run.rules {
        eprintln!("  {}", rule_line(rule));
    }
    if let Some(staged) = &run.staged {
        eprintln!("  staged at {}", staged.display());
    }
    if let (Some(place), Outcome::Validated(_)) = (&run.would_publish, &run.result.outcome) {
        eprintln!(
            "  nothing was published; a real attempt's place would be like {}",
            place.display()
        );
    }
    matches!(run.result.outcome, Outcome::Validated(_))
}
