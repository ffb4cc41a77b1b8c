//! The sum of a data set's evidence, and what comparing a chunk came to, as people read them.

use common::domain::Answer;

use crate::cli::output::{Page, Tone, tame};
use crate::cli::words::{self, grouped};
use crate::read::evidence::EvidenceSum;
use crate::read::reconciliation::Compared;

/// Writes the newest look at a chunk; `generation` is the published one now.
pub(super) fn compared(compared: &Compared, generation: i32, page: &mut Page) {
    let (verdict, tone) = match compared.verdict.as_str() {
        "equal" => ("equal to its source at the extract", Tone::Good),
        "rows_equal" => ("as many rows as its source at the extract", Tone::Warn),
        "differs" => ("DIFFERENT from its source at the extract", Tone::Bad),
        _ => ("not to be told", Tone::Warn),
    };
    let from = compared
        .expected_from
        .as_ref()
        .map(|from| format!(" ({})", tame(from)))
        .unwrap_or_default();
    let before = if compared.generation == generation {
        String::new()
    } else {
        format!(
            ", generation {}, which is not the published one any more",
            compared.generation
        )
    };
    page.line(format!(
        "  compared  {}{from}{before}, {} by {}",
        page.paint(tone, verdict),
        words::stamp(page.zoned(compared.checked_at)),
        tame(&compared.checked_by)
    ));
    if let Some(reason) = &compared.reason {
        page.line(format!("            {}", tame(reason)));
    }
}

/// Writes the sum, where anything is published.
pub(super) fn show(sum: &EvidenceSum, page: &mut Page) {
    if sum.published == 0 {
        return;
    }
    let of = if sum.looked < sum.chunks {
        let text = format!(
            "{} chunks taken evenly from {} (-o wide looks at all)",
            grouped(sum.looked),
            grouped(sum.chunks)
        );
        page.paint(Tone::Dim, &text)
    } else {
        format!("all {} chunks", grouped(sum.chunks))
    };
    page.line(format!("  evidence  {of}"));
    let mut parts = vec![format!("{} published", grouped(sum.published))];
    for (n, what, tone) in [
        (sum.unvalidated, "unvalidated", Tone::Warn),
        (sum.forced, "though a rule had failed", Tone::Warn),
        (sum.stale, "stale", Tone::Warn),
    ] {
        if n > 0 {
            parts.push(page.paint(tone, &format!("{} {what}", grouped(n))));
        }
    }
    page.line(format!("    {}", parts.join(", ")));
    let compared: Vec<String> = [
        (sum.equal, "equal", Tone::Plain),
        (sum.rows_equal, "equal in rows", Tone::Warn),
        (sum.differs, "different", Tone::Bad),
        (sum.unknown, "unknown", Tone::Warn),
    ]
    .into_iter()
    .filter(|(n, ..)| *n > 0)
    .map(|(n, what, tone)| page.paint(tone, &format!("{} {what}", grouped(n))))
    .collect();
    if !compared.is_empty() {
        page.line(format!(
            "    compared with the source: {}",
            compared.join(", ")
        ));
    }
    for answered in &sum.answers {
        let (word, tone) = match answered.answer {
            Answer::Yes => ("yes", Tone::Good),
            Answer::Waived => ("waived", Tone::Warn),
            Answer::No => ("no", Tone::Bad),
        };
        page.line(format!(
            "    {:<15} {} {} ({})",
            answered.question.words(),
            grouped(answered.publications),
            page.paint(tone, word),
            answered.method
        ));
    }
}
