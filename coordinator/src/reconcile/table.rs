//! The rows of a chunk in a table, as they are now: counted and summed in one read-only snapshot.
//!
//! Every value is taken as its type's output function prints it, which is what a csv of the same row
//! says; NULL is told apart from every text. Names are quoted, bounds are typed literals; the cutoff is
//! the caller's own SQL, run with the caller's own login.

use std::time::Duration;

use common::domain::Bounds;
use common::endpoint::{
    ConnectError, NameError, PgSession, PredicateError, SessionSettings, TableName, connect,
    describe, quote_ident, sql_predicate,
};
use common::policy::row_sum::RowSum;
use futures_util::TryStreamExt as _;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{IsolationLevel, Row, RowStream, Transaction};

use super::place::TablePlace;
use super::verdict::Figures;

/// How both sides are looked at.
#[derive(Debug, Clone)]
pub struct Look {
    /// The zone in which times with a zone are printed: that of the extract.
    pub timezone: String,
    /// Which rows belong: a condition over both tables; `None` is all.
    pub cutoff: Option<String>,
    /// The longest that reading one chunk may take.
    pub timeout: Duration,
}

/// Why a table could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// No session.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The declaration or the bounds do not fit the table.
    #[error("{0}")]
    Unfit(String),
    /// The server failed a statement.
    #[error("{doing}: {}", describe(.source))]
    Server {
        /// What was being done.
        doing: String,
        /// The driver's error.
        source: tokio_postgres::Error,
    },
}

impl From<NameError> for TableError {
    fn from(error: NameError) -> Self {
        Self::Unfit(error.to_string())
    }
}

impl From<PredicateError> for TableError {
    fn from(error: PredicateError) -> Self {
        Self::Unfit(error.to_string())
    }
}

/// Names what was being done when the driver failed.
pub(super) fn doing(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> TableError {
    move |source| TableError::Server {
        doing: what.into(),
        source,
    }
}

/// A value as the server sent it, whatever its type.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl<'a> FromSql<'a> for Text<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The values of a row, all of its columns.
pub(super) fn values(row: &Row) -> Result<Vec<Option<&[u8]>>, TableError> {
    (0..row.len())
        .map(|index| {
            row.try_get::<_, Option<Text<'_>>>(index)
                .map(|value| value.map(|text| text.0))
                .map_err(doing("read a row"))
        })
        .collect()
}

/// A table with its columns in their order.
#[derive(Debug, Clone)]
pub(super) struct Described {
    quoted: String,
    /// For people.
    shown: String,
    pub(super) columns: Vec<String>,
    /// The columns of its primary key, in the key's order.
    pub(super) primary: Vec<String>,
}

impl Described {
    /// The names under which values are summed.
    pub(super) fn names(&self, by_place: bool) -> Vec<String> {
        if by_place {
            (1..=self.columns.len()).map(|n| n.to_string()).collect()
        } else {
            self.columns.clone()
        }
    }

    /// Every row of the bounds, each column as text; in the order of some columns' texts, where any
    /// are named.
    pub(super) fn select(
        &self,
        bounds: &Bounds,
        cutoff: Option<&str>,
        order: &[String],
    ) -> Result<String, TableError> {
        let text = |name: &String| {
            let name = quote_ident(name)?;
            // Not "is null": a composite of NULLs is a value. One argument, so that an array is one, too.
            Ok::<_, NameError>(format!(
                "CASE WHEN pg_catalog.num_nulls({name}) = 1 THEN NULL ELSE pg_catalog.format('%s', {name}) END"
            ))
        };
        let columns = self
            .columns
            .iter()
            .map(text)
            .collect::<Result<Vec<_>, _>>()?;
        let mut sql = format!(
            "SELECT {} FROM {} WHERE {}",
            columns.join(", "),
            self.quoted,
            sql_predicate(bounds)?
        );
        if let Some(cutoff) = cutoff {
            // On lines of its own: a comment at its end must not swallow the parenthesis.
            sql.push_str(&format!(" AND (\n{cutoff}\n)"));
        }
        let order = order
            .iter()
            .map(|name| Ok(format!("({}) COLLATE \"C\" NULLS FIRST", text(name)?)))
            .collect::<Result<Vec<_>, NameError>>()?;
        if !order.is_empty() {
            sql.push_str(&format!(" ORDER BY {}", order.join(", ")));
        }
        Ok(sql)
    }
}

/// Opens a session that can only look.
///
/// # Errors
/// [`TableError::Connect`].
pub async fn open(place: &TablePlace, look: &Look) -> Result<PgSession, TableError> {
    let settings = SessionSettings {
        statement_timeout: Some(look.timeout),
        ..SessionSettings::named(format!("odf reconcile {}", place.dataset))
    };
    Ok(connect(&place.url, &settings).await?)
}

/// A read-only snapshot in which every value prints as an extract's session printed it.
pub(super) async fn begin<'s>(
    session: &'s mut PgSession,
    look: &Look,
) -> Result<Transaction<'s>, TableError> {
    const OPEN: &str = "open a read-only snapshot";
    let transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(doing(OPEN))?;
    let milliseconds = look.timeout.as_millis().to_string();
    let settings = [
        ("DateStyle", "ISO, YMD"),
        ("IntervalStyle", "postgres"),
        ("extra_float_digits", "1"),
        ("bytea_output", "hex"),
        ("TimeZone", look.timezone.as_str()),
        // Once more, for this transaction: behind a pooler the session's may be another one's.
        ("statement_timeout", milliseconds.as_str()),
    ];
    let (names, values): (Vec<&str>, Vec<&str>) = settings.into_iter().unzip();
    transaction
        .query_typed(
            "SELECT set_config(s.name, s.value, true) FROM unnest($1::text[], $2::text[]) AS s(name, value)",
            &[(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)],
        )
        .await
        .map_err(doing(OPEN))?;
    Ok(transaction)
}

/// Looks a table up.
pub(super) async fn described(
    transaction: &Transaction<'_>,
    place: &TablePlace,
) -> Result<Described, TableError> {
    let quoted = TableName::parse(&place.table)?.quoted()?;
    let look_up = || format!("look up table {}", place.table);
    let rows = transaction
        .query_typed(
            "SELECT a.attname::text, array_position(i.indkey::int2[], a.attnum) \
             FROM pg_catalog.pg_attribute a \
             LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
             WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[(&quoted, Type::TEXT)],
        )
        .await
        .map_err(doing(look_up()))?;
    let mut columns = Vec::new();
    let mut primary: Vec<(i32, String)> = Vec::new();
    for row in &rows {
        let name: String = row.try_get(0).map_err(doing(look_up()))?;
        let place: Option<i32> = row.try_get(1).map_err(doing(look_up()))?;
        primary.extend(place.map(|place| (place, name.clone())));
        columns.push(name);
    }
    if columns.is_empty() {
        return Err(TableError::Unfit(format!(
            "a table with columns was expected at {}, found none: check the name and the connection of data set {}",
            place.table, place.dataset
        )));
    }
    primary.sort();
    Ok(Described {
        quoted,
        shown: place.table.clone(),
        columns,
        primary: primary.into_iter().map(|(_, name)| name).collect(),
    })
}

/// Starts reading rows.
pub(super) async fn stream(
    transaction: &Transaction<'_>,
    table: &Described,
    sql: &str,
) -> Result<RowStream, TableError> {
    let none: Vec<(&(dyn ToSql + Sync), Type)> = Vec::new();
    transaction
        .query_typed_raw(sql, none)
        .await
        .map_err(doing(format!("read {}", table.shown)))
}

/// Counts and sums the rows of a chunk.
///
/// # Errors
/// [`TableError`] where it cannot be read as it is declared.
pub async fn measure(
    session: &mut PgSession,
    place: &TablePlace,
    look: &Look,
    bounds: &Bounds,
    by_place: bool,
) -> Result<Figures, TableError> {
    let transaction = begin(session, look).await?;
    let table = described(&transaction, place).await?;
    let sql = table.select(bounds, look.cutoff.as_deref(), &[])?;
    let mut rows = Box::pin(stream(&transaction, &table, &sql).await?);
    let mut sum = RowSum::default();
    sum.columns(&table.names(by_place));
    let mut count = 0_i64;
    while let Some(row) = rows
        .try_next()
        .await
        .map_err(doing(format!("read {}", table.shown)))?
    {
        sum.add(&values(&row)?);
        count += 1;
    }
    drop(rows);
    transaction
        .commit()
        .await
        .map_err(doing("end the snapshot"))?;
    Ok(Figures {
        rows: Some(count),
        sum: sum.hex(),
    })
}

#[cfg(test)]
mod tests {
    use common::domain::Bounds;

    use super::Described;

    #[test]
    fn names_are_quoted_and_the_cutoff_stands_alone() {
        let table = Described {
            quoted: "\"s\".\"t\"".to_owned(),
            shown: "s.t".to_owned(),
            columns: vec!["id".to_owned(), "a\"b".to_owned()],
            primary: Vec::new(),
        };
        let sql = table
            .select(&Bounds::Single, Some("id < 5 -- late"), &["id".to_owned()])
            .unwrap();
        assert!(sql.contains("format('%s', \"a\"\"b\")"), "{sql}");
        assert!(
            sql.contains("WHERE TRUE AND (\nid < 5 -- late\n) ORDER BY"),
            "{sql}"
        );
        assert_eq!(table.names(true), ["1", "2"]);
        let file = Bounds::File {
            path: "a".to_owned(),
            bytes: 1,
        };
        assert!(table.select(&file, None, &[]).is_err());
    }
}
