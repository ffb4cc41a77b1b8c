//! The connection is cut after COMMIT of every protocol call, so that its answer is lost.
//!
//! A worker and a leader, driven second by second of the movable clock, do what the daemons do about
//! it: repeat the claim under its number, say what is held, settle until answered, leave a pass to
//! its next tick. Every chunk must be done within a minute of what an undisturbed run takes, and
//! everything that an attempt finished must be what counts: no good output is set aside.

use std::collections::BTreeSet;
use std::time::Duration;

use common::domain::{AttemptResult, ChunkId, FailureClass, Fence, WorkItem};
use common::store::{Claimed, ControlDb, LeaderProof, Settled, StoreError, WorkerSession};
use coordinator::loops::LeaderPass;
use coordinator::loops::sweep::Sweep;
use coordinator::loops::upkeep::Upkeep;
use serde_json::json;

use crate::harness::actor::hello;
use crate::harness::flow::{apply_to, source_chunk};
use crate::harness::{Fault, Proxy, Role, Shape, TestDb, failed, validated};

const CHUNKS: usize = 3;
/// Beats, claims and passes come about once a second, so this is also a limit on the work done.
const MINUTE: u32 = 60;

#[tokio::test]
async fn of_register_beat_and_end() {
    cut_and_finish("register", &[0]).await;
    cut_and_finish("beat", &[0, 4]).await;
    cut_and_finish("end_session", &[0]).await;
}

#[tokio::test]
async fn of_claim() {
    cut_and_finish("claim", &[0, 1, 3]).await;
}

#[tokio::test]
async fn of_settle() {
    cut_and_finish("settle", &[0, 1, 3]).await;
}

#[tokio::test]
async fn of_reconcile_and_attempt_inputs() {
    cut_and_finish("reconcile", &[0, 1]).await;
    cut_and_finish("attempt_inputs", &[0, 1]).await;
}

#[tokio::test]
async fn of_leadership_and_the_sweep() {
    cut_and_finish("lead", &[0, 2]).await;
    cut_and_finish("beats", &[5]).await;
    cut_and_finish("sweep", &[0]).await;
}

#[tokio::test]
async fn of_the_leaders_passes() {
    for call in ["retry_due", "promote", "allot_if_needed", "fold_progress"] {
        cut_and_finish(call, &[0, 3]).await;
    }
    for call in [
        "move_floors",
        "look_below_floors",
        "find_stranded",
        "watch_space",
        "prune",
    ] {
        cut_and_finish(call, &[1]).await;
    }
}

#[tokio::test]
async fn of_planning() {
    for call in [
        "apply_flow",
        "unplanned",
        "begin_plan",
        "add_chunks",
        "seal_plan",
        "derive_plan",
    ] {
        cut_and_finish(call, &[0]).await;
    }
}

/// Runs a flow to its end with the answer of one call lost, once for each count of earlier calls.
async fn cut_and_finish(call: &str, after: &[usize]) {
    let undisturbed = undisturbed(call);
    for passes in after {
        let world = World::new(call).await;
        world
            .proxy
            .arm_after(Fault::CutAfterCommit(format!("odf.{call}(")), *passes);
        let took = world.run().await;
        assert!(
            took <= undisturbed + MINUTE,
            "odf.{call}, call {passes}: {took} s instead of {undisturbed} s"
        );
    }
}

/// The seconds that a run takes at most where nothing is lost.
fn undisturbed(call: &str) -> u32 {
    // A dead worker's chunk waits for its silence of 25 s and the sweep's slack of 9 s.
    if one_dies(call) { 75 } else { 30 }
}

/// Whether another worker must die for a call to have something to do.
fn one_dies(call: &str) -> bool {
    matches!(call, "beats" | "sweep")
}

#[tokio::test]
async fn of_nothing_at_all() {
    for call in ["nothing", "sweep"] {
        let took = World::new(call).await.run().await;
        let expected = undisturbed(call);
        assert!(took <= expected, "{call}: {took} s");
    }
}

struct World {
    db: TestDb,
    proxy: Proxy,
    shape: Shape,
    worker: Worker,
    leader: Leader,
    /// The call under test, whose cut a run waits for.
    call: String,
}

/// A worker process: what it remembers and what it runs.
struct Worker {
    control: ControlDb,
    key: [u8; 16],
    session: Option<WorkerSession>,
    ended: bool,
    request: i64,
    beat: i64,
    must_reconcile: bool,
    running: Vec<(WorkItem, u32)>,
    unsettled: Vec<(ChunkId, Fence, AttemptResult)>,
    /// Every output that was made whole, by chunk and fence.
    finished: BTreeSet<(ChunkId, Fence)>,
    recorded: BTreeSet<(ChunkId, Fence)>,
    failed_once: bool,
}

struct Leader {
    control: ControlDb,
    proof: Option<LeaderProof>,
    sweep: Sweep,
    applied: bool,
    ticks: u32,
}

impl World {
    async fn new(call: &str) -> Self {
        let db = TestDb::new().await;
        let proxy = Proxy::start(db.port()).await;
        let shape = Shape::fan_in(CHUNKS).with(
            "extract",
            "retry: { attempts: 3, backoff: 1s, max_backoff: 2s }",
        );
        let worker = Worker {
            control: db.control_at(Role::Worker, proxy.port()),
            key: [3; 16],
            session: None,
            ended: false,
            request: 1,
            beat: 0,
            must_reconcile: true,
            running: Vec::new(),
            unsettled: Vec::new(),
            finished: BTreeSet::new(),
            recorded: BTreeSet::new(),
            failed_once: false,
        };
        let leader = Leader {
            control: db.control_at(Role::Coordinator, proxy.port()),
            proof: None,
            sweep: Sweep::new(1.0),
            applied: false,
            ticks: 0,
        };
        Self {
            db,
            proxy,
            shape,
            worker,
            leader,
            call: call.to_owned(),
        }
    }

    /// Runs until everything is done and the worker has signed off; answers the seconds it took.
    async fn run(mut self) -> u32 {
        let dies = one_dies(&self.call);
        for second in 0..400 {
            self.leader.tick(&self.shape).await;
            if dies && second == 3 {
                self.one_that_dies().await;
            }
            let done = self.done().await;
            self.worker.tick(done).await;
            if done && self.worker.ended {
                self.judge().await;
                assert!(
                    !self.proxy.armed(),
                    "odf.{} was called too seldom",
                    self.call
                );
                return second;
            }
            self.db.advance(Duration::from_secs(1)).await;
        }
        panic!(
            "odf.{}: not done after 400 s: {:?}",
            self.call,
            self.db
                .column::<String>(
                    "select name || ' ' || status from odf.chunk where status <> 'validated'"
                )
                .await
        )
    }

    /// Another worker, on a good connection, that takes a chunk and is never heard again.
    async fn one_that_dies(&self) {
        let doomed = crate::harness::TestWorker::start(&self.db, "doomed", 1).await;
        assert!(doomed.beat().await.state == "active");
        doomed.claim(1).await;
    }

    async fn done(&self) -> bool {
        let planned: i64 = self
            .db
            .count("odf.data_set where plan_id is not null")
            .await;
        planned == 4
            && self
                .db
                .count("odf.chunk_state where status <> 'validated'")
                .await
                == 0
    }

    async fn judge(&self) {
        let call = &self.call;
        let published: Vec<(i64, i64)> = self
            .db
            .admin()
            .query("select chunk_id, fence from odf.publication", &[])
            .await
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let published: BTreeSet<_> = published
            .into_iter()
            .map(|(c, f)| (ChunkId(c), Fence(f)))
            .collect();
        assert_eq!(published.len(), 2 * CHUNKS + 1, "{call}: each chunk once");
        assert_eq!(
            self.worker.finished, published,
            "{call}: what was made whole is what counts"
        );
        assert_eq!(
            self.worker.recorded, published,
            "{call}: and its worker knows"
        );
        assert_eq!(self.db.count("odf.lease").await, 0, "{call}");
        assert_eq!(self.db.bugs().await, [""; 0], "{call}");
    }
}

impl Worker {
    async fn tick(&mut self, done: bool) {
        if self.ended {
            return;
        }
        let Some(session) = self.session.clone() else {
            let registered =
                WorkerSession::register_with_key(&self.control, &hello("w1", 2), self.key).await;
            match registered {
                Ok(session) => self.session = Some(session),
                Err(error) => expect_lost(&error),
            }
            return;
        };
        self.beat += 1;
        let free = 2_usize.saturating_sub(self.running.len() + self.unsettled.len());
        match session.beat(self.beat, json!({ "free": free })).await {
            Ok(answer) => self.must_reconcile |= answer.reconcile,
            Err(error) => self.lost(&error),
        }
        self.work(&session).await;
        self.settle(&session).await;
        if self.must_reconcile || self.beat % 5 == 0 {
            self.reconcile(&session).await;
        }
        if !self.must_reconcile && free > 0 {
            self.claim(&session, free).await;
        }
        if done && self.unsettled.is_empty() && self.running.is_empty() {
            match session.end("finished").await {
                Ok(()) => self.ended = true,
                Err(error) => self.lost(&error),
            }
        }
    }

    fn lost(&mut self, error: &StoreError) {
        expect_lost(error);
        self.must_reconcile = true;
    }

    async fn claim(&mut self, session: &WorkerSession, free: usize) {
        match session.claim(self.request, free as u32).await {
            Ok(Claimed::Leases { items, .. }) => {
                self.request += 1;
                self.running.extend(items.into_iter().map(|item| (item, 0)));
            }
            Ok(Claimed::NotActive) => self.must_reconcile = true,
            // The next try carries the same number, after saying what is held.
            Err(error) => self.lost(&error),
        }
    }

    async fn reconcile(&mut self, session: &WorkerSession) {
        let held: Vec<_> = self
            .running
            .iter()
            .map(|(item, _)| (item.chunk_id, item.fence))
            .chain(
                self.unsettled
                    .iter()
                    .map(|(chunk, fence, _)| (*chunk, *fence)),
            )
            .collect();
        match session.reconcile(&held).await {
            Ok(lost) => {
                self.must_reconcile = false;
                // What waits for its answer stays: settling tells whether it was recorded.
                self.running
                    .retain(|(item, _)| !lost.contains(&(item.chunk_id, item.fence)));
            }
            Err(error) => self.lost(&error),
        }
    }

    /// Attempts take two seconds; one of the first fails once; a whole input is read page by page.
    async fn work(&mut self, session: &WorkerSession) {
        let mut still = Vec::new();
        for (item, age) in std::mem::take(&mut self.running) {
            if age < 2 {
                still.push((item, age + 1));
                continue;
            }
            if !item.fan_in.is_empty() {
                match read_whole(session, &item).await {
                    Ok(read) => assert_eq!(read, CHUNKS),
                    Err(error) => {
                        self.lost(&error);
                        still.push((item, age));
                        continue;
                    }
                }
            }
            let result = if item.dataset == "mid" && !self.failed_once {
                self.failed_once = true;
                failed(FailureClass::Transient)
            } else {
                self.finished.insert((item.chunk_id, item.fence));
                validated(&item)
            };
            self.unsettled.push((item.chunk_id, item.fence, result));
        }
        self.running = still;
    }

    async fn settle(&mut self, session: &WorkerSession) {
        if self.unsettled.is_empty() {
            return;
        }
        match session.settle(&self.unsettled).await {
            Ok(answers) => {
                for (key, answer) in answers {
                    assert!(
                        matches!(answer, Settled::Applied | Settled::AlreadyApplied),
                        "{key:?}: {answer:?}"
                    );
                    if self.finished.contains(&key) {
                        self.recorded.insert(key);
                    }
                }
                self.unsettled.clear();
            }
            Err(error) => self.lost(&error),
        }
    }
}

async fn read_whole(session: &WorkerSession, item: &WorkItem) -> Result<usize, StoreError> {
    let (mut after, mut read) = (ChunkId(0), 0);
    loop {
        let page = session
            .attempt_inputs(item.chunk_id, item.fence, after, 2)
            .await?;
        let Some(last) = page.last() else {
            return Ok(read);
        };
        after = last.chunk_id;
        read += page.len();
    }
}

impl Leader {
    async fn tick(&mut self, shape: &Shape) {
        match self.control.lead("leader", Duration::from_secs(3600)).await {
            Ok(led) => self.proof = Some(self.control.proof(led.term)),
            Err(error) => expect_lost(&error),
        }
        let Some(proof) = self.proof.clone() else {
            return;
        };
        if !self.applied {
            match apply_to(&self.control, &shape.parse(), &shape.yaml()).await {
                Ok(_) => self.applied = true,
                Err(error) => return expect_lost(&error),
            }
        }
        if let Err(error) = plan(&self.control).await {
            expect_lost(&error);
        }
        self.ticks += 1;
        for mut pass in Upkeep::ALL {
            // The rare ones every fourth second.
            if pass.interval() > Duration::from_secs(1) && self.ticks % 4 != 1 {
                continue;
            }
            if let Err(error) = pass.pass(&proof).await {
                expect_lost(&error);
            }
        }
        if let Err(error) = self.sweep.pass(&proof).await {
            expect_lost(&error);
        }
    }
}

/// One look for data sets without a plan, as the planning loop does.
async fn plan(control: &ControlDb) -> Result<(), StoreError> {
    for set in control.unplanned().await? {
        if set.name == "src" {
            let plan = control.begin_plan(set.data_set_id).await?;
            for n in 1..=CHUNKS {
                control
                    .add_chunks(plan, n as i64 - 1, &[source_chunk(n)])
                    .await?;
            }
            control.seal_plan(plan, CHUNKS as i64, &[]).await?;
        } else {
            control.derive_plan(set.data_set_id).await?;
        }
    }
    Ok(())
}

/// Nothing but a lost connection may be heard of: everything else would be a broken promise.
fn expect_lost(error: &StoreError) {
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}
