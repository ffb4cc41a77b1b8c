//! Whether stored bounds tile a real table: in how many of them each of its rows lies.
//!
//! This is the judge of the splitters and shares nothing with them: no window over ranks, no
//! predicate text. A sweep line over bounds and rows together counts, for each row, the ranges
//! that began at or before it minus those that ended at or before it. Bounds travel as array
//! parameters, so that a read-only login on a replica is enough; a million of them are some
//! hundred megabytes on this side.

use common::domain::{Bounds, ColumnSpan, KeyColumn};
use common::endpoint::predicate::{checked_collation, checked_type};
use common::endpoint::{PgSession, quote_ident};
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Row, Transaction};

use super::source::{self, Param, Table, get};
use super::{SplitError, SplitLimits, windows};

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
    /// Rows that lie outside of all windows and that the partition says to leave there.
    pub left_out: i64,
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
        self.covered_once + self.left_out == self.rows && self.empty_ranges.is_empty()
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

/// Counts, for every row of the table, the stored bounds that hold it: [`TilingCheck`] in one call.
///
/// # Errors
/// As [`TilingCheck::add`] and [`TilingCheck::run`].
pub async fn check_tiling(
    session: &mut PgSession,
    limits: SplitLimits,
    table: &str,
    bounds: impl IntoIterator<Item = (String, Bounds)>,
) -> Result<TilingReport, SplitError> {
    let mut check = TilingCheck::default();
    for (key, bounds) in bounds {
        check.add(key, bounds)?;
    }
    check.run(session, limits, table).await
}

/// The bounds of a plan, gathered to be checked; they may come in any order and in batches.
#[derive(Debug, Default)]
pub struct TilingCheck {
    columns: Vec<KeyColumn>,
    /// Ranges with at least one bound: the chunk's name, and for each key column the lower and
    /// the upper values, `None` at an open end.
    names: Vec<String>,
    lower: Vec<Vec<Option<String>>>,
    upper: Vec<Vec<Option<String>>>,
    /// Ranges without a lower bound: they have begun before any row.
    begun: i64,
    /// Bounds that hold every row, NULL keys included.
    everything: i64,
    /// Bounds that hold exactly the rows with NULL in the key.
    nulls: i64,
    /// What windows over a column cover together.
    windows: Option<ColumnSpan>,
    /// Rows outside of it count as left out.
    left_out: Option<ColumnSpan>,
}

impl TilingCheck {
    /// Takes one chunk's name and bounds: a key range, NULL keys, or the whole set.
    ///
    /// # Errors
    /// [`SplitError::Refused`] for bounds that are not about a table's rows, and for key columns
    /// that differ from those of the chunks before.
    pub fn add(&mut self, key: String, bounds: Bounds) -> Result<(), SplitError> {
        match bounds {
            Bounds::Single => self.everything += 1,
            Bounds::NullKeys { columns } => {
                self.same_columns(&key, columns)?;
                self.nulls += 1;
            }
            Bounds::KeyRange {
                columns,
                lower,
                upper,
            } => {
                self.same_columns(&key, columns)?;
                self.range(key, lower, upper)?;
            }
            Bounds::Window {
                rows: Some(rows), ..
            } => {
                self.same_columns(&key, vec![rows.column.clone()])?;
                self.range(
                    key,
                    Some(vec![rows.lower.clone()]),
                    Some(vec![rows.upper.clone()]),
                )?;
                match &mut self.windows {
                    Some(all) => all.upper = rows.upper,
                    None => self.windows = Some(rows),
                }
            }
            Bounds::OutsideWindows { rows } => self.outside(key, rows)?,
            Bounds::Value { .. }
            | Bounds::File { .. }
            | Bounds::Row { .. }
            | Bounds::Window { rows: None, .. }
            | Bounds::Product { .. } => {
                return Err(SplitError::refused(
                    format!("chunk {key:?} is not a part of a table by its key"),
                    "only partitions by key or by windows over a column, and single, can be checked against a table",
                ));
            }
        }
        Ok(())
    }

    /// Everything below, from and without: what lies outside of a span.
    fn outside(&mut self, key: String, rows: ColumnSpan) -> Result<(), SplitError> {
        self.same_columns(&key, vec![rows.column])?;
        self.range(key.clone(), None, Some(vec![rows.lower]))?;
        self.range(key, Some(vec![rows.upper]), None)?;
        self.nulls += 1;
        Ok(())
    }

    /// Says that rows outside of the windows taken so far, in plan order, are left out on purpose.
    ///
    /// # Errors
    /// As [`TilingCheck::add`].
    pub fn leave_out_rest(&mut self) -> Result<(), SplitError> {
        if let Some(rows) = self.windows.take() {
            self.left_out = Some(rows.clone());
            self.outside("left out".to_owned(), rows)?;
        }
        Ok(())
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
        let width = self.columns.len();
        for bound in [&lower, &upper].into_iter().flatten() {
            if bound.len() != width {
                return Err(SplitError::refused(
                    format!(
                        "chunk {key:?} has a bound of {} values for {width} columns",
                        bound.len()
                    ),
                    "plan the data set again",
                ));
            }
        }
        match (&lower, &upper) {
            (None, None) => {
                self.everything += 1;
                return Ok(());
            }
            (None, Some(_)) => self.begun += 1,
            (Some(_), _) => {}
        }
        self.names.push(key);
        for (side, bound) in [(&mut self.lower, lower), (&mut self.upper, upper)] {
            side.resize_with(width, Vec::new);
            let mut values = bound.into_iter().flatten();
            for column in side {
                column.push(values.next());
            }
        }
        Ok(())
    }

    /// Counts, for every row of the table, the bounds that hold it, in one read-only snapshot.
    ///
    /// # Errors
    /// [`SplitError::Refused`] for a table that is not there, otherwise what the source says.
    pub async fn run(
        &self,
        session: &mut PgSession,
        limits: SplitLimits,
        table: &str,
    ) -> Result<TilingReport, SplitError> {
        let transaction = source::begin(session, limits).await?;
        let table = source::resolve(&transaction, table).await?;
        let mut report = if self.columns.is_empty() {
            self.whole(&transaction, &table).await?
        } else {
            self.sweep(&transaction, &table).await?
        };
        if let Some(rows) = &self.left_out {
            report.left_out = windows::count_outside(&transaction, &table, rows)
                .await?
                .total();
            report.covered_once -= report.left_out;
        }
        transaction
            .commit()
            .await
            .map_err(SplitError::doing("end the snapshot of the source"))?;
        Ok(report)
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
        let text = SweepText::new(&self.columns)?;
        let mut report = TilingReport {
            empty_ranges: self.empty_ranges(transaction, &text).await?,
            ..TilingReport::default()
        };
        let mut parameters: Vec<Param<'_>> = vec![
            (&self.everything, Type::INT8),
            (&self.begun, Type::INT8),
            (&self.nulls, Type::INT8),
        ];
        self.push_edges(&mut parameters);
        let rows = transaction
            .query_typed(&text.sweep(&table.quoted), &parameters)
            .await
            .map_err(SplitError::doing(
                "count the bounds that hold each row of the source",
            ))?;
        for row in &rows {
            report.add(row, self.columns.len())?;
        }
        Ok(report)
    }

    fn push_edges<'a>(&'a self, parameters: &mut Vec<Param<'a>>) {
        const NONE: &Vec<Option<String>> = &Vec::new();
        for side in [&self.lower, &self.upper] {
            for i in 0..self.columns.len() {
                parameters.push((side.get(i).unwrap_or(NONE), Type::TEXT_ARRAY));
            }
        }
        parameters.push((&self.names, Type::TEXT_ARRAY));
    }

    /// Names of chunks whose lower bound is not below the upper: they hold no row, and the sweep
    /// leaves them out.
    async fn empty_ranges(
        &self,
        transaction: &Transaction<'_>,
        text: &SweepText,
    ) -> Result<Vec<String>, SplitError> {
        let mut parameters: Vec<Param<'_>> = Vec::new();
        self.push_edges(&mut parameters);
        let rows = transaction
            .query_typed(&text.empty_ranges(), &parameters)
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

    /// The ranges as rows of untyped bounds `l0, ..., u0, ...` and names, from array parameter
    /// `first` on.
    fn ranges(&self, first: usize) -> String {
        let arrays = (0..=2 * self.names.len())
            .map(|i| format!("${}::text[]", first + i))
            .collect::<Vec<_>>()
            .join(", ");
        let lower = self.each(", ", |i| format!("l{i}"));
        let upper = self.each(", ", |i| format!("u{i}"));
        format!("unnest({arrays}) AS b({lower}, {upper}, name)")
    }

    /// One side of a range as typed, collated expressions.
    fn side(&self, side: char, suffix: impl Fn(usize) -> String) -> String {
        self.each(", ", |i| {
            format!(
                "({side}{i}::{}){}{}",
                self.types[i],
                self.collates[i],
                suffix(i)
            )
        })
    }

    /// Whether a range's lower bound is not below its upper one; NULL at an open end.
    fn is_empty(&self) -> String {
        let bare = |_| String::new();
        format!(
            "ROW({}) >= ROW({})",
            self.side('l', bare),
            self.side('u', bare)
        )
    }

    /// Two answers in one: rows by count, and examples of those not covered once.
    ///
    /// Edges sort before rows of the same key (`kind`), so that a range holds its lower key and
    /// not its upper one.
    fn sweep(&self, table: &str) -> String {
        let named = |i| format!(" AS k{i}");
        let (lower, upper) = (self.side('l', named), self.side('u', named));
        let (ranges, empty) = (self.ranges(4), self.is_empty());
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
            "WITH held AS (\
               SELECT * FROM {ranges} WHERE ({empty}) IS NOT TRUE\
             ), events AS (\
               SELECT {typed}, 1 AS kind, 0 AS step FROM {table} t WHERE {known} \
               UNION ALL SELECT {lower}, 0, 1 FROM held WHERE l0 IS NOT NULL \
               UNION ALL SELECT {upper}, 0, -1 FROM held WHERE u0 IS NOT NULL\
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
        let (ranges, empty) = (self.ranges(1), self.is_empty());
        format!("SELECT name FROM {ranges} WHERE {empty} ORDER BY name LIMIT {EXAMPLES}")
    }
}
