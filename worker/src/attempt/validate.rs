//! What a job claims to have made, held against what is there.
//!
//! Sizes and checksums of staged files are always our own; a claim is only compared. Nothing
//! here changes a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use common::domain::OutputReport;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::progress::open_regular;

/// A result file may not be larger.
const MAX_RESULT: u64 = 1 << 20;

/// What a script writes into its result file; everything may be left out.
#[derive(Deserialize)]
struct ScriptResult {
    rows: Option<u64>,
    bytes: Option<u64>,
    checksum: Option<String>,
    location: Option<String>,
}

/// Reads a result file; one that does not exist says nothing.
///
/// # Errors
/// An `invalid` failure for a file that is too large, no JSON or of wrong types.
pub fn read_result(path: &Path) -> Result<OutputReport, Failure> {
    let Some(result) = read_json::<ScriptResult>(path)? else {
        return Ok(OutputReport::default());
    };
    let number = |name: &str, value: Option<u64>| {
        value.map(i64::try_from).transpose().map_err(|_| {
            wrong(format!(
                "has a value for {name} that does not fit in 63 bits"
            ))
        })
    };
    if [&result.checksum, &result.location]
        .into_iter()
        .flatten()
        .any(|text| text.contains('\0'))
    {
        return Err(wrong("holds a NUL character".to_owned()));
    }
    Ok(OutputReport {
        rows: number("rows", result.rows)?,
        bytes: number("bytes", result.bytes)?,
        checksum: result.checksum,
        location: result.location,
        validation: None,
    })
}

/// Reads the figures of a result file that rules compare with.
///
/// # Errors
/// As [`read_result`].
pub(crate) fn read_figures<T: Default + DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    Ok(read_json(path)?.unwrap_or_default())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    let Some(file) = open_regular(path) else {
        return Err(wrong("is no readable file".to_owned()));
    };
    let mut text = Vec::new();
    file.take(MAX_RESULT + 1)
        .read_to_end(&mut text)
        .map_err(|error| Failure::io("read the result file", path, &error))?;
    if text.len() as u64 > MAX_RESULT {
        return Err(wrong("is larger than 1 MiB".to_owned()));
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| wrong(format!("cannot be understood ({error})")))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "every caller has just made it"
)]
fn wrong(what: String) -> Failure {
    Failure::invalid(format!(
        "the result file of the script {what}; expected {{\"rows\": n, \"bytes\": n, \"checksum\": \"sha256:...\", \"location\": \"...\"}}, all optional"
    ))
}

/// Opens the staged output.
///
/// # Errors
/// `invalid` when there is no regular file.
pub(crate) fn open_staged(staging: &Path) -> Result<File, Failure> {
    let found = match std::fs::symlink_metadata(staging) {
        Ok(metadata) if metadata.is_file() => None,
        Ok(metadata) if metadata.is_dir() => Some("a directory is there"),
        Ok(_) => Some("something that is no regular file is there"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("nothing is there"),
        Err(error) => return Err(Failure::io("look at the staged file", staging, &error)),
    };
    if let Some(found) = found {
        return Err(Failure::invalid(format!(
            "expected the output as a file at {} (ODF_STAGING); {found}",
            staging.display()
        )));
    }
    File::open(staging).map_err(|error| Failure::io("read the staged file", staging, &error))
}

/// The hex digits of a reported SHA-256; `None` for a sum of another algorithm, which is not ours
/// to judge.
pub(crate) fn sha256_of(reported: &str) -> Option<&str> {
    reported
        .strip_prefix("sha256:")
        .or_else(|| bare_sha256(reported))
}

fn bare_sha256(text: &str) -> Option<&str> {
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use common::domain::{FailureClass, OutputReport};

    use super::{open_staged, read_result, sha256_of};

    fn result(text: &str) -> Result<OutputReport, super::Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        std::fs::write(&path, text).unwrap();
        read_result(&path)
    }

    #[test]
    fn results_are_optional_in_every_part() {
        assert_eq!(result("{}"), Ok(OutputReport::default()));
        let report = result(r#"{"rows": 3, "location": "s3://x", "extra": []}"#).unwrap();
        assert_eq!(
            (report.rows, report.location.as_deref()),
            (Some(3), Some("s3://x"))
        );
        let nowhere = std::path::Path::new("/nonexistent/result.json");
        assert_eq!(read_result(nowhere), Ok(OutputReport::default()));
    }

    #[test]
    fn results_of_wrong_form_are_invalid() {
        let large = format!("{{\"location\": \"{}\"}}", "x".repeat(1 << 20));
        for text in [
            "",
            "rows=3",
            "[]",
            "{\"rows\": 1.5}",
            "{\"rows\": -1}",
            "{\"rows\": \"3\"}",
            "{\"rows\": 18446744073709551615}",
            "{\"checksum\": 5}",
            "{\"location\": \"a\\u0000b\"}",
            &large,
        ] {
            let failure = result(text).expect_err(&text[..text.len().min(40)]);
            assert_eq!(failure.class, FailureClass::Invalid);
            assert!(failure.error.starts_with("the result file"), "{failure}");
        }
    }

    #[test]
    fn what_is_no_file_is_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let failure = open_staged(dir.path()).unwrap_err();
        assert!(failure.error.contains("a directory is there"), "{failure}");
        let failure = open_staged(&dir.path().join("nothing")).unwrap_err();
        assert!(failure.error.contains("nothing is there"), "{failure}");
        assert_eq!(failure.class, FailureClass::Invalid);
    }

    #[test]
    fn sums_of_other_algorithms_are_not_ours() {
        let bare = "0".repeat(64);
        assert_eq!(sha256_of("sha256:00"), Some("00"));
        assert_eq!(sha256_of(&bare), Some(bare.as_str()));
        assert_eq!(sha256_of("md5:abc"), None);
    }
}
