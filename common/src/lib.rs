//! The shared language of OpenDataFlow: what `coordinator` and `worker` both speak.
//!
//! This crate owns no process and prints nothing. Its rooms depend on each other in one
//! direction only: `domain | calendar <- policy <- flow <- store | endpoint`, with `runtime` beside them.

pub mod calendar;
pub mod domain;
pub mod endpoint;
pub mod flow;
pub mod policy;
pub mod private_pg;
pub mod runtime;
pub mod secret;
pub mod store;
