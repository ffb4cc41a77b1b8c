//! A model of the protocol in plain Rust, and random walks that compare the two after every step.
//!
//! The model shares neither code nor SQL with the store. Where the database has a choice (which
//! chunk a claim takes, how long a retry waits) the model checks that the choice was allowed and
//! follows it. A failing walk prints its seed: ODF_SEED=<n> repeats it, ODF_STEPS=<n> makes it longer.

mod state;
mod walk;

use crate::harness::TestDb;

pub(crate) use walk::walk;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

async fn walks(seeds: std::ops::Range<u64>) {
    let steps = number("ODF_STEPS", 220) as usize;
    let seeds = match std::env::var("ODF_SEED") {
        Ok(_) => number("ODF_SEED", 0)..number("ODF_SEED", 0) + 1,
        Err(_) => seeds,
    };
    for seed in seeds {
        let db = TestDb::new().await;
        if let Err(story) = walk(&db, seed, steps).await {
            panic!("ODF_SEED={seed} fails: {story}");
        }
    }
}

#[tokio::test]
async fn random_walks_agree_with_the_model() {
    walks(0..3).await;
}

#[tokio::test]
async fn more_random_walks_agree_with_the_model() {
    walks(100..103).await;
}

/// Three walks as a scenario that panics where the two disagree.
pub(crate) async fn three_walks(db: TestDb) {
    for seed in 0..3 {
        let other = TestDb::like(&db).await;
        if let Err(story) = walk(&other, seed, 150).await {
            panic!("seed {seed}: {story}");
        }
    }
}
