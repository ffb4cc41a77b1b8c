//! The formats against each other: the same rows have the same sum, and an independent reader agrees.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::{Staged, gz, orders, zst};

fn parquet(columns: Vec<(&str, ArrayRef)>, rows_in_group: usize) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_in_group))
        .set_compression(::parquet::basic::Compression::SNAPPY)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn many(rows: i64) -> Vec<u8> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=rows));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(
        (1..=rows).map(|id| format!("order {id}")),
    ));
    parquet(vec![("id", ids), ("name", names)], 1000)
}

#[test]
fn the_same_rows_have_the_same_sum_in_every_format_and_packing() {
    let csv = orders(2500);
    let mut lines = String::new();
    for id in 1..=2500 {
        lines.push_str(&format!("{{\"name\":\"order {id}\",\"id\":{id}}}\n"));
    }
    let files = [
        ("o.csv", csv.clone()),
        ("o.csv.gz", gz(&csv)),
        ("o.csv.zst", zst(&csv)),
        (
            "o.tsv",
            String::from_utf8(csv.clone())
                .unwrap()
                .replace(',', "\t")
                .into_bytes(),
        ),
        ("o.jsonl", lines.clone().into_bytes()),
        ("o.ndjson.gz", gz(lines.as_bytes())),
        ("o.parquet", many(2500)),
    ];
    let sums: Vec<Option<String>> = files
        .iter()
        .map(|(name, bytes)| {
            let audited = Staged::new(name, bytes).audit();
            assert!(
                audited.rules.iter().all(|rule| rule.ok),
                "{:?}",
                audited.rules
            );
            assert_eq!(audited.rows, Some(2500), "{name}");
            audited.row_sum
        })
        .collect();
    assert!(
        sums[0].is_some() && sums.iter().all(|sum| *sum == sums[0]),
        "{sums:?}"
    );
}

#[test]
fn every_type_has_one_text() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("real", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
        (
            "price",
            Arc::new(
                Decimal128Array::from(vec![-1250, 5])
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
        ),
        ("day", Arc::new(Date32Array::from(vec![19_782, -1]))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![1_709_164_800_500_000, 0])
                    .with_timezone("UTC"),
            ),
        ),
        ("text", Arc::new(StringArray::from(vec![Some(""), None]))),
    ];
    let csv = "flag,real,price,day,at,text\n\
               true,0.5,-12.50,2024-02-29,2024-02-29 00:00:00.5+00,\"\"\n\
               ,NaN,0.05,1969-12-31,1970-01-01 00:00:00+00,\n";
    let from_parquet = Staged::new("o.parquet", &parquet(columns, 10)).audit();
    let from_csv = Staged::new("o.csv", csv.as_bytes()).audit();
    assert_eq!(from_parquet.rows, Some(2), "{:?}", from_parquet.rules);
    assert_eq!(from_parquet.row_sum, from_csv.row_sum);
}

#[test]
fn a_parquet_file_that_is_cut_or_damaged_is_found() {
    let whole = many(5000);
    assert_eq!(Staged::new("o.parquet", &whole).broken(), []);
    for cut in [0, 3, whole.len() / 2, whole.len() - 1] {
        Staged::new("o.parquet", &whole[..cut]).assert_broken("parses(parquet)", "footer");
    }
    // Its footer is whole, a page is not: a reader of the footer alone sees nothing.
    for at in [whole.len() / 4, whole.len() / 2] {
        let mut damaged = whole.clone();
        for byte in &mut damaged[at..at + 64] {
            *byte ^= 0xa5;
        }
        let sum = Staged::new("o.parquet", &damaged).audit().row_sum;
        assert_ne!(
            sum,
            Staged::new("o.parquet", &whole).audit().row_sum,
            "bytes {at}"
        );
    }
    // Half of the rows in a file that is valid.
    Staged::new("o.parquet", &many(2500))
        .reporting(5000)
        .assert_broken("rows_reported", "2500 rows");
}

fn field() -> impl Strategy<Value = String> {
    "[a-c\",\n\r\u{e9} ]{0,5}"
}

proptest! {
    /// What another writer quotes, and another reader reads, is what we read.
    #[test]
    fn csv_is_read_as_others_write_it(
        rows in prop::collection::vec(prop::collection::vec(field(), 3), 0..8),
        crlf in any::<bool>(),
    ) {
        let mut builder = ::csv::WriterBuilder::new();
        if crlf {
            builder.terminator(::csv::Terminator::CRLF);
        }
        let mut writer = builder.quote_style(::csv::QuoteStyle::Necessary).from_writer(Vec::new());
        writer.write_record(["x", "y", "z"]).unwrap();
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let text = writer.into_inner().unwrap();
        let audited = Staged::new("o.csv", &text).audit();
        prop_assert_eq!(audited.rows, Some(rows.len() as u64), "{:?}", audited.rules);
        // Its members in JSON, NULL where nothing stands between the delimiters.
        let lines: String = rows
            .iter()
            .map(|row| {
                let of = |text: &String| if text.is_empty() { serde_json::Value::Null } else { text.clone().into() };
                format!("{}\n", serde_json::json!({ "x": of(&row[0]), "y": of(&row[1]), "z": of(&row[2]) }))
            })
            .collect();
        prop_assert_eq!(audited.row_sum, Staged::new("o.jsonl", lines.as_bytes()).audit().row_sum);
    }
}
