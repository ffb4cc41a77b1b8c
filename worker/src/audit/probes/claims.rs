//! Rules about the output as a whole: what the job reports, how many rows, which row sum.

use common::flow::rules::{Expected, RowCount};

use crate::audit::decimal::Decimal;
use crate::audit::probe::{Answer, Facts, InputRows, Probe};
use crate::audit::row::Row;

/// Always on: the rows that the job reports are those in the file.
#[derive(Default)]
pub(crate) struct RowsReported {
    looked: u64,
}

impl Probe for RowsReported {
    fn row(&mut self, _row: &Row<'_>) -> bool {
        self.looked += 1;
        true
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        let found = self.looked + facts.rejected;
        let Some(reported) = facts.reported.rows else {
            return Answer::new(true, format!("{found} rows, none reported"));
        };
        let hint = if found.checked_add(1) == Some(reported) {
            " (hint: the first line was taken for the header; csv: {header: false} where it is data)"
        } else {
            ""
        };
        Answer::new(found == reported, format!("{found} rows{hint}"))
            .expecting(format!("{reported} rows as reported"))
    }
}

/// Always on: the size that the job reports is that of the file.
pub(crate) struct BytesReported;

impl Probe for BytesReported {
    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        let found = facts.staged.count;
        match facts.reported.bytes {
            None => Answer::new(true, format!("{found} bytes, none reported")),
            Some(reported) => Answer::new(reported == found, format!("{found} bytes"))
                .expecting(format!("{reported} bytes as reported")),
        }
    }
}

/// Always on: the SHA-256 that the job reports is that of the file; other sums are not ours to judge.
pub(crate) struct ChecksumReported;

impl Probe for ChecksumReported {
    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        let found = format!("sha256:{}", facts.staged.sha256);
        let Some(reported) = &facts.reported.checksum else {
            return Answer::new(true, format!("{found}, none reported"));
        };
        match crate::attempt::sha256_of(reported) {
            Some(hex) => Answer::new(hex.eq_ignore_ascii_case(&facts.staged.sha256), found)
                .expecting(format!("{reported} as reported")),
            None => Answer::new(
                true,
                format!("{found}; the reported {reported} is of another kind"),
            ),
        }
    }
}

/// `row_count`: rows that stay and rows that were rejected together.
pub(crate) struct RowCounted {
    count: RowCount,
    looked: u64,
}

impl RowCounted {
    pub(crate) fn new(count: RowCount) -> Self {
        Self { count, looked: 0 }
    }
}

impl Probe for RowCounted {
    fn row(&mut self, _row: &Row<'_>) -> bool {
        self.looked += 1;
        true
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        let found = self.looked + facts.rejected;
        row_count(&self.count, found, facts.inputs)
    }
}

/// Holds a number of rows against what is declared; also for tables.
pub(crate) fn row_count(count: &RowCount, found: u64, inputs: &[InputRows]) -> Answer {
    let shown = format!("{found} rows");
    let (dataset, ratio) = match count {
        RowCount::Exactly(rows) => {
            return Answer::new(*rows == found, shown).expecting(format!("{rows} rows"));
        }
        RowCount::Input { dataset, ratio } => (dataset, ratio),
    };
    let input = match dataset {
        Some(name) => inputs.iter().find(|input| input.dataset == *name),
        None => inputs.first(),
    };
    let Some(input) = input else {
        return Answer::new(false, format!("{shown}, and the job has no such input"));
    };
    let rows = match &input.rows {
        Ok(rows) => *rows,
        Err(why) => {
            return Answer::new(
                false,
                format!(
                    "{shown}, and nothing says how many rows {} has: {why}",
                    input.dataset
                ),
            );
        }
    };
    let of = format!("{rows} rows of {}, {}", input.dataset, input.source);
    let Some((low, high)) = ratio else {
        return Answer::new(rows == found, shown).expecting(of);
    };
    let bound = |ratio: &str| Decimal::parse(ratio.as_bytes())?.times(Decimal::whole(rows));
    let inside = bound(low).is_some_and(|low| Decimal::whole(found) >= low)
        && bound(high).is_some_and(|high| Decimal::whole(found) <= high);
    Answer::new(inside, shown).expecting(format!("{low} to {high} times {of}"))
}

/// `row_sum`.
pub(crate) struct RowSummed {
    expected: Expected,
}

impl RowSummed {
    pub(crate) fn new(expected: Expected) -> Self {
        Self { expected }
    }
}

impl Probe for RowSummed {
    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        let expected = match &self.expected {
            Expected::Equals(sum) => Some(sum.as_str()),
            Expected::Reported => facts.reported.figures.row_sum.as_deref(),
        };
        let ok = expected.is_some_and(|sum| sum.eq_ignore_ascii_case(facts.row_sum));
        let unsaid = "a row sum that the script reports, which it did not";
        Answer::new(ok, facts.row_sum).expecting(expected.unwrap_or(unsaid))
    }
}
