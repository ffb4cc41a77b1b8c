//! The splitters against a real PostgreSQL and real files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod endpoint;
mod keys;
mod random;
mod refusals;
mod schemes;
mod support;
mod types;
