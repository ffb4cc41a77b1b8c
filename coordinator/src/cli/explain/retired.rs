//! The explanation of a chunk that left with an old plan: how it stood and what it published.

use serde::Serialize;
use sqlx::PgPool;

use super::chunk::{attempts_table, publications_table};
use crate::cli::failure::Failure;
use crate::cli::output::{Page, Shown, Tone, tame};
use crate::cli::words;
use crate::read::chunk::Found;
use crate::read::history::{self, AttemptRow, PublicationRow};
use crate::read::retired::{self, RetiredFacts};
use crate::read::why;

/// How many attempts and publications are shown.
const SHOWN: i64 = 20;

/// A retired chunk, explained.
#[derive(Debug, Serialize)]
pub struct RetiredExplained {
    flow: String,
    name: String,
    retired: bool,
    #[serde(flatten)]
    facts: RetiredFacts,
    attempts_kept: Vec<AttemptRow>,
    publications: Vec<PublicationRow>,
}

/// Collects what an explanation rests on.
pub(crate) async fn explain(db: &PgPool, found: Found) -> Result<RetiredExplained, Failure> {
    Ok(RetiredExplained {
        facts: retired::facts(db, found.chunk_id).await?,
        attempts_kept: history::attempts(db, found.chunk_id, None, SHOWN).await?,
        publications: history::publications(db, found.chunk_id, SHOWN).await?,
        name: format!("{}/{}", found.dataset, found.key),
        flow: found.flow,
        retired: true,
    })
}

impl Shown for RetiredExplained {
    fn human(&self, page: &mut Page) {
        let facts = &self.facts;
        page.line(format!(
            "{} is in retired plan {} (flow {}); it was {}",
            tame(&self.name),
            facts.plan_version,
            self.flow,
            page.paint(Tone::Dim, &facts.status),
        ));
        let by = facts.replanned_by.as_deref();
        let by = by.map(|by| format!(" by {}", tame(by))).unwrap_or_default();
        let reason = facts.replan_reason.as_deref();
        let reason = reason
            .map(|why| format!(": {}", tame(why)))
            .unwrap_or_default();
        let at = words::stamp(page.zoned(facts.retired_at));
        page.line(format!(
            "  why       its data set was planned again {at}{by}{reason}"
        ));
        if let Some(version) = facts.plan_in_force {
            page.line(format!("  instead   plan {version} is in force"));
        }
        page.line(format!("  covered   {}", tame(&why::bounds(&facts.bounds))));
        page.line(format!("  attempts  {} ended", facts.attempts));
        if let Some(reason) = &facts.reason {
            page.line(format!("  reason    {}", tame(reason)));
        }
        attempts_table(page, &self.attempts_kept);
        publications_table(page, &self.publications);
    }
}
