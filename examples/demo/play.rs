//! The play: databases, data, daemons, faults in the middle, and the judgement at the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use common::endpoint::PgSession;

use crate::console::{self, grouped};
use crate::databases::{self, CONTROL, Databases, SOURCE, TARGET};
use crate::place::Place;
use crate::stage::{Stage, now};
use crate::tpch;
use crate::verdict::{self, Check, Killed, StageFigures, Verdict};
use crate::watch::{self, COPY_SET, FILE_SET, Progress, SOURCE_SET, State};
use crate::witness::{self, Limit};

/// Stage and the data set it makes.
const STAGES: [(&str, &str); 2] = [("extract", FILE_SET), ("load", COPY_SET)];

/// Who operates it.
const OPERATOR: &str = "demo_operator";

/// How often the control database is asked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Without any chunk finished for so long, something is wrong.
const STALL: Duration = Duration::from_secs(90);

/// With fewer chunks it may be over before there is a middle to interfere in.
const ENOUGH_CHUNKS: i64 = 200;

/// The longest that splitting may take.
const PLAN_LIMIT: Duration = Duration::from_secs(120);

/// What was done to the running system, for the judge.
#[derive(Debug, Default)]
struct Deeds {
    limits: Vec<Limit>,
    killed: Option<Killed>,
}

/// Plays everything and judges it.
pub(crate) async fn play(stage: &mut Stage) -> Result<Verdict> {
    let rows = set_up(stage).await?;
    let mut deeds = Deeds::default();
    install(stage, &mut deeds).await?;
    let control = databases::open(stage.databases()?.url(OPERATOR)).await?;
    let tiles = plan(stage, &control, rows).await?;
    run(stage, &control, &mut deeds).await?;
    look_around(stage, &deeds).await?;
    stage.end_daemons().await?;
    judge(stage, &control, &deeds, rows, tiles).await
}

/// The databases and the table to move. Gives its number of rows.
async fn set_up(stage: &mut Stage) -> Result<u64> {
    stage.console.plain(&format!(
        "TPC-H lineitem from one database into another, in {} chunks",
        grouped(stage.options.chunks.into())
    ));
    let databases = Databases::start(&stage.place, stage.options.keep).await?;
    stage.console.step(&format!(
        "{}: databases {SOURCE}, {TARGET} and {CONTROL}",
        databases.describe()
    ));
    let databases = stage.databases.insert(databases);
    stage.place.write_env(&[
        ("SOURCE_URL", databases.owner_url(SOURCE)),
        ("TARGET_URL", databases.owner_url(TARGET)),
        ("CONTROL_URL", databases.owner_url(CONTROL)),
        ("ODF_DATABASE_URL", databases.owner_url(CONTROL)),
    ])?;
    let source = databases.open(SOURCE).await?;
    let rows = tpch::load(&source, stage.options.scale_factor)
        .await
        .context("load lineitem into the source")?;
    source.close().await;
    let target = databases.open(TARGET).await?;
    target.batch_execute(tpch::TABLE).await?;
    target.batch_execute(tpch::KEY).await?;
    target.close().await;
    stage.console.step(&format!(
        "TPC-H lineitem, scale factor {}: {} rows in {SOURCE}",
        stage.options.scale_factor,
        grouped(i64::try_from(rows)?)
    ));
    Ok(rows)
}

/// Schema, logins, flow and daemons.
async fn install(stage: &mut Stage, deeds: &mut Deeds) -> Result<()> {
    stage.command("", &["init"]).await?;
    stage.databases()?.make_logins().await?;
    let template = stage.place.example.join("flow.yaml");
    let flow = std::fs::read_to_string(&template)
        .with_context(|| format!("read {}", template.display()))?;
    let flow = with_numbers(&flow, stage.options.chunks, stage.options.limits().first);
    let path = stage.place.flow();
    std::fs::write(&path, flow).with_context(|| format!("write {}", path.display()))?;
    let path = path.to_str().context("the flow file's path is not UTF-8")?;
    let scripts = stage.place.scripts();
    let scripts = scripts.to_str().context("the scripts' path is not UTF-8")?;
    let asked = now();
    let said = stage
        .command(OPERATOR, &["apply", path, "--yes", "--script-dir", scripts])
        .await?;
    stage.console.indented(&said);
    deeds.limits.push(Limit {
        running: stage.options.limits().first,
        asked,
        in_force: asked,
    });
    stage.start_coordinator()?;
    stage.start_workers()
}

/// The flow file with the numbers of this run.
fn with_numbers(flow: &str, chunks: u32, limit: u32) -> String {
    flow.replace("chunks: 1000 ", &format!("chunks: {chunks} "))
        .replace("limit: 4 ", &format!("limit: {limit} "))
}

/// Waits for the plan and has it checked: every row in exactly one chunk.
async fn plan(stage: &mut Stage, control: &PgSession, rows: u64) -> Result<Check> {
    let end = Instant::now() + PLAN_LIMIT;
    let chunks = loop {
        let state = watch::state(control).await?;
        let source = state.get(SOURCE_SET).cloned().unwrap_or_default();
        if let Some(error) = source.plan_error {
            bail!("{SOURCE_SET} could not be split: {error}");
        }
        if source.chunks > 0 {
            break source.chunks;
        }
        stage.all_up()?;
        if Instant::now() > end {
            bail!("{SOURCE_SET} was not split within {PLAN_LIMIT:?}");
        }
        pause().await;
    };
    let per_chunk = rows / u64::try_from(chunks)?.max(1);
    stage.console.step(&format!(
        "{SOURCE_SET} is split into {} chunks of about {per_chunk} rows",
        grouped(chunks)
    ));
    let login = "demo_coordinator";
    let said = stage
        .command(login, &["plan", "--check", SOURCE_SET])
        .await?;
    stage.console.indented(&said);
    stage
        .console
        .step("running; look at it from another terminal:");
    let look = format!(
        ". {}; {} status",
        Place::shown(&stage.place.env_file()),
        Place::shown(&stage.place.program("coordinator"))
    );
    stage.console.indented(&look);
    Ok(Check::new(
        said.contains("the plan tiles the table"),
        "every source row lies in exactly one chunk (coordinator plan --check)",
    ))
}

/// Follows the run to its end, with the faults in the middle.
async fn run(stage: &mut Stage, control: &PgSession, deeds: &mut Deeds) -> Result<()> {
    let mut last_change = (Instant::now(), 0);
    loop {
        let state = watch::state(control).await?;
        let of = |set: &str| state.get(set).cloned().unwrap_or_default();
        let (extract, load) = (of(FILE_SET), of(COPY_SET));
        draw(stage, &state, deeds);
        if load.chunks > 0 && load.validated == load.chunks {
            stage.console.wipe();
            return Ok(());
        }
        stage.all_up()?;
        give_up_on_exhausted(stage, control, &state).await?;
        interfere(
            stage,
            deeds,
            extract.validated * 100 / extract.chunks.max(1),
        )
        .await?;
        let done = extract.validated + load.validated;
        if done != last_change.1 {
            last_change = (Instant::now(), done);
        } else if last_change.0.elapsed() > STALL {
            let said = stage.command(OPERATOR, &["status"]).await?;
            stage.console.indented(&said);
            bail!("no chunk was finished for {} s", STALL.as_secs());
        }
        pause().await;
    }
}

/// Scales down, scales up and kills a worker, each when so many percent are extracted.
async fn interfere(stage: &mut Stage, deeds: &mut Deeds, percent: i64) -> Result<()> {
    let limits = stage.options.limits();
    match (deeds.limits.len(), &deeds.killed) {
        (1, _) if percent >= 15 => {
            scale(stage, deeds, limits.lowered, "business hours begin").await?;
        }
        (2, _) if percent >= 40 => {
            scale(stage, deeds, limits.raised, "business hours are over").await?;
        }
        (3, None) if percent >= 60 => deeds.killed = Some(stage.kill_a_worker().await?),
        _ => {}
    }
    Ok(())
}

/// Until the next look: the state of a database cannot be awaited.
async fn pause() {
    tokio::time::sleep(LOOK_EVERY).await;
}

fn draw(stage: &mut Stage, state: &State, deeds: &Deeds) {
    let stages: Vec<console::Stage> = STAGES
        .iter()
        .map(|&(name, set)| {
            let Progress {
                chunks,
                validated,
                running,
                failed,
                ..
            } = state.get(set).cloned().unwrap_or_default();
            let scaled = deeds.limits.last().map(|limit| limit.running);
            console::Stage {
                name,
                done: validated,
                chunks,
                running,
                limit: match name {
                    "extract" => scaled.unwrap_or_default(),
                    _ => stage.options.limits().first,
                },
                waiting_for_retry: failed,
            }
        })
        .collect();
    let workers = stage.workers_shown();
    stage.console.draw(&stages, &workers);
}

async fn give_up_on_exhausted(stage: &mut Stage, control: &PgSession, state: &State) -> Result<()> {
    for (_, set) in STAGES {
        if state
            .get(set)
            .is_none_or(|progress| progress.exhausted == 0)
        {
            continue;
        }
        if let Some(key) = watch::any_chunk(control, set, "exhausted").await? {
            let name = format!("{set}/{key}");
            let said = stage.command(OPERATOR, &["explain", &name]).await?;
            stage.console.indented(&said);
            bail!("chunk {name} has no attempts left");
        }
    }
    Ok(())
}

async fn scale(stage: &mut Stage, deeds: &mut Deeds, limit: u32, reason: &str) -> Result<()> {
    let asked = now();
    let number = limit.to_string();
    let arguments = ["scale", "extract", &number, "--reason", reason];
    let said = stage.command(OPERATOR, &arguments).await?;
    stage.console.indented(&said);
    deeds.limits.push(Limit {
        running: limit,
        asked,
        in_force: now(),
    });
    Ok(())
}

/// What a person would look at, and one chunk that had a hard time.
async fn look_around(stage: &mut Stage, deeds: &Deeds) -> Result<()> {
    let said = stage.command(OPERATOR, &["status"]).await?;
    stage.console.indented(&said);
    let label = deeds.killed.as_ref().map(|killed| killed.label.clone());
    let text = std::fs::read_to_string(stage.place.witness()).context("read the witness file")?;
    let runs = witness::read(&text)?;
    let hard_time = runs
        .iter()
        .find(|run| run.ended.is_none() && Some(&run.worker) == label.as_ref())
        .or_else(|| {
            runs.iter()
                .find(|run| run.ended.is_none_or(|(_, code)| code != 0))
        })
        .or(runs.first());
    if let Some(run) = hard_time {
        let set = STAGES.iter().find(|(name, _)| *name == run.stage);
        let name = format!("{}/{}", set.map_or("", |(_, set)| set), run.chunk);
        let said = stage.command(OPERATOR, &["explain", &name]).await?;
        stage.console.indented(&said);
    }
    Ok(())
}

/// Everything that must be true, and the figures.
async fn judge(
    stage: &mut Stage,
    control: &PgSession,
    deeds: &Deeds,
    rows: u64,
    tiles: Check,
) -> Result<Verdict> {
    let state = watch::state(control).await?;
    let mut stages = Vec::new();
    for (name, set) in STAGES {
        let Progress {
            chunks, validated, ..
        } = state.get(set).cloned().unwrap_or_default();
        let attempts = watch::attempts(control, set).await?;
        stages.push(StageFigures {
            name,
            chunks,
            validated,
            attempts,
        });
    }
    let source = stage.databases()?.open(SOURCE).await?;
    let target = stage.databases()?.open(TARGET).await?;
    let (source, target) = (
        tpch::fingerprint(&source).await?,
        tpch::fingerprint(&target).await?,
    );
    let complete = stages
        .iter()
        .all(|one| one.chunks > 0 && one.chunks == one.validated);
    let mut checks = vec![
        tiles,
        Check::new(complete, "every chunk is validated in both stages"),
    ];
    let chunks = stages[0].chunks;
    checks.extend(witnessed(stage, control, deeds, chunks).await?);
    let left = stage.left_over();
    checks.push(match left[..] {
        [] => Check::new(true, "no process of a worker is left"),
        _ => Check::new(
            false,
            format!("these processes of workers are left: {left:?}"),
        ),
    });
    let same = source == target && u64::try_from(source.rows)? == rows;
    checks.push(Check::new(same, "source and target hold the same rows"));
    let example = watch::any_chunk(control, COPY_SET, "validated").await?;
    Ok(Verdict {
        example: format!("{COPY_SET}/{}", example.unwrap_or_default()),
        stages,
        source,
        target,
        checks,
    })
}

/// What the scripts' own lines say.
async fn witnessed(
    stage: &Stage,
    control: &PgSession,
    deeds: &Deeds,
    chunks: i64,
) -> Result<Vec<Check>> {
    let text = std::fs::read_to_string(stage.place.witness()).context("read the witness file")?;
    let runs = witness::read(&text)?;
    let killed_gone = deeds
        .killed
        .as_ref()
        .map_or(f64::INFINITY, |killed| killed.gone);
    let judged = witness::judge(&runs, "extract", &deeds.limits, killed_gone);
    let doubled = witness::doubled(&runs, killed_gone);
    let (failed, otherwise) = witness::failures(&runs);
    let mut checks = vec![
        verdict::limits_kept(&judged),
        match doubled.first() {
            None => Check::new(true, "no chunk ran twice at the same time"),
            Some(first) => Check::new(false, format!("two attempts ran at the same time: {first}")),
        },
        Check::new(
            failed > 0 || stage.options.fail_percent == 0 || chunks < ENOUGH_CHUNKS,
            match otherwise {
                0 => format!("{failed} attempts failed on purpose and were repeated"),
                _ => format!(
                    "{failed} attempts failed on purpose, {otherwise} by themselves, and were repeated"
                ),
            },
        ),
    ];
    if deeds.limits.len() < 3 {
        let text = "the extract was not scaled down and up: there are too few chunks";
        checks.push(Check::new(chunks < ENOUGH_CHUNKS, text));
    }
    checks.push(match &deeds.killed {
        Some(killed) => verdict::none_survived(control, &runs, killed, &STAGES).await?,
        None => Check::new(
            chunks < ENOUGH_CHUNKS,
            "no worker was killed: there are too few chunks",
        ),
    });
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::flow::model::{ChunkSize, Partition};
    use common::flow::parse_flow;

    #[test]
    fn the_flow_file_is_right_and_takes_the_numbers() {
        let text = with_numbers(include_str!("flow.yaml"), 77, 5);
        let flow = parse_flow(&text, "flow.yaml").unwrap().flow;
        let Some(Partition::Key { size, .. }) = &flow.datasets[SOURCE_SET].partition else {
            panic!("{SOURCE_SET} is split by its key");
        };
        assert_eq!(*size, ChunkSize::Chunks(77));
        for (stage, set) in STAGES {
            assert_eq!(flow.pools[stage].limit, Some(5));
            assert_eq!(flow.jobs[stage].output, set);
        }
    }
}
