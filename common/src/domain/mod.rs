//! The nouns of the system: pure values with no clock, no I/O and no async.
//!
//! Nothing in this room may import tokio, sqlx, tokio-postgres or tracing (`tests/it/tidy.rs`
//! checks it), so every rule in here can be tested as a plain function.

pub mod attempt;
pub mod chunk;
pub mod fence;
pub mod lease;
pub mod size;
pub mod validation;
pub mod verdict;

pub use attempt::{AttemptResult, FailureClass, Outcome, OutputReport};
pub use chunk::{Bounds, ChunkStatus, ColumnSpan, KeyColumn, NewChunk, rfc3339};
pub use fence::{ChunkId, Fence, SessionId};
pub use lease::{ConnectionSpec, InputChunk, JobSpec, WorkItem};
pub use validation::{RuleOutcome, Severity, Validation};
pub use verdict::{Answer, Evidence, Finding, InputEvidence, Method, Question, Verdict};
