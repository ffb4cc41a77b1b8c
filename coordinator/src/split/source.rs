//! A source database as a splitter sees it: one read-only snapshot, and the tables in its catalog.

use common::endpoint::{PgSession, TableName};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Row, Transaction};

use super::{SplitError, SplitLimits};

/// A statement's parameter with its type, so that no round trip and no named statement is needed.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Opens a read-only snapshot in which every value prints in a form that reads back the same in
/// any session.
pub(super) async fn begin(
    session: &mut PgSession,
    limits: SplitLimits,
) -> Result<Transaction<'_>, SplitError> {
    const OPEN: &str = "open a read-only snapshot of the source";
    let transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(SplitError::doing(OPEN))?;
    // Local to the transaction, and the time-outs once more: behind a pooler in transaction mode
    // what was set for the session may belong to another one.
    let settings = [
        ("DateStyle", "ISO, YMD".to_owned()),
        ("IntervalStyle", "postgres".to_owned()),
        ("TimeZone", "UTC".to_owned()),
        ("extra_float_digits", "3".to_owned()),
        ("bytea_output", "hex".to_owned()),
        (
            "statement_timeout",
            limits.statement.as_millis().to_string(),
        ),
        ("lock_timeout", limits.lock.as_millis().to_string()),
    ];
    let (names, values): (Vec<&str>, Vec<String>) = settings.into_iter().unzip();
    transaction
        .query_typed(
            "SELECT set_config(s.name, s.value, true) FROM unnest($1::text[], $2::text[]) AS s(name, value)",
            &[(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)],
        )
        .await
        .map_err(SplitError::doing(OPEN))?;
    Ok(transaction)
}

/// A table, view or foreign table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) oid: u32,
    /// For people.
    pub(super) shown: String,
    /// For SQL, qualified.
    pub(super) quoted: String,
    /// Whether policies hide rows from this login.
    pub(super) row_security: bool,
}

const LOOK_UP: &str = "look up the table in the source's catalog";

/// Finds a table by its declared name, then takes everything but `pg_catalog` off the search
/// path: type names are then printed qualified and mean the same in every session.
pub(super) async fn resolve(
    transaction: &Transaction<'_>,
    declared: &str,
) -> Result<Table, SplitError> {
    let name = TableName::parse(declared)?;
    let found = transaction
        .query_typed(
            "SELECT c.oid, n.nspname::text, c.relkind::text, row_security_active(c.oid) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname = $2::text \
               AND CASE WHEN $1::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) \
                        ELSE n.nspname = $1::text END",
            &[(&name.schema, Type::TEXT), (&name.name, Type::TEXT)],
        )
        .await
        .map_err(SplitError::doing(LOOK_UP))?;
    let Some(row) = found.first() else {
        return Err(no_such_table(transaction, &name).await?);
    };
    let kind: String = get(row, 2)?;
    let name = TableName {
        schema: Some(get(row, 1)?),
        name: name.name,
    };
    if !matches!(kind.as_str(), "r" | "p" | "v" | "m" | "f") {
        return Err(SplitError::refused(
            format!(
                "a table or view was expected at {name}, found something else (relkind {kind:?})"
            ),
            "name a table, a partitioned table, a view or a foreign table",
        ));
    }
    transaction
        .query_typed("SELECT set_config('search_path', 'pg_catalog', true)", &[])
        .await
        .map_err(SplitError::doing(LOOK_UP))?;
    Ok(Table {
        oid: get(row, 0)?,
        shown: name.to_string(),
        quoted: name.quoted()?,
        row_security: get(row, 3)?,
    })
}

async fn no_such_table(
    transaction: &Transaction<'_>,
    name: &TableName,
) -> Result<SplitError, SplitError> {
    let alike = transaction
        .query_typed(
            "SELECT n.nspname::text, c.relname::text \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE lower(c.relname) = lower($1::text) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
             ORDER BY 1, 2 LIMIT 5",
            &[(&name.name, Type::TEXT)],
        )
        .await
        .map_err(SplitError::doing(LOOK_UP))?;
    let mut names = Vec::new();
    for row in &alike {
        names.push(
            TableName {
                schema: Some(get(row, 0)?),
                name: get(row, 1)?,
            }
            .to_string(),
        );
    }
    let hint = if names.is_empty() {
        "check the name and the connection's database".to_owned()
    } else {
        format!(
            "did you mean {}? Names without quotes are folded to lower case",
            names.join(" or ")
        )
    };
    Ok(SplitError::refused(
        format!("no table {name} in the source"),
        hint,
    ))
}

/// A column of a row that our own statement returned.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    index: usize,
) -> Result<T, SplitError> {
    row.try_get(index)
        .map_err(SplitError::doing("read the source's answer"))
}
