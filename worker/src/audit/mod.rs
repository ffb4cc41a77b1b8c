//! The audit: what was staged is read again by us and judged before it becomes visible.
//!
//! It owns formats, probes and what they found. It must never publish, never change what was staged
//! except to take declared rejects out of it, and never answer yes without an observed value.

mod bytes;
mod csv;
mod custom;
mod decimal;
mod file;
mod inputs;
mod jsonl;
mod parquet;
mod probe;
mod probes;
mod rejects;
mod reported;
mod row;
mod session;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::path::{Path, PathBuf};

use common::domain::{OutputReport, RuleOutcome, Severity, Validation};

pub(crate) use custom::custom_rules;
pub(crate) use file::{Audited, Subject, audit_file};
pub(crate) use inputs::input_rows;
pub(crate) use probe::InputRows;
pub(crate) use reported::Reported;
pub(crate) use table::audit_table;

use crate::attempt::Failure;

/// Failed rules that an error names.
const NAMED: usize = 3;

/// What is known of an output's content before its own rules are added to it.
pub(crate) fn validation(
    format: Option<String>,
    audited: Option<&Audited>,
    rules: Vec<RuleOutcome>,
) -> Option<Validation> {
    let validation = Validation {
        format: format.filter(|_| audited.is_some()),
        rows: audited.and_then(|audited| audited.rows),
        row_sum: audited.and_then(|audited| audited.row_sum.clone()),
        rejected: audited.and_then(|audited| audited.rejected),
        rules,
    };
    validation.is_validated().then(|| validation.fitted())
}

/// Refuses the output where a rule of severity fail was broken.
///
/// # Errors
/// An `invalid` failure that names the rules, what was expected and found, and where the output is.
pub(crate) fn conclude(rules: &[RuleOutcome], staged: Option<&Path>) -> Result<(), Failure> {
    let failed: Vec<&RuleOutcome> = rules
        .iter()
        .filter(|rule| !rule.ok && rule.severity == Severity::Fail)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = failed.iter().take(NAMED).map(|rule| told(rule)).collect();
    let more = match failed.len().saturating_sub(NAMED) {
        0 => String::new(),
        1 => "; 1 more rule is broken".to_owned(),
        more => format!("; {more} more rules are broken"),
    };
    let kept = staged.map_or_else(
        || "; the table is as the job left it".to_owned(),
        |path| {
            format!(
                "; nothing was published, the staged file is kept at {}",
                path.display()
            )
        },
    );
    Err(Failure::invalid(format!("{}{more}{kept}", told.join("; "))))
}

fn told(rule: &RuleOutcome) -> String {
    let expected = if rule.expected.is_empty() {
        String::new()
    } else {
        format!("expected {}, ", rule.expected)
    };
    format!("rule {}: {expected}found {}", rule.rule, rule.found)
}

/// Where the rejects of a staged file are staged.
pub(crate) fn staged_rejects(staging: &Path) -> PathBuf {
    let mut name = staging.as_os_str().to_owned();
    name.push(".rejects");
    PathBuf::from(name)
}

/// The report of an output whose content was judged.
pub(crate) fn report(
    claim: OutputReport,
    audited: &Audited,
    validation: Option<Validation>,
    location: String,
) -> OutputReport {
    // What was counted by us stands; the job's word where nothing could be counted.
    let counted = audited.rows.and_then(|rows| i64::try_from(rows).ok());
    OutputReport {
        location: Some(location),
        rows: counted.or(claim.rows),
        bytes: i64::try_from(audited.bytes.count).ok(),
        checksum: Some(format!("sha256:{}", audited.bytes.sha256)),
        validation,
    }
}
