//! What a job claims to have made, held against what is there.
//!
//! Sizes and checksums of staged files are always our own; a claim is only compared. Nothing
//! here changes a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use common::domain::OutputReport;
use serde::Deserialize;
use sha2::{Digest, Sha256};

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
    let wrong = |what: String| {
        Failure::invalid(format!(
            "the result file of the script {what}; expected {{\"rows\": n, \"bytes\": n, \"checksum\": \"sha256:...\", \"location\": \"...\"}}, all optional"
        ))
    };
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(OutputReport::default());
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
    let result: ScriptResult = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("cannot be understood ({error})")))?;
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

/// A staged file that was read whole.
pub(crate) struct StagedFile {
    pub(crate) file: File,
    pub(crate) bytes: i64,
    pub(crate) checksum: String,
}

/// Opens the staged file and computes its size and SHA-256. `None` when told to stop meanwhile.
///
/// # Errors
/// `invalid` when there is no regular file or it is not what the job claims.
pub(crate) fn check_staged(
    staging: &Path,
    claim: &OutputReport,
    stop: &dyn Fn() -> bool,
) -> Result<Option<StagedFile>, Failure> {
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
    let io = |error| Failure::io("read the staged file", staging, &error);
    let mut file = File::open(staging).map_err(io)?;
    let mut digest = Sha256::new();
    let mut bytes = 0_i64;
    let mut block = vec![0_u8; 1 << 18];
    loop {
        if stop() {
            return Ok(None);
        }
        let count = match file.read(&mut block) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io(error)),
        };
        digest.update(&block[..count]);
        bytes += count as i64;
    }
    let checksum = format!("sha256:{}", hex::encode(digest.finalize()));
    compare(staging, claim, bytes, &checksum)?;
    Ok(Some(StagedFile {
        file,
        bytes,
        checksum,
    }))
}

fn compare(
    staging: &Path,
    claim: &OutputReport,
    bytes: i64,
    checksum: &str,
) -> Result<(), Failure> {
    if let Some(claimed) = claim.bytes
        && claimed != bytes
    {
        return Err(Failure::invalid(format!(
            "the script reported {claimed} bytes and the staged file {} has {bytes}",
            staging.display()
        )));
    }
    // Another algorithm's sum is not ours to judge.
    if let Some(claimed) = &claim.checksum
        && let Some(hex) = claimed
            .strip_prefix("sha256:")
            .or_else(|| bare_sha256(claimed))
        && !checksum["sha256:".len()..].eq_ignore_ascii_case(hex)
    {
        return Err(Failure::invalid(format!(
            "the script reported the checksum {claimed} and the staged file {} has {checksum}",
            staging.display()
        )));
    }
    Ok(())
}

fn bare_sha256(text: &str) -> Option<&str> {
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use common::domain::{FailureClass, OutputReport};

    use super::{check_staged, read_result};

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
    fn claims_are_compared_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("staged");
        std::fs::write(&path, "hello").unwrap();
        let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let check = |bytes, checksum: Option<&str>| {
            let claim = OutputReport {
                bytes,
                checksum: checksum.map(str::to_owned),
                ..OutputReport::default()
            };
            check_staged(&path, &claim, &|| false)
                .map(|staged| staged.map(|file| (file.bytes, file.checksum)))
                .map_err(|failure| failure.class)
        };
        let fine = Ok(Some((5, format!("sha256:{sum}"))));
        assert_eq!(check(None, None), fine);
        assert_eq!(check(Some(5), Some(&sum.to_uppercase())), fine);
        assert_eq!(check(Some(5), Some("md5:abc")), fine);
        assert_eq!(check(Some(4), None), Err(FailureClass::Invalid));
        assert_eq!(check(None, Some("sha256:00")), Err(FailureClass::Invalid));
        let stopped = check_staged(&path, &OutputReport::default(), &|| true);
        assert!(matches!(stopped, Ok(None)));
        let nothing = dir.path().join("nothing");
        let failure = check_staged(&nothing, &OutputReport::default(), &|| false)
            .err()
            .unwrap();
        assert!(failure.error.contains("nothing is there"), "{failure}");
    }
}
