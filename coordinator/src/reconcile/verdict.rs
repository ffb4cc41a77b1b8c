//! What was expected against what was found: pure.

use serde::Serialize;

use super::expected::Expected;

/// What comparing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Rows and row sum (of files: size and SHA-256) are what they were at the extract.
    Equal,
    /// Rows are; no sum is kept to compare.
    RowsEqual,
    /// They are not.
    Differs,
    /// It could not be told.
    Unknown,
}

impl Verdict {
    /// All of them, from good to bad.
    pub const ALL: [Self; 4] = [Self::Equal, Self::RowsEqual, Self::Differs, Self::Unknown];

    /// The word kept in the database.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::RowsEqual => "rows_equal",
            Self::Differs => "differs",
            Self::Unknown => "unknown",
        }
    }
}

/// What one side of a comparison holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Rows; `None` for files.
    pub rows: Option<i64>,
    /// The row sum, or `sha256:hex` of a file.
    pub sum: String,
}

/// Compares a table's rows with what was expected of them; says why where it is not as expected.
#[must_use]
pub fn of_rows(expected: Option<&Expected>, found: &Figures) -> (Verdict, Option<String>) {
    let Some(expected) = expected else {
        let why = "no publication on the way knows how many rows there were";
        return (Verdict::Unknown, Some(why.to_owned()));
    };
    let rows = found.rows.unwrap_or_default();
    if rows != expected.rows {
        let why = format!("expected {} rows, found {rows}", expected.rows);
        return (Verdict::Differs, Some(why));
    }
    match &expected.sum {
        None => (Verdict::RowsEqual, None),
        Some(sum) if *sum == found.sum => (Verdict::Equal, None),
        Some(sum) => {
            let why = format!(
                "as many rows as expected with another content: expected row sum {sum}, found {}",
                found.sum
            );
            (Verdict::Differs, Some(why))
        }
    }
}

/// Compares a published file's bytes with its publication.
#[must_use]
pub fn of_file(
    bytes: Option<i64>,
    checksum: Option<&str>,
    found_bytes: i64,
    found_checksum: &str,
) -> (Verdict, Option<String>) {
    if let Some(bytes) = bytes.filter(|bytes| *bytes != found_bytes) {
        let why = format!("expected {bytes} bytes, found {found_bytes}");
        return (Verdict::Differs, Some(why));
    }
    match checksum.filter(|sum| sum.starts_with("sha256:")) {
        Some(sum) if sum.eq_ignore_ascii_case(found_checksum) => (Verdict::Equal, None),
        Some(sum) => {
            let why = format!("expected {sum}, found {found_checksum}");
            (Verdict::Differs, Some(why))
        }
        None => {
            let why = "no SHA-256 was kept with the publication";
            (Verdict::Unknown, Some(why.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{Expected, Figures, Verdict, of_file, of_rows};

    #[test]
    fn rows_and_sums_must_both_be_as_expected() {
        let expected = |sum: Option<&str>| Expected {
            rows: 3,
            sum: sum.map(str::to_owned),
            from: "f:mid/1 generation 1".to_owned(),
            at: DateTime::UNIX_EPOCH,
            by_place: false,
        };
        let found = |rows, sum: &str| Figures {
            rows: Some(rows),
            sum: sum.to_owned(),
        };
        let of = |expected: &Expected, found: &Figures| of_rows(Some(expected), found).0;
        assert_eq!(of(&expected(Some("a")), &found(3, "a")), Verdict::Equal);
        assert_eq!(of(&expected(Some("a")), &found(3, "b")), Verdict::Differs);
        assert_eq!(of(&expected(Some("a")), &found(4, "a")), Verdict::Differs);
        assert_eq!(of(&expected(None), &found(3, "b")), Verdict::RowsEqual);
        assert_eq!(of(&expected(None), &found(2, "b")), Verdict::Differs);
        assert_eq!(of_rows(None, &found(2, "b")).0, Verdict::Unknown);
    }

    #[test]
    fn a_file_is_its_size_and_its_hash() {
        let of = |bytes, sum| of_file(bytes, sum, 5, "sha256:ab").0;
        assert_eq!(of(Some(5), Some("sha256:AB")), Verdict::Equal);
        assert_eq!(of(None, Some("sha256:ab")), Verdict::Equal);
        assert_eq!(of(Some(4), Some("sha256:ab")), Verdict::Differs);
        assert_eq!(of(Some(5), Some("sha256:cd")), Verdict::Differs);
        assert_eq!(of(Some(5), Some("md5:ab")), Verdict::Unknown);
        assert_eq!(of(Some(5), None), Verdict::Unknown);
    }
}
