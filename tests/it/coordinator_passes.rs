//! A real leader at its passes, with workers that do one call at a time: retries, whole inputs, dead
//! workers, buffers, keep rules, full disks.

use std::time::Duration;

use common::domain::{FailureClass, WorkItem};
use serde_json::json;

use crate::coordinator_support::{HEAD, Site};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, eventually, failed};

/// `items` in so many chunks -> mid -> dst -> total (whole), nobody dead before an hour of silence.
fn flow(chunks: usize, mid: &str, extract: &str) -> String {
    let list: Vec<String> = (1..=chunks).map(|n| format!("c{n:03}")).collect();
    format!(
        "{HEAD}datasets:
  items: {{ at: {{ connection: src, table: items }}, partition: {{ list: [{}] }} }}
  mid: {{ at: {{ connection: lake, path: \"mid/{{chunk}}.{{fence}}\" }}{mid} }}
  dst: {{ at: {{ connection: lake, path: \"dst/{{chunk}}.{{fence}}\" }} }}
  total: {{ at: {{ connection: lake, path: \"total/{{chunk}}.{{fence}}\" }} }}
jobs:
  extract: {{ input: items, output: mid, run: {{ script: run.sh }}, silence: 1h{extract} }}
  load: {{ input: mid, output: dst, run: {{ script: run.sh }}, silence: 1h }}
  sum: {{ input: [{{ dataset: dst, chunks: all }}], output: total, run: {{ script: run.sh }}, silence: 1h }}
",
        list.join(", ")
    )
}

impl Site {
    /// A site with that flow applied.
    async fn applied(text: &str) -> Self {
        let site = Self::new().await;
        site.apply(text).await.ok();
        site
    }

    /// Waits until the leader has renewed its term a few times, and so has run its short passes.
    async fn some_passes(&self) {
        let renewal = "select extract(epoch from expires)::float8 from odf.leader";
        let begun: f64 = self.db.scalar(renewal).await;
        eventually("some passes", || async {
            (self.db.scalar::<f64>(renewal).await > begun + 1.0).then_some(())
        })
        .await;
    }

    /// How many chunks of a data set have a status.
    async fn count(&self, set: &str, status: &str) -> i64 {
        self.db
            .count(&format!(
                "odf.chunk where dataset = '{set}' and status = '{status}'"
            ))
            .await
    }

    async fn until(&self, set: &str, status: &str, n: i64) {
        eventually(&format!("{n} chunks of {set} {status}"), || async {
            (self.count(set, status).await == n).then_some(())
        })
        .await;
    }

    async fn operate(&self, sql: &str) {
        let operator = self.db.login(Role::Operator).await;
        operator.batch_execute(sql).await.unwrap();
        operator.close().await;
    }
}

/// Claims until something comes.
async fn claim(worker: &TestWorker, free: u32) -> Vec<WorkItem> {
    eventually("work", || async {
        worker.beat().await;
        let items = worker.claim(free).await;
        (!items.is_empty()).then_some(items)
    })
    .await
}

#[tokio::test]
async fn retries_come_when_they_are_due_and_whole_inputs_when_all_is_there() {
    let site = Site::applied(&flow(
        4,
        "",
        ", retry: { attempts: 3, backoff: 1h, max_backoff: 2h }",
    ))
    .await;
    let mut coordinator = site.serve(10).await;
    site.planned("total").await;
    let worker = TestWorker::start(&site.db, "w1", 8).await;
    let first = claim(&worker, 1).await.remove(0);
    let _applied = worker.settle(&first, failed(FailureClass::Host)).await;
    assert_eq!(site.count("mid", "failed").await, 1);
    let mut done = 0;
    while done < 6 {
        let items = claim(&worker, 8).await;
        assert!(
            items.iter().all(|item| item.key != first.key),
            "it waits for its time"
        );
        worker.complete(&items).await;
        done += items.len();
    }
    site.some_passes().await;
    assert_eq!(
        site.count("mid", "failed").await,
        1,
        "a fault of its host waits an hour at least"
    );
    assert_eq!(site.count("total", "waiting").await, 1);

    site.db.advance(Duration::from_secs(2 * 3600)).await;
    let second = claim(&worker, 8).await;
    assert_eq!(
        (second.len(), &second[0].key, second[0].attempt),
        (1, &first.key, 2)
    );
    worker.complete(&second).await;
    site.some_passes().await;
    assert_eq!(
        site.count("total", "waiting").await,
        1,
        "one chunk of dst is open"
    );
    let last = claim(&worker, 8).await;
    assert_eq!((last.len(), last[0].dataset.as_str()), (1, "dst"));
    worker.complete(&last).await;
    let total = claim(&worker, 8).await;
    assert_eq!((total.len(), total[0].dataset.as_str()), (1, "total"));
    worker.complete(&total).await;
    site.until("total", "validated", 1).await;
    coordinator.stop().await;
    assert_eq!(site.db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn a_worker_that_falls_silent_loses_what_it_holds_and_no_other_does() {
    let text = flow(4, "", "").replace("silence: 1h", "silence: 30s");
    let site = Site::applied(&text).await;
    let mut coordinator = site.serve(5).await;
    site.planned("dst").await;
    let silent = TestWorker::start(&site.db, "silent", 1).await;
    let heard = TestWorker::start(&site.db, "heard", 1).await;
    let lost = claim(&silent, 1).await;
    let kept = claim(&heard, 1).await;
    eventually("the silent one to be declared dead", || async {
        heard.beat().await;
        let dead = "odf.event where kind = 'worker.dead' and subject = 'silent'";
        (site.db.count(dead).await == 1).then_some(())
    })
    .await;
    assert_eq!(heard.finish(&kept).await.len(), 1);
    let of = |id| format!("select state from odf.worker_session where session_id = {id}");
    assert_eq!(site.db.scalar::<String>(&of(silent.id())).await, "dead");
    assert_eq!(site.db.scalar::<String>(&of(heard.id())).await, "active");
    eventually("the lost chunk at the other worker", || async {
        heard.beat().await;
        let items = heard.claim(1).await;
        heard.complete(&items).await;
        items
            .iter()
            .any(|item| item.key == lost[0].key && item.attempt == 2)
            .then_some(())
    })
    .await;
    let answers = silent.finish(&lost).await;
    assert_eq!(
        answers.values().collect::<Vec<_>>(),
        [&common::store::Settled::LeaseLost]
    );
    coordinator.stop().await;
    assert_eq!(site.db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn a_buffer_is_never_exceeded() {
    let site = Site::applied(&flow(12, ", buffer: { chunks: 3 }", "")).await;
    site.operate("select odf.pause('load', true, 'test')").await;
    let mut coordinator = site.serve(10).await;
    site.planned("total").await;
    let workers = [
        TestWorker::start(&site.db, "w1", 4).await,
        TestWorker::start(&site.db, "w2", 4).await,
    ];
    let open = "select (select count(*) from odf.chunk where dataset = 'mid' and status = 'validated')
                     - (select count(*) from odf.chunk where dataset = 'dst' and status = 'validated')
                     + (select count(*) from odf.chunk where dataset = 'mid' and status = 'running')";
    let mut made = 0;
    while made < 3 {
        for worker in &workers {
            worker.beat().await;
            let items = worker.claim(4).await;
            assert!(site.db.scalar::<i64>(open).await <= 3);
            worker.complete(&items).await;
            made += items.len();
        }
    }
    site.some_passes().await;
    for worker in &workers {
        worker.beat().await;
        assert_eq!(worker.claim(4).await.len(), 0, "the buffer is full");
    }
    site.operate("select odf.pause('load', false, null)").await;
    while site.count("dst", "validated").await < 12 {
        for worker in &workers {
            worker.beat().await;
            let items = worker.claim(4).await;
            assert!(site.db.scalar::<i64>(open).await <= 3);
            worker.complete(&items).await;
        }
    }
    coordinator.stop().await;
    assert_eq!(site.db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn a_cancelled_consumer_does_not_fill_a_buffer_for_ever() {
    let site = Site::applied(&flow(6, ", buffer: { chunks: 2 }", "")).await;
    site.operate("select odf.pause('load', true, 'test')").await;
    let mut coordinator = site.serve(10).await;
    site.planned("total").await;
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    let mut made = 0;
    while made < 2 {
        let items = claim(&worker, 4).await;
        worker.complete(&items).await;
        made += items.len();
    }
    worker.beat().await;
    assert_eq!(worker.claim(4).await.len(), 0);
    site.operate(
        "update odf.chunk set status = 'cancelled' where dataset = 'dst' and status = 'ready'",
    )
    .await;
    assert_eq!(site.count("dst", "cancelled").await, 2);
    assert_eq!(claim(&worker, 4).await.len(), 2);
    coordinator.stop().await;
}

/// Takes all removals that are due and reports them done; answers chunk keys.
async fn remove(site: &Site, worker: &TestWorker) -> Vec<String> {
    let taken = worker.session.take_removals(100).await.unwrap();
    let again = worker.session.take_removals(100).await.unwrap();
    assert_eq!(again, [], "what is taken is offered to nobody else");
    let done: Vec<_> = taken
        .iter()
        .map(|removal| (removal.chunk_id, removal.generation, None))
        .collect();
    worker.session.settle_removals(&done).await.unwrap();
    let mut keys = Vec::new();
    for removal in taken {
        assert!(removal.location.is_some());
        keys.push(
            site.db
                .get::<String>(
                    "select format('%s %s', name, $2::int) from odf.chunk where chunk_id = $1",
                    &[&removal.chunk_id.0, &removal.generation],
                )
                .await,
        );
    }
    keys.sort();
    keys
}

#[tokio::test]
async fn what_was_consumed_is_removed_and_made_again_when_it_is_needed() {
    let site = Site::applied(&flow(2, ", keep: until_consumed", "")).await;
    let mut coordinator = site.serve(10).await;
    site.planned("total").await;
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    let mids = claim(&worker, 4).await;
    worker.complete(&mids).await;
    assert_eq!(remove(&site, &worker).await, [""; 0], "not consumed yet");
    let one = claim(&worker, 1).await;
    worker.complete(&one).await;
    let other = claim(&worker, 1).await;
    assert_eq!(
        remove(&site, &worker).await,
        [format!("mid/{} 1", one[0].key)]
    );
    worker.complete(&other).await;
    assert_eq!(
        remove(&site, &worker).await,
        [format!("mid/{} 1", other[0].key)]
    );
    let gone = "odf.publication where removed_at is not null";
    assert_eq!(site.db.count(gone).await, 2);

    site.operate(&format!(
        "update odf.chunk set status = 'resubmit' where name = 'dst/{}'",
        one[0].key
    ))
    .await;
    let mut order = Vec::new();
    while order.len() < 2 {
        let items = claim(&worker, 4).await;
        order.extend(
            items
                .iter()
                .map(|item| format!("{}/{} {}", item.dataset, item.key, item.generation)),
        );
        worker.complete(&items).await;
    }
    assert_eq!(
        order,
        [
            format!("mid/{} 2", one[0].key),
            format!("dst/{} 2", one[0].key)
        ]
    );
    let (old, new) = (
        format!("dst/{} 1", one[0].key),
        format!("mid/{} 2", one[0].key),
    );
    assert_eq!(
        remove(&site, &worker).await,
        [old, new],
        "the superseded output, and the input once more"
    );
    coordinator.stop().await;
    assert_eq!(site.db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn what_is_kept_for_a_time_stays_while_somebody_waits_for_it() {
    let text = flow(2, "", "").replace(
        "dst: { at: { connection: lake, path: \"dst/{chunk}.{fence}\" }",
        "dst: { at: { connection: lake, path: \"dst/{chunk}.{fence}\" }, keep: 7d",
    );
    let site = Site::applied(&text).await;
    let mut coordinator = site.serve(10).await;
    site.planned("total").await;
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    for _ in 0..2 {
        let items = claim(&worker, 1).await;
        worker.complete(&items).await;
        let items = claim(&worker, 1).await;
        worker.complete(&items).await;
    }
    site.until("total", "ready", 1).await;
    site.db.advance(Duration::from_secs(8 * 86400)).await;
    assert_eq!(
        remove(&site, &worker).await,
        [""; 0],
        "total is not made yet"
    );
    let total = claim(&worker, 4).await;
    site.db.advance(Duration::from_secs(120)).await;
    assert_eq!(remove(&site, &worker).await, [""; 0], "total is being made");
    worker.complete(&total).await;
    site.db.advance(Duration::from_secs(120)).await;
    assert_eq!(remove(&site, &worker).await, ["dst/c001 1", "dst/c002 1"]);

    site.operate("update odf.chunk set status = 'resubmit' where dataset = 'total'")
        .await;
    let mut made = Vec::new();
    while made.len() < 3 {
        let items = claim(&worker, 4).await;
        made.extend(items.iter().map(|item| item.dataset.clone()));
        worker.complete(&items).await;
    }
    assert_eq!(
        made,
        ["dst", "dst", "total"],
        "its input is made again first"
    );
    coordinator.stop().await;
    assert_eq!(site.db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn a_full_disk_stops_its_lanes_and_room_opens_them() {
    let text = flow(4, "", "").replace("root: /nowhere", "root: /nowhere, min_free: 10GB");
    let site = Site::applied(&text).await;
    let mut coordinator = site.serve(10).await;
    site.planned("total").await;
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    let mut number = 0;
    let mut say = async |free: i64| {
        number += 1;
        let facts = json!({ "free": 4, "facts": { "roots": { "test/lake": free } } });
        worker.session.beat(1000 + number, facts).await.unwrap();
    };
    let blocked = "select count(*) from odf.lane where blocked is not null";
    say(9_000_000_000).await;
    eventually("the lanes to stop", || async {
        (site.db.scalar::<i64>(blocked).await == 3).then_some(())
    })
    .await;
    assert_eq!(worker.claim(4).await.len(), 0);
    let why: String = site.db.scalar("select min(blocked) from odf.lane").await;
    assert!(why.starts_with("lake has 8583 MB free"), "{why}");
    say(10_100_000_000).await;
    site.some_passes().await;
    assert_eq!(
        site.db.scalar::<i64>(blocked).await,
        3,
        "5 % more than the mark opens them"
    );
    say(11_000_000_000).await;
    eventually("the lanes to open", || async {
        (site.db.scalar::<i64>(blocked).await == 0).then_some(())
    })
    .await;
    assert_eq!(claim(&worker, 4).await.len(), 4);
    coordinator.stop().await;
}

#[tokio::test]
async fn an_input_that_settles_while_its_consumers_are_planned_is_not_forgotten() {
    let db = TestDb::new().await;
    let flow = Shape::chain(2).apply(&db).await;
    let control = db.control(Role::Coordinator);
    let [src, mid, dst] = ["src", "mid", "dst"];
    let plan = control
        .begin_plan(flow.set_id(&db, src).await)
        .await
        .unwrap();
    flow.write(plan).await;
    control.seal_plan(plan, 2, &[]).await.unwrap();
    let mid = flow.set_id(&db, mid).await;
    assert!(control.derive_plan(mid).await.unwrap());
    let worker = TestWorker::start(&db, "w1", 4).await;
    let items = worker.claim(4).await;
    assert_eq!(items.len(), 2);

    let planner = db.another_admin().await;
    planner.batch_execute("begin").await.unwrap();
    let dst = flow.set_id(&db, dst).await;
    planner
        .query_one("select odf.derive_plan($1)", &[&dst])
        .await
        .unwrap();
    worker.complete(&items).await;
    planner.batch_execute("commit").await.unwrap();
    worker.beat().await;
    assert_eq!(worker.claim(4).await.len(), 0, "neither saw the other");
    let leader = TestLeader::start(&db).await;
    assert_eq!(leader.proof.promote().await.unwrap(), 2);
    assert_eq!(worker.drain(4).await, 2);
    assert_eq!(leader.proof.promote().await.unwrap(), 0, "looked at once");
}

#[tokio::test]
async fn a_large_plan_is_released_slice_by_slice() {
    const N: usize = 22_000;
    let db = TestDb::new().await;
    Shape::single(N).build(&db).await;
    let ready = "odf.chunk_state where status = 'ready'";
    assert_eq!(db.count(ready).await, 0, "too many to be released at once");
    let leader = TestLeader::start(&db).await;
    let mut passes = 0;
    while db.count(ready).await < N as i64 {
        passes += 1;
        assert!(passes < 100, "{} are ready", db.count(ready).await);
        leader.proof.promote().await.unwrap();
    }
    assert_eq!(db.count("odf.ready").await, N as i64);
    assert_eq!(leader.proof.promote().await.unwrap(), 0);
}
