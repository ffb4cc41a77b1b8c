//! Read-only sessions of the audit with users' databases.
//!
//! A session carries chunk and fence in its name, so that whoever looks at the server knows why it
//! is there, and reads in a transaction that cannot write.

use std::time::Duration;

use common::endpoint::{self, PgSession, SessionSettings};
use common::flow::model::ConnectionKind;
use tokio_postgres::Transaction;

use crate::attempt::{AttemptContext, Failure, Resolved, connection};

/// A check that takes longer is wrong about what it reads.
const STATEMENT: Duration = Duration::from_secs(300);

/// Opens a session on a connection of the job.
///
/// # Errors
/// `transient` where the server cannot be reached; `permanent` for a connection of another kind.
pub(crate) async fn open(context: &AttemptContext, name: &str) -> Result<PgSession, Failure> {
    let Resolved::Postgres { url, .. } = connection(&context.connections, name)? else {
        let kind = context
            .spec
            .connections
            .get(name)
            .map(|connection| &connection.kind);
        let kind = match kind {
            Some(ConnectionKind::Files { .. }) => "files",
            _ => "other",
        };
        return Err(Failure::permanent(format!(
            "a rule asks connection {name}, which is of kind {kind} (hint: name a postgres connection)"
        )));
    };
    let item = &context.item;
    let settings = SessionSettings {
        statement_timeout: Some(STATEMENT),
        idle_in_transaction_timeout: Some(STATEMENT),
        ..SessionSettings::named(format!(
            "odf audit {}/{} {}",
            item.dataset, item.key, item.fence
        ))
    };
    endpoint::connect(&url.clone().into(), &settings)
        .await
        .map_err(|error| Failure::transient(format!("audit on connection {name}: {error}")))
}

/// Begins a transaction that reads one state of the database and cannot write.
///
/// # Errors
/// `transient`.
pub(crate) async fn begin<'s>(
    session: &'s mut PgSession,
    name: &str,
) -> Result<Transaction<'s>, Failure> {
    session
        .build_transaction()
        .read_only(true)
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .start()
        .await
        .map_err(|error| failed(name, &error))
}

/// A statement of ours that failed for reasons that may pass.
pub(crate) fn failed(name: &str, error: &tokio_postgres::Error) -> Failure {
    Failure::transient(format!(
        "audit on connection {name}: {}",
        endpoint::describe(error)
    ))
}
