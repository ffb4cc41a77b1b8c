//! What the jobs themselves saw: starts and ends, written down by them, not by the database.

use std::sync::Mutex;
use std::sync::PoisonError;

use common::domain::{ChunkId, Fence, WorkItem};

/// One start or end of an attempt, in the order in which they happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether it began (or ended).
    pub(crate) start: bool,
    /// Which chunk.
    pub(crate) chunk: ChunkId,
    /// Under which fence.
    pub(crate) fence: Fence,
}

/// A list that attempts append to.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    seen: Mutex<Vec<Seen>>,
}

impl Witness {
    /// An attempt begins.
    pub(crate) fn start(&self, item: &WorkItem) {
        self.note(true, item);
    }

    /// An attempt ends, before it is settled.
    pub(crate) fn end(&self, item: &WorkItem) {
        self.note(false, item);
    }

    fn note(&self, start: bool, item: &WorkItem) {
        let seen = Seen {
            start,
            chunk: item.chunk_id,
            fence: item.fence,
        };
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seen);
    }

    /// All that was seen so far.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many run now.
    pub(crate) fn running(&self) -> usize {
        self.all()
            .iter()
            .fold(0, |n, seen| if seen.start { n + 1 } else { n - 1 })
    }

    /// The most that ever ran at once.
    pub(crate) fn most(&self) -> usize {
        let mut now = 0_usize;
        self.all()
            .iter()
            .map(|seen| {
                now = if seen.start { now + 1 } else { now - 1 };
                now
            })
            .max()
            .unwrap_or(0)
    }
}
