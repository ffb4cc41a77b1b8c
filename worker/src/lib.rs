//! The worker: runs attempts of chunks and publishes what they made.

pub mod attempt;
mod audit;
pub mod cli;
pub mod daemon;
mod doctor;
pub mod gate;
pub mod guard;
pub mod job;
mod try_chunk;
