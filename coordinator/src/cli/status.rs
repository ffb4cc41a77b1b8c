//! `status`: one line a data set with its state, its speed and what keeps it; once or watched.

mod loops;
mod view;

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::Shown;
use super::wait;
use crate::read::facts::DataSetFacts;
use crate::read::state::{self, Speed, Standing, Verdict};
use crate::read::{ReadError, status};
use view::{Line, Status};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these data sets
    #[arg(value_name = "DATASET")]
    pub names: Vec<String>,
    /// Look again and again
    #[arg(short, long)]
    pub watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub interval: Duration,
    /// Watch until every data set is done (exit 0), or what is left needs a person (exit 5)
    #[arg(long, conflicts_with = "loops")]
    pub until_done: bool,
    /// Stop watching after so long (exit 124 with --until-done)
    #[arg(long, value_name = "TIME", value_parser = wait::duration)]
    pub timeout: Option<Duration>,
    /// What the coordinator's loops did last
    #[arg(long, conflicts_with = "names")]
    pub loops: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = wait::duration(text)?;
    if interval < Duration::from_millis(100) {
        return Err(format!("expected at least 100ms, found {text:?}"));
    }
    Ok(interval)
}

/// Runs `status`.
///
/// # Errors
/// As the server answers; while watching, a database that is away for a time is waited for.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    if !args.watch && !args.until_done {
        return if args.loops {
            let loops = loops::look(&db).await?;
            session.out.show(&loops)?;
            Ok(Exit::Ok)
        } else {
            let (status, _) = look(&db, &args, session.global.flow.as_deref()).await?;
            session.out.show(&status)?;
            Ok(Exit::Ok)
        };
    }
    watch(&args, &db, session).await
}

async fn watch(args: &Args, db: &PgPool, session: &mut Session) -> Result<Exit, Failure> {
    let start = Instant::now();
    let mut shown = String::new();
    let mut degraded_before = false;
    loop {
        let mut verdict = Verdict::Open;
        let looked = if args.loops {
            loops::look(db).await.map(|loops| render(&loops, session))
        } else {
            look(db, args, session.global.flow.as_deref())
                .await
                .map(|(status, found)| {
                    verdict = found;
                    render(&status, session)
                })
        };
        match looked {
            Ok(text) => redraw(&text?, &mut shown, session)?,
            Err(error) if error.may_pass() => session.out.say(format!("{error}; looking again")),
            Err(error) => return Err(error.into()),
        }
        if args.until_done {
            // Twice in a row, so that the moment between two states is not taken for the end.
            match verdict {
                Verdict::Done => return Ok(Exit::Ok),
                Verdict::Degraded if degraded_before => return Ok(Exit::Degraded),
                Verdict::Degraded => degraded_before = true,
                Verdict::Open => degraded_before = false,
            }
        }
        if args
            .timeout
            .is_some_and(|timeout| start.elapsed() >= timeout)
        {
            return Ok(if args.until_done {
                Exit::TimedOut
            } else {
                Exit::Ok
            });
        }
        tokio::time::sleep(args.interval).await;
    }
}

fn render<T: Shown>(value: &T, session: &Session) -> Result<String, Failure> {
    if session.out.is_json() {
        let line = serde_json::to_string(value)
            .map_err(|error| Failure::new(Exit::Error, format!("write the answer: {error}")))?;
        return Ok(line + "\n");
    }
    let mut page = session.out.page();
    value.human(&mut page);
    Ok(page.into_text())
}

/// A terminal shows the newest state in place; a pipe gets the lines that changed.
fn redraw(text: &str, shown: &mut String, session: &mut Session) -> Result<(), Failure> {
    if session.out.redraws && !session.out.is_json() {
        // Home, each line cleared to its end, then everything below: nothing flickers.
        let lines: String = text
            .lines()
            .map(|line| format!("{line}\u{1b}[K\n"))
            .collect();
        let first = if shown.is_empty() { "\u{1b}[2J" } else { "" };
        session
            .out
            .raw(&format!("{first}\u{1b}[H{lines}\u{1b}[J"))?;
    } else {
        let before: Vec<&str> = shown.lines().collect();
        let changed: Vec<&str> = text.lines().filter(|line| !before.contains(line)).collect();
        let at = session
            .out
            .page()
            .zoned(chrono::Utc::now())
            .format("%H:%M:%S  ")
            .to_string();
        let at = if session.out.is_json() { "" } else { &at };
        for line in changed {
            session.out.raw(&format!("{at}{line}\n"))?;
        }
    }
    shown.clear();
    shown.push_str(text);
    Ok(())
}

async fn look(
    db: &PgPool,
    args: &Args,
    flow: Option<&str>,
) -> Result<(Status, Verdict), ReadError> {
    let fleet = status::fleet(db).await?;
    let all = status::data_sets(db, flow).await?;
    if let Some(flow) = flow.filter(|_| all.is_empty()) {
        return Err(ReadError::NotFound {
            message: format!("no flow named {flow:?}"),
            hint: None,
        });
    }
    check_names(&all, &args.names)?;
    let standings: Vec<Standing> = all.iter().map(|set| state::standing(set, &fleet)).collect();
    let speeds: Vec<Option<Speed>> = all
        .iter()
        .map(|set| {
            set.sample
                .as_ref()
                .and_then(|sample| state::speed(sample, fleet.now))
        })
        .collect();
    let triples: Vec<_> = all
        .iter()
        .zip(&standings)
        .zip(&speeds)
        .map(|((set, standing), speed)| (set, standing, *speed))
        .collect();
    let ends = state::ends(&triples, fleet.now);
    let mut datasets = Vec::new();
    let mut judged = Vec::new();
    for ((set, standing), speed) in all.into_iter().zip(standings).zip(speeds) {
        if !args.names.is_empty() && !args.names.contains(&set.name) {
            continue;
        }
        judged.push(standing.clone());
        let eta = ends.get(&set.data_set_id).copied();
        datasets.push(Line::new(set, standing, speed, eta));
    }
    let verdict = if judged.is_empty() {
        Verdict::Open
    } else {
        state::verdict(&judged)
    };
    Ok((Status { fleet, datasets }, verdict))
}

fn check_names(all: &[DataSetFacts], names: &[String]) -> Result<(), ReadError> {
    match names
        .iter()
        .find(|name| !all.iter().any(|set| &set.name == *name))
    {
        None => Ok(()),
        Some(name) => {
            let known: Vec<&str> = all.iter().map(|set| set.name.as_str()).collect();
            Err(ReadError::NotFound {
                message: format!("no data set named {name:?}"),
                hint: Some(format!("data sets: {}", known.join(", "))),
            })
        }
    }
}
