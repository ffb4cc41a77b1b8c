//! The audit against files that lie, and its probes against probes that do not look.

mod attacks;
mod formats;
mod oracle;
mod probes;
mod taken_out;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::domain::{Bounds, KeyColumn, RuleOutcome, Severity};
use common::flow::rules::{Check, Checks, FileFormat, Rule};

use super::file::{Audited, Subject, audit_file};
use super::probe::InputRows;
use super::reported::Reported;

/// A staged file in a directory of its own, and what it is held against.
struct Staged {
    dir: tempfile::TempDir,
    path: PathBuf,
    checks: Checks,
    bounds: Bounds,
    reported: Reported,
    inputs: Vec<InputRows>,
}

impl Staged {
    /// A file whose name says its format.
    fn new(name: &str, bytes: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let checks = Checks {
            format: FileFormat::of_path(name),
            ..Checks::default()
        };
        Self {
            dir,
            path,
            checks,
            bounds: Bounds::Single,
            reported: Reported::default(),
            inputs: Vec::new(),
        }
    }

    fn rule(mut self, check: Check) -> Self {
        self.checks.validate.push(Rule {
            check,
            severity: Severity::Fail,
        });
        self
    }

    fn headerless(mut self) -> Self {
        if let Some(format) = &mut self.checks.format {
            format.csv.header = false;
        }
        self
    }

    fn reporting(mut self, rows: u64) -> Self {
        self.reported.rows = Some(rows);
        self
    }

    fn audit(&self) -> Audited {
        let subject = Subject {
            path: &self.path,
            checks: &self.checks,
            bounds: &self.bounds,
            reported: &self.reported,
            inputs: &self.inputs,
            work_dir: self.dir.path(),
            stop: &|| false,
        };
        audit_file(File::open(&self.path).unwrap(), &subject)
            .unwrap()
            .expect("it was not told to stop")
    }

    /// The rules that were broken, by name, each with what was found.
    fn broken(&self) -> Vec<(String, String)> {
        let broken = self.audit().rules.into_iter().filter(|rule| !rule.ok);
        broken.map(|rule| (rule.rule, rule.found)).collect()
    }

    /// Asserts that one rule and no other is broken, and that it says so.
    fn assert_broken(&self, rule: &str, says: &str) {
        let broken = self.broken();
        let [(name, found)] = broken.as_slice() else {
            panic!(
                "{rule} alone should be broken in {}: {broken:?}",
                self.path.display()
            );
        };
        assert_eq!(name, rule, "{found}");
        assert!(found.contains(says), "{found:?} should say {says:?}");
    }
}

fn key_range(name: &str, sql_type: &str, lower: Option<&str>, upper: Option<&str>) -> Bounds {
    let one = |text: Option<&str>| text.map(|text| vec![text.to_owned()]);
    Bounds::KeyRange {
        columns: vec![KeyColumn {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
            collation: None,
        }],
        lower: one(lower),
        upper: one(upper),
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

/// `id,name` and that many rows.
fn orders(rows: u64) -> Vec<u8> {
    let mut text = String::from("id,name\n");
    for id in 1..=rows {
        text.push_str(&format!("{id},order {id}\n"));
    }
    text.into_bytes()
}

fn found<'r>(rules: &'r [RuleOutcome], rule: &str) -> &'r str {
    rules
        .iter()
        .find(|each| each.rule == rule)
        .map_or("", |each| each.found.as_str())
}

fn exists(path: &Path, suffix: &str) -> Option<Vec<u8>> {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    std::fs::read(name).ok()
}
