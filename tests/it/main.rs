//! The integration tests: one binary, a file per subject.
//!
//! Every test has a database of its own in one private PostgreSQL (see `harness::cluster`).

mod harness;

mod smoke;
mod worker_run;
mod worker_support;
