//! The sum of a data set's evidence as people read it.

use common::domain::Answer;

use crate::cli::output::{Page, Tone};
use crate::cli::words::grouped;
use crate::read::evidence::EvidenceSum;

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
