//! Read models: what people ask about the installation, answered from the control database.
//!
//! SQL through sqlx, every statement bounded, results as plain values. Shared by the command line
//! and the dashboard. Must never write, and never decide what workers do; the derivations in
//! `state`, `obstacle` and `why` are pure.

pub mod card;
pub mod certificate;
pub mod chunk;
pub mod chunks;
pub mod connect;
pub mod data_set;
pub mod error;
pub mod events;
pub mod evidence;
pub mod facts;
pub mod failures;
pub mod fingerprint;
pub mod history;
pub mod lineage;
pub mod loops;
pub mod obstacle;
pub mod pools;
pub mod postmortem;
pub mod reconciliation;
pub mod retired;
pub mod running;
pub mod stale;
pub mod state;
pub mod status;
pub mod url;
pub mod why;
pub mod workers;

pub use connect::connect;
pub use error::ReadError;
