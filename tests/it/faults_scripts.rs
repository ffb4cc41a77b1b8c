//! Scripts that behave badly: whatever they do, it ends as a failure that says what happened, nothing
//! of them survives their attempt, and nothing half is published.

use crate::faults_support::{Estate, HEAD};
use crate::worker_support::lives;

/// One chunk for each kind of misbehaviour; the key says which.
fn flow(keys: &[&str], job: &str) -> String {
    format!(
        "{HEAD}datasets:
  items: {{ at: {{ connection: lake, path: items }}, partition: {{ list: [{}] }} }}
  made: {{ at: {{ connection: lake, path: \"made/{{chunk}}.{{fence}}\" }} }}
jobs:
  make: {{ input: items, output: made, run: {{ script: run.sh }}, silence: 10m{job} }}
",
        keys.join(", ")
    )
}

/// How the one attempt of a chunk ended: outcome, class, error.
async fn end_of(estate: &Estate, key: &str) -> String {
    estate
        .control
        .get(&format!(
            "select concat_ws(' ', a.outcome, a.class, a.error) from odf.attempt a
               join odf.chunk c using (chunk_id) where c.name = 'made/{key}'"
        ))
        .await
}

/// Runs one attempt of each and waits until every chunk has ended for good.
async fn run_once(keys: &[&str], job: &str, script: &str) -> Estate {
    let estate = Estate::new().await;
    estate.script(script);
    let job = format!(", retry: {{ attempts: 1 }}{job}");
    estate.apply(&flow(keys, &job)).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate
        .until(
            "select count(*) > 0 and bool_and(status in ('validated', 'exhausted'))
               from odf.chunk where dataset = 'made'",
        )
        .await;
    worker.stop().await;
    coordinator.stop().await;
    estate.assert_sound().await;
    estate
}

#[tokio::test]
async fn half_an_output_is_never_published() {
    let keys = [
        "bytes", "checksum", "nothing", "folder", "badjson", "badtype", "negative", "good",
        "silent",
    ];
    let script = r#"
echo 1234567890 >"$ODF_STAGING"
case $ODF_CHUNK in
  bytes) printf '{"bytes": 22, "rows": 2}' >"$ODF_RESULT" ;;
  checksum) printf '{"checksum": "sha256:%064d"}' 0 >"$ODF_RESULT" ;;
  nothing) rm "$ODF_STAGING" ;;
  folder) rm "$ODF_STAGING"; mkdir "$ODF_STAGING" ;;
  badjson) printf '{"rows": 1' >"$ODF_RESULT" ;;
  badtype) printf '{"rows": "many"}' >"$ODF_RESULT" ;;
  negative) printf '{"rows": -1}' >"$ODF_RESULT" ;;
  good) printf '{"bytes": 11, "rows": 1}' >"$ODF_RESULT" ;;
  silent) ;;
esac"#;
    let estate = run_once(&keys, "", script).await;
    for (key, says) in [
        ("bytes", "22"),
        ("checksum", "sha256:"),
        ("nothing", "ODF_STAGING"),
        ("folder", "file"),
        ("badjson", "result"),
        ("badtype", "rows"),
        ("negative", "rows"),
    ] {
        let end = end_of(&estate, key).await;
        assert!(end.starts_with("failed invalid "), "{key}: {end}");
        assert!(end.contains(says), "{key}: {end}");
        println!("{key}: {end}");
    }
    assert_eq!(estate.count("made", "validated").await, 2);
    assert_eq!(
        estate.files("lake/made").len(),
        2,
        "only good ones have a name"
    );
    let publications: i64 = estate
        .control
        .get("select count(*) from odf.publication")
        .await;
    assert_eq!(publications, 2);
}

#[tokio::test]
async fn exit_codes_and_deaths_have_their_classes() {
    let keys = ["c1", "c65", "c75", "segv", "kill", "missing"];
    let script = r#"
echo "about to end: $ODF_CHUNK" >&2
case $ODF_CHUNK in
  c*) exit "${ODF_CHUNK#c}" ;;
  segv) kill -SEGV $$ ;;
  kill) kill -KILL $$ ;;
  missing) no-such-program ;;
esac"#;
    let estate = run_once(&keys, "", script).await;
    for (key, class) in [
        ("c1", "transient exit code 1"),
        ("c65", "permanent exit code 65 (bad data)"),
        ("c75", "transient exit code 75 (try again later)"),
        ("segv", "transient ended by signal 11"),
        ("kill", "too_big killed by signal 9"),
        ("missing", "transient exit code 127"),
    ] {
        let end = end_of(&estate, key).await;
        assert!(end.starts_with(&format!("failed {class}")), "{key}: {end}");
        println!("{key}: {end}");
    }
}

#[tokio::test]
async fn a_bad_host_costs_the_chunk_nothing() {
    let estate = Estate::new().await;
    estate.script("echo no license here; exit 78");
    let retry = ", retry: { attempts: 1, backoff: 1s }";
    estate.apply(&flow(&["a"], retry)).await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    // One attempt is all that the chunk has, and it is not charged for this.
    estate.until("select count(*) >= 2 from odf.attempt").await;
    assert_eq!(estate.count("made", "exhausted").await, 0);
    let end = estate.ends().await.remove(0);
    assert_eq!(
        end,
        "failed host exit code 78 (misconfigured host): no license here"
    );
    worker.until_logged("claiming nothing for a while").await;
    estate.script("echo good >$ODF_STAGING");
    estate.apply(&flow(&["a"], retry)).await;
    estate.until_count("made", "validated", 1).await;
    worker.stop().await;
    coordinator.stop().await;
}

#[tokio::test]
async fn nothing_survives_its_attempt() {
    // `deaf` ignores TERM and runs out of its time; `fork` ends at once and leaves a grandchild in a
    // session of its own, which ignores TERM as well and holds the output open; both tell their pids.
    let script = r#"
case $ODF_CHUNK in
  deaf)
    trap '' TERM INT HUP
    echo "pid $$" >>"$WITNESS"
    while :; do sleep 1000 & echo "pid $!" >>"$WITNESS"; wait || true; done ;;
  fork)
    setsid bash -c 'trap "" TERM HUP; echo "pid $$" >>"'"$WITNESS"'"; sleep 1000; sleep 1000' &
    until grep -q "pid" "$WITNESS"; do sleep 0.05; done
    echo done >"$ODF_STAGING" ;;
esac"#;
    let estate = run_once(&["fork", "deaf"], ", timeout: 3s, kill_grace: 1s", script).await;
    let end = end_of(&estate, "deaf").await;
    assert!(
        end.starts_with("failed too_big timed out after 3s"),
        "{end}"
    );
    assert_eq!(end_of(&estate, "fork").await, "validated");
    let pids: Vec<String> = estate
        .witness()
        .lines()
        .filter_map(|line| line.strip_prefix("pid ").map(str::to_owned))
        .collect();
    assert!(pids.len() >= 3, "{pids:?}");
    let alive: Vec<&String> = pids.iter().filter(|pid| lives(pid)).collect();
    assert_eq!(alive, [""; 0]);
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_does_not_matter() {
    let script = r#"
case $ODF_CHUNK in
  lines) head -c 100000000 /dev/zero | tr '\0' 'x' | fold -w 200 ;;
  line) head -c 50000000 /dev/zero | tr '\0' 'y' ;;
  binary) head -c 20000000 /dev/urandom ;;
esac
printf 'the last word'
echo "$ODF_CHUNK" >"$ODF_STAGING""#;
    let estate = run_once(&["lines", "line", "binary"], "", script).await;
    assert_eq!(estate.count("made", "validated").await, 3);
    let tails: Vec<String> = estate
        .control
        .column("select log_tail from odf.attempt")
        .await;
    assert_eq!(tails.len(), 3);
    for tail in tails {
        assert!(tail.len() <= 8 << 10, "{}", tail.len());
        assert!(tail.ends_with("the last word"), "{tail}");
    }
    for log in estate.files("state/logs") {
        let size = log.metadata().unwrap().len();
        assert!(size < (16 << 20) + 4096, "{}: {size}", log.display());
    }
}
