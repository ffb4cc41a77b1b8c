//! Full disks, really full ones: small file systems of the tests' own. Where mounting is not allowed
//! the tests say so and end.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::faults_support::{CALM, Estate, HEAD, TICKING, listed};
use crate::faults_witness::starts;

/// A file system in memory; unmounted with the value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of that size over a directory; `None` where that is not allowed.
    fn over(dir: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0700");
        match mount(
            Some("odf-it"),
            dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        ) {
            Ok(()) => Some(Self(dir.to_owned())),
            Err(errno) => {
                eprintln!("skipped: a file system of the test's own cannot be mounted: {errno}");
                None
            }
        }
    }

    fn resize(&self, size: &str) {
        let options = format!("size={size}");
        mount(
            Some("odf-it"),
            &self.0,
            Some("tmpfs"),
            MsFlags::MS_REMOUNT,
            Some(options.as_str()),
        )
        .unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// How often the one worker was heard.
const BEATS: &str = "select sum(beat_no)::bigint from odf.worker_session";

fn flow(job: &str) -> String {
    format!(
        "{HEAD}datasets:
  items: {{ at: {{ connection: lake, path: items }}, partition: {{ list: [a, b, c] }} }}
  made: {{ at: {{ connection: lake, path: \"made/{{chunk}}.{{fence}}\" }} }}
jobs:
  make: {{ input: items, output: made, run: {{ script: run.sh }}, silence: 10m{job} }}
"
    )
}

#[tokio::test]
async fn a_full_disk_publishes_nothing_half_and_passes() {
    let estate = Estate::new().await;
    let Some(disk) = Tmpfs::over(&estate.path("lake"), "2m") else {
        return;
    };
    // `a` sees that it cannot write, `b` looks away and reports what it believes to have written,
    // `c` says nothing at all about what it wrote.
    estate.script(
        r#"
write() { head -c 3000000 /dev/zero >"$ODF_STAGING"; }
case $ODF_CHUNK in
  a) write ;;
  b) write || true; printf '{"bytes": 3000000}' >"$ODF_RESULT" ;;
  c) write || exit 78 ;;
esac"#,
    );
    estate
        .apply(&flow(", retry: { attempts: 100, backoff: 1s }"))
        .await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until("select count(distinct chunk_id) = 3 from odf.attempt")
        .await;
    let ends = estate.ends().await;
    assert!(
        ends.iter().all(|end| end.starts_with("failed ")),
        "{ends:?}"
    );
    assert_eq!(estate.files("lake/made"), Vec::<PathBuf>::new());
    // `b` is set aside, as whoever reports wrongly is; the others come through by themselves.
    disk.resize("20m");
    estate.until_count("made", "validated", 2).await;
    if estate.count("made", "validated").await < 3 {
        estate.cli(&["resubmit", "made/b"]).await.ok();
    }
    estate.until_count("made", "validated", 3).await;
    for file in estate.files("lake/made") {
        assert_eq!(file.metadata().unwrap().len(), 3_000_000);
    }
    estate.assert_sound().await;
    worker.stop().await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_disk_full_of_nothing_of_ours_stops_claims_until_there_is_room() {
    let estate = Estate::new().await;
    let Some(disk) = Tmpfs::over(&estate.path("lake"), "8m") else {
        return;
    };
    estate.script(TICKING);
    let root = "root: \"${env:LAKE}\"";
    let marked = format!("{root}, min_free: 4MB");
    estate.apply(&listed(4, CALM).replace(root, &marked)).await;
    let coordinator = estate.serve();
    // Free space is told with every fifteenth beat.
    let worker = estate
        .worker("w1")
        .env("ODF_SLOTS", "1")
        .env("ODF_BEAT_MS", "1000")
        .start();
    estate
        .until_witness("one runs", |witness| starts(witness) == 1)
        .await;
    // Somebody else fills the disk: the lane stops, and what runs may finish.
    std::fs::write(estate.path("lake/others"), vec![7; 6 << 20]).unwrap();
    estate
        .until("select count(*) > 0 from odf.lane where blocked is not null")
        .await;
    estate.open_gate(99);
    estate.until_count("made", "validated", 1).await;
    // A whole round of the worker, which is idle now, is a chance to do wrong.
    let beats: i64 = estate.control.get(BEATS).await;
    estate
        .until(&format!("select ({BEATS}) > {}", beats + 10))
        .await;
    assert_eq!(starts(&estate.witness()), 1, "nothing else has begun");
    assert_eq!(estate.count("made", "ready").await, 3);
    for args in [vec!["status"], vec!["explain", "made/k002"]] {
        let said = estate.cli(&args).await.ok();
        assert!(
            said.contains("lake has") && said.contains("free"),
            "{args:?}: {said}"
        );
    }
    std::fs::remove_file(estate.path("lake/others")).unwrap();
    estate.until_count("made", "validated", 4).await;
    assert_eq!(estate.ends().await, vec!["validated"; 4]);
    drop(disk);
    worker.stop().await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_worker_without_room_for_its_logs_claims_nothing() {
    let estate = Estate::new().await;
    let Some(disk) = Tmpfs::over(&estate.path("state"), "16m") else {
        return;
    };
    estate.script("echo $ODF_CHUNK >$ODF_STAGING");
    estate.apply(&flow("")).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    worker.until_logged("claiming nothing").await;
    estate.until_count("made", "ready", 3).await;
    let attempts: i64 = estate.control.get("select count(*) from odf.attempt").await;
    assert_eq!(attempts, 0);
    disk.resize("1g");
    estate.until_count("made", "validated", 3).await;
    worker.stop().await;
    coordinator.stop().await;
}
