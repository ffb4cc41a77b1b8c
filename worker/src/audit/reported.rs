//! What a job says about its output, in its result file.
//!
//! A claim is only ever compared with what was found; nothing is taken from it.

use std::collections::BTreeMap;
use std::path::Path;

use common::domain::OutputReport;
use common::flow::rules::{Check, Checks, Expected};
use serde::Deserialize;

use crate::attempt::{Failure, read_figures};

/// The claims of a result file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) rows: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) checksum: Option<String>,
    pub(crate) figures: Figures,
}

/// Figures that rules compare with, where a rule says `reported`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Figures {
    /// The row sum, hex.
    #[serde(default)]
    pub(crate) row_sum: Option<String>,
    /// Column to figure (`sum`, `min`, `max`, `checksum`) to value.
    #[serde(default)]
    pub(crate) columns: BTreeMap<String, BTreeMap<String, String>>,
}

impl Reported {
    /// The claims of an attempt; figures only where a rule compares with one.
    ///
    /// # Errors
    /// An `invalid` failure for figures that cannot be understood.
    pub(crate) fn of(
        claim: &OutputReport,
        result: &Path,
        checks: &Checks,
    ) -> Result<Self, Failure> {
        let wanted = checks.validate.iter().any(|rule| match &rule.check {
            Check::Sum(map) | Check::Min(map) | Check::Max(map) | Check::Checksum(map) => {
                map.values().any(|expected| *expected == Expected::Reported)
            }
            Check::RowSum(expected) => *expected == Expected::Reported,
            _ => false,
        });
        Ok(Self {
            rows: claim.rows.and_then(|rows| u64::try_from(rows).ok()),
            bytes: claim.bytes.and_then(|bytes| u64::try_from(bytes).ok()),
            checksum: claim.checksum.clone(),
            figures: if wanted {
                read_figures(result)?
            } else {
                Figures::default()
            },
        })
    }

    /// A figure of a column.
    pub(crate) fn figure(&self, column: &str, figure: &str) -> Option<&str> {
        let figures = self.figures.columns.get(column)?;
        figures.get(figure).map(String::as_str)
    }
}
