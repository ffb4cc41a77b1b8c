//! What a rule is to the audit: a probe that looks at rows and answers with what it found.
//!
//! An answer carries the observed value; one that carries none counts as no, whatever it says.

use common::domain::{RuleOutcome, Severity};
use common::flow::rules::{Check, Checks};

use super::bytes::{Bytes, Unread};
use super::probes;
use super::reported::Reported;
use super::row::{Row, Rows};
use common::policy::row_sum::RowSum;

/// Longest expected or found text that is kept.
const MAX_TEXT: usize = 200;

/// What is known once the file was read.
pub(crate) struct Facts<'a> {
    /// Rows that stay in the file.
    pub(crate) rows: u64,
    /// Rows that were taken out of it.
    pub(crate) rejected: u64,
    /// The bytes as the job staged them.
    pub(crate) staged: &'a Bytes,
    /// The row sum of the rows that stay.
    pub(crate) row_sum: &'a str,
    /// What the job says about its output.
    pub(crate) reported: &'a Reported,
    /// Rows of each input, by data set, where they are known.
    pub(crate) inputs: &'a [InputRows],
}

/// How many rows an input has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputRows {
    /// The data set.
    pub(crate) dataset: String,
    /// Its rows, or why they are not known.
    pub(crate) rows: Result<u64, String>,
    /// Where the figure is from, in words.
    pub(crate) source: &'static str,
}

/// What a probe answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    /// Empty where the rule says it.
    pub(crate) expected: String,
    /// The observed value.
    pub(crate) found: String,
}

impl Answer {
    pub(crate) fn new(ok: bool, found: impl Into<String>) -> Self {
        Self {
            ok,
            expected: String::new(),
            found: found.into(),
        }
    }

    pub(crate) fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }
}

/// A rule that looks.
pub(crate) trait Probe {
    /// Hears the columns before the first row and again when there are more.
    fn columns(&mut self, _names: &[String]) {}

    /// Looks at a row; `false` where the row by itself breaks the rule.
    fn row(&mut self, _row: &Row<'_>) -> bool {
        true
    }

    /// Answers, once the whole file was read.
    fn answer(&mut self, facts: &Facts<'_>) -> Answer;
}

/// A probe and the rule that it stands for.
pub(crate) struct Judge {
    /// The rule as people write it.
    pub(crate) rule: String,
    /// What its failure means.
    pub(crate) severity: Severity,
    /// Whether rows that break it may be taken out.
    pub(crate) judges_rows: bool,
    /// What looks.
    pub(crate) probe: Box<dyn Probe>,
}

impl Judge {
    /// A rule that is always on.
    pub(crate) fn built_in(rule: impl Into<String>, probe: impl Probe + 'static) -> Self {
        Self {
            rule: rule.into(),
            severity: Severity::Fail,
            judges_rows: false,
            probe: Box::new(probe),
        }
    }

    /// The rule's outcome.
    pub(crate) fn outcome(&mut self, facts: &Facts<'_>) -> RuleOutcome {
        outcome(&self.rule, self.severity, self.probe.answer(facts))
    }
}

/// An answer under its rule, its texts cut; one without an observed value is a no.
pub(crate) fn outcome(rule: &str, severity: Severity, answer: Answer) -> RuleOutcome {
    let silent = answer.found.trim().is_empty();
    RuleOutcome {
        rule: short(rule),
        ok: answer.ok && !silent,
        severity,
        expected: short(&answer.expected),
        found: if silent {
            "nothing: the rule did not say what it found".to_owned()
        } else {
            short(&answer.found)
        },
    }
}

/// A text without control characters, cut to what is kept.
pub(crate) fn short(text: &str) -> String {
    let clean: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TEXT + 1)
        .collect();
    if clean.chars().count() <= MAX_TEXT {
        return clean;
    }
    let head: String = clean.chars().take(MAX_TEXT - 3).collect();
    format!("{head}...")
}

/// The declared rules that are answered by looking at rows.
pub(crate) fn judges(checks: &Checks, work_dir: &std::path::Path) -> Vec<Judge> {
    checks
        .validate
        .iter()
        .filter_map(|rule| {
            Some(Judge {
                rule: rule.check.to_string(),
                severity: rule.severity,
                judges_rows: rule.check.judges_rows() && rule.severity == Severity::Fail,
                probe: probe_of(&rule.check, work_dir)?,
            })
        })
        .collect()
}

fn probe_of(check: &Check, work_dir: &std::path::Path) -> Option<Box<dyn Probe>> {
    Some(match check {
        Check::RowCount(count) => Box::new(probes::RowCounted::new(count.clone())),
        Check::NotNull(columns) => Box::new(probes::NotNull::new(columns)),
        Check::Unique(columns) => Box::new(probes::Unique::new(columns, work_dir)),
        Check::Accepted(map) => Box::new(probes::Accepted::new(map)),
        Check::Range(map) => Box::new(probes::InRange::new(map)),
        Check::Sum(map) => Box::new(probes::Figures::sums(map)),
        Check::Min(map) => Box::new(probes::Figures::least(map)),
        Check::Max(map) => Box::new(probes::Figures::greatest(map)),
        Check::Checksum(map) => Box::new(probes::Figures::checksums(map)),
        Check::RowSum(expected) => Box::new(probes::RowSummed::new(expected.clone())),
        Check::Schema(fields) => Box::new(probes::Fits::new(fields)),
        Check::Freshness(fresh) => Box::new(probes::Fresh::new(fresh)),
        Check::Sql(_) | Check::Command(_) => return None,
    })
}

/// Takes the rows of a file to every probe and to the row sum.
pub(crate) struct Bench<'j> {
    pub(crate) judges: &'j mut [Judge],
    pub(crate) sum: RowSum,
    pub(crate) columns: Vec<String>,
    /// Rows that broke a rule of rows.
    pub(crate) broken: u64,
}

impl<'j> Bench<'j> {
    pub(crate) fn new(judges: &'j mut [Judge]) -> Self {
        Self {
            judges,
            sum: RowSum::default(),
            columns: Vec::new(),
            broken: 0,
        }
    }

    /// Whether a row keeps every rule of rows; every probe sees it.
    pub(crate) fn keeps(&mut self, row: &Row<'_>) -> bool {
        let mut keeps = true;
        for judge in self.judges.iter_mut() {
            keeps &= judge.probe.row(row) || !judge.judges_rows;
        }
        keeps
    }
}

impl Rows for Bench<'_> {
    fn columns(&mut self, names: &[String], _raw: &[u8]) -> Result<(), Unread> {
        self.columns = names.to_vec();
        self.sum.columns(names);
        for judge in self.judges.iter_mut() {
            judge.probe.columns(names);
        }
        Ok(())
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), Unread> {
        self.sum.add(row.values);
        self.broken += u64::from(!self.keeps(row));
        Ok(())
    }
}
