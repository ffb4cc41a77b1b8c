//! `coordinator dev`: one command starts everything, one signal ends it, and even kill -9 leaves nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::endpoint::{self, SecretString, SessionSettings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::coordinator_support::chain;
use crate::harness::{Daemon, Program, eventually, process};

/// `coordinator dev` in that folder.
async fn dev(dir: &Path, workers: u32) -> Program {
    Program::coordinator(&["dev", "--workers", &workers.to_string()])
        .await
        .arg("--dir")
        .arg(dir.join("odf"))
        .arg("--script-dir")
        .arg(dir.join("scripts"))
}

/// Waits until it is ready; answers the url that its env file gives.
async fn until_ready(daemon: &mut Daemon, dir: &Path) -> String {
    daemon.until_said("ready; in another terminal").await;
    let path = dir.join("odf/env");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a password");
    let text = std::fs::read_to_string(path).unwrap();
    let url = text.strip_prefix("export ODF_DATABASE_URL='").unwrap();
    url.trim_end().strip_suffix('\'').unwrap().to_owned()
}

async fn query(url: &str, sql: &str) -> Result<Vec<String>, String> {
    let settings = SessionSettings::named("odf-it");
    let session = endpoint::connect(&SecretString::from(url.to_owned()), &settings)
        .await
        .map_err(|error| error.to_string())?;
    let rows = session.query(sql, &[]).await.map_err(|e| e.to_string())?;
    session.close().await;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn until_unreachable(url: &str) {
    eventually("the server to be gone", || async {
        let asked = query(url, "select 'still there'").await;
        asked
            .is_err_and(|error| error.contains("cannot reach"))
            .then_some(())
    })
    .await;
}

fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[tokio::test]
async fn it_starts_and_ends_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = dev(dir.path(), 0).await.start();
    let url = until_ready(&mut first, dir.path()).await;
    let file = dir.path().join("flow.yaml");
    std::fs::write(&file, chain("{ list: [a, b] }")).unwrap();
    let apply = Program::coordinator(&["apply", "-y"]).await;
    apply.database(&url).arg(&file).run().await.ok();
    let status = Program::coordinator(&["status"]).await;
    let shown = status.database(&url).run().await.ok();
    assert!(shown.contains("items"), "{shown}");

    let said = dev(dir.path(), 0).await.run().await.failed(1);
    assert!(said.contains("another 'coordinator dev' runs in"), "{said}");
    assert!(dir.path().join("odf/env").exists(), "that is the other's");
    query(&url, "select 'it goes on'").await.unwrap();

    first.stop().await;
    assert!(query(&url, "select 'x'").await.is_err());
    assert!(!dir.path().join("odf/env").exists());

    process::worker().await;
    let mut second = dev(dir.path(), 1).await.start();
    let url = until_ready(&mut second, dir.path()).await;
    let flows = query(&url, "select name from odf.flow").await.unwrap();
    assert_eq!(flows, ["test"], "the data of the first start");
    let worker = eventually("the worker to register", || async {
        let sql = "select pid::text from odf.worker_session where state = 'active'";
        query(&url, sql).await.unwrap().first()?.parse::<i32>().ok()
    })
    .await;
    assert!(lives(worker));
    second.kill_hard().await;
    until_unreachable(&url).await;
    eventually("the worker to be gone", || async {
        (!lives(worker)).then_some(())
    })
    .await;

    let mut third = dev(dir.path(), 1).await.start();
    let url = until_ready(&mut third, dir.path()).await;
    let worker = eventually("the worker to take its name again", || async {
        let sql = "select pid::text from odf.worker_session where state = 'active'";
        let pid: i32 = query(&url, sql).await.unwrap().first()?.parse().ok()?;
        lives(pid).then_some(pid)
    })
    .await;
    third.stop().await;
    assert!(!lives(worker));
    assert!(query(&url, "select 'x'").await.is_err());
}

#[tokio::test]
async fn a_worker_that_ends_ends_it_all_and_is_named() {
    process::worker().await;
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = dev(dir.path(), 2).await.start();
    let url = until_ready(&mut daemon, dir.path()).await;
    let pids = eventually("two workers", || async {
        let sql = "select pid::text from odf.worker_session where state = 'active' order by pid";
        let pids = query(&url, sql).await.unwrap();
        (pids.len() == 2).then_some(pids)
    })
    .await;
    let pids: Vec<i32> = pids.iter().map(|pid| pid.parse().unwrap()).collect();
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap();
    assert_eq!(daemon.ended().await.code(), Some(1));
    let said = daemon.said();
    assert!(said.contains("ended by itself"), "{said}");
    assert!(!lives(pids[1]), "the other one is ended in order");
    assert!(query(&url, "select 'x'").await.is_err());
}
