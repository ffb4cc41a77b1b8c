//! Reading parquet: the footer, and then every page of every column.
//!
//! Values become text as the other formats have them, so that the same rows have the same row sum:
//! numbers in digits, dates and times as PostgreSQL prints them, bytes as `\x` and hex digits, nested
//! values as JSON.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types as t;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::LogicalType;

use super::bytes::Unread;
use super::row::{Row, Rows, Seen, Value};

/// Rows decoded at once.
const BATCH: usize = 1024;

/// Reads a whole parquet file.
///
/// # Errors
/// [`Unread::Broken`] where footer or pages cannot be read, and what `rows` answers.
pub(crate) fn read(
    file: &File,
    stop: &dyn Fn() -> bool,
    rows: &mut dyn Rows,
) -> Result<Seen, Unread> {
    // A decoder of untrusted bytes may run into what its author took for impossible.
    catch_unwind(AssertUnwindSafe(|| read_pages(file, stop, rows)))
        .unwrap_or_else(|_| Err(Unread::broken("a page cannot be decoded")))
}

fn read_pages(file: &File, stop: &dyn Fn() -> bool, rows: &mut dyn Rows) -> Result<Seen, Unread> {
    let file = file.try_clone().map_err(Unread::Disk)?;
    // What the writer's own library noted would make other types of the same columns.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|error| Unread::broken(format!("the footer cannot be read: {error}")))?;
    let promised = builder.metadata().file_metadata().num_rows();
    let names: Vec<String> = builder
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let uuids = uuid_columns(&builder, &names);
    rows.columns(&names, &[])?;
    let reader = builder
        .with_batch_size(BATCH)
        .build()
        .map_err(|error| Unread::broken(format!("the row groups cannot be read: {error}")))?;
    let mut seen = Seen::default();
    let mut texts: Vec<Texts> = names.iter().map(|_| Texts::default()).collect();
    for batch in reader {
        if stop() {
            return Err(Unread::Stopped);
        }
        let batch = batch.map_err(|error| {
            Unread::broken(format!(
                "a page after row {} cannot be read: {error}",
                seen.rows
            ))
        })?;
        for ((column, texts), uuid) in batch.columns().iter().zip(&mut texts).zip(&uuids) {
            texts.take(column, *uuid)?;
        }
        for index in 0..batch.num_rows() {
            seen.rows += 1;
            let values: Vec<Value<'_>> = texts.iter().map(|texts| texts.value(index)).collect();
            rows.row(&Row {
                number: seen.rows,
                values: &values,
                raw: &[],
            })?;
        }
    }
    if i64::try_from(seen.rows) != Ok(promised) {
        return Err(Unread::broken(format!(
            "the footer promises {promised} rows and the pages hold {}",
            seen.rows
        )));
    }
    Ok(seen)
}

fn uuid_columns(builder: &ParquetRecordBatchReaderBuilder<File>, names: &[String]) -> Vec<bool> {
    let schema = builder.parquet_schema();
    names
        .iter()
        .map(|name| {
            schema.columns().iter().any(|column| {
                column.path().parts() == [name.clone()]
                    && column.logical_type_ref() == Some(&LogicalType::Uuid)
            })
        })
        .collect()
}

/// A column's values of one batch as text.
#[derive(Default)]
struct Texts {
    buffer: Vec<u8>,
    values: Vec<Option<Range<usize>>>,
}

impl Texts {
    fn take(&mut self, column: &ArrayRef, uuid: bool) -> Result<(), Unread> {
        self.buffer.clear();
        self.values.clear();
        for index in 0..column.len() {
            if column.is_null(index) {
                self.values.push(None);
                continue;
            }
            let from = self.buffer.len();
            if uuid && let Some(array) = column.as_fixed_size_binary_opt() {
                let id = uuid::Uuid::from_slice(array.value(index)).unwrap_or_default();
                self.buffer.extend_from_slice(id.to_string().as_bytes());
            } else {
                write(column, index, &mut self.buffer)?;
            }
            self.values.push(Some(from..self.buffer.len()));
        }
        Ok(())
    }

    fn value(&self, index: usize) -> Value<'_> {
        let range = self.values.get(index)?.clone()?;
        Some(&self.buffer[range])
    }
}

/// Appends a value that is not NULL.
fn write(array: &dyn Array, index: usize, out: &mut Vec<u8>) -> Result<(), Unread> {
    macro_rules! digits {
        ($kind:ty) => {{
            let value = array.as_primitive::<$kind>().value(index);
            out.extend_from_slice(value.to_string().as_bytes());
        }};
    }
    macro_rules! decimal {
        ($kind:ty) => {{
            let text = array.as_primitive::<$kind>().value_as_string(index);
            out.extend_from_slice(text.as_bytes());
        }};
    }
    match array.data_type() {
        DataType::Boolean => {
            let value = array.as_boolean().value(index);
            out.extend_from_slice(if value { b"true" } else { b"false" });
        }
        DataType::Int8 => digits!(t::Int8Type),
        DataType::Int16 => digits!(t::Int16Type),
        DataType::Int32 => digits!(t::Int32Type),
        DataType::Int64 => digits!(t::Int64Type),
        DataType::UInt8 => digits!(t::UInt8Type),
        DataType::UInt16 => digits!(t::UInt16Type),
        DataType::UInt32 => digits!(t::UInt32Type),
        DataType::UInt64 => digits!(t::UInt64Type),
        DataType::Float16 => float(
            f64::from(array.as_primitive::<t::Float16Type>().value(index)),
            out,
        ),
        // By its own shortest digits, not by those of its 64-bit neighbour.
        DataType::Float32 => {
            let value = array.as_primitive::<t::Float32Type>().value(index);
            if value.is_finite() {
                out.extend_from_slice(value.to_string().as_bytes());
            } else {
                float(f64::from(value), out);
            }
        }
        DataType::Float64 => float(array.as_primitive::<t::Float64Type>().value(index), out),
        DataType::Decimal32(..) => decimal!(t::Decimal32Type),
        DataType::Decimal64(..) => decimal!(t::Decimal64Type),
        DataType::Decimal128(..) => decimal!(t::Decimal128Type),
        DataType::Decimal256(..) => decimal!(t::Decimal256Type),
        DataType::Utf8 => out.extend_from_slice(array.as_string::<i32>().value(index).as_bytes()),
        DataType::LargeUtf8 => {
            out.extend_from_slice(array.as_string::<i64>().value(index).as_bytes());
        }
        DataType::Binary => hex_text(array.as_binary::<i32>().value(index), out),
        DataType::LargeBinary => hex_text(array.as_binary::<i64>().value(index), out),
        DataType::FixedSizeBinary(_) => hex_text(array.as_fixed_size_binary().value(index), out),
        DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(..) => time(array, index, out)?,
        _ => nested(array, index, out)?,
    }
    Ok(())
}

fn float(value: f64, out: &mut Vec<u8>) {
    let text = if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        (if value > 0.0 { "Infinity" } else { "-Infinity" }).to_owned()
    } else {
        value.to_string()
    };
    out.extend_from_slice(text.as_bytes());
}

fn hex_text(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\x");
    out.extend_from_slice(hex::encode(bytes).as_bytes());
}

/// Dates, times of day and timestamps as PostgreSQL prints them, those with a zone in UTC.
fn time(array: &dyn Array, index: usize, out: &mut Vec<u8>) -> Result<(), Unread> {
    const DAY: i128 = 86_400_000_000_000;
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 1_000_000_000_i128,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    macro_rules! value {
        ($kind:ty) => {
            i128::from(array.as_primitive::<$kind>().value(index))
        };
    }
    let (nanos, format, zone) = match array.data_type() {
        DataType::Date32 => (value!(t::Date32Type) * DAY, "%Y-%m-%d", ""),
        DataType::Date64 => (value!(t::Date64Type) * 1_000_000, "%Y-%m-%d", ""),
        DataType::Time32(TimeUnit::Second) => (
            value!(t::Time32SecondType) * 1_000_000_000,
            "%H:%M:%S%.9f",
            "",
        ),
        DataType::Time32(_) => (
            value!(t::Time32MillisecondType) * 1_000_000,
            "%H:%M:%S%.9f",
            "",
        ),
        DataType::Time64(TimeUnit::Microsecond) => {
            (value!(t::Time64MicrosecondType) * 1_000, "%H:%M:%S%.9f", "")
        }
        DataType::Time64(_) => (value!(t::Time64NanosecondType), "%H:%M:%S%.9f", ""),
        DataType::Timestamp(each, zone) => {
            let value = match each {
                TimeUnit::Second => value!(t::TimestampSecondType),
                TimeUnit::Millisecond => value!(t::TimestampMillisecondType),
                TimeUnit::Microsecond => value!(t::TimestampMicrosecondType),
                TimeUnit::Nanosecond => value!(t::TimestampNanosecondType),
            };
            let zone = if zone.is_some() { "+00" } else { "" };
            (value * unit(each), "%Y-%m-%d %H:%M:%S%.9f", zone)
        }
        other => {
            return Err(Unread::broken(format!(
                "a column of type {other} cannot be read"
            )));
        }
    };
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok();
    let rest = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
    let at = seconds
        .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, rest))
        .ok_or_else(|| Unread::broken("a time lies outside of the calendar"))?;
    let text = at.format(format).to_string();
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => text.as_str(),
    };
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(zone.as_bytes());
    Ok(())
}

/// Lists, structs and maps as JSON.
fn nested(array: &dyn Array, index: usize, out: &mut Vec<u8>) -> Result<(), Unread> {
    let items = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(index),
        DataType::LargeList(_) => array.as_list::<i64>().value(index),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(index),
        DataType::Map(..) => std::sync::Arc::new(array.as_map().value(index)),
        DataType::Struct(fields) => {
            out.push(b'{');
            for (number, (field, column)) in
                fields.iter().zip(array.as_struct().columns()).enumerate()
            {
                separate(number, out);
                quoted(field.name(), out);
                out.push(b':');
                inner(column, index, out)?;
            }
            out.push(b'}');
            return Ok(());
        }
        other => {
            return Err(Unread::broken(format!(
                "a column of type {other} cannot be read"
            )));
        }
    };
    out.push(b'[');
    for number in 0..items.len() {
        separate(number, out);
        inner(&items, number, out)?;
    }
    out.push(b']');
    Ok(())
}

fn separate(number: usize, out: &mut Vec<u8>) {
    if number > 0 {
        out.push(b',');
    }
}

fn inner(array: &ArrayRef, index: usize, out: &mut Vec<u8>) -> Result<(), Unread> {
    if array.is_null(index) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let mut text = Vec::new();
    write(array, index, &mut text)?;
    let kind = array.data_type();
    if kind.is_numeric() || kind.is_nested() || *kind == DataType::Boolean {
        out.extend_from_slice(&text);
    } else {
        quoted(&String::from_utf8_lossy(&text), out);
    }
    Ok(())
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}
