//! Decisions as pure functions: no clock, no I/O; time comes in as an argument.

pub mod row_sum;
pub mod silence;
