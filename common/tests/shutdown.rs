//! Real signals to a real process: the first asks, the second forces, the third ends.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use common::runtime::Shutdown;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CHILD: &str = "ODF_TEST_SHUTDOWN_CHILD";

/// Not a test by itself: the process that gets the signals.
#[tokio::test]
async fn signalled_process() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let shutdown = Shutdown::new();
    shutdown.install().unwrap();
    assert!(Shutdown::new().install().is_err(), "once per process");
    println!("stage: running");
    shutdown.graceful().cancelled().await;
    println!("stage: graceful");
    shutdown.forced().cancelled().await;
    println!("stage: forced");
    std::future::pending::<()>().await;
}

fn next_stage(lines: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended early");
        if let Some((_, stage)) = line.split_once("stage: ") {
            return stage.trim().to_owned();
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn signals_lead_through_the_stages() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["signalled_process", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(next_stage(&mut lines), "running");
    signal(&child, Signal::SIGTERM);
    assert_eq!(next_stage(&mut lines), "graceful");
    signal(&child, Signal::SIGINT);
    assert_eq!(next_stage(&mut lines), "forced");
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
