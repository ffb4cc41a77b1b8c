//! Which columns a table is cut by, and whether their values can carry bounds.
//!
//! Compared is always under the column's own collation, the one that its index has: another one
//! would turn every chunk into a scan of the whole table. A collation that is not the database's
//! default is kept by name, so that the condition means the same on any table of that database.
//! Collations that are not deterministic work as well, since the server itself says which keys
//! are equal.

use common::domain::KeyColumn;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::SplitError;
use super::source::{Table, get};

/// A key column and whether it may be NULL.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) column: KeyColumn,
    pub(super) nullable: bool,
}

struct Candidate {
    found: Found,
    /// `ordered`, or why its values cannot carry bounds.
    verdict: String,
}

const LOOK_UP: &str = "look up the table's columns in the source's catalog";

/// Columns with their base type (domains are looked through), collation and fitness as a key.
///
/// Fit is a type whose default btree order lives in `pg_catalog`: an extension's operators (citext)
/// are found along the `search_path`, so the same condition could mean another order in a script's
/// session. `money` and the `reg*` types print differently from one session to the next.
const COLUMNS: &str = "\
WITH RECURSIVE base AS (
  SELECT a.attnum, a.attname, a.attnotnull, a.attcollation, a.atttypid AS typ, a.atttypmod AS typmod
  FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, b.attname, b.attnotnull OR t.typnotnull, b.attcollation, t.typbasetype,
         CASE WHEN b.typmod >= 0 THEN b.typmod ELSE t.typtypmod END
  FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typ
  WHERE t.typtype = 'd'
), btree AS (
  SELECT o.opcintype, o.opcnamespace = 'pg_catalog'::regnamespace AS builtin
  FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
  WHERE m.amname = 'btree' AND o.opcdefault
)
SELECT b.attname::text, format_type(b.typ, b.typmod), NOT b.attnotnull,
       CASE WHEN b.attcollation NOT IN (0, 100)
            THEN quote_ident(n.nspname) || '.' || quote_ident(c.collname) END,
       CASE WHEN t.typcategory = 'A' OR t.typtype IN ('c', 'r', 'm') THEN 'is of several values'
            WHEN t.typname ~ '^(money|reg.*)$' THEN 'prints differently from session to session'
            WHEN EXISTS (SELECT FROM btree WHERE opcintype = t.oid AND NOT builtin)
              THEN 'is ordered by an extension, whose operators a session may not see'
            WHEN t.typtype = 'e' OR EXISTS (SELECT FROM btree WHERE opcintype = t.oid)
              OR EXISTS (SELECT FROM pg_catalog.pg_cast k JOIN btree ON opcintype = k.casttarget
                         WHERE k.castsource = t.oid AND k.castmethod = 'b' AND k.castcontext = 'i' AND builtin)
              THEN 'ordered'
            ELSE 'has no order' END
FROM base b
JOIN pg_catalog.pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
LEFT JOIN pg_catalog.pg_collation c ON c.oid = b.attcollation
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
ORDER BY b.attnum";

/// The columns to cut by: those declared, or else the primary key's.
pub(super) async fn discover(
    transaction: &Transaction<'_>,
    table: &Table,
    declared: &[String],
) -> Result<Vec<Found>, SplitError> {
    let candidates = candidates(transaction, table).await?;
    let names = if declared.is_empty() {
        primary_key(transaction, table).await?
    } else {
        declared.to_vec()
    };
    if names.is_empty() {
        return Err(keyless(transaction, table, &candidates).await?);
    }
    let mut key: Vec<Found> = Vec::new();
    for name in &names {
        let candidate = pick(&candidates, name).ok_or_else(|| {
            SplitError::refused(
                format!("no column {name:?} in {}", table.shown),
                format!("its columns are {}", listed(candidates.iter())),
            )
        })?;
        let column = &candidate.found.column;
        if candidate.verdict != "ordered" {
            return Err(SplitError::refused(
                format!(
                    "column {:?} of {} cannot be a key: its type {} {}",
                    column.name, table.shown, column.sql_type, candidate.verdict
                ),
                "choose columns of numbers, text, dates, times, uuid, bytea, boolean or an enum, or partition by query",
            ));
        }
        if key.iter().any(|other| other.column.name == column.name) {
            return Err(SplitError::refused(
                format!(
                    "column {:?} is named twice in the key of {}",
                    column.name, table.shown
                ),
                "name every key column once",
            ));
        }
        key.push(candidate.found.clone());
    }
    Ok(key)
}

async fn candidates(
    transaction: &Transaction<'_>,
    table: &Table,
) -> Result<Vec<Candidate>, SplitError> {
    let rows = transaction
        .query_typed(COLUMNS, &[(&table.oid, Type::OID)])
        .await
        .map_err(SplitError::doing(LOOK_UP))?;
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                found: Found {
                    column: KeyColumn {
                        name: get(row, 0)?,
                        sql_type: get(row, 1)?,
                        collation: get(row, 3)?,
                    },
                    nullable: get(row, 2)?,
                },
                verdict: get(row, 4)?,
            })
        })
        .collect()
}

/// A declared name is taken as written first, then folded to lower case as SQL does.
fn pick<'a>(candidates: &'a [Candidate], name: &str) -> Option<&'a Candidate> {
    let named = |wanted: &str| candidates.iter().find(|c| c.found.column.name == wanted);
    named(name).or_else(|| named(&name.to_ascii_lowercase()))
}

fn listed<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> String {
    candidates
        .map(|c| format!("{} {}", c.found.column.name, c.found.column.sql_type))
        .collect::<Vec<_>>()
        .join(", ")
}

async fn primary_key(
    transaction: &Transaction<'_>,
    table: &Table,
) -> Result<Vec<String>, SplitError> {
    let rows = transaction
        .query_typed(
            "SELECT a.attname::text \
             FROM pg_catalog.pg_index i \
             CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE i.indrelid = $1 AND i.indisprimary AND k.place <= i.indnkeyatts \
             ORDER BY k.place",
            &[(&table.oid, Type::OID)],
        )
        .await
        .map_err(SplitError::doing(LOOK_UP))?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The refusal of a table without a key, with the columns that could serve as one.
async fn keyless(
    transaction: &Transaction<'_>,
    table: &Table,
    candidates: &[Candidate],
) -> Result<SplitError, SplitError> {
    let rows = transaction
        .query_typed(
            "SELECT string_agg(a.attname::text, ', ' ORDER BY k.place) \
             FROM pg_catalog.pg_index i \
             CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE i.indrelid = $1 AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL \
               AND k.place <= i.indnkeyatts \
             GROUP BY i.indexrelid ORDER BY count(*), 1",
            &[(&table.oid, Type::OID)],
        )
        .await
        .map_err(SplitError::doing(LOOK_UP))?;
    let unique = rows
        .iter()
        .map(|row| get::<String>(row, 0).map(|columns| format!("[{columns}]")))
        .collect::<Result<Vec<_>, _>>()?;
    let hint = if unique.is_empty() {
        let ordered = candidates.iter().filter(|c| c.verdict == "ordered");
        format!(
            "name columns under partition: {{ key: ... }}; no index is unique, columns with an order are {}; without an index on them every chunk reads the whole table",
            listed(ordered)
        )
    } else {
        format!(
            "name columns under partition: {{ key: ... }}; unique indexes are on {}",
            unique.join(" and ")
        )
    };
    Ok(SplitError::refused(
        format!(
            "{} has no primary key and the partition names no columns",
            table.shown
        ),
        hint,
    ))
}
