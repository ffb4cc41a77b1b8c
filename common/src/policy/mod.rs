//! Decisions as pure functions: no clock, no I/O; time comes in as an argument.

pub mod silence;
