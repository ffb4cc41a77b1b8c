//! The explanation of a pool: its limit, where it comes from, and what runs and waits under it.

use serde::Serialize;
use sqlx::PgPool;

use crate::cli::failure::Failure;
use crate::cli::output::{Page, Shown, Tone, tame};
use crate::cli::pools::{limit, remark, state, usage};
use crate::read::pools::PoolRow;
use crate::read::state::{Standing, standing};
use crate::read::status;

/// A pool, explained.
#[derive(Debug, Serialize)]
pub struct PoolExplained {
    #[serde(flatten)]
    pool: PoolRow,
    datasets: Vec<Under>,
}

/// A data set whose job draws from the pool.
#[derive(Debug, Serialize)]
struct Under {
    name: String,
    job: String,
    running: i64,
    ready: i64,
    #[serde(flatten)]
    standing: Standing,
}

/// Collects what an explanation rests on.
pub(crate) async fn explain(db: &PgPool, pool: PoolRow) -> Result<PoolExplained, Failure> {
    let fleet = status::fleet(db).await?;
    let sets = status::data_sets(db, Some(&pool.flow)).await?;
    let datasets = sets
        .iter()
        .filter(|set| set.pools.iter().any(|of| of.name == pool.name))
        .map(|set| Under {
            name: set.name.clone(),
            job: set.job.clone().unwrap_or_default(),
            running: set.running,
            ready: (set.counts.ready - set.running).max(0),
            standing: standing(set, &fleet),
        })
        .collect();
    Ok(PoolExplained { pool, datasets })
}

impl Shown for PoolExplained {
    fn human(&self, page: &mut Page) {
        let pool = &self.pool;
        let (tone, word) = state(pool);
        let word = page.paint(tone, word);
        page.line(format!(
            "pool {} is {word}: {} (flow {})",
            pool.name,
            usage(pool.running, pool.limit),
            pool.flow
        ));
        let source = if pool.operator_set {
            "set by scale"
        } else {
            "the flow file's"
        };
        page.line(format!(
            "  limit     {} ({source}; the file says {})",
            limit(pool.base_limit),
            limit(pool.file_limit)
        ));
        let remark = remark(pool, page);
        if !remark.is_empty() {
            page.line(format!("  changed   {}", tame(&remark)));
        }
        if pool.paused {
            page.line(page.paint(
                Tone::Dim,
                &format!("  hint      coordinator resume {}", pool.name),
            ));
        }
        for under in &self.datasets {
            let why = under
                .standing
                .reason
                .as_ref()
                .map(|reason| format!(": {}", tame(&reason.text)))
                .unwrap_or_default();
            page.line(format!(
                "  job       {} makes {}: {} running, {} ready, {}{why}",
                under.job,
                under.name,
                under.running,
                under.ready,
                under.standing.state.word()
            ));
        }
    }
}
