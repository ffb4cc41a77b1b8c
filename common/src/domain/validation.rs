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

    /// The longest text that the database keeps of it.
    pub const MAX_BYTES: usize = 8000;

    /// The same, shortened until the database takes it: long texts first, then rules that were kept,
    /// which one rule then stands for. What was broken is the last thing to be given up.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        for most in [120, 60, 24] {
            if self.stored_bytes() <= Self::MAX_BYTES {
                return self;
            }
            for rule in &mut self.rules {
                for text in [&mut rule.rule, &mut rule.expected, &mut rule.found] {
                    cut(text, most);
                }
            }
        }
        let mut left_out = 0_usize;
        while self.stored_bytes() > Self::MAX_BYTES {
            // Broken rules stand behind kept ones only here, so that they go last.
            let kept = self
                .rules
                .iter()
                .rposition(|rule| rule.ok && rule.rule != MORE);
            let Some(at) = kept.or_else(|| self.rules.iter().rposition(|rule| rule.rule != MORE))
            else {
                return self;
            };
            let gone = self.rules.remove(at);
            left_out += 1;
            let ok = gone.ok
                && self
                    .rules
                    .last()
                    .is_none_or(|rule| rule.rule != MORE || rule.ok);
            self.rules.retain(|rule| rule.rule != MORE);
            self.rules.push(RuleOutcome {
                rule: MORE.to_owned(),
                ok,
                severity: if ok { Severity::Fail } else { Severity::Warn },
                expected: String::new(),
                found: format!("{left_out} rules that are not listed here"),
            });
        }
        self
    }

    /// Bytes of its text as a jsonb column prints it: with a space after every comma and colon.
    fn stored_bytes(&self) -> usize {
        serde_json::to_string(self).map_or(0, |text| {
            text.len() + text.bytes().filter(|byte| b",:".contains(byte)).count()
        })
    }
}

/// Stands for rules that are not listed.
const MORE: &str = "more";

fn cut(text: &mut String, most: usize) {
    if text.chars().count() > most {
        *text = text.chars().take(most - 3).chain("...".chars()).collect();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{RuleOutcome, Severity, Validation};

    proptest! {
        #[test]
        fn what_is_kept_fits_its_column(
            rules in prop::collection::vec((".{0,300}", any::<bool>(), ".{0,300}", ".{1,300}"), 0..120),
        ) {
            let rules: Vec<RuleOutcome> = rules
                .into_iter()
                .map(|(rule, ok, expected, found)| RuleOutcome { rule, ok, severity: Severity::Fail, expected, found })
                .collect();
            let (some, all_ok) = (!rules.is_empty(), rules.iter().all(|rule| rule.ok));
            let fitted = Validation { format: Some("csv".into()), rules, ..Validation::default() }.fitted();
            prop_assert!(fitted.stored_bytes() <= Validation::MAX_BYTES);
            prop_assert_eq!(!fitted.rules.is_empty(), some);
            prop_assert_eq!(fitted.rules.iter().all(|rule| rule.ok), all_ok);
            prop_assert!(fitted.rules.iter().all(|rule| !rule.found.is_empty()));
        }
    }
}
