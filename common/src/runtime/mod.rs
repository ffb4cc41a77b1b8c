//! What every daemon needs around its work: an orderly end, supervised loops, a log, waiting.
//!
//! Nothing here knows chunks, flows or SQL. A module of this room may start tasks and install
//! process-wide handlers; no other room may.

mod error_text;
pub mod periodic;
pub mod shutdown;
pub mod supervisor;
pub mod telemetry;
pub mod wait;

pub use error_text::error_text;
pub use periodic::{Every, LastResult, LoopHandle, LoopStatus, Pass, Reason, Summary};
pub use shutdown::Shutdown;
pub use supervisor::Supervisor;
