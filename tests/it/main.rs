//! The integration tests: one binary, a file per subject.
//!
//! Every test has a database of its own in one private PostgreSQL (see `harness::cluster`).

mod harness;

mod coordinator_apply;
mod coordinator_plan;
mod coordinator_support;
mod smoke;
