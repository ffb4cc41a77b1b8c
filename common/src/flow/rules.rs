//! What a data set promises about its content: format, rules, and where refused rows go.
//!
//! The JSON form of these types is part of the model that the database keeps and of what travels to
//! workers, so a field may be added with a default but never renamed. Numbers that people wrote
//! are kept as text, because a comparison of money must not pass through a binary fraction.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::Severity;

/// Everything that is checked about an output before it becomes visible.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// How its files are read; `None` reads nothing but size and checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// The declared rules, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validate: Vec<Rule>,
    /// Where rows that break a rule go; `None` keeps them where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<Rejects>,
}

impl Checks {
    /// Whether anything will vouch for the content.
    #[must_use]
    pub fn vouch(&self) -> bool {
        self.format.is_some() || !self.validate.is_empty()
    }

    /// Connections that its rules ask, besides the output's own.
    pub fn connections(&self) -> impl Iterator<Item = &str> {
        self.validate.iter().filter_map(|rule| match &rule.check {
            Check::Sql(sql) => sql.connection.as_deref(),
            _ => None,
        })
    }
}

/// A format that we read by ourselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFormat {
    /// What the rows look like.
    pub shape: Shape,
    /// How the bytes are packed.
    #[serde(default, skip_serializing_if = "Packing::is_plain")]
    pub packing: Packing,
    /// How its fields are written; for csv alone.
    #[serde(default, skip_serializing_if = "CsvStyle::is_default")]
    pub csv: CsvStyle,
}

impl FileFormat {
    /// The format that the end of a path names: `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet`,
    /// the texts also with `.gz` or `.zst` after it.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let (stem, packing) = Packing::of_path(path)?;
        let extension = stem.rsplit('/').next()?.rsplit_once('.')?.1;
        let mut csv = CsvStyle::default();
        let shape = match extension {
            "csv" => Shape::Csv,
            "tsv" => {
                csv.delimiter = '\t';
                Shape::Csv
            }
            "jsonl" | "ndjson" => Shape::Jsonl,
            "parquet" if packing == Packing::Plain => Shape::Parquet,
            _ => return None,
        };
        Some(Self {
            shape,
            packing,
            csv,
        })
    }
}

impl fmt::Display for FileFormat {
    /// `csv`, `jsonl.gz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.shape {
            Shape::Csv => "csv",
            Shape::Jsonl => "jsonl",
            Shape::Parquet => "parquet",
        })?;
        f.write_str(match self.packing {
            Packing::Plain => "",
            Packing::Gz => ".gz",
            Packing::Zst => ".zst",
        })
    }
}

/// What the rows of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Delimited text, one record a row, quoted as RFC 4180 and PostgreSQL quote.
    Csv,
    /// One JSON value a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

/// How the bytes of a file are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Not at all.
    #[default]
    Plain,
    /// gzip, of one or several members.
    Gz,
    /// Zstandard, of one or several frames.
    Zst,
}

impl Packing {
    /// Splits a path into what is before its packing and the packing; `None` for a packing that we
    /// do not read.
    #[must_use]
    pub fn of_path(path: &str) -> Option<(&str, Self)> {
        if let Some(stem) = path.strip_suffix(".gz") {
            return Some((stem, Self::Gz));
        }
        if let Some(stem) = path.strip_suffix(".zst") {
            return Some((stem, Self::Zst));
        }
        let unread = [".bz2", ".xz", ".lz4", ".br", ".zip", ".sz"];
        let is_unread = unread.iter().any(|end| path.ends_with(end));
        (!is_unread).then_some((path, Self::Plain))
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
}

/// How the fields of a csv file are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CsvStyle {
    /// Whether the first record names the columns; without it they are named 1, 2, 3, ...
    pub header: bool,
    /// Between fields; one ASCII character.
    pub delimiter: char,
    /// Around fields that hold a delimiter, a quote or a line end; one ASCII character.
    pub quote: char,
    /// The unquoted text that means NULL.
    pub null: String,
}

impl Default for CsvStyle {
    fn default() -> Self {
        Self {
            header: true,
            delimiter: ',',
            quote: '"',
            null: String::new(),
        }
    }
}

impl CsvStyle {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One declared rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What must hold.
    #[serde(flatten)]
    pub check: Check,
    /// What its failure means.
    #[serde(default)]
    pub severity: Severity,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// How many rows there are.
    RowCount(RowCount),
    /// Columns without NULL.
    NotNull(Vec<String>),
    /// Columns that together name a row; rows with NULL in one of them are not compared.
    Unique(Vec<String>),
    /// Column to the values that it may have; NULL is allowed.
    Accepted(BTreeMap<String, Vec<String>>),
    /// Column to the least and greatest value; NULL is allowed.
    Range(BTreeMap<String, Range>),
    /// Column to the exact decimal sum of its values.
    Sum(BTreeMap<String, Expected>),
    /// Column to its least value.
    Min(BTreeMap<String, Expected>),
    /// Column to its greatest value.
    Max(BTreeMap<String, Expected>),
    /// Column to the sum of the hashes of its values, in any order.
    Checksum(BTreeMap<String, Expected>),
    /// The sum of the hashes of all rows, in any order.
    RowSum(Expected),
    /// The columns, all of them, and their types.
    Schema(Vec<Field>),
    /// The greatest value of a column of times is not old.
    Freshness(Freshness),
    /// A query that answers true.
    Sql(SqlRule),
    /// A program below the worker's script directory, with its arguments, that ends with 0.
    Command(Vec<String>),
}

/// How many rows an output has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowCount {
    /// So many.
    Exactly(u64),
    /// As many as an input, or within a ratio to it.
    Input {
        /// The input; `None` is the job's only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dataset: Option<String>,
        /// Least and greatest output / input, as written; `None` is equal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ratio: Option<(String, String)>,
    },
}

/// Least and greatest value, both allowed, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Least value; `None` is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Greatest value; `None` is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
}

/// A figure that must be met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// This one, as written.
    Equals(String),
    /// The one that the script reports in its result file.
    Reported,
}

/// A column and its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// Whether NULL is allowed.
    #[serde(default)]
    pub nullable: bool,
}

/// Types by their Avro names, logical types among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldType {
    /// true or false, also t and f.
    Boolean,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A number, NaN and infinities allowed.
    Float,
    /// A number, NaN and infinities allowed.
    Double,
    /// Text, UTF-8.
    String,
    /// Any bytes.
    Bytes,
    /// A number in digits.
    Decimal {
        /// Digits in all; `None` is unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        precision: Option<u32>,
        /// Digits after the point; `None` is unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scale: Option<u32>,
    },
    /// 2024-02-29.
    Date,
    /// A date and a time of day, perhaps with a zone, to the millisecond.
    TimestampMillis,
    /// As before, to the microsecond.
    TimestampMicros,
    /// A UUID.
    Uuid,
}

impl FieldType {
    /// The types that are one word.
    pub const WORDS: [(&'static str, Self); 12] = [
        ("boolean", Self::Boolean),
        ("int", Self::Int),
        ("long", Self::Long),
        ("float", Self::Float),
        ("double", Self::Double),
        ("string", Self::String),
        ("bytes", Self::Bytes),
        (
            "decimal",
            Self::Decimal {
                precision: None,
                scale: None,
            },
        ),
        ("date", Self::Date),
        ("timestamp-millis", Self::TimestampMillis),
        ("timestamp-micros", Self::TimestampMicros),
        ("uuid", Self::Uuid),
    ];
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Decimal {
            precision: Some(precision),
            scale,
        } = self
        {
            return write!(f, "decimal({precision}, {})", scale.unwrap_or(0));
        }
        let word = Self::WORDS.iter().find(|(_, kind)| kind == self);
        f.write_str(word.map_or("decimal", |(word, _)| word))
    }
}

/// The greatest value of a column of times is at most so old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// A column of dates or timestamps.
    pub column: String,
    /// In seconds before the worker's clock.
    pub within_seconds: u64,
}

/// A query with one row of one boolean. Its parameters are the chunk's: `$1` key, `$2` lower bound,
/// `$3` upper bound, `$4` fence, all as text, NULL where there is none; several columns of a bound
/// are a JSON array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlRule {
    /// The query, run read-only.
    pub query: String,
    /// Where; `None` is the output's own connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
}

/// Where rows that break a rule of rows go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejects {
    /// How many there may be.
    pub max: RejectCap,
    /// Where they are published, a path template; `None` is the output's path with `.rejects`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// How many rows may be rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCap {
    /// So many.
    Rows(u64),
    /// So many of a hundred, as written.
    Percent(String),
}

impl fmt::Display for RejectCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Check {
    /// The key that it is written with.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::RowCount(_) => "row_count",
            Self::NotNull(_) => "not_null",
            Self::Unique(_) => "unique",
            Self::Accepted(_) => "accepted",
            Self::Range(_) => "range",
            Self::Sum(_) => "sum",
            Self::Min(_) => "min",
            Self::Max(_) => "max",
            Self::Checksum(_) => "checksum",
            Self::RowSum(_) => "row_sum",
            Self::Schema(_) => "schema",
            Self::Freshness(_) => "freshness",
            Self::Sql(_) => "sql",
            Self::Command(_) => "command",
        }
    }

    /// Whether it judges single rows, so that those that break it can be taken out.
    #[must_use]
    pub fn judges_rows(&self) -> bool {
        matches!(
            self,
            Self::NotNull(_) | Self::Accepted(_) | Self::Range(_) | Self::Schema(_)
        )
    }

    /// Whether it can be answered without reading the rows of the output by ourselves.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        matches!(self, Self::Sql(_) | Self::Command(_))
    }
}

impl fmt::Display for Check {
    /// `not_null(order_id)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn keys<V>(map: &BTreeMap<String, V>) -> String {
            map.keys().cloned().collect::<Vec<_>>().join(", ")
        }
        let of = match self {
            Self::RowCount(RowCount::Exactly(rows)) => rows.to_string(),
            Self::RowCount(RowCount::Input { dataset, ratio }) => {
                let input = dataset.as_deref().unwrap_or("input");
                match ratio {
                    Some((low, high)) => format!("{low} to {high} of {input}"),
                    None => input.to_owned(),
                }
            }
            Self::NotNull(columns) | Self::Unique(columns) => columns.join(", "),
            Self::Accepted(map) => keys(map),
            Self::Range(map) => keys(map),
            Self::Sum(map) | Self::Min(map) | Self::Max(map) | Self::Checksum(map) => keys(map),
            Self::RowSum(_) => return f.write_str("row_sum"),
            Self::Schema(fields) => format!("{} columns", fields.len()),
            Self::Freshness(fresh) => fresh.column.clone(),
            Self::Sql(sql) => sql.query.clone(),
            Self::Command(argv) => argv.join(" "),
        };
        write!(f, "{}({of})", self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::{FieldType, FileFormat};

    #[test]
    fn the_end_of_a_path_names_its_format() {
        let of = |path: &str| FileFormat::of_path(path).map(|format| format.to_string());
        for (path, expected) in [
            ("a/{chunk}.{fence}.csv", Some("csv")),
            ("a/{chunk}.tsv.gz", Some("csv.gz")),
            ("{chunk}.ndjson.zst", Some("jsonl.zst")),
            ("a.csv/{chunk}.parquet", Some("parquet")),
            ("{chunk}.parquet.gz", None),
            ("{chunk}.csv.bz2", None),
            ("a.csv/{chunk}", None),
            ("{chunk}.gz", None),
            ("csv", None),
        ] {
            assert_eq!(of(path).as_deref(), expected, "{path}");
        }
        let tabs = FileFormat::of_path("x.tsv").map(|format| format.csv.delimiter);
        assert_eq!(tabs, Some('\t'));
    }

    #[test]
    fn every_type_has_a_word() {
        for (word, kind) in FieldType::WORDS {
            assert_eq!(kind.to_string(), word);
        }
    }
}
