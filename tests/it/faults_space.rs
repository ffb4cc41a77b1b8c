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
    println!("{ends:#?}");
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
    std::fs::write(estate.path("lake/others"), vec![7; 6 << 20]).unwrap();
    estate.script(TICKING);
    let root = "root: \"${env:LAKE}\"";
    let marked = format!("{root}, min_free: 4MB");
    estate.apply(&listed(4, CALM).replace(root, &marked)).await;
    let coordinator = estate.serve();
    // The first chunk teaches the worker where the root is; from then on it reports its space.
    let worker = estate.worker("w1").env("ODF_SLOTS", "1").start();
    estate
        .until("select count(*) > 0 from odf.lane where blocked is not null")
        .await;
    estate.open_gate(99);
    estate.until_count("made", "validated", 1).await;
    let said = estate.cli(&["status"]).await.ok();
    println!("{said}");
    assert!(said.contains("free"), "{said}");
    let said = estate.cli(&["explain", "made/k002"]).await.ok();
    assert!(said.contains("free"), "{said}");
    assert_eq!(starts(&estate.witness()), 1, "nothing else has begun");
    std::fs::remove_file(estate.path("lake/others")).unwrap();
    estate.until_count("made", "validated", 4).await;
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
    println!("{}", worker.log());
    let attempts: i64 = estate.control.get("select count(*) from odf.attempt").await;
    assert_eq!(attempts, 0);
    disk.resize("1g");
    estate.until_count("made", "validated", 3).await;
    worker.stop().await;
    coordinator.stop().await;
}
