//! Whether stored bounds tile a real table: in how many of them each of its rows lies.
//!
//! This is the judge of the splitters and shares nothing with them: no window over ranks, no
//! predicate text. A sweep line over bounds and rows together counts, for each row, the ranges
//! that began at or before it minus those that ended at or before it. Bounds travel as array
//! parameters, so that a read-only login on a replica is enough; a million of them are some
//! hundred megabytes on this side.

use common::domain::{Bounds, KeyColumn};
use common::endpoint::predicate::{checked_collation, checked_type};
use common::endpoint::{PgSession, quote_ident};
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Row, Transaction};

use super::source::{self, Param, Table, get};
use super::{SplitError, SplitLimits};

/// The most rows named as examples.
pub const EXAMPLES: usize = 20;

/// In how many bounds the rows of a table lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TilingReport {
    /// Rows in the table.
    pub rows: i64,
    /// Rows in exactly one of the bounds: all of them, where the plan tiles the table.
    pub covered_once: i64,
    /// Rows in none: they would be lost.
    pub uncovered: i64,
    /// Rows in more than one: they would be done twice.
    pub covered_more: i64,
    /// Some of the rows that are not covered once, smallest keys first, at most [`EXAMPLES`].
    pub examples: Vec<TilingExample>,
    /// Chunks whose lower bound is not below their upper one: they can hold no row.
    pub empty_ranges: Vec<String>,
}

impl TilingReport {
    /// Whether every row lies in exactly one of the bounds and every range could hold a row.
    #[must_use]
    pub fn tiles(&self) -> bool {
        self.covered_once == self.rows && self.empty_ranges.is_empty()
    }
}

/// A row that is not covered once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TilingExample {
    /// Its key; `None` is NULL.
    pub key: Vec<Option<String>>,
    /// How many bounds hold it.
    pub times: i64,
    /// How many rows have this key and this count.
    pub rows: i64,
}

/// Counts, for every row of the table, the stored bounds that hold it.
///
/// `bounds` are the chunks' names and bounds, in any order: key ranges over the same columns, at
/// most NULL keys and whole-set bounds beside them.
///
/// # Errors
/// [`SplitError::Refused`] for bounds that are not about a table's rows or whose columns differ;
/// otherwise what the source says.
pub async fn check_tiling(
    session: &mut PgSession,
    limits: SplitLimits,
    table: &str,
    bounds: impl IntoIterator<Item = (String, Bounds)>,
) -> Result<TilingReport, SplitError> {
    let stored = Stored::gather(bounds)?;
    let transaction = source::begin(session, limits).await?;
    let table = source::resolve(&transaction, table).await?;
    let report = if stored.columns.is_empty() {
        stored.whole(&transaction, &table).await?
    } else {
        stored.sweep(&transaction, &table).await?
    };
    transaction
        .commit()
        .await
        .map_err(SplitError::doing("end the snapshot of the source"))?;
    Ok(report)
}

/// One side of the ranges: for each key column the values, and beside them the chunk's name.
#[derive(Default)]
struct Edges {
    values: Vec<Vec<String>>,
}

impl Edges {
    fn push(
        &mut self,
        key: &str,
        columns: &[KeyColumn],
        bound: Vec<String>,
    ) -> Result<(), SplitError> {
        if bound.len() != columns.len() {
            return Err(SplitError::refused(
                format!(
                    "chunk {key:?} has a bound of {} values for {} columns",
                    bound.len(),
                    columns.len()
                ),
                "plan the data set again",
            ));
        }
        self.values.resize_with(columns.len(), Vec::new);
        for (column, value) in self.values.iter_mut().zip(bound) {
            column.push(value);
        }
        Ok(())
    }
}

/// The bounds, taken apart for the sweep.
#[derive(Default)]
struct Stored {
    columns: Vec<KeyColumn>,
    lower: Edges,
    upper: Edges,
    /// Ranges with both ends, kept to test that they are not empty.
    closed_names: Vec<String>,
    closed_lower: Edges,
    closed_upper: Edges,
    /// Ranges without a lower bound: they have begun before any row.
    begun: i64,
    /// Bounds that hold every row, NULL keys included.
    everything: i64,
    /// Bounds that hold exactly the rows with NULL in the key.
    nulls: i64,
}

impl Stored {
    fn gather(bounds: impl IntoIterator<Item = (String, Bounds)>) -> Result<Self, SplitError> {
        let mut stored = Self::default();
        for (key, bounds) in bounds {
            match bounds {
                Bounds::Single => stored.everything += 1,
                Bounds::NullKeys { columns } => {
                    stored.same_columns(&key, columns)?;
                    stored.nulls += 1;
                }
                Bounds::KeyRange {
                    columns,
                    lower,
                    upper,
                } => {
                    stored.same_columns(&key, columns)?;
                    stored.range(key, lower, upper)?;
                }
                Bounds::Value { .. } | Bounds::File { .. } | Bounds::Row { .. } => {
                    return Err(SplitError::refused(
                        format!("chunk {key:?} is not a part of a table by its key"),
                        "only partitions by key, and single, can be checked against a table",
                    ));
                }
            }
        }
        Ok(stored)
    }

    fn same_columns(&mut self, key: &str, columns: Vec<KeyColumn>) -> Result<(), SplitError> {
        if columns.is_empty() || (!self.columns.is_empty() && self.columns != columns) {
            return Err(SplitError::refused(
                format!("chunk {key:?} has other key columns than the chunks before it"),
                "check one plan at a time",
            ));
        }
        self.columns = columns;
        Ok(())
    }

    fn range(
        &mut self,
        key: String,
        lower: Option<Vec<String>>,
        upper: Option<Vec<String>>,
    ) -> Result<(), SplitError> {
        if let (Some(lower), Some(upper)) = (&lower, &upper) {
            self.closed_lower.push(&key, &self.columns, lower.clone())?;
            self.closed_upper.push(&key, &self.columns, upper.clone())?;
            self.closed_names.push(key.clone());
        }
        match (lower, upper) {
            (None, None) => self.everything += 1,
            (lower, upper) => {
                match lower {
                    Some(lower) => self.lower.push(&key, &self.columns, lower)?,
                    None => self.begun += 1,
                }
                if let Some(upper) = upper {
                    self.upper.push(&key, &self.columns, upper)?;
                }
            }
        }
        Ok(())
    }

    /// The report where no bounds speak of a key: every row lies in all of them.
    async fn whole(
        &self,
        transaction: &Transaction<'_>,
        table: &Table,
    ) -> Result<TilingReport, SplitError> {
        let sql = format!("SELECT count(*) FROM {}", table.quoted);
        let rows = transaction
            .query_typed(&sql, &[])
            .await
            .map_err(SplitError::doing("count the rows of the source"))?;
        let rows: i64 = rows.first().map_or(Ok(0), |row| get(row, 0))?;
        let mut report = TilingReport {
            rows,
            ..TilingReport::default()
        };
        *report.counter(self.everything) += rows;
        Ok(report)
    }

    async fn sweep(
        &self,
        transaction: &Transaction<'_>,
        table: &Table,
    ) -> Result<TilingReport, SplitError> {
        let mut report = TilingReport {
            empty_ranges: self.empty_ranges(transaction).await?,
            ..TilingReport::default()
        };
        let text = SweepText::new(&self.columns)?;
        let sql = text.sweep(&table.quoted);
        let mut parameters: Vec<Param<'_>> = vec![
            (&self.everything, Type::INT8),
            (&self.begun, Type::INT8),
            (&self.nulls, Type::INT8),
        ];
        let none: Vec<String> = Vec::new();
        for edges in [&self.lower, &self.upper] {
            for i in 0..self.columns.len() {
                parameters.push((edges.values.get(i).unwrap_or(&none), Type::TEXT_ARRAY));
            }
        }
        let rows = transaction
            .query_typed(&sql, &parameters)
            .await
            .map_err(SplitError::doing(
                "count the bounds that hold each row of the source",
            ))?;
        for row in &rows {
            report.add(row, self.columns.len())?;
        }
        Ok(report)
    }

    /// Names of chunks whose lower bound is not below the upper: the sweep would count them wrong.
    async fn empty_ranges(&self, transaction: &Transaction<'_>) -> Result<Vec<String>, SplitError> {
        if self.closed_names.is_empty() {
            return Ok(Vec::new());
        }
        let sql = SweepText::new(&self.columns)?.empty_ranges();
        let mut parameters: Vec<Param<'_>> = vec![(&self.closed_names, Type::TEXT_ARRAY)];
        for edges in [&self.closed_lower, &self.closed_upper] {
            parameters.extend(edges.values.iter().map(|v| (v as _, Type::TEXT_ARRAY)));
        }
        let rows = transaction
            .query_typed(&sql, &parameters)
            .await
            .map_err(SplitError::doing("compare the bounds of each range"))?;
        rows.iter().map(|row| get(row, 0)).collect()
    }
}

impl TilingReport {
    fn counter(&mut self, times: i64) -> &mut i64 {
        match times {
            1 => &mut self.covered_once,
            ..1 => &mut self.uncovered,
            _ => &mut self.covered_more,
        }
    }

    /// Takes a row of the sweep: how often covered, how many rows, and for an example its key.
    fn add(&mut self, row: &Row, width: usize) -> Result<(), SplitError> {
        let (times, rows, example): (i64, i64, bool) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
        if example {
            self.examples.push(TilingExample {
                key: (0..width)
                    .map(|i| get(row, 3 + i))
                    .collect::<Result<_, _>>()?,
                times,
                rows,
            });
        } else {
            self.rows += rows;
            *self.counter(times) += rows;
        }
        Ok(())
    }
}

/// The pieces of SQL that depend on the key's columns; no value is ever part of them.
struct SweepText {
    names: Vec<String>,
    types: Vec<String>,
    collates: Vec<String>,
}

impl SweepText {
    fn new(columns: &[KeyColumn]) -> Result<Self, SplitError> {
        let mut text = Self {
            names: Vec::new(),
            types: Vec::new(),
            collates: Vec::new(),
        };
        for column in columns {
            text.names.push(quote_ident(&column.name)?);
            text.types.push(checked_type(column)?.to_owned());
            text.collates.push(
                checked_collation(column)?
                    .map_or_else(String::new, |name| format!(" COLLATE {name}")),
            );
        }
        Ok(text)
    }

    fn each(&self, separator: &str, piece: impl Fn(usize) -> String) -> String {
        (0..self.names.len())
            .map(piece)
            .collect::<Vec<_>>()
            .join(separator)
    }

    /// Text arrays from parameter `first` on as rows of typed, collated keys `k0, k1, ...`.
    fn edges(&self, first: usize, alias: &str) -> (String, String) {
        let arrays = self.each(", ", |i| format!("${}::text[]", first + i));
        let aliases = self.each(", ", |i| format!("v{i}"));
        let typed = self.each(", ", |i| {
            format!(
                "({alias}.v{i}::{}){} AS k{i}",
                self.types[i], self.collates[i]
            )
        });
        (typed, format!("unnest({arrays}) AS {alias}({aliases})"))
    }

    /// Two answers in one: rows by count, and examples of those not covered once.
    ///
    /// Edges sort before rows of the same key (`kind`), so that a range holds its lower key and
    /// not its upper one.
    fn sweep(&self, table: &str) -> String {
        let width = self.names.len();
        let (lower, lower_from) = self.edges(4, "l");
        let (upper, upper_from) = self.edges(4 + width, "u");
        let known = self.each(" AND ", |i| format!("t.{} IS NOT NULL", self.names[i]));
        let unknown = self.each(" OR ", |i| format!("t.{} IS NULL", self.names[i]));
        let typed = self.each(", ", |i| {
            format!(
                "(t.{}::{}){} AS k{i}",
                self.names[i], self.types[i], self.collates[i]
            )
        });
        let order = self.each(", ", |i| format!("k{i}{}", self.collates[i]));
        let printed = self.each(", ", |i| {
            format!("CASE WHEN k{i} IS NULL THEN NULL ELSE format('%s', k{i}) END AS e{i}")
        });
        let listed = self.each(", ", |i| format!("e{i}"));
        let no_key = self.each(", ", |_| "NULL::text".to_owned());
        format!(
            "WITH events AS (\
               SELECT {typed}, 1 AS kind, 0 AS step FROM {table} t WHERE {known} \
               UNION ALL SELECT {lower}, 0, 1 FROM {lower_from} \
               UNION ALL SELECT {upper}, 0, -1 FROM {upper_from}\
             ), swept AS (\
               SELECT events.*, $1::bigint + $2::bigint \
                      + sum(step) OVER w AS times, row_number() OVER w AS place \
               FROM events WINDOW w AS (ORDER BY {order}, kind ROWS UNBOUNDED PRECEDING)\
             ), covered AS (\
               SELECT {printed}, times, place FROM swept WHERE kind = 1 AND times <> 1 \
               UNION ALL SELECT {printed}, times, NULL FROM (\
                 SELECT {typed}, $1::bigint + $3::bigint AS times FROM {table} t WHERE {unknown}) n \
               WHERE times <> 1\
             )"
        ) + &format!(
            " SELECT times, count(*), false, {no_key} FROM swept WHERE kind = 1 GROUP BY times \
              UNION ALL \
              SELECT $1::bigint + $3::bigint, count(*), false, {no_key} FROM {table} t WHERE {unknown} \
              UNION ALL \
              SELECT * FROM (SELECT times, count(*), true, {listed} FROM covered \
                             GROUP BY times, {listed} ORDER BY min(place), {listed} LIMIT {EXAMPLES}) x"
        )
    }

    fn empty_ranges(&self) -> String {
        let width = self.names.len();
        let arrays = (1..=2 * width + 1)
            .map(|i| format!("${i}::text[]"))
            .collect::<Vec<_>>()
            .join(", ");
        let lower = self.each(", ", |i| format!("l{i}"));
        let upper = self.each(", ", |i| format!("u{i}"));
        let typed = |side: &str| {
            self.each(", ", |i| {
                format!("{side}{i}::{}{}", self.types[i], self.collates[i])
            })
        };
        format!(
            "SELECT name FROM unnest({arrays}) AS b(name, {lower}, {upper}) \
             WHERE ROW({}) >= ROW({}) ORDER BY name LIMIT {EXAMPLES}",
            typed("l"),
            typed("u")
        )
    }
}
