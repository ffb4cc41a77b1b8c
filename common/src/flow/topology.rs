//! The order of a flow's jobs: who feeds whom, how deep a job lies, and what runs in a circle.
//!
//! Pure graph work over names. Positions in the file are the business of the checker.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Flow;

/// Who makes and who reads each data set, and the jobs in an order in which they can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    order: Vec<String>,
    depths: BTreeMap<String, u32>,
    makers: BTreeMap<String, String>,
    readers: BTreeMap<String, Vec<String>>,
}

/// Jobs that wait for each other: the first is named again at the end when it is printed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the jobs wait for each other: {}", self.arrows())]
pub struct Cycle {
    /// Each job reads what the one before it makes; the first reads what the last makes.
    pub jobs: Vec<String>,
}

impl Cycle {
    /// `a -> b -> a`.
    #[must_use]
    pub fn arrows(&self) -> String {
        let first = self.jobs.first().cloned();
        let names: Vec<String> = self.jobs.iter().cloned().chain(first).collect();
        names.join(" -> ")
    }
}

impl Topology {
    /// Orders the jobs of a flow.
    ///
    /// # Errors
    /// One of the circles, where there is any.
    pub fn of(flow: &Flow) -> Result<Self, Cycle> {
        let mut makers = BTreeMap::new();
        let mut readers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, job) in &flow.jobs {
            makers.insert(job.output.clone(), name.clone());
            let inputs: BTreeSet<&String> = job.inputs.iter().map(|input| &input.dataset).collect();
            for input in inputs {
                readers.entry(input.clone()).or_default().push(name.clone());
            }
        }
        let feeders: BTreeMap<&str, Vec<&str>> = flow
            .jobs
            .iter()
            .map(|(name, job)| {
                let feeders = job
                    .inputs
                    .iter()
                    .filter_map(|input| makers.get(&input.dataset));
                (name.as_str(), feeders.map(String::as_str).collect())
            })
            .collect();
        let (order, depths) = sort(&feeders)?;
        Ok(Self {
            order,
            depths,
            makers,
            readers,
        })
    }

    /// The jobs, each after all that feed it; by name where either order would do.
    #[must_use]
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// How many jobs lie between a job and the sources on the longest way: 0 reads only sources.
    #[must_use]
    pub fn depth(&self, job: &str) -> Option<u32> {
        self.depths.get(job).copied()
    }

    /// The job that makes a data set; `None` for a source.
    #[must_use]
    pub fn maker(&self, dataset: &str) -> Option<&str> {
        self.makers.get(dataset).map(String::as_str)
    }

    /// The jobs that read a data set, by name.
    #[must_use]
    pub fn readers(&self, dataset: &str) -> &[String] {
        self.readers.get(dataset).map_or(&[], Vec::as_slice)
    }
}

type Sorted = (Vec<String>, BTreeMap<String, u32>);

/// Takes away, round by round, the jobs whose feeders are all gone: a round is a depth.
fn sort(feeders: &BTreeMap<&str, Vec<&str>>) -> Result<Sorted, Cycle> {
    let mut fed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    for (job, sources) in feeders {
        let sources: BTreeSet<&str> = sources.iter().copied().collect();
        missing.insert(job, sources.len());
        for source in sources {
            fed.entry(source).or_default().insert(job);
        }
    }
    let mut order = Vec::new();
    let mut depths = BTreeMap::new();
    let mut round: BTreeSet<&str> = missing
        .iter()
        .filter(|(_, left)| **left == 0)
        .map(|(job, _)| *job)
        .collect();
    let mut depth = 0;
    while !round.is_empty() {
        let mut next = BTreeSet::new();
        for job in round {
            missing.remove(job);
            order.push(job.to_owned());
            depths.insert(job.to_owned(), depth);
            for reader in fed.get(job).into_iter().flatten() {
                if let Some(left) = missing.get_mut(reader) {
                    *left -= 1;
                    if *left == 0 {
                        next.insert(*reader);
                    }
                }
            }
        }
        round = next;
        depth += 1;
    }
    match missing.keys().next() {
        None => Ok((order, depths)),
        Some(start) => Err(circle(start, feeders, &missing)),
    }
}

/// Follows feeders backwards among the jobs that are left until one comes again.
fn circle<'f>(
    start: &'f str,
    feeders: &BTreeMap<&'f str, Vec<&'f str>>,
    left: &BTreeMap<&'f str, usize>,
) -> Cycle {
    let mut walk: Vec<&str> = Vec::new();
    let mut current = start;
    loop {
        if let Some(first) = walk.iter().position(|job| *job == current) {
            let mut jobs: Vec<String> = walk[first..]
                .iter()
                .rev()
                .map(|job| (*job).to_owned())
                .collect();
            // The same circle is named the same way whatever the walk began with.
            let smallest = jobs
                .iter()
                .enumerate()
                .min_by_key(|(_, job)| (*job).clone());
            let turn = smallest.map_or(0, |(index, _)| index);
            jobs.rotate_left(turn);
            return Cycle { jobs };
        }
        walk.push(current);
        let feeder = feeders
            .get(current)
            .into_iter()
            .flatten()
            .find(|job| left.contains_key(*job));
        match feeder {
            Some(feeder) => current = feeder,
            // Every job that is left has a feeder that is left, or it would have been taken.
            None => {
                return Cycle {
                    jobs: vec![current.to_owned()],
                };
            }
        }
    }
}
