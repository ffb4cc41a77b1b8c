//! coordinator
pub mod cli;
pub mod read;
