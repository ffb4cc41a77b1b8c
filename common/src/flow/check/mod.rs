//! From the file as written to the model: names resolved, defaults filled in, rules enforced.
//!
//! All problems are collected. A part that could not be read was reported already, so whatever
//! refers to it is not reported again.

mod connection;
mod dataset;
mod graph;
mod job;
mod location;
mod partition;
mod text;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Connection, Flow, Pool};
use super::raw::{RawConnection, RawDataSet, RawFlow, RawJob, RawPool};
use super::read::{At, Named, NamedEntry, Place, Problems};
use super::scalar::Text;

/// What every part of the checker needs to see of the file.
pub(super) struct Context<'r> {
    connections: &'r [NamedEntry<RawConnection>],
    pools: &'r [NamedEntry<RawPool>],
    datasets: &'r [NamedEntry<RawDataSet>],
    jobs: &'r [NamedEntry<RawJob>],
    /// Jobs by the data set that they say they make, in the order of the file.
    makers: BTreeMap<&'r str, Vec<&'r NamedEntry<RawJob>>>,
    /// Whether every job's inputs and output could be read, so that "no job does" may be said.
    jobs_are_known: bool,
    /// Names already built, so that a location can be held against its connection.
    built_connections: BTreeMap<String, Connection>,
}

fn entries<T>(named: Option<&At<Named<T>>>) -> &[NamedEntry<T>] {
    named.map_or(&[], |named| &named.value.0)
}

fn names<T>(entries: &[NamedEntry<T>]) -> impl Iterator<Item = &str> {
    entries.iter().map(|entry| entry.name.as_str())
}

/// Makes the model of a file; `None` where the flow has no usable name.
pub(super) fn check(raw: &RawFlow, problems: &mut Problems<'_>) -> Option<Flow> {
    let jobs = entries(raw.jobs.as_ref());
    let mut makers: BTreeMap<&str, Vec<&NamedEntry<RawJob>>> = BTreeMap::new();
    let mut jobs_are_known = raw.flow.as_ref().is_some();
    for entry in jobs {
        let job = entry.value.as_ref();
        match job.and_then(|job| job.output.as_ref()) {
            Some(output) => makers.entry(&output.value.0).or_default().push(entry),
            None => jobs_are_known = false,
        }
        jobs_are_known &= job.is_some_and(|job| job.input.as_ref().is_some());
    }
    let mut context = Context {
        connections: entries(raw.connections.as_ref()),
        pools: entries(raw.pools.as_ref()),
        datasets: entries(raw.datasets.as_ref()),
        jobs,
        makers,
        jobs_are_known,
        built_connections: BTreeMap::new(),
    };
    let environment = raw.environment.as_ref().map(|environment| {
        text::label(environment, "an environment", problems);
        environment.value.0.clone()
    });
    for (what, list) in context.named_places() {
        for (name, place) in list {
            text::name(name, &place, what, problems);
        }
    }
    context.built_connections = connection::build_all(&context, environment.as_deref(), problems);
    variables::no_collision(&context, problems);
    let mut flow = Flow {
        name: raw
            .flow
            .as_ref()
            .map(|name| text::flow_name(name, problems))
            .unwrap_or_default(),
        environment,
        connections: context.built_connections.clone(),
        pools: pools(&context),
        datasets: dataset::build_all(&context, problems),
        jobs: job::build_all(&context, problems),
    };
    graph::check(&context, &mut flow, problems);
    raw.flow.as_ref().map(|_| flow)
}

impl<'r> Context<'r> {
    /// Every name that the author chose, with what it names.
    fn named_places(&self) -> [(&'static str, Vec<(&'r str, Place)>); 4] {
        fn list<T>(entries: &[NamedEntry<T>]) -> Vec<(&str, Place)> {
            entries
                .iter()
                .map(|entry| (entry.name.as_str(), entry.place.at_key()))
                .collect()
        }
        [
            ("connection", list(self.connections)),
            ("pool", list(self.pools)),
            ("data set", list(self.datasets)),
            ("job", list(self.jobs)),
        ]
    }

    /// Whether a connection of that name is declared; reports it where not.
    fn connection_exists(&self, name: &At<Text>, problems: &mut Problems<'_>) -> bool {
        reference(name, "connection", names(self.connections), problems)
    }

    fn dataset_exists(&self, name: &At<Text>, problems: &mut Problems<'_>) -> bool {
        reference(name, "data set", names(self.datasets), problems)
    }

    fn pool_exists(&self, name: &At<Text>, problems: &mut Problems<'_>) -> bool {
        let known: BTreeSet<&str> = names(self.pools).chain(names(self.jobs)).collect();
        reference(name, "pool", known.into_iter(), problems)
    }
}

/// Whether a name is declared; where not, says which one was probably meant.
fn reference<'n>(
    name: &At<Text>,
    what: &str,
    known: impl Iterator<Item = &'n str>,
    problems: &mut Problems<'_>,
) -> bool {
    let written = name.value.0.as_str();
    let known: Vec<&str> = known.collect();
    if known.contains(&written) {
        return true;
    }
    let shown = super::tree::shorten(written);
    let problem = problems.error(&name.place, format!("there is no {what} {shown:?}"));
    if known.is_empty() {
        problem.expected(format!("a {what} of this file, which declares none"));
    } else if known.len() <= 8 {
        problem.expected(format!("one of {}", super::read::list_of(&known)));
    } else {
        problem.expected(format!("one of the {} {what}s of this file", known.len()));
    }
    problem.did_you_mean(written, known);
    false
}

/// The declared pools, and an unlimited one for every job that has none of its name.
fn pools(context: &Context<'_>) -> BTreeMap<String, Pool> {
    let mut pools: BTreeMap<String, Pool> = names(context.jobs)
        .map(|job| (job.to_owned(), Pool { limit: None }))
        .collect();
    for entry in context.pools {
        let limit = entry.value.as_ref().and_then(|pool| pool.limit.as_ref());
        pools.insert(
            entry.name.clone(),
            Pool {
                limit: limit.and_then(|limit| limit.value.0),
            },
        );
    }
    pools
}
