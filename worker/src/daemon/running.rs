//! The table of what this worker holds: attempts that run and those whose end is not recorded yet.
//!
//! The one list that reconciliation names and free slots are counted from. It decides nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::domain::{ChunkId, Fence, JobSpec, SessionId, WorkItem};
use tokio::sync::Notify;

use super::heard::Moment;
use super::session::Session;
use crate::attempt::{AttemptControl, Progress};

/// Which attempt: chunk and fence.
pub(crate) type Key = (ChunkId, Fence);

/// How firmly an attempt is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firmness {
    /// TERM, and KILL after the job's grace.
    Term,
    /// KILL.
    Kill,
}

/// A leased chunk and the hand on its attempt.
#[derive(Debug)]
pub(crate) struct Held {
    /// The session that leased it.
    pub(crate) session: Arc<Session>,
    /// The chunk.
    pub(crate) item: WorkItem,
    /// Its job.
    pub(crate) spec: Arc<JobSpec>,
    /// Ends the attempt and hears its progress.
    pub(crate) control: AttemptControl,
    /// How long it may go on unheard.
    pub(crate) silence: Duration,
    leased: Moment,
    fenced: Arc<AtomicBool>,
    ended: AtomicBool,
    told: Mutex<Progress>,
}

impl Held {
    /// A chunk leased by a claim sent at that moment. It may publish as long as its worker was heard
    /// within 0.6 of the silence.
    pub(crate) fn new(
        session: Arc<Session>,
        leased: Moment,
        item: WorkItem,
        spec: Arc<JobSpec>,
        silence: Duration,
    ) -> Self {
        let fenced = Arc::new(AtomicBool::new(false));
        let (stop, listener) = (Arc::clone(&fenced), Arc::clone(&session));
        let may_publish = move || {
            !stop.load(Ordering::Acquire)
                && unheard(&listener, leased) < silence.mul_f64(super::silence::TERM_AT)
        };
        Self {
            session,
            item,
            spec,
            control: AttemptControl::new(Arc::new(may_publish)),
            silence,
            leased,
            fenced,
            ended: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// Its identity.
    pub(crate) fn key(&self) -> Key {
        (self.item.chunk_id, self.item.fence)
    }

    /// `data set/key`, for people.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.item.dataset, self.item.key)
    }

    /// How long its worker has not been heard.
    pub(crate) fn unheard(&self) -> Duration {
        unheard(&self.session, self.leased)
    }

    /// Ends the attempt for that reason; the first reason stays.
    pub(crate) fn stop(&self, firmness: Firmness, why: &str) {
        self.control.because(why);
        match firmness {
            Firmness::Term => self.control.term.cancel(),
            Firmness::Kill => self.control.kill.cancel(),
        }
    }

    /// As [`Self::stop`], and from here on it never publishes: its lease may be another's.
    pub(crate) fn fence_off(&self, firmness: Firmness, why: &str) {
        self.fenced.store(true, Ordering::Release);
        self.stop(firmness, why);
    }

    /// Whether somebody asked for its end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.control.term.is_cancelled() || self.control.kill.is_cancelled()
    }

    /// Whether nothing of it runs any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Since the last answered beat or, later than that, the answered claim: the slack that a sweep adds
/// to every silence covers the beat in between.
fn unheard(session: &Session, leased: Moment) -> Duration {
    session.heard.age().min(leased.elapsed())
}

/// Everything that is held.
#[derive(Debug, Default)]
pub(crate) struct Running {
    table: Mutex<HashMap<Key, Arc<Held>>>,
    changed: Notify,
}

impl Running {
    fn table(&self) -> MutexGuard<'_, HashMap<Key, Arc<Held>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a chunk in; `false` where it is there already.
    pub(crate) fn insert(&self, held: &Arc<Held>) -> bool {
        let mut table = self.table();
        if table.contains_key(&held.key()) {
            return false;
        }
        table.insert(held.key(), Arc::clone(held));
        true
    }

    /// Nothing of it runs any more; it stays until its end is recorded.
    pub(crate) fn ended(&self, held: &Held) {
        held.ended.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Its end is recorded: the slot is free.
    pub(crate) fn remove(&self, key: Key) {
        self.table().remove(&key);
        self.changed.notify_waiters();
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.table().len()
    }

    /// How many still run.
    pub(crate) fn alive(&self) -> usize {
        self.table().values().filter(|h| !h.has_ended()).count()
    }

    /// The shortest silence among what still runs.
    pub(crate) fn shortest_silence(&self) -> Option<Duration> {
        let table = self.table();
        let alive = table.values().filter(|held| !held.has_ended());
        alive.map(|held| held.silence).min()
    }

    /// Those that still run.
    pub(crate) fn all_alive(&self) -> Vec<Arc<Held>> {
        let table = self.table();
        table.values().filter(|h| !h.has_ended()).cloned().collect()
    }

    /// That one, if it still runs.
    pub(crate) fn alive_one(&self, key: Key) -> Option<Arc<Held>> {
        self.table().get(&key).filter(|h| !h.has_ended()).cloned()
    }

    /// What a session holds, running or not recorded yet.
    pub(crate) fn held_by(&self, session: SessionId) -> Vec<Key> {
        let table = self.table();
        let mut keys: Vec<Key> = table
            .values()
            .filter(|held| held.session.id() == session)
            .map(|held| held.key())
            .collect();
        keys.sort_unstable();
        keys
    }

    /// Progress that the control database was not told yet.
    pub(crate) fn untold_progress(&self) -> Vec<(Arc<Held>, Progress)> {
        self.all_alive()
            .into_iter()
            .filter_map(|held| {
                let progress = *held.control.progress.borrow();
                let told = *held.told.lock().unwrap_or_else(PoisonError::into_inner);
                (progress != told).then_some((held, progress))
            })
            .collect()
    }

    /// That progress was told.
    pub(crate) fn told(progress: &[(Arc<Held>, Progress)]) {
        for (held, progress) in progress {
            *held.told.lock().unwrap_or_else(PoisonError::into_inner) = *progress;
        }
    }

    /// Waits until a condition on this table holds.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Armed before the look, so that no change is missed.
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }
}
