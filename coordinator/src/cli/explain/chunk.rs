//! The explanation of a chunk: what it is, where it stands and why, what happened, what came of it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::cli::chunks::tone;
use crate::cli::failure::Failure;
use crate::cli::output::{Grid, Page, Shown, Tone, cell, tame, toned};
use crate::cli::words;
use crate::read::card::{self, Card};
use crate::read::chunk::{self, ChunkFacts, Found, NeighbourFacts};
use crate::read::history::{self, AttemptRow, PublicationRow};
use crate::read::obstacle::Reason;
use crate::read::reconciliation::{self, Compared};
use crate::read::{ReadError, status, why};

/// How many attempts and publications are shown.
const SHOWN: i64 = 20;

/// A chunk, explained.
#[derive(Debug, Serialize)]
pub struct ChunkExplained {
    now: DateTime<Utc>,
    flow: String,
    name: String,
    status: String,
    why: Reason,
    #[serde(flatten)]
    facts: ChunkFacts,
    questions: Card,
    /// The newest look at it beside its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
    attempts_kept: Vec<AttemptRow>,
    publications: Vec<PublicationRow>,
}

/// Collects what an explanation rests on.
pub(crate) async fn explain(db: &PgPool, found: Found) -> Result<ChunkExplained, Failure> {
    let fleet = status::fleet(db).await?;
    let facts = chunk::facts(db, found.chunk_id).await?;
    let questions = card::card(db, found.chunk_id).await?;
    let compared = reconciliation::compared(db, found.chunk_id).await?;
    let attempts_kept = history::attempts(db, found.chunk_id, None, SHOWN).await?;
    let publications = history::publications(db, found.chunk_id, SHOWN).await?;
    let sets = status::data_sets(db, Some(&found.flow)).await?;
    let name = format!("{}/{}", found.dataset, found.key);
    let Some(set) = sets.iter().find(|set| set.data_set_id == found.data_set_id) else {
        let message = format!("no data set named {:?}", found.dataset);
        return Err(ReadError::NotFound {
            message,
            hint: None,
        }
        .into());
    };
    let why = why::why(&name, &facts, set, &fleet, publications.first());
    Ok(ChunkExplained {
        now: fleet.now,
        flow: found.flow,
        status: why::shown(&facts).to_owned(),
        name,
        why,
        facts,
        questions,
        compared,
        attempts_kept,
        publications,
    })
}

impl Shown for ChunkExplained {
    fn human(&self, page: &mut Page) {
        let facts = &self.facts;
        let status = page.paint(tone(&self.status), &self.status);
        page.line(format!(
            "{} is {status}: chunk {} of {} (flow {}, plan {})",
            tame(&self.name),
            facts.ordinal,
            facts.plan_chunks,
            self.flow,
            facts.plan_version
        ));
        page.line(format!("  why       {}", tame(&self.why.text)));
        if let Some(hint) = &self.why.hint {
            page.line(page.paint(Tone::Dim, &format!("  hint      {hint}")));
        }
        self.identity(page);
        neighbours(page, "  made from", &facts.inputs);
        neighbours(page, "  read by  ", &facts.consumers);
        if !facts.whole_consumers.is_empty() {
            page.line(format!(
                "  read by   jobs that take all of it: {}",
                facts.whole_consumers.join(", ")
            ));
        }
        for version in &facts.earlier {
            page.line(page.paint(
                Tone::Dim,
                &format!("  earlier   retired plan {version} has a chunk of that name: coordinator explain {} --plan {version}", tame(&self.name)),
            ));
        }
        if let Some(compared) = &self.compared {
            super::evidence::compared(compared, facts.generation, page);
        }
        super::card::show(&self.questions, page);
        self.attempts(page);
        publications_table(page, &self.publications);
    }
}

impl ChunkExplained {
    fn identity(&self, page: &mut Page) {
        let facts = &self.facts;
        let mut expected = Vec::new();
        expected.extend(
            facts
                .est_rows
                .map(|rows| format!("about {} rows", words::grouped(rows))),
        );
        expected.extend(
            facts
                .est_bytes
                .map(|bytes| format!("about {}", words::bytes(bytes))),
        );
        let expected = if expected.is_empty() {
            String::new()
        } else {
            format!(" ({})", expected.join(", "))
        };
        page.line(format!(
            "  covers    {}{expected}",
            tame(&why::bounds(&facts.bounds))
        ));
        if let Some(job) = &facts.job {
            let script = job
                .script
                .as_ref()
                .map(|script| format!(", script {}", tame(script)))
                .unwrap_or_default();
            page.line(format!(
                "  made by   job {} (version {}{script})",
                job.name, job.version
            ));
            page.line(format!(
                "  attempts  {} ended, {} of {} charged",
                facts.attempts, facts.charged, job.max_attempts
            ));
        }
        if facts.lost > 0 {
            page.line(format!("  lost      {} leases in a row", facts.lost));
        }
        if let Some(lease) = &facts.lease {
            let rows = lease
                .rows
                .map(|rows| format!(", {} rows so far", words::grouped(rows)))
                .unwrap_or_default();
            let bytes = lease
                .bytes
                .map(|bytes| format!(", {} so far", words::bytes(bytes)))
                .unwrap_or_default();
            page.line(format!(
                "  running   attempt {} on {} ({}) since {}, fence {}{rows}{bytes}",
                lease.attempt,
                tame(&lease.worker),
                tame(&lease.host),
                words::stamp(page.zoned(lease.claimed_at)),
                lease.fence
            ));
        }
        if let Some(at) = facts.hold_until {
            let at = words::stamp(page.zoned(at));
            page.line(format!("  held      until {at}, then it goes on by itself"));
        }
        if let Some(at) = facts.stale_since {
            let at = words::stamp(page.zoned(at));
            page.line(format!("  stale     since {at}"));
        }
        page.line(format!(
            "  changed   {}",
            words::stamp(page.zoned(facts.changed_at))
        ));
    }

    fn attempts(&self, page: &mut Page) {
        if self.attempts_kept.is_empty() {
            if self.facts.attempts > 0 {
                page.line("");
                page.line("no attempt is kept: its history is pruned");
            }
            return;
        }
        attempts_table(page, &self.attempts_kept);
        let kept = i32::try_from(self.attempts_kept.len()).unwrap_or(i32::MAX);
        if self.facts.attempts > kept {
            page.line(page.paint(
                Tone::Dim,
                &format!("the last {kept} of {} attempts", self.facts.attempts),
            ));
        }
    }
}

/// Attempts, newest first.
pub(super) fn attempts_table(page: &mut Page, attempts: &[AttemptRow]) {
    if attempts.is_empty() {
        return;
    }
    page.line("");
    let header: &[&'static str] = if page.wide {
        &[
            ">attempt", "outcome", "class", "charged", "worker", "host", "ended", ">took", ">exit",
            ">fence", "script", "error",
        ]
    } else {
        &[
            ">attempt", "outcome", "class", "charged", "worker", "ended", ">took", ">exit", "error",
        ]
    };
    let mut grid = Grid::new(header);
    for attempt in attempts {
        let tone = if attempt.outcome == "validated" {
            Tone::Good
        } else {
            Tone::Warn
        };
        let took = attempt
            .duration_ms
            .unwrap_or_else(|| (attempt.ended_at - attempt.claimed_at).num_milliseconds());
        let exit = match (attempt.exit_code, attempt.signal) {
            (Some(code), _) => code.to_string(),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => String::new(),
        };
        let mut cells = vec![
            cell(attempt.attempt.to_string()),
            toned(tone, &attempt.outcome),
            cell(attempt.class.as_deref().unwrap_or("")),
            cell(if attempt.charged { "yes" } else { "no" }),
            cell(&attempt.worker),
        ];
        if page.wide {
            cells.push(cell(&attempt.host));
        }
        cells.push(cell(words::stamp(page.zoned(attempt.ended_at))));
        cells.push(cell(words::millis(took)));
        cells.push(cell(exit));
        if page.wide {
            cells.push(cell(attempt.fence.to_string()));
            cells.push(cell(
                attempt
                    .script_sha256
                    .as_deref()
                    .map_or("", |sha| sha.get(..12).unwrap_or(sha)),
            ));
        }
        cells.push(cell(attempt.error.as_deref().unwrap_or("")));
        grid.row(cells);
    }
    page.table(grid);
}

/// What was published, newest first.
pub(super) fn publications_table(page: &mut Page, publications: &[PublicationRow]) {
    if publications.is_empty() {
        return;
    }
    page.line("");
    let mut grid = Grid::new(&[
        ">generation",
        "published",
        ">attempt",
        "worker",
        ">rows",
        ">bytes",
        "made from",
        "checksum",
        "location",
    ]);
    for one in publications {
        let inputs: Vec<String> = one
            .inputs
            .iter()
            .map(|input| {
                let stale = if input.now == input.generation {
                    String::new()
                } else {
                    format!(" (now {})", input.now)
                };
                format!("{} generation {}{stale}", input.name, input.generation)
            })
            .collect();
        let checksum = one.checksum.as_deref().unwrap_or("");
        let checksum = if page.wide {
            checksum.to_owned()
        } else {
            checksum.chars().take(19).collect()
        };
        let mut location = one.location.clone().unwrap_or_default();
        if let Some(removed) = one.removed_at {
            location = format!(
                "{location} (data removed {})",
                words::stamp(page.zoned(removed))
            );
        }
        grid.row(vec![
            cell(one.generation.to_string()),
            cell(words::stamp(page.zoned(one.published_at))),
            cell(one.attempt.to_string()),
            cell(&one.worker),
            cell(one.rows.map_or(String::new(), words::grouped)),
            cell(one.bytes.map_or(String::new(), words::bytes)),
            cell(inputs.join(", ")),
            cell(checksum),
            cell(location),
        ]);
    }
    page.table(grid);
}

fn neighbours(page: &mut Page, what: &str, chunks: &[NeighbourFacts]) {
    for chunk in chunks {
        let status = page.paint(tone(&chunk.status), &chunk.status);
        let generation = match chunk.generation {
            0 => String::new(),
            n => format!(", generation {n}"),
        };
        let reason = chunk
            .reason
            .as_ref()
            .map(|reason| format!(": {}", tame(reason)))
            .unwrap_or_default();
        page.line(format!(
            "{what} {} ({status}{generation}){reason}",
            tame(&chunk.name)
        ));
    }
}
