//! The coordinator: installs the schema, splits data sets, leads, and is the operator's command line.
//!
//! It never talks to a worker: both meet in the database alone.

pub mod install;
pub mod leader;
pub mod loops;
//! coordinator

pub mod split;
