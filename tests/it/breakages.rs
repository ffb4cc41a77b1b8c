//! Deliberate breakages: each takes one guard out of the protocol, and a test of it must notice.
//!
//! A breakage is a replacement of text in one installed file; where the text is gone, the breakage
//! fails and must be written anew.

use coordinator::install::API;
use tokio::task::JoinSet;

use crate::harness::TestDb;
use crate::harness::cluster::run;
use crate::{claim, floor, limits, model, plan, settle, sweep, windows};

/// Installs a file with a part of it replaced.
async fn break_it(db: &TestDb, file: &str, from: &str, to: &str) {
    let (_, sql) = API.iter().find(|(name, _)| *name == file).unwrap();
    assert_eq!(
        sql.matches(from).count(),
        1,
        "{file}.sql has no {from:?} to break, or several"
    );
    run(db.admin(), "set role odf_owner").await;
    run(db.admin(), &sql.replace(from, to)).await;
    run(db.admin(), "reset role").await;
}

/// Runs a scenario on broken functions until it fails, which must be within three tries.
async fn caught<Fut: Future<Output = ()> + 'static>(
    what: &str,
    (file, from, to): (&str, &str, &str),
    scenario: impl Fn(TestDb) -> Fut,
) {
    for _ in 0..3 {
        let db = TestDb::new().await;
        break_it(&db, file, from, to).await;
        let mut task = JoinSet::new();
        let local = tokio::task::LocalSet::new();
        task.spawn_local_on(scenario(db), &local);
        let ended = local.run_until(task.join_next()).await.unwrap();
        match ended {
            Err(error) if error.is_panic() => return,
            Err(error) => panic!("{what}: {error}"),
            Ok(()) => {}
        }
    }
    panic!("nothing noticed: {what}");
}

#[tokio::test]
async fn without_the_fence() {
    let from = "on i.chunk_id = l.chunk_id and i.fence = l.fence\n           where l.session_id = p_session order by";
    let to = "on i.chunk_id = l.chunk_id\n           order by";
    caught(
        "settling without a fence",
        ("settle", from, to),
        model::three_walks,
    )
    .await;
}

#[tokio::test]
async fn with_attempts_that_are_counted_back() {
    let from = "  delete from lease where chunk_id = any (p_ended);";
    let to = "  update chunk_state set attempt_no = attempt_no - 1 where chunk_id = any (p_ended) and status = 'ready';
  delete from lease where chunk_id = any (p_ended);";
    caught(
        "an attempt number used twice",
        ("settle", from, to),
        model::three_walks,
    )
    .await;
}

#[tokio::test]
async fn without_the_second_look_at_inputs() {
    let from = "bool_and(there and not removed) as good";
    let to = "true as good";
    caught(
        "inputs that are not looked at again",
        ("claim", from, to),
        claim::second_look,
    )
    .await;
}

#[tokio::test]
async fn without_a_look_at_what_no_plan_has() {
    let from = "and not exists (select from chunk_gap g where g.chunk_id = c.chunk_id);";
    caught(
        "a missing upstream chunk taken for no input",
        ("promote_chunks", from, ";"),
        windows::plans::missing_upstream,
    )
    .await;
}

#[tokio::test]
async fn with_counters_that_forget() {
    let from = "having sum(n) <> 0 or";
    let to = "having sum(n) > 0 or";
    caught(
        "counts that forget",
        ("count_states", from, to),
        model::three_walks,
    )
    .await;
}

#[tokio::test]
async fn with_limits_that_do_not_count_what_runs() {
    let from = "v_left[p] := v_left[p] - v_running;";
    caught(
        "limits without live leases",
        ("allot", from, "null;"),
        limits::lowered_limit,
    )
    .await;
}

#[tokio::test]
async fn without_the_sessions_lock() {
    let from = "where session_id = p_session for no key update";
    caught(
        "claims beside the sweep",
        ("session_of", from, "where session_id = p_session"),
        sweep::kill_while_claiming,
    )
    .await;
}

#[tokio::test]
async fn with_a_sweep_that_marks_the_session_afterwards() {
    let from = "    update worker_session set state = 'silent'
     where session_id = x.session_id and beat_no = x.beat_no and state in ('active', 'silent');
    continue when not found;
";
    caught(
        "a sweep in one statement",
        ("sweep", from, ""),
        sweep::kill_while_claiming,
    )
    .await;
}

#[tokio::test]
async fn with_a_floor_by_a_plain_probe() {
    let from = "and probed_at <= v_now - interval '2 minutes' and open_xid < pg_snapshot_xmin(pg_current_snapshot())";
    caught(
        "a floor that passes open inserts",
        ("passes", from, ""),
        floor::open_insert,
    )
    .await;
}

#[tokio::test]
async fn with_plans_in_force_before_they_are_sealed() {
    let from = "  returning plan_id into v_plan;\n  return v_plan;";
    let to = "  returning plan_id into v_plan;\n  update data_set set plan_id = v_plan where data_set_id = p_data_set;\n  return v_plan;";
    caught("unsealed plans", ("plan", from, to), plan::unsealed).await;
}

#[tokio::test]
async fn without_the_consumers_lock() {
    let from = "  perform from chunk_state where chunk_id = any (p_chunks) and status = 'waiting' order by chunk_id for no key update;\n  if not found then";
    let to = "  if not exists (select from chunk_state where chunk_id = any (p_chunks) and status = 'waiting') then";
    caught(
        "two inputs that miss each other",
        ("promote_chunks", from, to),
        settle::two_inputs,
    )
    .await;
}

#[tokio::test]
async fn without_the_buffers_lock() {
    let from = "  perform from lane where lane_id = p_lane for no key update;\n  -- One statement";
    caught(
        "a buffer that overflows",
        ("claim", from, "  -- One statement"),
        claim::full_buffer,
    )
    .await;
}
