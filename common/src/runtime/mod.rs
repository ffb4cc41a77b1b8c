//! What every daemon needs around its work: an orderly end, supervised loops, a log, waiting.
//!
//! Nothing here knows chunks, flows or SQL. A module of this room may start tasks and install
//! process-wide handlers; no other room may.

pub mod wait;
