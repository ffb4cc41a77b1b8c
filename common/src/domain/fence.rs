//! Identities and the fence: newtypes so that a chunk is never mistaken for a session.
//!
//! A fence never repeats for a chunk: its epoch comes from the server's timeline plus the
//! installation's offset, its attempt number from the chunk's own counter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A chunk's identity in the store, unique in an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkId(pub i64);

/// One start of one worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub i64);

/// `(epoch << 32) | attempt`: grows with every claim of a chunk; an older one is refused everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub i64);

impl Fence {
    /// Composes a fence from the server's epoch and the chunk's attempt number (from 1).
    #[must_use]
    pub fn new(epoch: u32, attempt: u32) -> Self {
        Self((i64::from(epoch) << 32) | i64::from(attempt))
    }

    /// The attempt number, from 1.
    #[must_use]
    pub fn attempt(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The epoch: timeline of the server plus the installation's offset.
    #[must_use]
    pub fn epoch(self) -> u32 {
        ((self.0 >> 32) & 0xffff_ffff) as u32
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Fence {
    /// One number, as it appears in file names and in the database.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Fence;

    #[test]
    fn a_fence_orders_by_epoch_then_attempt() {
        let late = Fence::new(1, 900);
        let after_failover = Fence::new(2, 1);
        assert!(late < after_failover);
        assert_eq!((late.epoch(), late.attempt()), (1, 900));
        assert_eq!((after_failover.epoch(), after_failover.attempt()), (2, 1));
    }
}
