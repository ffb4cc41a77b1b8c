//! The short passes: retries, promotions, allotments, counters, floors, history.
//!
//! Each is one call that proves its term; the SQL beside its name in `migrations/api` says what it
//! does and why it is safe to repeat.

use std::time::Duration;

use async_trait::async_trait;
use common::runtime::Summary;
use common::store::{LeaderProof, StoreError};

use super::LeaderPass;

/// How many due chunks one call moves, so that a pass stays well under two seconds.
const RETRY_BATCH: i32 = 2000;
/// How long a chunk may be ready without a place in a queue before that counts as a defect of ours.
const STRANDED_AFTER: Duration = Duration::from_secs(300);

/// Which of the short passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// Failed chunks whose time has come.
    Retry,
    /// Chunks that wait for whole data sets; pending requests.
    Promote,
    /// Rights to run.
    Allot,
    /// Progress deltas.
    Fold,
    /// Low-water marks of the lanes.
    Floors,
    /// Rows under the marks, which there should never be.
    BelowFloors,
    /// Ready chunks that no queue holds, which there should never be.
    Stranded,
    /// Free space on declared roots.
    Space,
    /// History partitions.
    Prune,
}

impl Upkeep {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Retry,
        Self::Promote,
        Self::Allot,
        Self::Fold,
        Self::Floors,
        Self::BelowFloors,
        Self::Stranded,
        Self::Space,
        Self::Prune,
    ];

    /// The loop's name in logs and in `status --loops`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Promote => "promote",
            Self::Allot => "allot",
            Self::Fold => "fold",
            Self::Floors => "floors",
            Self::BelowFloors => "below_floors",
            Self::Stranded => "stranded",
            Self::Space => "space",
            Self::Prune => "prune",
        }
    }

    /// Time between passes.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_secs(match self {
            Self::Retry | Self::Promote | Self::Allot => 1,
            Self::Fold | Self::Space => 5,
            Self::Floors => 30,
            Self::BelowFloors | Self::Stranded => 600,
            Self::Prune => 3600,
        })
    }
}

#[async_trait]
impl LeaderPass for Upkeep {
    async fn pass(&mut self, proof: &LeaderProof) -> Result<Summary, StoreError> {
        let (changed, what) = match self {
            Self::Retry => (
                proof.retry_due(RETRY_BATCH).await?,
                "failed chunks queued again",
            ),
            Self::Promote => (proof.promote().await?, "chunks released"),
            Self::Allot => (proof.allot().await?, "rights changed"),
            Self::Fold => {
                let folded = proof.fold_progress().await?;
                return Ok(Summary::new(0, format!("{folded} deltas folded")));
            }
            Self::Floors => {
                let moved = proof.move_floors().await?;
                return Ok(Summary::new(0, format!("{moved} floors moved")));
            }
            Self::BelowFloors => (proof.look_below_floors().await?, "rows found below a floor"),
            Self::Stranded => (
                proof.find_stranded(STRANDED_AFTER).await?,
                "stranded chunks queued again",
            ),
            Self::Space => (
                proof.watch_space().await?,
                "lanes stopped or opened for space",
            ),
            Self::Prune => {
                let done = proof.prune().await?;
                return Ok(Summary::new(0, format!("partitions: {done}")));
            }
        };
        let text = if changed == 0 {
            String::new()
        } else {
            format!("{changed} {what}")
        };
        let quiet = matches!(self, Self::Allot | Self::Promote);
        Ok(Summary::new(
            if quiet { 0 } else { changed.unsigned_abs() },
            text,
        ))
    }
}
