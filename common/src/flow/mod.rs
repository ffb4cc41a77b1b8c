//! The flow file: the one YAML document that declares connections, pools, data sets and jobs.
//!
//! `model` is the normalised declaration, every default filled in: what the rest of the system
//! and the database hold. Reading, checking and comparing files lives in the other files here.

pub mod model;
