//! The integration tests: one binary, a file per subject.
//!
//! Every test has a database of its own in one private PostgreSQL (see `harness::cluster`).
#![allow(clippy::unwrap_used, reason = "what a test cannot do fails the test")]
#![allow(
    clippy::too_many_lines,
    reason = "a test tells one story from its start to its end"
)]

mod harness;

mod allot;
mod audit;
mod breakages;
mod certificate;
mod claim;
mod cli;
mod clock;
mod coordinator_apply;
mod coordinator_dev;
mod coordinator_init;
mod coordinator_passes;
mod coordinator_plan;
mod coordinator_replan;
mod coordinator_serve;
mod coordinator_support;
mod crash;
mod cut_after_commit;
mod example_three_stages;
mod faults_crash;
mod faults_elsewhere;
mod faults_liveness;
mod faults_names;
mod faults_people;
#[allow(dead_code, reason = "a tool box: not every test uses every tool")]
mod faults_process;
mod faults_quiet;
mod faults_scale;
mod faults_scripts;
mod faults_secrets;
mod faults_setup;
mod faults_space;
#[allow(dead_code, reason = "a tool box: not every test uses every tool")]
mod faults_support;
mod faults_witness;
mod floor;
mod history;
mod install;
mod leader;
mod limits;
mod lineage;
mod migrated;
mod model;
mod plan;
mod plans_of_functions;
mod reconcile;
mod reconciliation;
mod register;
mod replan;
mod replan_around;
mod replan_support;
mod requests;
mod retry;
mod roles;
mod settle;
mod smoke;
mod sweep;
mod tidy;
mod transitions;
mod windows;
mod worker_drain;
mod worker_limits;
mod worker_outage;
mod worker_restart;
mod worker_run;
mod worker_start;
mod worker_support;
