//! The operator's command line against a real control database, filled by the protocol.

mod cost;
mod errors;
mod example;
mod explain;
mod lineage;
mod lists;
mod postmortem;
mod status;
mod support;
mod verbs;
mod watch;
