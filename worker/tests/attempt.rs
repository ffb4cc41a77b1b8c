//! Attempts with real scripts: what each kind of ending means, and what reaches the script and
//! the published file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use common::domain::{FailureClass, Fence, Outcome};
use support::{Bench, alive, failure, files_connection, pids_in, report, until};
use worker::attempt::{AttemptControl, LogLimits, Progress};

#[tokio::test]
async fn a_good_script_publishes_one_file_under_a_name_with_the_fence() {
    let bench = Bench::new(
        "#!/bin/sh\necho hello; echo world >&2\nprintf 'a,b\\n' > \"$ODF_STAGING\"\n\
         echo '{\"rows\": 1, \"bytes\": 4}' > \"$ODF_RESULT\"\n",
    )
    .await;
    let result = bench.run().await;
    let fence = Fence::new(1, 2);
    let location = format!("orders/00042.{fence}.csv");
    let report = report(&result);
    assert_eq!(report.location.as_deref(), Some(location.as_str()));
    assert_eq!((report.rows, report.bytes), (Some(1), Some(4)));
    assert_eq!(
        report.checksum.as_deref(),
        Some("sha256:5be08c9684a1d25efcee09318204824278b08bbfb4aef973ffefd0b9d7478313")
    );
    assert_eq!(bench.published(), [location.as_str()]);
    assert_eq!(
        fs::read_to_string(bench.path("lake").join(location)).unwrap(),
        "a,b\n"
    );
    assert_eq!(result.log_tail, "hello\nworld\n");
    assert_eq!(bench.log(&result), b"hello\nworld\n");
    assert_eq!((result.exit_code, result.signal), (Some(0), None));
    assert_eq!(result.script_sha256.as_ref().map(String::len), Some(64));
    assert!(
        result
            .log_path
            .unwrap()
            .ends_with(&format!("logs/orders_file/00042/{fence}.log"))
    );
    assert_eq!(bench.staged(), 0);
    bench.assert_clean();
}

#[tokio::test]
async fn exit_codes_have_their_classes_and_leave_nothing() {
    use FailureClass::{Host, Permanent, Transient};
    let mut bench = Bench::new("#!/bin/sh\necho x > $ODF_STAGING; echo why; exit $1\n").await;
    for (code, class) in [
        ("65", Permanent),
        ("75", Transient),
        ("78", Host),
        ("1", Transient),
        ("127", Transient),
    ] {
        bench.set_args(&[code]);
        let result = bench.run().await;
        let (found, error) = failure(&result);
        assert_eq!(found, class, "exit code {code}");
        assert!(error.starts_with(&format!("exit code {code}")), "{error}");
        assert!(error.ends_with(": why"), "{error}");
        assert_eq!(result.exit_code, code.parse().ok());
        assert_eq!(bench.staged(), 0);
        bench.assert_clean();
    }
    assert!(bench.published().is_empty());
}

#[tokio::test]
async fn signals_have_their_classes() {
    let mut bench = Bench::new("#!/bin/sh\nkill -$1 $$\nexec sleep 600\n").await;
    for (signal, class) in [
        (9, FailureClass::TooBig),
        (15, FailureClass::Transient),
        (11, FailureClass::Transient),
        (40, FailureClass::Transient),
    ] {
        bench.set_args(&[&signal.to_string()]);
        let result = bench.run().await;
        let (found, error) = failure(&result);
        assert_eq!((found, result.signal), (class, Some(signal)), "{error}");
        assert!(error.contains(&format!("signal {signal}")), "{error}");
    }
}

#[tokio::test]
async fn scripts_that_cannot_run_say_why() {
    let mut bench = Bench::new("#!/bin/sh\n").await;
    let directory = bench.env.script_dir.clone();
    bench.script("not-executable", "#!/bin/sh\n", 0o644);
    bench.script("no-shebang", "echo ran > $ODF_STAGING\n", 0o755);
    bench.script("no-interpreter", "#!/opt/none/python3\n", 0o755);
    bench.script("windows", "#!/bin/sh\r\nexit 0\r\n", 0o755);
    bench.script("elf", "\x7fELF nonsense", 0o755);
    bench.script("busy", "#!/bin/sh\n", 0o755);
    std::os::unix::fs::symlink("/bin/sh", directory.join("escape")).unwrap();
    let _writer = fs::File::options()
        .append(true)
        .open(directory.join("busy"))
        .unwrap();
    for (script, class, word) in [
        ("missing", FailureClass::Host, "not in the script directory"),
        ("not-executable", FailureClass::Host, "chmod +x"),
        ("no-shebang", FailureClass::Permanent, "no #! line"),
        ("no-interpreter", FailureClass::Host, "/opt/none/python3"),
        ("windows", FailureClass::Permanent, "Windows"),
        ("elf", FailureClass::Host, "not made for this machine"),
        ("escape", FailureClass::Host, "symbolic link"),
        (
            "../lake/x",
            FailureClass::Permanent,
            "below the script directory",
        ),
        (
            "/bin/sh",
            FailureClass::Permanent,
            "below the script directory",
        ),
        ("busy", FailureClass::Transient, "text file busy"),
    ] {
        let common::flow::model::Run::Script { script: name, .. } = &mut bench.spec.job.run;
        *name = script.into();
        let result = bench.run().await;
        let (found, error) = failure(&result);
        assert_eq!(found, class, "{script}: {error}");
        assert!(error.contains(word), "{script}: {error}");
        bench.assert_clean();
    }
    assert!(bench.published().is_empty() && bench.staged() == 0);
}

#[tokio::test]
async fn a_script_that_differs_from_the_pinned_one_does_not_run() {
    let mut bench = Bench::new("#!/bin/sh\ntouch \"$ODF_STAGING\"\n").await;
    bench.spec.script_sha256 = Some("00".repeat(32));
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Host);
    assert!(error.contains("differs from the one pinned"), "{error}");
    bench.spec.script_sha256 = Some({
        let ran = Bench::new("#!/bin/sh\ntouch \"$ODF_STAGING\"\n")
            .await
            .run()
            .await;
        ran.script_sha256.unwrap()
    });
    report(&bench.run().await);
}

#[tokio::test]
async fn output_that_is_not_what_was_claimed_is_invalid_and_kept() {
    let cases = [
        ("exit 0", "nothing is there"),
        ("mkdir $ODF_STAGING", "a directory is there"),
        ("ln -s /etc/passwd $ODF_STAGING", "no regular file"),
        (
            "echo half > $ODF_STAGING; echo '{\"bytes\": 10}' > $ODF_RESULT",
            "10 bytes as reported",
        ),
        (
            "echo x > $ODF_STAGING; echo '{\"checksum\": \"sha256:00\"}' > $ODF_RESULT",
            "checksum",
        ),
        (
            "echo x > $ODF_STAGING; echo rows=1 > $ODF_RESULT",
            "cannot be understood",
        ),
        (
            "echo x > $ODF_STAGING; echo '{\"rows\": \"1\"}' > $ODF_RESULT",
            "cannot be understood",
        ),
        (
            "echo x > $ODF_STAGING; mkfifo $ODF_RESULT",
            "no readable file",
        ),
        (
            "echo x > $ODF_STAGING; head -c 2000000 /dev/zero > $ODF_RESULT",
            "larger than 1 MiB",
        ),
    ];
    for (index, (body, word)) in cases.into_iter().enumerate() {
        let bench = Bench::new(&format!("#!/bin/sh\n{body}\n")).await;
        let result = bench.run().await;
        let (class, error) = failure(&result);
        assert_eq!(class, FailureClass::Invalid, "{body}: {error}");
        assert!(error.contains(word), "{body}: {error}");
        assert!(bench.published().is_empty());
        assert_eq!(bench.staged(), usize::from(index > 0), "{body}");
        bench.assert_clean();
    }
    let bench = Bench::new("#!/bin/sh\n").await;
    let result = bench.run().await;
    let expected = format!("orders_file.00042.{}.csv", Fence::new(1, 2));
    assert!(failure(&result).1.contains(&expected), "{result:?}");
}

#[tokio::test]
async fn a_time_out_ends_the_whole_tree_even_where_term_is_ignored() {
    let mut bench = Bench::new(
        "#!/bin/sh\ntrap '' TERM\n\
         setsid sh -c 'trap \"\" TERM; echo $$ >> '\"$1\"'; while :; do sleep 0.1; done' &\n\
         echo $$ >> \"$1\"\necho working; while :; do sleep 0.1; done\n",
    )
    .await;
    let pids = bench.path("pids");
    bench.set_args(&[pids.to_str().unwrap()]);
    bench.spec.job.timeout_seconds = Some(1);
    bench.spec.job.kill_grace_seconds = 1;
    let result = bench.run().await;
    let pids = pids_in(&pids, 2).await;
    assert!(pids.iter().all(|pid| !alive(*pid)));
    assert_eq!(
        failure(&result),
        (FailureClass::TooBig, "timed out after 1s: working")
    );
    assert!(result.duration_ms >= 2000, "{}", result.duration_ms);
}

#[tokio::test]
async fn a_setsid_grandchild_ends_with_its_script_and_the_output_is_published() {
    let mut bench = Bench::new(
        "#!/bin/sh\n( setsid sh -c 'echo $$ > '\"$1\"'; exec sleep 600' & )\n\
         while [ ! -s \"$1\" ]; do sleep 0.02; done\necho x > $ODF_STAGING\n",
    )
    .await;
    let pids = bench.path("pids");
    bench.set_args(&[pids.to_str().unwrap()]);
    let result = bench.run().await;
    report(&result);
    assert!(!alive(pids_in(&pids, 1).await[0]));
    assert_eq!(
        result.log_tail,
        "[1 processes outlived the script and were killed]\n"
    );
}

#[tokio::test]
async fn the_worker_ends_an_attempt_politely_or_at_once() {
    let script = "#!/bin/sh\ntrap 'echo bye; echo x > $ODF_STAGING; exit 0' TERM\n\
                  echo $$ > \"$1\"\nwhile :; do sleep 0.05; done\n";
    for polite in [true, false] {
        let mut bench = Bench::new(script).await;
        let pids = bench.path("pids");
        bench.set_args(&[pids.to_str().unwrap()]);
        let control = AttemptControl::default();
        let stop = async {
            let pid = pids_in(&pids, 1).await[0];
            control.because("drained");
            if polite {
                control.term.cancel();
            } else {
                control.kill.cancel();
            }
            pid
        };
        let (result, pid) = tokio::join!(bench.run_with(control.clone()), stop);
        assert!(!alive(pid));
        let reason = "drained".to_owned();
        assert_eq!(result.outcome, Outcome::Released { reason });
        assert_eq!(result.log_tail.ends_with("bye\n"), polite);
        assert!(bench.published().is_empty() && bench.staged() == 0);
        bench.assert_clean();
    }
}

#[tokio::test]
async fn a_script_that_is_done_is_published_although_a_drain_comes() {
    // A process of it lingers for longer than anyone waits. It tells of itself only well after
    // the end of the script, so that the worker has heard of that end before.
    let mut bench = Bench::new(
        "#!/bin/sh\necho x > $ODF_STAGING\n\
         (while [ -d /proc/$$ ]; do sleep 0.01; done; sleep 0.5; echo $$ > \"$1\"; exec sleep 600) &\n",
    )
    .await;
    let pids = bench.path("pids");
    bench.set_args(&[pids.to_str().unwrap()]);
    bench.env.linger = Duration::from_secs(3600);
    let control = AttemptControl::default();
    let drain = async {
        pids_in(&pids, 1).await;
        control.term.cancel();
    };
    let (result, ()) = tokio::join!(bench.run_with(control.clone()), drain);
    report(&result);
}

#[tokio::test]
async fn nothing_is_published_after_the_lease_may_be_lost() {
    let bench = Bench::new("#!/bin/sh\necho x > $ODF_STAGING\n").await;
    let result = bench
        .run_with(AttemptControl::new(Arc::new(|| false)))
        .await;
    assert!(
        matches!(&result.outcome, Outcome::Released { reason } if reason.contains("not published"))
    );
    assert!(bench.published().is_empty() && bench.staged() == 0);
    // Killed before it began: nothing runs at all.
    let control = AttemptControl::default();
    control.kill.cancel();
    assert!(matches!(
        bench.run_with(control).await.outcome,
        Outcome::Released { .. }
    ));
    assert!(bench.published().is_empty());
}

#[tokio::test]
async fn output_of_any_size_and_kind_is_bounded() {
    let mut bench = Bench::new(
        "#!/bin/sh\ncase $1 in\n\
         line) head -c 100000000 /dev/zero | tr '\\0' x; printf 'last';;\n\
         binary) head -c 300000 /dev/urandom; printf '\\000\\377end';;\n\
         esac\necho ok > $ODF_STAGING\n",
    )
    .await;
    bench.env.log_limits = LogLimits {
        file_bytes: 1 << 20,
        tail_bytes: 8 << 10,
    };
    bench.set_args(&["line"]);
    let result = bench.run().await;
    report(&result);
    assert_eq!(result.log_tail.len(), 8192);
    assert!(result.log_tail.ends_with("xxxlast"));
    let log = bench.log(&result);
    assert!(log.ends_with(b"\n[log truncated at 1.0 MB]\n"));
    assert!(log.len() < (1 << 20) + 100);
    bench.set_args(&["binary"]);
    let result = bench.run().await;
    report(&result);
    assert!(result.log_tail.ends_with("end") && !result.log_tail.contains('\0'));
    assert!(result.log_tail.len() <= 8192);
}

#[tokio::test]
async fn progress_is_heard_while_the_script_runs() {
    let mut bench = Bench::new(
        "#!/bin/sh\necho 'rows=5 bytes=50' >> $ODF_PROGRESS\n\
         while [ ! -e \"$1\" ]; do sleep 0.02; done\n\
         printf '{\"rows\": 9}' >> $ODF_PROGRESS; echo x > $ODF_STAGING\n",
    )
    .await;
    let go = bench.path("go");
    bench.set_args(&[go.to_str().unwrap()]);
    let control = AttemptControl::default();
    let mut heard = control.progress.subscribe();
    let listen = async {
        heard
            .wait_for(|progress| progress.rows == Some(5))
            .await
            .unwrap();
        fs::write(&go, "").unwrap();
    };
    let (result, ()) = tokio::join!(bench.run_with(control.clone()), listen);
    report(&result);
    let expected = Progress {
        rows: Some(9),
        bytes: Some(50),
    };
    assert_eq!(*control.progress.borrow(), expected);
}

#[tokio::test]
async fn places_that_cannot_take_the_output_are_the_host_s_fault() {
    let mut bench = Bench::new("#!/bin/sh\necho x > $ODF_STAGING\n").await;
    let lake = bench.path("lake");
    for (root, min_free, class, word) in [
        (
            lake.clone(),
            u64::MAX,
            FailureClass::Host,
            "min_free asks for",
        ),
        (
            lake.join("gone"),
            0,
            FailureClass::Host,
            "is not a directory",
        ),
        ("relative".into(), 0, FailureClass::Host, "absolute path"),
    ] {
        let connection = files_connection(&root, min_free);
        bench.spec.connections.insert("lake".into(), connection);
        let result = bench.run().await;
        let (found, error) = failure(&result);
        assert_eq!(found, class, "{error}");
        assert!(error.contains(word), "{error}");
        bench.assert_clean();
    }
    let connection = files_connection(&lake, 1);
    bench.spec.connections.insert("lake".into(), connection);
    bench.spec.output_at.path = Some("../{chunk}".into());
    assert_eq!(failure(&bench.run().await).0, FailureClass::Permanent);
    assert!(!lake.join("gone").exists());
}

#[tokio::test]
async fn a_lost_guard_fails_its_attempts_as_the_host_s_fault() {
    let mut bench = Bench::new("#!/bin/sh\necho $$ > \"$1\"; exec sleep 600\n").await;
    let pids = bench.path("pids");
    bench.set_args(&[pids.to_str().unwrap()]);
    let shut = async {
        let pid = pids_in(&pids, 1).await[0];
        bench.guard.shutdown().await;
        pid
    };
    let (result, pid) = tokio::join!(bench.run(), shut);
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Host);
    assert!(error.contains("guard process"), "{error}");
    assert!(!alive(pid));
    // And so does every later one, until the worker starts another guard.
    assert_eq!(failure(&bench.run().await).0, FailureClass::Host);
    bench.assert_clean();
}

#[tokio::test]
async fn an_abandoned_attempt_is_killed() {
    let mut bench = Bench::new("#!/bin/sh\necho $$ > \"$1\"; exec sleep 600\n").await;
    let pids = bench.path("pids");
    bench.set_args(&[pids.to_str().unwrap()]);
    let pid = tokio::select! {
        _ = bench.run() => panic!("it sleeps for ten minutes"),
        pids = pids_in(&pids, 1) => pids[0],
    };
    until("the script is dead", || !alive(pid)).await;
}

#[tokio::test]
async fn a_panic_in_a_job_is_a_failed_attempt() {
    struct Panics;
    #[async_trait::async_trait]
    impl worker::job::ChunkJob for Panics {
        async fn run(
            &self,
            _: &worker::attempt::AttemptContext,
            _: &AttemptControl,
        ) -> common::domain::AttemptResult {
            panic!("out of cheese")
        }
    }
    let bench = Bench::new("").await;
    let (env, item, spec) = (&bench.env, &bench.item, &bench.spec);
    let control = AttemptControl::default();
    let run = worker::attempt::run_attempt_with(env, &Panics, item, spec, Vec::new(), control);
    let result = run.await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Transient);
    assert!(error.contains("out of cheese"), "{error}");
    bench.assert_clean();
}

#[tokio::test]
async fn many_attempts_at_once_do_not_mix() {
    let bench =
        Bench::new("#!/bin/sh\necho \"log of $ODF_CHUNK\"; echo \"$ODF_CHUNK\" > $ODF_STAGING\n")
            .await;
    let runs = (0..40).map(|number| {
        let mut item = bench.item.clone();
        item.key = format!("{number:05}");
        item.chunk_id = common::domain::ChunkId(number);
        let bench = &bench;
        async move {
            let control = AttemptControl::default();
            worker::attempt::run_attempt(
                &bench.env,
                &bench.guard,
                &item,
                &bench.spec,
                Vec::new(),
                control,
            )
            .await
        }
    });
    let results = tokio::time::timeout(
        Duration::from_secs(120),
        futures_util::future::join_all(runs),
    )
    .await
    .unwrap();
    for (number, result) in results.iter().enumerate() {
        let location = report(result).location.clone().unwrap();
        let text = fs::read_to_string(bench.path("lake").join(location)).unwrap();
        assert_eq!(text, format!("{number:05}\n"));
        assert_eq!(result.log_tail, format!("log of {number:05}\n"));
    }
    bench.assert_clean();
}
