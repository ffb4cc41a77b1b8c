//! The coordinator: installs the schema, splits data sets, leads, and is the operator's command line.
//!
//! It never talks to a worker: both meet in the database alone.

pub mod certify;
pub mod cli;
pub mod declare;
pub mod dev;
pub mod install;
pub mod leader;
pub mod linker;
pub mod loops;
pub mod planner;
pub mod read;
pub mod reconcile;
pub mod serve;
pub mod split;
