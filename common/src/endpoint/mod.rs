//! The data plane's ends: users' databases and file trees, and the pool to our own database.
//!
//! This room opens connections, quotes names and values, and finds files. It must never hold
//! control-plane SQL, never print a secret, and never decide what a failure means for a chunk.

pub mod connect_error;
pub mod files;
pub mod name;
pub mod pool;
pub mod postgres;
pub mod predicate;
pub mod target;
pub mod tls;

pub use connect_error::{ConnectError, describe};
pub use name::{NameError, TableName, quote_ident, quote_literal};
pub use pool::{PoolSettings, pool};
pub use postgres::{PgSession, SessionSettings, connect};
pub use predicate::{PredicateError, sql_predicate};
pub use secrecy::{ExposeSecret, SecretString};
pub use target::PgTarget;
