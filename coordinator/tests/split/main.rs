//! The splitters against a real PostgreSQL and real files.

mod keys;
mod support;
