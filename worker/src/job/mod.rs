//! What a job runs: the trait that every kind of job implements, and the kinds built in.
//!
//! A job turns a prepared attempt into output and claims what it made. It must never publish
//! and never settle: that is the attempt's and the worker's business.

mod check;
mod outcome;
mod program;
mod script;
mod watch;

use async_trait::async_trait;
use common::domain::AttemptResult;

use crate::attempt::{AttemptContext, AttemptControl};

pub(crate) use check::{Checked, run_check};
pub use script::ScriptJob;

/// A kind of job.
#[async_trait]
pub trait ChunkJob: Send + Sync {
    /// Makes the chunk's output.
    ///
    /// `Outcome::Validated` is a claim here: the attempt checks it and publishes. Where the
    /// output is a file, the job writes it to the staging path of the context and nowhere else.
    /// The job ends soon after `control.term` and at once after `control.kill`, with
    /// `Outcome::Released`; nothing of it goes on after it has returned.
    async fn run(&self, context: &AttemptContext, control: &AttemptControl) -> AttemptResult;
}
