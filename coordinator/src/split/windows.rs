//! One chunk for each window of a calendar, and what becomes of rows outside of all of them.
//!
//! Where a column says when a row is, its type decides how a window is written: instants as they are,
//! local times and dates by the clock of the calendar's zone. A clock that shows a time twice cannot
//! tell two windows apart, and such a cut is refused.

use chrono::{DateTime, Utc};
use common::calendar::{Calendar, Window};
use common::domain::{Bounds, ColumnSpan, KeyColumn, NewChunk, rfc3339};
use common::endpoint::predicate::sql_predicate;
use common::endpoint::{PgSession, quote_ident};
use common::flow::model::Rest;
use tokio_postgres::Transaction;

use super::batcher::Batcher;
use super::key_column;
use super::source::{self, Table, get};
use super::{SplitError, SplitLimits};

/// The key of the chunk that holds what lies outside of all windows.
const REST: &str = "rest";

/// Windows of which only scripts know what lies in them.
pub(super) async fn split(calendar: &Calendar, out: &mut Batcher<'_>) -> Result<(), SplitError> {
    for window in calendar.windows() {
        out.push(chunk(calendar, window, None)).await?;
    }
    Ok(())
}

fn chunk(calendar: &Calendar, window: Window, rows: Option<ColumnSpan>) -> NewChunk {
    NewChunk {
        key: window.label.clone(),
        bounds: Bounds::Window {
            start: window.start,
            end: window.end,
            zone: calendar.zone.to_string(),
            label: window.label,
            rows,
        },
        est_rows: None,
        est_bytes: None,
    }
}

/// Windows over a table's rows.
pub(super) async fn split_table(
    session: &mut PgSession,
    limits: SplitLimits,
    table: &str,
    calendar: &Calendar,
    (column, rest): (&str, Rest),
    out: &mut Batcher<'_>,
) -> Result<(), SplitError> {
    let transaction = source::begin(session, limits).await?;
    let table = source::resolve(&transaction, table).await?;
    let found = key_column::discover(&transaction, &table, &[column.to_owned()]).await?;
    let column = found
        .into_iter()
        .next()
        .map(|found| found.column)
        .ok_or_else(|| SplitError::Broken("no column was found and none was missed".to_owned()))?;
    let clock = Clock::of(&column, calendar, &table)?;
    let windows = calendar.windows();
    let edges = clock.edges(&windows, &column)?;
    let span = |lower: &str, upper: &str| ColumnSpan {
        column: column.clone(),
        lower: lower.to_owned(),
        upper: upper.to_owned(),
    };
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else {
        return Err(SplitError::Broken("a calendar without a window".to_owned()));
    };
    let outside = span(first, last);
    let stray = count_outside(&transaction, &table, &outside).await?;
    if stray.any() && rest == Rest::Error {
        return Err(SplitError::refused(
            format!(
                "every row of {} was expected inside of the windows, found {stray}",
                table.shown
            ),
            "extend from and to, or say what becomes of them: rest: chunk (a chunk of their own) or rest: ignore",
        ));
    }
    for (window, edge) in windows.into_iter().zip(edges.windows(2)) {
        let rows = span(&edge[0], &edge[1]);
        out.push(chunk(calendar, window, Some(rows))).await?;
    }
    match rest {
        Rest::Error => {}
        Rest::Chunk => {
            out.push(NewChunk {
                key: REST.to_owned(),
                bounds: Bounds::OutsideWindows { rows: outside },
                est_rows: Some(stray.total()),
                est_bytes: None,
            })
            .await?;
        }
        Rest::Ignore => out.note(format!("left out by declaration: {stray}")),
    }
    transaction
        .commit()
        .await
        .map_err(SplitError::doing("end the snapshot of the source"))
}

/// What a column's values show of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Instant,
    LocalTime,
    LocalDate,
}

/// How instants are written as values of a column.
#[derive(Debug, Clone, Copy)]
struct Clock<'a> {
    shows: Shows,
    calendar: &'a Calendar,
}

impl<'a> Clock<'a> {
    fn of(column: &KeyColumn, calendar: &'a Calendar, table: &Table) -> Result<Self, SplitError> {
        let sql_type = column.sql_type.as_str();
        let shows = if sql_type == "date" {
            Shows::LocalDate
        } else if sql_type.starts_with("timestamp") && sql_type.ends_with("with time zone") {
            Shows::Instant
        } else if sql_type.starts_with("timestamp") {
            Shows::LocalTime
        } else {
            return Err(SplitError::refused(
                format!(
                    "a column of dates or timestamps was expected, {:?} of {} is of type {sql_type}",
                    column.name, table.shown
                ),
                "name another column, or partition by key or query",
            ));
        };
        Ok(Self { shows, calendar })
    }

    fn text(self, instant: DateTime<Utc>) -> String {
        let local = instant.with_timezone(&self.calendar.zone);
        match self.shows {
            Shows::Instant => rfc3339(instant),
            Shows::LocalTime => local.format("%Y-%m-%d %H:%M:%S").to_string(),
            Shows::LocalDate => local.format("%Y-%m-%d").to_string(),
        }
    }

    /// The edges of the windows as values, one more than there are windows.
    fn edges(self, windows: &[Window], column: &KeyColumn) -> Result<Vec<String>, SplitError> {
        let mut edges: Vec<String> = Vec::with_capacity(windows.len() + 1);
        for window in windows {
            edges.push(self.text(window.start));
        }
        edges.extend(windows.last().map(|window| self.text(window.end)));
        // Text of one width: it is ordered as its values are.
        let shown_twice = windows
            .iter()
            .zip(edges.windows(2))
            .find(|(_, e)| e[0] >= e[1]);
        match shown_twice {
            None => Ok(edges),
            Some((window, _)) => Err(SplitError::refused(
                format!(
                    "window {} cannot be told from the next one by column {:?}, whose type {} does not say at which instant a row is",
                    window.label, column.name, column.sql_type
                ),
                "cut by longer windows, in zone UTC, or by a column of type timestamp with time zone",
            )),
        }
    }
}

/// Rows outside of all windows.
pub(super) struct Stray {
    before: i64,
    after: i64,
    without: i64,
}

impl Stray {
    pub(super) fn total(&self) -> i64 {
        self.before + self.after + self.without
    }

    fn any(&self) -> bool {
        self.total() > 0
    }
}

impl std::fmt::Display for Stray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rows before the first window, {} after the last and {} without a time",
            self.before, self.after, self.without
        )
    }
}

pub(super) async fn count_outside(
    transaction: &Transaction<'_>,
    table: &Table,
    rows: &ColumnSpan,
) -> Result<Stray, SplitError> {
    let name = quote_ident(&rows.column.name)?;
    let below = |upper: &str| Bounds::KeyRange {
        columns: vec![rows.column.clone()],
        lower: None,
        upper: Some(vec![upper.to_owned()]),
    };
    let from = |lower: &str| Bounds::KeyRange {
        columns: vec![rows.column.clone()],
        lower: Some(vec![lower.to_owned()]),
        upper: None,
    };
    // Three counts, so that an index on the column serves each.
    let count =
        |condition: String| format!("(SELECT count(*) FROM {} WHERE {condition})", table.quoted);
    let sql = format!(
        "SELECT {}, {}, {}",
        count(sql_predicate(&below(&rows.lower))?),
        count(sql_predicate(&from(&rows.upper))?),
        count(format!("{name} IS NULL"))
    );
    let row = transaction
        .query_typed(&sql, &[])
        .await
        .map_err(SplitError::doing("count the rows outside of all windows"))?;
    let row = row
        .first()
        .ok_or_else(|| SplitError::Broken("no counts".to_owned()))?;
    Ok(Stray {
        before: get(row, 0)?,
        after: get(row, 1)?,
        without: get(row, 2)?,
    })
}
