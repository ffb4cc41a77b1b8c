//! From the file as written to the model: names resolved, defaults filled in, rules enforced.
//!
//! All problems are collected. A part that could not be read was reported already, so whatever
//! refers to it is not reported again.

mod checks;
mod connection;
mod dataset;
mod environment;
mod graph;
mod job;
mod location;
mod partition;
mod rule_parts;
mod text;
mod variables;
mod window;

use std::collections::{BTreeMap, HashMap};

use super::model::{Connection, Flow, Pool};
use super::raw::{RawConnection, RawDataSet, RawFlow, RawJob, RawPool};
use super::read::{At, Named, NamedEntry, Place, Problems};
use super::scalar::Text;

/// What every part of the checker needs to see of the file.
pub(super) struct Context<'r> {
    connections: Section<'r, RawConnection>,
    pools: Section<'r, RawPool>,
    datasets: Section<'r, RawDataSet>,
    jobs: Section<'r, RawJob>,
    /// Jobs by the data set that they say they make, in the order of the file.
    makers: BTreeMap<&'r str, Vec<&'r NamedEntry<RawJob>>>,
    /// Whether every job's inputs and output could be read, so that "no job does" may be said.
    jobs_are_known: bool,
    /// Names already built, so that a location can be held against its connection.
    built_connections: BTreeMap<String, Connection>,
}

/// The entries of a section, in the order of the file and by name.
pub(super) struct Section<'r, T> {
    entries: &'r [NamedEntry<T>],
    by_name: HashMap<&'r str, &'r NamedEntry<T>>,
}

impl<'r, T> Section<'r, T> {
    fn of(named: Option<&'r At<Named<T>>>) -> Self {
        let entries = named.map_or(&[][..], |named| &named.value.0);
        let by_name = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry))
            .collect();
        Self { entries, by_name }
    }

    fn get(&self, name: &str) -> Option<&'r NamedEntry<T>> {
        self.by_name.get(name).copied()
    }

    fn names(&self) -> impl Iterator<Item = &'r str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }
}

/// Makes the model of a file; `None` where the flow has no usable name.
pub(super) fn check(raw: &RawFlow, problems: &mut Problems<'_>) -> Option<Flow> {
    let jobs = Section::of(raw.jobs.as_ref());
    let mut makers: BTreeMap<&str, Vec<&NamedEntry<RawJob>>> = BTreeMap::new();
    let mut jobs_are_known = raw.flow.as_ref().is_some();
    for entry in jobs.entries {
        let job = entry.value.as_ref();
        match job.and_then(|job| job.output.as_ref()) {
            Some(output) => makers.entry(&output.value.0).or_default().push(entry),
            None => jobs_are_known = false,
        }
        jobs_are_known &= job.is_some_and(|job| job.input.as_ref().is_some());
    }
    let mut context = Context {
        connections: Section::of(raw.connections.as_ref()),
        pools: Section::of(raw.pools.as_ref()),
        datasets: Section::of(raw.datasets.as_ref()),
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
    let flow = Flow {
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
    graph::check(&context, &flow, problems);
    environment::check(&context, &flow, problems);
    if !problems.any_error() {
        checks::warn_unvouched(&context, &flow, problems);
    }
    raw.flow.as_ref().map(|_| flow)
}

impl<'r> Context<'r> {
    /// Every name that the author chose, with what it names.
    fn named_places(&self) -> [(&'static str, Vec<(&'r str, Place)>); 4] {
        fn list<'r, T>(section: &Section<'r, T>) -> Vec<(&'r str, Place)> {
            section
                .entries
                .iter()
                .map(|entry| (entry.name.as_str(), entry.place.at_key()))
                .collect()
        }
        [
            ("connection", list(&self.connections)),
            ("pool", list(&self.pools)),
            ("data set", list(&self.datasets)),
            ("job", list(&self.jobs)),
        ]
    }

    /// Whether a connection of that name is declared; reports it where not.
    fn connection_exists(&self, name: &At<Text>, problems: &mut Problems<'_>) -> bool {
        let known = self.connections.get(&name.value.0).is_some();
        known || unknown(name, "connection", self.connections.names(), problems)
    }

    fn dataset_exists(&self, name: &At<Text>, problems: &mut Problems<'_>) -> bool {
        let known = self.datasets.get(&name.value.0).is_some();
        known || unknown(name, "data set", self.datasets.names(), problems)
    }

    fn pool_exists(&self, name: &At<Text>, problems: &mut Problems<'_>) -> bool {
        let written = &name.value.0;
        if self.pools.get(written).is_some() || self.jobs.get(written).is_some() {
            return true;
        }
        let undeclared = self
            .jobs
            .names()
            .filter(|job| self.pools.get(job).is_none());
        unknown(name, "pool", self.pools.names().chain(undeclared), problems)
    }
}

/// Reports a name that is not declared, with the one that was probably meant.
fn unknown<'n>(
    name: &At<Text>,
    what: &str,
    known: impl Iterator<Item = &'n str>,
    problems: &mut Problems<'_>,
) -> bool {
    let written = name.value.0.as_str();
    let shown = super::tree::shorten(written);
    if problems.is_full() {
        problems.error(&name.place, format!("there is no {what} {shown:?}"));
        return false;
    }
    let known: Vec<&str> = known.collect();
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
    let mut pools: BTreeMap<String, Pool> = context
        .jobs
        .names()
        .map(|job| (job.to_owned(), Pool { limit: None }))
        .collect();
    for entry in context.pools.entries {
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
