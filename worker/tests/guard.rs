//! The guard with real processes: nothing that a script starts outlives its attempt, its
//! worker or its guard.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{LIMIT, alive, guard_settings, pids_in, until};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use worker::guard::{GuardHandle, GuardedScript, KeeperEvent, Output, ScriptSpec, Stop};

/// A script with an open output, below a directory.
struct Script {
    spec: ScriptSpec,
    output: pipe::Receiver,
}

fn script(dir: &Path, name: &str, text: &str) -> Script {
    let program = dir.join(name);
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let fifo = dir.join(format!("{name}.fifo"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let output = pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    Script {
        spec: ScriptSpec {
            program: path(&program),
            args: Vec::new(),
            env: vec![
                ("PATH".into(), std::env::var("PATH").unwrap()),
                ("DIR".into(), path(dir)),
            ],
            cwd: path(dir),
            output: Output::Fifo(path(&fifo)),
            linger_ms: 300,
        },
        output,
    }
}

async fn all_output(mut output: pipe::Receiver) -> String {
    let mut text = Vec::new();
    output.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

async fn events(mut guarded: GuardedScript) -> Vec<KeeperEvent> {
    let mut all = Vec::new();
    let collect = async {
        while let Some(event) = guarded.next_event().await {
            all.push(event);
        }
    };
    tokio::time::timeout(LIMIT, collect)
        .await
        .expect("the script ends");
    all
}

const FAMILY: &str = r#"#!/bin/sh
# Children of every kind: plain, in another session, double-forked, without any environment.
sleep 600 & echo $! >> "$DIR/pids"
setsid sh -c 'echo $$ >> "$DIR/pids"; trap "" TERM; while :; do sleep 600; done' &
( setsid env -i sh -c 'echo $$ >> '"$DIR"'/pids; exec sleep 600' & )
( ( sleep 600 & echo $! >> "$DIR/pids" ) & )
while [ $(wc -l < "$DIR/pids") -lt 4 ]; do sleep 0.02; done
"#;

#[tokio::test]
async fn a_script_runs_with_its_arguments_and_environment_and_its_end_is_told() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let mut run = script(
        dir.path(),
        "s.sh",
        "#!/bin/sh\nprintf '%s|' \"$@\" \"$WEIRD\" \"${HOME-none}\"\necho err >&2\nexit 7\n",
    );
    let weird = "a'b\"c\n$(touch pwned)\t\u{1F980}";
    run.spec.args = vec![weird.into(), String::new()];
    run.spec.env.push(("WEIRD".into(), weird.into()));
    let guarded = guard.spawn(run.spec).await.unwrap();
    assert_eq!(
        events(guarded).await,
        [
            KeeperEvent::Exited {
                code: Some(7),
                signal: None
            },
            KeeperEvent::Gone {
                leftovers: 0,
                fault: None
            }
        ]
    );
    assert_eq!(
        all_output(run.output).await,
        format!("{weird}||{weird}|none|err\n")
    );
    assert!(!dir.path().join("pwned").exists());
}

#[tokio::test]
async fn a_script_gets_no_file_of_ours() {
    let dir = TempDir::new().unwrap();
    // As if the worker's own parent had left a file open for it.
    let leak = fs::File::create(dir.path().join("leak")).unwrap();
    nix::fcntl::fcntl(
        &leak,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let run = script(dir.path(), "s.sh", "#!/bin/sh\nexec ls -l /proc/self/fd\n");
    let Output::Fifo(fifo) = run.spec.output.clone() else {
        panic!("a FIFO");
    };
    events(guard.spawn(run.spec).await.unwrap()).await;
    let text = all_output(run.output).await;
    let open: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(" -> ")?.1))
        .filter(|target| !target.starts_with("/proc/"))
        .collect();
    assert_eq!(open, ["/dev/null", &fifo, &fifo]);
}

#[tokio::test]
async fn a_script_has_no_signal_blocked_or_ignored() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let run = script(
        dir.path(),
        "s.sh",
        "#!/bin/sh\nexec grep -E '^Sig(Blk|Ign)' /proc/self/status\n",
    );
    events(guard.spawn(run.spec).await.unwrap()).await;
    let text = all_output(run.output).await;
    let masks: Vec<u64> = text
        .lines()
        .map(|line| u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap())
        .collect();
    // The two signals that the C library keeps for itself may be ignored.
    let library = (1 << 31) | (1 << 32);
    assert_eq!(masks.len(), 2, "{text}");
    assert!(masks[0] == 0 && masks[1] & !library == 0, "{text}");
    // An end by TERM alone, of a script that does nothing about it.
    let run = script(dir.path(), "t.sh", "#!/bin/sh\nexec sleep 600\n");
    let guarded = guard.spawn(run.spec).await.unwrap();
    guarded.stop(Stop::Term);
    let ended = KeeperEvent::Exited {
        code: None,
        signal: Some(15),
    };
    assert_eq!(events(guarded).await[0], ended);
}

#[tokio::test]
async fn whatever_outlives_its_script_is_killed() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    // Another attempt of the same worker is not touched by it.
    let other = script(dir.path(), "other.sh", "#!/bin/sh\nexec sleep 600\n");
    let other = guard.spawn(other.spec).await.unwrap();
    let run = script(dir.path(), "s.sh", FAMILY);
    let all = events(guard.spawn(run.spec).await.unwrap()).await;
    let pids = pids_in(&dir.path().join("pids"), 4).await;
    let survivors: Vec<&i32> = pids.iter().filter(|pid| alive(**pid)).collect();
    assert!(survivors.is_empty(), "alive after `gone`: {survivors:?}");
    assert!(
        matches!(all.last(), Some(KeeperEvent::Gone { leftovers, fault: None }) if *leftovers >= 4),
        "{all:?}"
    );
    assert!(alive(other.pid()));
    all_output(run.output).await;
}

#[tokio::test]
async fn a_process_that_never_stays_the_same_is_caught() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    // Each one starts the next in a session of its own and is gone after a moment.
    let run = script(
        dir.path(),
        "s.sh",
        "#!/bin/sh\necho $$ >> \"$DIR/pids\"\nsetsid \"$0\" &\nexit 0\n",
    );
    let all = events(guard.spawn(run.spec).await.unwrap()).await;
    assert!(
        matches!(all.last(), Some(KeeperEvent::Gone { fault: None, .. })),
        "{all:?}"
    );
    let pids = pids_in(&dir.path().join("pids"), 10).await;
    assert!(pids.iter().all(|pid| !alive(*pid)));
}

#[tokio::test]
async fn a_short_tail_of_a_pipeline_may_finish() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let mut run = script(
        dir.path(),
        "s.sh",
        "#!/bin/sh\n(sleep 0.2; echo late > \"$DIR/late\") &\nexit 0\n",
    );
    run.spec.linger_ms = 20_000;
    let all = events(guard.spawn(run.spec).await.unwrap()).await;
    assert_eq!(
        fs::read_to_string(dir.path().join("late")).unwrap(),
        "late\n"
    );
    assert!(matches!(
        all.last(),
        Some(KeeperEvent::Gone { leftovers: 0, .. })
    ));
}

#[tokio::test]
async fn term_reaches_every_process_and_kill_ends_those_that_ignore_it() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let run = script(
        dir.path(),
        "s.sh",
        "#!/bin/sh\n\
         setsid sh -c 'trap \"echo polite >> $DIR/heard; exit\" TERM; echo $$ >> $DIR/pids; while :; do sleep 0.05; done' &\n\
         trap 'echo stubborn >> $DIR/heard' TERM\n\
         echo $$ >> $DIR/pids\nwhile :; do sleep 0.05; done\n",
    );
    let guarded = guard.spawn(run.spec).await.unwrap();
    let pids = pids_in(&dir.path().join("pids"), 2).await;
    guarded.stop(Stop::Term);
    let heard = dir.path().join("heard");
    until("both heard TERM", || {
        fs::read_to_string(&heard)
            .unwrap_or_default()
            .lines()
            .count()
            == 2
    })
    .await;
    assert!(alive(guarded.pid()), "one that ignores TERM goes on");
    guarded.stop(Stop::Kill);
    let all = events(guarded).await;
    assert_eq!(
        all[0],
        KeeperEvent::Exited {
            code: None,
            signal: Some(9)
        }
    );
    assert!(pids.iter().all(|pid| !alive(*pid)));
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    for (name, text, errno) in [
        ("no-shebang", "echo hello\n", nix::libc::ENOEXEC),
        (
            "no-interpreter",
            "#!/nonexistent/python\n",
            nix::libc::ENOENT,
        ),
    ] {
        let run = script(dir.path(), name, text);
        let error = guard.spawn(run.spec).await.unwrap_err();
        assert!(
            matches!(&error, worker::guard::SpawnError::Refused { errno: Some(found), .. } if *found == errno),
            "{name}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_guard_that_is_killed_leaves_nothing_and_is_reported() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let run = script(dir.path(), "s.sh", &format!("{FAMILY}sleep 600\n"));
    let guarded = guard.spawn(run.spec).await.unwrap();
    let script_pid = guarded.pid();
    let mut pids = pids_in(&dir.path().join("pids"), 4).await;
    pids.push(script_pid);
    kill(Pid::from_raw(parent(parent(script_pid))), Signal::SIGKILL).unwrap();
    let reason = tokio::time::timeout(LIMIT, guard.until_lost())
        .await
        .unwrap();
    assert!(reason.contains("signal: 9"), "{reason}");
    assert_eq!(events(guarded).await, []);
    // A new guard is ready only when the scripts of the old one are dead.
    let _next = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}

#[tokio::test]
async fn a_keeper_that_is_killed_takes_its_tree_along() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let run = script(dir.path(), "s.sh", &format!("{FAMILY}sleep 600\n"));
    let guarded = guard.spawn(run.spec).await.unwrap();
    let script_pid = guarded.pid();
    let pids = pids_in(&dir.path().join("pids"), 4).await;
    kill(Pid::from_raw(parent(script_pid)), Signal::SIGKILL).unwrap();
    let all = events(guarded).await;
    assert!(
        matches!(all.as_slice(), [KeeperEvent::Gone { fault: Some(fault), .. }] if fault.contains("signal 9")),
        "{all:?}"
    );
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
    assert_eq!(guard.lost(), None, "the guard goes on");
}

#[tokio::test]
async fn a_keeper_that_is_stopped_kills_all_the_same() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let run = script(dir.path(), "s.sh", "#!/bin/sh\nexec sleep 600\n");
    let guarded = guard.spawn(run.spec).await.unwrap();
    let pid = guarded.pid();
    kill(Pid::from_raw(parent(pid)), Signal::SIGSTOP).unwrap();
    guarded.stop(Stop::Kill);
    let all = events(guarded).await;
    assert!(
        matches!(all.last(), Some(KeeperEvent::Gone { .. })),
        "{all:?}"
    );
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_guard_that_is_stopped_is_ended_with_its_scripts() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let run = script(dir.path(), "s.sh", "#!/bin/sh\nexec sleep 600\n");
    let guarded = guard.spawn(run.spec).await.unwrap();
    let pid = guarded.pid();
    kill(Pid::from_raw(parent(parent(pid))), Signal::SIGSTOP).unwrap();
    let reason = tokio::time::timeout(LIMIT, guard.until_lost())
        .await
        .unwrap();
    assert!(reason.contains("did not answer"), "{reason}");
    until("the script is dead", || !alive(pid)).await;
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn two_workers_cannot_share_a_lock_and_shutdown_frees_it() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let mut impatient = guard_settings(dir.path());
    impatient.start_timeout = Duration::from_millis(300);
    let error = GuardHandle::start(impatient).await.unwrap_err();
    assert!(error.to_string().contains("another worker"), "{error}");
    let run = script(dir.path(), "s.sh", "#!/bin/sh\nexec sleep 600\n");
    let guarded = guard.spawn(run.spec).await.unwrap();
    tokio::time::timeout(LIMIT, guard.shutdown()).await.unwrap();
    assert!(!alive(guarded.pid()));
    GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
}

/// Not a test by itself: run as a process of its own, it holds a guard until it is killed.
#[tokio::test]
async fn helper_that_holds_a_guard() {
    let Some(dir) = std::env::var_os("ODF_TEST_GUARD_DIR").map(PathBuf::from) else {
        return;
    };
    let guard = GuardHandle::start(guard_settings(&dir)).await.unwrap();
    let run = script(
        &dir,
        "s.sh",
        &format!("{FAMILY}echo $$ >> $DIR/pids; sleep 600\n"),
    );
    let _script = guard.spawn(run.spec).await.unwrap();
    std::future::pending::<()>().await;
}

/// Starts [`helper_that_holds_a_guard`] in its own process group, waits for its script's family.
async fn holder(dir: &Path) -> (std::process::Child, Vec<i32>) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_holds_a_guard", "--nocapture"])
        .env("ODF_TEST_GUARD_DIR", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let pids = pids_in(&dir.join("pids"), 5).await;
    (child, pids)
}

#[tokio::test]
async fn a_worker_killed_with_9_leaves_no_descendant() {
    let dir = TempDir::new().unwrap();
    let (mut child, pids) = holder(dir.path()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let _next = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}

#[tokio::test]
async fn a_worker_that_is_stopped_loses_its_scripts_after_the_tick_timeout() {
    let dir = TempDir::new().unwrap();
    let (mut child, pids) = holder(dir.path()).await;
    let worker = Pid::from_raw(child.id() as i32);
    kill(worker, Signal::SIGSTOP).unwrap();
    let stopped = std::time::Instant::now();
    until("the scripts are dead", || {
        pids.iter().all(|pid| !alive(*pid))
    })
    .await;
    assert!(stopped.elapsed() > Duration::from_millis(1500));
    // The stopped worker's lock is free although it is still there.
    GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    assert!(alive(worker.as_raw()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_terminal_or_a_service_manager_does_not_end_the_guard() {
    let dir = TempDir::new().unwrap();
    let guard = GuardHandle::start(guard_settings(dir.path()))
        .await
        .unwrap();
    let run = script(dir.path(), "s.sh", "#!/bin/sh\nread line < go; exit 0\n");
    nix::unistd::mkfifo(&dir.path().join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let guarded = guard.spawn(run.spec).await.unwrap();
    let keeper = parent(guarded.pid());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        kill(Pid::from_raw(keeper), signal).unwrap();
        kill(Pid::from_raw(parent(keeper)), signal).unwrap();
    }
    fs::write(dir.path().join("go"), "go\n").unwrap();
    let all = events(guarded).await;
    assert!(
        matches!(all[0], KeeperEvent::Exited { code: Some(0), .. }),
        "{all:?}"
    );
    assert_eq!(guard.lost(), None);
}
