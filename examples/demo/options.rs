//! What a person can choose, by arguments or by the variables of `make demo`.

use clap::{Parser, Subcommand};

/// Moves a table of one database into another, chunk by chunk, through real daemons and faults.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,

    /// TPC-H scale factor of the generated table; 1 is 6 million rows.
    #[arg(long, env = "SF", default_value_t = 0.05, value_parser = scale_factor)]
    pub(crate) scale_factor: f64,

    /// Number of chunks.
    #[arg(long, env = "CHUNKS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) chunks: u32,

    /// Worker processes.
    #[arg(long, env = "WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: u32,

    /// Scripts that each worker may run at once.
    #[arg(long, env = "SLOTS", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) slots: u32,

    /// Percentage of attempts that fail on purpose.
    #[arg(long, env = "FAIL_PERCENT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) fail_percent: u32,

    /// Leave the databases up at the end; `demo stop` ends them.
    #[arg(long, env = "KEEP", default_value_t = false, value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_missing_value = "true")]
    pub(crate) keep: bool,
}

/// What to do instead of running the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Verb {
    /// End the databases that `--keep` left up and remove their files.
    Stop,
}

fn scale_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.0001..=1000.0).contains(&factor) => Ok(factor),
        _ => Err("a number from 0.0001 to 1000 was expected".to_owned()),
    }
}

/// Limits of the extract over the run; the load keeps the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// At the start: a third of all slots.
    pub(crate) first: u32,
    /// Scaled down: half of that.
    pub(crate) lowered: u32,
    /// Scaled up: all slots but those of the load.
    pub(crate) raised: u32,
}

impl Options {
    /// The limits that suit the workers.
    pub(crate) fn limits(&self) -> Limits {
        let slots = self.workers * self.slots;
        let first = (slots / 3).max(1);
        Limits {
            first,
            lowered: (first / 2).max(1),
            raised: slots.saturating_sub(first).max(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_suit_the_slots() {
        let limits = |arguments: &[&str]| {
            let limits = Options::parse_from(["demo"].iter().chain(arguments)).limits();
            (limits.first, limits.lowered, limits.raised)
        };
        assert_eq!(limits(&["--workers", "2", "--slots", "6"]), (4, 2, 8));
        assert_eq!(limits(&["--workers", "1", "--slots", "1"]), (1, 1, 1));
        assert_eq!(limits(&["--workers", "3", "--slots", "5"]), (5, 2, 10));
    }
}
