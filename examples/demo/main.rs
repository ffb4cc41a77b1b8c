//! `make demo`: a real migration from beginning to end, with faults, and the proof that it is right.
//!
//! It makes a private PostgreSQL with three databases, fills one with TPC-H `lineitem`, and lets a
//! real coordinator and real workers move the table into another in a thousand chunks: extracted by
//! a script to files, loaded by another. On the way some attempts fail on purpose, the number of
//! running extracts is scaled down and up, and a worker is killed with -9. At the end both tables
//! are compared, and a witness file that the scripts wrote says whether the limits were kept.
//! Whatever happens, nothing is left running.

#![allow(clippy::print_stdout, reason = "it is a program to watch")]

mod console;
mod daemons;
mod databases;
mod options;
mod place;
mod play;
mod stage;
mod tpch;
mod verdict;
mod watch;
mod witness;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use options::{Options, Verb};
use place::Place;
use stage::Stage;
use verdict::Verdict;

// One thread: the kernel ends the daemons with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.verb {
        Some(Verb::Stop) => stop().await,
        None => demo(options).await,
    };
    match outcome {
        Ok(last_line) => {
            println!("{last_line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn stop() -> Result<String> {
    let place = Place::find()?;
    let _lock = place.lock()?;
    let was_up = databases::stop(&place).await?;
    place.clean_up()?;
    Ok(if was_up {
        "the demo's databases are stopped and removed".to_owned()
    } else {
        "nothing to stop: the demo's databases are not up".to_owned()
    })
}

async fn demo(options: Options) -> Result<String> {
    let place = Place::find()?;
    let _lock = place.lock()?;
    place.clear()?;
    let keep = options.keep;
    let mut stage = Stage::new(options, place);
    let outcome = tokio::select! {
        outcome = play::play(&mut stage) => outcome,
        error = interrupted() => Err(error),
    };
    stage.console.wipe();
    let cleaned = stage.clean_up(keep).await;
    match outcome {
        Ok(verdict) => {
            cleaned?;
            conclude(&mut stage, &verdict)
        }
        Err(error) => {
            if let Err(also) = cleaned {
                stage.console.plain(&format!("while cleaning up: {also:#}"));
            }
            where_to_look(&mut stage);
            Err(error)
        }
    }
}

fn conclude(stage: &mut Stage, verdict: &Verdict) -> Result<String> {
    stage.console.plain("");
    for line in verdict.lines() {
        stage.console.plain(&line);
    }
    stage.console.plain("");
    for check in &verdict.checks {
        stage.console.check(check.holds, &check.text);
    }
    stage.console.plain("");
    if let Some(failure) = verdict.failure() {
        where_to_look(stage);
        return Err(anyhow!("{failure}"));
    }
    how_to_go_on(stage, &verdict.example);
    let seconds = stage.console.seconds();
    Ok(format!("demo ok: {} seconds={seconds}", verdict.figures()))
}

fn how_to_go_on(stage: &mut Stage, example: &str) {
    let env = Place::shown(&stage.place.env_file());
    let coordinator = Place::shown(&stage.place.program("coordinator"));
    let lines = if stage.options.keep {
        vec![
            "The databases are up; 'make demo-stop' ends them. Look around:".to_owned(),
            format!("  . {env}"),
            format!("  {coordinator} status"),
            format!("  {coordinator} explain {example}"),
            "  psql \"$TARGET_URL\" -c 'select count(*) from lineitem'".to_owned(),
        ]
    } else {
        vec!["To look around afterwards: make demo KEEP=1".to_owned()]
    };
    for line in lines {
        stage.console.plain(&line);
    }
}

fn where_to_look(stage: &mut Stage) {
    let logs = Place::shown(&stage.place.logs());
    let witness = Place::shown(&stage.place.witness());
    let mut lines = vec![
        format!("What the daemons said: {logs}"),
        format!("Which script ran when: {witness}"),
    ];
    if stage.options.keep {
        let env = Place::shown(&stage.place.env_file());
        lines.push(format!(
            "The databases are up, see {env}; 'make demo-stop' ends them."
        ));
    } else {
        lines.push("To have the databases kept for a look: make demo KEEP=1".to_owned());
    }
    for line in lines {
        stage.console.plain(&line);
    }
}

/// Waits for Ctrl-C or another request to end.
async fn interrupted() -> anyhow::Error {
    let wait = async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        std::io::Result::Ok(())
    };
    match wait.await {
        Ok(()) => anyhow!("interrupted; everything that was started has been ended"),
        Err(error) => anyhow!("cannot listen for signals: {error}"),
    }
}
