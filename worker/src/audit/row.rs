//! A row as every format gives it: one text value for each column, NULL told apart from nothing.
//!
//! Rules know rows and columns and no format.

use super::bytes::Unread;

/// A value's bytes; `None` is NULL.
pub(crate) type Value<'a> = Option<&'a [u8]>;

/// One row.
pub(crate) struct Row<'a> {
    /// Its place in the file, from 1, headers not counted.
    pub(crate) number: u64,
    /// A value for each column; a column that came later than this row's reader knew is NULL.
    pub(crate) values: &'a [Value<'a>],
    /// Its bytes in the unpacked file with the line end; empty for formats that are not lines.
    pub(crate) raw: &'a [u8],
}

impl<'a> Row<'a> {
    /// The value of a column, NULL where the row has none.
    pub(crate) fn value(&self, column: usize) -> Value<'a> {
        self.values.get(column).copied().flatten()
    }
}

/// What takes rows.
pub(crate) trait Rows {
    /// Hears the columns before the first row, and again whenever one was added at the end; `raw` is
    /// what the file says them with, empty where that is no line.
    fn columns(&mut self, names: &[String], raw: &[u8]) -> Result<(), Unread>;

    /// Takes a row.
    fn row(&mut self, row: &Row<'_>) -> Result<(), Unread>;
}

/// What a reader saw besides rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Rows.
    pub(crate) rows: u64,
    /// Whether the last line has no line end.
    pub(crate) open_end: bool,
}
