//! The integration tests: one binary, a file per subject.
//!
//! Every test has a database of its own in one private PostgreSQL (see `harness::cluster`).

mod harness;

mod claim;
mod reconcile;
mod register;
mod settle;
mod smoke;
