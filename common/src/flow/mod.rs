//! The flow file: the one YAML document that declares connections, pools, data sets and jobs.
//!
//! `model` is the normalised declaration, every default filled in: what the rest of the system
//! and the database hold. Reading, checking and comparing files lives in the other files here:
//! text becomes a `tree`, the tree becomes the file as written (`raw`), and `check` makes
//! the model of it. Every step reports all the problems that it finds.

mod check;
pub mod diagnostic;
pub mod diff;
pub mod duration;
pub mod link;
pub mod model;
mod parse;
mod place;
mod raw;
mod raw_rules;
mod raw_window;
mod read;
pub mod rules;
mod scalar;
pub mod schema;
pub mod topology;
mod tree;

pub use diagnostic::{Diagnostic, Severity, report};
pub use parse::{MAX_FILE_BYTES, Parsed, parse_flow, parse_flow_bytes};
#[cfg(test)]
mod tests;
