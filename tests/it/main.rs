//! The integration tests: one binary, a file per subject.
//!
//! Every test has a database of its own in one private PostgreSQL (see `harness::cluster`).
#![allow(clippy::unwrap_used, reason = "what a test cannot do fails the test")]

mod harness;

mod claim;
mod coordinator_apply;
mod coordinator_plan;
mod coordinator_serve;
mod coordinator_support;
mod cut_after_commit;
mod reconcile;
mod register;
mod settle;
mod smoke;
mod worker_run;
mod worker_support;
