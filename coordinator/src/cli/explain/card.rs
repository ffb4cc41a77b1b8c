//! The five-question card as people read it: a row a question, then and now.

use common::domain::Answer;

use crate::cli::output::{Page, Tone, tame};
use crate::cli::words;
use crate::read::card::Card;

/// Writes the card, where the chunk has inputs.
pub(super) fn show(card: &Card, page: &mut Page) {
    if card.cards.is_empty() && card.groups.is_empty() {
        return;
    }
    page.line("");
    match (card.generation, &card.asked_by) {
        (Some(generation), Some(worker)) => {
            let at = card
                .asked_at
                .map(|at| format!(" at {}", words::stamp(page.zoned(at))))
                .unwrap_or_default();
            let kept = if card.groups.is_empty() {
                "; no evidence is kept of it"
            } else {
                ""
            };
            page.line(format!(
                "the five questions, asked for generation {generation} (attempt {}) by {}{at}{kept}",
                card.attempt.unwrap_or_default(),
                tame(worker)
            ));
        }
        _ => page.line("the five questions, not asked yet"),
    }
    for input in &card.cards {
        let generation = input
            .generation
            .map(|generation| format!(" generation {generation}"))
            .unwrap_or_default();
        page.line(format!("{}{generation}", tame(&input.name)));
        for row in &input.rows {
            let then = match row.then {
                Some(answer) => format!("{} {}", painted(page, answer), tame(&row.then_words)),
                None => page.paint(Tone::Dim, "not asked"),
            };
            page.line(format!(
                "  {:<15} {then}; now {}: {}",
                row.question.words(),
                painted(page, row.now),
                tame(&row.now_words)
            ));
        }
    }
    let shown = i64::try_from(card.cards.len()).unwrap_or(i64::MAX);
    if card.inputs > shown {
        let line = format!(
            "{shown} of {} inputs are shown, stale ones first",
            card.inputs
        );
        page.line(page.paint(Tone::Dim, &line));
    }
    if card.inputs == 0 {
        for group in &card.groups {
            let answers: Vec<String> = group
                .answers()
                .into_iter()
                .map(|(question, answer, method)| {
                    format!("{} {} ({})", question.words(), word(answer), method.words())
                })
                .collect();
            page.line(format!("{} chunks: {}", group.n, answers.join("; ")));
        }
    }
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::Waived => "waived",
        Answer::No => "NO",
    }
}

fn painted(page: &Page, answer: Answer) -> String {
    let tone = match answer {
        Answer::Yes => Tone::Good,
        Answer::Waived => Tone::Dim,
        Answer::No => Tone::Bad,
    };
    page.paint(tone, word(answer))
}
