//! What was checked about an output before it became visible, as its publication keeps it.

use serde::{Deserialize, Serialize};

/// Whether a failed rule stops the publication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does.
    #[default]
    Fail,
    /// It is published and the failure is recorded.
    Warn,
}

/// One rule that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleOutcome {
    /// The rule as people write it, for example `not_null(order_id)`.
    pub rule: String,
    /// Whether it held.
    pub ok: bool,
    /// What its failure means.
    #[serde(default, skip_serializing_if = "is_fail")]
    pub severity: Severity,
    /// What was expected; empty where the rule says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
    /// The observed value; never empty, so that a yes cannot be given without looking.
    pub found: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_fail(severity: &Severity) -> bool {
    *severity == Severity::Fail
}

/// What is known about an output's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// The format whose built-in rules were applied, for example `csv.gz`; `None` where we know none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Rows, counted by us in the staged bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Sum (modulo 2^64, hex) of a 64-bit hash of every row: the same whatever their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_sum: Option<String>,
    /// Rows that went to the reject file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<u64>,
    /// Every rule that was checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleOutcome>,
}

impl Validation {
    /// Whether anything vouches for the content: a built-in format that was recounted, or a rule.
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.format.is_some() || !self.rules.is_empty()
    }
}
