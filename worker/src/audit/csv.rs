//! Reading csv strictly: what a lenient reader would guess at is an error with its line.
//!
//! Unlike the usual libraries it tells NULL from empty text (PostgreSQL writes them as nothing and as
//! `""`), sees a quote that is never closed, and takes no blank line for no row.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::ops::Range;

use common::flow::rules::CsvStyle;
use memchr::memchr;

use super::bytes::{Unread, content};
use super::row::{Row, Rows, Seen, Value};

/// A longer record is a quote that was never closed.
const MAX_RECORD: usize = 64 << 20;

/// Reads a whole csv file.
///
/// # Errors
/// [`Unread::Broken`] with the line where the text is no csv, and what `rows` answers.
pub(crate) fn read(
    input: &mut dyn BufRead,
    style: &CsvStyle,
    rows: &mut dyn Rows,
) -> Result<Seen, Unread> {
    let mut record = Record::new(style);
    let mut seen = Seen::default();
    let mut width = None;
    if style.header {
        if !record.next(input)? {
            return Err(Unread::broken(
                "the file is empty: not even the header line is there (hint: csv: {header: false} for files without one)",
            ));
        }
        let names = header(&record)?;
        rows.columns(&names, &record.raw)?;
        width = Some(names.len());
    }
    let mut values: Vec<Value<'static>> = Vec::new();
    while record.next(input)? {
        let found = record.fields.len();
        let expected = match width {
            Some(width) => width,
            None => {
                let names: Vec<String> = (1..=found).map(|n| n.to_string()).collect();
                rows.columns(&names, &[])?;
                width = Some(found);
                found
            }
        };
        if found != expected {
            return Err(Unread::broken(format!(
                "line {} has {found} fields, expected {expected}",
                record.line
            )));
        }
        seen.rows += 1;
        // Borrowed for this row alone; its room is handed back empty.
        let mut borrowed = std::mem::take(&mut values);
        borrowed.extend((0..found).map(|field| record.value(field)));
        rows.row(&Row {
            number: seen.rows,
            values: &borrowed,
            raw: &record.raw,
        })?;
        borrowed.clear();
        values = borrowed.into_iter().map(|_| None).collect();
    }
    if width.is_none() {
        rows.columns(&[], &[])?;
    }
    seen.open_end = record.open_end;
    Ok(seen)
}

fn header(record: &Record<'_>) -> Result<Vec<String>, Unread> {
    let mut known = BTreeSet::new();
    let mut names = Vec::new();
    for field in 0..record.fields.len() {
        let bytes = record.text(field);
        let bytes = match (field, bytes.strip_prefix(b"\xef\xbb\xbf")) {
            (0, Some(after)) => after,
            _ => bytes,
        };
        let name = String::from_utf8_lossy(bytes).into_owned();
        if !known.insert(name.clone()) {
            return Err(Unread::broken(format!(
                "the header names {name:?} twice (hint: csv: {{header: false}} for files that begin with data)"
            )));
        }
        names.push(name);
    }
    Ok(names)
}

/// The current record: its bytes and where its fields are.
struct Record<'s> {
    style: &'s CsvStyle,
    raw: Vec<u8>,
    /// Unquoted texts of fields that hold doubled quotes.
    plain: Vec<u8>,
    fields: Vec<Field>,
    line: u64,
    lines: u64,
    open_end: bool,
}

struct Field {
    text: Range<usize>,
    quoted: bool,
    /// Whether `text` is a range of `plain` and not of `raw`.
    unescaped: bool,
}

impl<'s> Record<'s> {
    fn new(style: &'s CsvStyle) -> Self {
        Self {
            style,
            raw: Vec::new(),
            plain: Vec::new(),
            fields: Vec::new(),
            line: 1,
            lines: 0,
            open_end: false,
        }
    }

    /// Reads a record; `false` at the end of the file.
    fn next(&mut self, input: &mut dyn BufRead) -> Result<bool, Unread> {
        self.raw.clear();
        self.plain.clear();
        self.fields.clear();
        self.line = self.lines + 1;
        let quote = self.style.quote as u8;
        let mut quotes = 0;
        loop {
            let from = self.raw.len();
            if !self.take_line(input)? {
                if from == 0 {
                    return Ok(false);
                }
                return Err(Unread::broken(format!(
                    "the file ends inside of a quoted field that begins in the record of line {}",
                    self.line
                )));
            }
            self.lines += 1;
            quotes += memchr::memchr_iter(quote, &self.raw[from..]).count();
            if quotes % 2 == 0 {
                break;
            }
        }
        self.open_end = self.raw.last() != Some(&b'\n');
        self.split(quotes > 0)?;
        Ok(true)
    }

    /// Appends a line with its end; `false` where there is none.
    fn take_line(&mut self, input: &mut dyn BufRead) -> Result<bool, Unread> {
        let mut some = false;
        loop {
            let block = match input.fill_buf() {
                Ok(block) => block,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(content(&error)),
            };
            if block.is_empty() {
                return Ok(some);
            }
            some = true;
            let end = memchr(b'\n', block).map(|at| at + 1);
            let taken = end.unwrap_or(block.len());
            self.raw.extend_from_slice(&block[..taken]);
            input.consume(taken);
            if self.raw.len() > MAX_RECORD {
                return Err(Unread::broken(format!(
                    "the record of line {} is longer than 64 MiB: a quote was never closed, or this is no csv",
                    self.line
                )));
            }
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn split(&mut self, quotes: bool) -> Result<(), Unread> {
        let delimiter = self.style.delimiter as u8;
        let mut end = self.raw.len();
        if self.raw.last() == Some(&b'\n') {
            end -= 1;
            if end > 0 && self.raw[end - 1] == b'\r' {
                end -= 1;
            }
        }
        let mut at = 0;
        loop {
            let (field, next) = if quotes && self.raw.get(at) == Some(&(self.style.quote as u8)) {
                self.quoted(at, end)?
            } else {
                let stop = memchr(delimiter, &self.raw[at..end]).map_or(end, |n| at + n);
                if quotes && memchr(self.style.quote as u8, &self.raw[at..stop]).is_some() {
                    return Err(self.wrong("a quote stands inside of a field that is not quoted"));
                }
                let field = Field {
                    text: at..stop,
                    quoted: false,
                    unescaped: false,
                };
                (field, stop)
            };
            self.fields.push(field);
            if next >= end {
                return Ok(());
            }
            at = next + 1;
        }
    }

    /// A quoted field that begins at `at`, and where it ends.
    fn quoted(&mut self, at: usize, end: usize) -> Result<(Field, usize), Unread> {
        let quote = self.style.quote as u8;
        let from_plain = self.plain.len();
        let mut from = at + 1;
        let mut doubled = false;
        loop {
            let Some(stop) = memchr(quote, &self.raw[from..end]).map(|n| from + n) else {
                return Err(self.wrong("a quoted field is not closed"));
            };
            if stop + 1 < end && self.raw[stop + 1] == quote {
                doubled = true;
                self.plain.extend_from_slice(&self.raw[from..=stop]);
                from = stop + 2;
                continue;
            }
            if stop + 1 < end && self.raw[stop + 1] != self.style.delimiter as u8 {
                return Err(self.wrong("something follows the closing quote of a field"));
            }
            let text = if doubled {
                self.plain.extend_from_slice(&self.raw[from..stop]);
                from_plain..self.plain.len()
            } else {
                at + 1..stop
            };
            let field = Field {
                text,
                quoted: true,
                unescaped: doubled,
            };
            return Ok((field, stop + 1));
        }
    }

    fn wrong(&self, what: &str) -> Unread {
        Unread::broken(format!("line {}: {what}", self.line))
    }

    fn text(&self, field: usize) -> &[u8] {
        let field = &self.fields[field];
        let from = if field.unescaped {
            &self.plain
        } else {
            &self.raw
        };
        &from[field.text.clone()]
    }

    fn value(&self, field: usize) -> Value<'_> {
        let text = self.text(field);
        (self.fields[field].quoted || text != self.style.null.as_bytes()).then_some(text)
    }
}
