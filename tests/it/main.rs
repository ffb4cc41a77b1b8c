//! The integration tests: one binary, a file per subject.
//!
//! Every test has a database of its own in one private PostgreSQL (see `harness::cluster`).
#![allow(clippy::unwrap_used, reason = "what a test cannot do fails the test")]

mod harness;

mod claim;
mod cut_after_commit;
mod faults_liveness;
mod faults_process;
mod faults_scripts;
mod faults_support;
mod faults_witness;
mod reconcile;
mod register;
mod settle;
mod smoke;
mod worker_run;
mod worker_support;
