//! Comparing a target with what its source held at its extract, chunk by chunk.
//!
//! `expected` and `verdict` are pure; `table` and `file` look at the target (and, where asked, at
//! the source of today) and never write there; `run` carries it through and keeps every answer.
//! Nothing in here decides what runs, and no figure of today's source is ever part of a verdict.

pub mod expected;
pub mod file;
pub mod keys;
pub mod place;
pub mod run;
pub mod table;
pub mod verdict;
