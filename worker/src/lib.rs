//! The worker: runs attempts of chunks and publishes what they made.

pub mod attempt;
pub mod guard;
pub mod job;
