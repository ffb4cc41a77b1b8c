//! Workers and a leader that do one protocol call at a time, when told to.
//!
//! They keep what a real one keeps (request and beat numbers, a session key) and decide nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::domain::{
    AttemptResult, ChunkId, FailureClass, Fence, Outcome, OutputReport, SessionId, WorkItem,
};
use common::store::lead::Unheard;
use common::store::{
    BeatAnswer, Claimed, ControlDb, Hello, LeaderProof, Settled, StoreError, WorkerSession,
};
use serde_json::json;

use super::{Role, TestDb};

/// A worker process that only speaks the protocol.
pub(crate) struct TestWorker {
    /// Its session.
    pub(crate) session: WorkerSession,
    request: AtomicI64,
    beat: AtomicI64,
}

impl TestWorker {
    /// Registers under that name with so many slots.
    pub(crate) async fn start(db: &TestDb, name: &str, slots: u32) -> Self {
        Self::start_on(&db.control(Role::Worker), name, slots).await
    }

    /// As [`Self::start`], over a given store.
    pub(crate) async fn start_on(control: &ControlDb, name: &str, slots: u32) -> Self {
        Self::of(
            WorkerSession::register(control, &hello(name, slots))
                .await
                .unwrap(),
        )
    }

    /// A worker with a session that is registered already.
    pub(crate) fn of(session: WorkerSession) -> Self {
        Self {
            session,
            request: AtomicI64::new(0),
            beat: AtomicI64::new(0),
        }
    }

    /// The session's number.
    pub(crate) fn id(&self) -> SessionId {
        self.session.id()
    }

    /// The number of the next claim.
    pub(crate) fn next_request(&self) -> i64 {
        self.request.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Claims up to `free` chunks under a new request number.
    pub(crate) async fn claim(&self, free: u32) -> Vec<WorkItem> {
        match self.try_claim(self.next_request(), free).await.unwrap() {
            Claimed::Leases { items, .. } => items,
            Claimed::NotActive => panic!("session {} is not active", self.id()),
        }
    }

    /// Claims under a given request number.
    pub(crate) async fn try_claim(&self, request: i64, free: u32) -> Result<Claimed, StoreError> {
        self.session.claim(request, free).await
    }

    /// One chunk, or the test fails.
    pub(crate) async fn claim_one(&self) -> WorkItem {
        let mut items = self.claim(1).await;
        assert_eq!(items.len(), 1, "a claim of one chunk");
        items.remove(0)
    }

    /// One beat with all slots free.
    pub(crate) async fn beat(&self) -> BeatAnswer {
        self.try_beat(100).await.unwrap()
    }

    /// One beat.
    pub(crate) async fn try_beat(&self, free: u32) -> Result<BeatAnswer, StoreError> {
        let number = self.beat.fetch_add(1, Ordering::SeqCst) + 1;
        self.session.beat(number, json!({ "free": free })).await
    }

    /// Settles one attempt.
    pub(crate) async fn settle(&self, item: &WorkItem, result: AttemptResult) -> Settled {
        self.settle_as(item.chunk_id, item.fence, result).await
    }

    /// Settles one attempt by chunk and fence.
    pub(crate) async fn settle_as(
        &self,
        chunk: ChunkId,
        fence: Fence,
        result: AttemptResult,
    ) -> Settled {
        self.session
            .settle(&[(chunk, fence, result)])
            .await
            .unwrap()[&(chunk, fence)]
    }

    /// Settles all as validated; answers by chunk.
    pub(crate) async fn finish(&self, items: &[WorkItem]) -> HashMap<ChunkId, Settled> {
        let batch: Vec<_> = items
            .iter()
            .map(|i| (i.chunk_id, i.fence, validated(i)))
            .collect();
        let answers = self.session.settle(&batch).await.unwrap();
        answers
            .into_iter()
            .map(|((chunk, _), answer)| (chunk, answer))
            .collect()
    }

    /// Settles all as validated and demands that every one was applied.
    pub(crate) async fn complete(&self, items: &[WorkItem]) {
        let answers = self.finish(items).await;
        assert_eq!(answers.len(), items.len());
        assert!(
            answers.values().all(|a| *a == Settled::Applied),
            "{answers:?}"
        );
    }

    /// Does something slow while the worker goes on beating, as a real one does beside its work.
    pub(crate) async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(Duration::from_secs(2)) => {
                    self.beat().await;
                }
            }
        }
    }

    /// Claims and validates until nothing is left to claim; answers how many.
    pub(crate) async fn drain(&self, free: u32) -> usize {
        let mut done = 0;
        loop {
            self.beat().await;
            let items = self.claim(free).await;
            if items.is_empty() {
                return done;
            }
            done += items.len();
            self.complete(&items).await;
        }
    }
}

/// What a worker of that name says of itself.
pub(crate) fn hello(name: &str, slots: u32) -> Hello {
    Hello {
        name: name.to_owned(),
        host: format!("host-of-{name}"),
        machine_id: format!("machine-of-{name}"),
        pid: 4711,
        version: "0.0.0".to_owned(),
        slots,
        labels: Vec::new(),
    }
}

/// A good end of an attempt, published under a name that tells chunk and fence.
pub(crate) fn validated(item: &WorkItem) -> AttemptResult {
    AttemptResult::bare(Outcome::Validated(OutputReport {
        location: Some(format!("{}/{}.{}", item.dataset, item.key, item.fence)),
        rows: Some(10),
        bytes: Some(1000),
        checksum: Some(format!("test:{}", item.fence)),
        validation: None,
    }))
}

/// A failed attempt.
pub(crate) fn failed(class: FailureClass) -> AttemptResult {
    AttemptResult::bare(Outcome::Failed {
        class,
        error: format!("made to fail: {}", class.word()),
    })
}

/// A coordinator that only runs the leader's passes.
pub(crate) struct TestLeader {
    /// Its term.
    pub(crate) proof: LeaderProof,
}

impl TestLeader {
    /// Takes the lead for an hour.
    pub(crate) async fn start(db: &TestDb) -> Self {
        Self::start_on(&db.control(Role::Coordinator)).await
    }

    /// As [`Self::start`], over a given store.
    pub(crate) async fn start_on(control: &ControlDb) -> Self {
        let led = control
            .lead("test-leader", Duration::from_secs(3600))
            .await
            .unwrap();
        assert!(led.leader, "somebody else leads: {}", led.holder);
        Self {
            proof: control.proof(led.term),
        }
    }

    /// Every pass once, but for the sweep.
    pub(crate) async fn passes(&self) {
        self.proof.retry_due(1000).await.unwrap();
        self.proof.promote().await.unwrap();
        self.proof.allot().await.unwrap();
        self.proof.move_floors().await.unwrap();
        self.proof.look_below_floors().await.unwrap();
        self.proof.fold_progress().await.unwrap();
        self.proof
            .find_stranded(Duration::from_secs(3600))
            .await
            .unwrap();
        self.proof.prune().await.unwrap();
    }

    /// Sweeps those sessions as unheard for so long, whatever their last beat was; answers how many
    /// died and how many leases were taken.
    pub(crate) async fn sweep(&self, workers: &[&TestWorker], unheard: Duration) -> (i64, i64) {
        let beats = self.proof.beats().await.unwrap();
        let silent: Vec<Unheard> = beats
            .sessions
            .iter()
            .filter(|(session, _)| workers.iter().any(|worker| worker.id() == *session))
            .map(|(session, beat_no)| Unheard {
                session: *session,
                beat_no: *beat_no,
                unheard_ms: unheard.as_millis() as u64,
            })
            .collect();
        self.proof
            .sweep(&silent, Duration::from_secs(4))
            .await
            .unwrap()
    }

    /// Sweeps a worker that has been silent for ten minutes.
    pub(crate) async fn bury(&self, worker: &TestWorker) -> (i64, i64) {
        self.sweep(&[worker], Duration::from_secs(600)).await
    }
}
