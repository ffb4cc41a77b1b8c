//! The certificate of a data set: the document that says that its chunks tile the source, that all
//! are validated, and that both sides match; or why it cannot say so.
//!
//! Judging is pure and stands here; `html` writes the same for people. Whoever reads the document may
//! have nothing else: every figure that the judgement rests on is in it.

pub mod html;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::read::certificate::{
    ChunkLine, Collected, LISTED, Origin, ReconciledFigures, RuleFigures, StationFigures,
    StationRead,
};
use crate::split::check::TilingReport;

/// The version of the document's form.
pub const FORM: u32 = 1;

/// Whether the live source was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Tiling {
    /// The source.
    pub dataset: String,
    /// In how many chunks each of its rows lies; `None` where it was not looked at.
    pub report: Option<TilingReport>,
    /// Why it was not.
    pub not_checked: Option<String>,
}

/// One data set on the way.
#[derive(Debug, Clone, Serialize)]
pub struct StationReport {
    /// Its name.
    pub dataset: String,
    /// Whether a job makes it; a source otherwise.
    pub made: bool,
    /// Connection and table or path, as declared.
    pub at: serde_json::Value,
    /// Its figures.
    #[serde(flatten)]
    pub figures: StationFigures,
    /// The rules that were checked.
    pub rules: Vec<RuleFigures>,
}

/// A chunk that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct Exception {
    /// `dataset/key`.
    pub chunk: String,
    /// What is not as it should be.
    pub what: Vec<String>,
    /// The chunk.
    #[serde(flatten)]
    pub line: ChunkLine,
}

/// The document.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    /// What this is.
    pub document: &'static str,
    /// The version of its form, [`FORM`].
    pub form: u32,
    /// The program that wrote it.
    pub program: String,
    /// Whether everything holds.
    pub certified: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What a reader should know and what does not stand against it.
    pub notes: Vec<String>,
    /// The flow.
    pub flow: String,
    /// The data set that is certified.
    pub dataset: String,
    /// Who and what stands behind it.
    #[serde(flatten)]
    pub origin: Origin,
    /// Whether equal rows were accepted where no sum is kept.
    pub accepts_rows: bool,
    /// From the sources to the data set.
    pub way: Vec<StationReport>,
    /// Whether the plans tile the sources as they are now.
    pub tiling: Vec<Tiling>,
    /// The data set against its source at extract.
    pub reconciliation: ReconciledFigures,
    /// All chunks on the way that are not as they should be.
    pub exceptions: Vec<Exception>,
    /// Every chunk of the data set; `None` where there are too many to list.
    pub chunks: Option<Vec<ChunkLine>>,
}

impl Certificate {
    /// Puts the document together and judges it.
    #[must_use]
    pub fn of(
        flow: &str,
        dataset: &str,
        collected: Collected,
        tiling: Vec<Tiling>,
        accepts_rows: bool,
    ) -> Self {
        let mut certificate = Self {
            document: "OpenDataFlow certificate",
            form: FORM,
            program: format!("coordinator {}", env!("CARGO_PKG_VERSION")),
            certified: false,
            reasons: Vec::new(),
            notes: Vec::new(),
            flow: flow.to_owned(),
            dataset: dataset.to_owned(),
            origin: collected.origin,
            accepts_rows,
            way: Vec::new(),
            tiling,
            reconciliation: collected.reconciled,
            exceptions: Vec::new(),
            chunks: collected.chunks,
        };
        for read in collected.stations {
            certificate.take(read);
        }
        certificate.judge();
        certificate
    }

    fn take(&mut self, read: StationRead) {
        let name = read.station.name;
        if read.more {
            self.notes.push(format!(
                "only the first {LISTED} chunks of {name} that are not as they should be are listed"
            ));
        }
        for line in read.exceptions {
            self.exceptions.push(Exception {
                chunk: format!("{name}/{}", line.key),
                what: line.exceptions.clone(),
                line,
            });
        }
        self.way.push(StationReport {
            dataset: name,
            made: read.station.made,
            at: serde_json::to_value(&read.station.spec.at).unwrap_or_default(),
            figures: read.figures,
            rules: read.rules,
        });
    }

    fn judge(&mut self) {
        let all_equal = self
            .way
            .last()
            .is_some_and(|target| self.reconciliation.equal == target.figures.chunks);
        let (mut reasons, mut notes) = (Vec::new(), std::mem::take(&mut self.notes));
        for station in &self.way {
            let target = station.dataset == self.dataset;
            judge_station(station, target, all_equal, &mut reasons, &mut notes);
        }
        for tiling in &self.tiling {
            judge_tiling(tiling, &mut reasons, &mut notes);
        }
        judge_reconciliation(
            &self.reconciliation,
            self.accepts_rows,
            &mut reasons,
            &mut notes,
        );
        self.certified = reasons.is_empty();
        (self.reasons, self.notes) = (reasons, notes);
    }

    /// When the figures were read.
    #[must_use]
    pub fn made_at(&self) -> DateTime<Utc> {
        self.origin.made_at
    }
}

fn judge_station(
    station: &StationReport,
    target: bool,
    all_equal: bool,
    reasons: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let (name, figures) = (&station.dataset, &station.figures);
    let Some(sealed) = figures.sealed_chunks else {
        reasons.push(format!("{name} has no sealed plan"));
        return;
    };
    if figures.sealed_digest.as_deref() != Some(figures.computed_digest.as_str())
        || sealed != figures.chunks
    {
        reasons.push(format!(
            "the chunks of {name} are not those of its sealed plan: {sealed} chunks with digest {} were sealed, {} with digest {} are kept",
            figures.sealed_digest.as_deref().unwrap_or("none"),
            figures.chunks,
            figures.computed_digest
        ));
    }
    if !station.made {
        return;
    }
    let open = figures.chunks - figures.published;
    if open > 0 {
        reasons.push(format!(
            "{open} of {} chunks of {name} are not published",
            figures.chunks
        ));
    }
    let shut = figures.published - figures.validated;
    if shut > 0 {
        reasons.push(format!(
            "at least {shut} published chunks of {name} are not validated"
        ));
    }
    if figures.stale > 0 {
        reasons.push(format!(
            "{} chunks of {name} are stale: their inputs were published again",
            figures.stale
        ));
    }
    if figures.unvalidated > 0 {
        let text = format!(
            "{} chunks of {name} were published unvalidated",
            figures.unvalidated
        );
        if target && all_equal {
            notes.push(format!(
                "{text}; every one is equal to its source at the extract"
            ));
        } else {
            reasons.push(text);
        }
    }
    if figures.forced > 0 {
        notes.push(format!(
            "{} chunks of {name} were published though a rule of severity warn had failed; they are listed",
            figures.forced
        ));
    }
    if figures.removed > 0 && target {
        reasons.push(format!(
            "the data of {} chunks of {name} was removed under its keep rule",
            figures.removed
        ));
    } else if figures.removed > 0 {
        notes.push(format!("the data of {} chunks of {name} was removed under its keep rule; what is known of it is kept", figures.removed));
    }
}

fn judge_tiling(tiling: &Tiling, reasons: &mut Vec<String>, notes: &mut Vec<String>) {
    let name = &tiling.dataset;
    match (&tiling.report, &tiling.not_checked) {
        (Some(report), _) if report.tiles() => {}
        (Some(report), _) => reasons.push(format!(
            "the plan does not tile {name} as it is now: of {} rows {} are in no chunk and {} in more than one",
            report.rows, report.uncovered, report.covered_more
        )),
        (None, why) => notes.push(format!(
            "that the plan tiles {name} rests on its seal alone; the source of today was not looked at: {}",
            why.as_deref().unwrap_or("not asked for")
        )),
    }
}

fn judge_reconciliation(
    found: &ReconciledFigures,
    accepts_rows: bool,
    reasons: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    for (n, text) in [
        (
            found.differs,
            "chunks differ from their source at the extract",
        ),
        (
            found.unknown,
            "chunks could not be compared with their source",
        ),
        (
            found.not_compared,
            "chunks were not compared with their source in their published generation",
        ),
    ] {
        if n > 0 {
            reasons.push(format!("{n} {text}"));
        }
    }
    if found.rows_equal > 0 {
        let text = format!(
            "of {} chunks rows alone were compared: no row sum of their source is kept",
            found.rows_equal
        );
        if accepts_rows {
            notes.push(text);
        } else {
            reasons.push(text);
        }
    }
    for cutoff in &found.cutoffs {
        notes.push(format!(
            "chunks were compared under the condition: {cutoff}"
        ));
    }
}
