//! Rules between the parts: who makes what, circles, chunks that must pair up, places used twice.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, text};
use crate::flow::model::{ConnectionKind, Flow, Input, Job, Mapping, Partition};
use crate::flow::raw::{RawDataSet, RawJob};
use crate::flow::read::{At, NamedEntry, Place, Problems};
use crate::flow::scalar::{KeepFor, Text};
use crate::flow::topology::Topology;
use crate::flow::tree::Mark;

/// Data set to the name and the partition of the one that it was cut by.
type Origins<'f> = BTreeMap<&'f str, (&'f str, &'f Partition)>;

/// More circles than this are not looked for: each is found by walking the whole graph again.
const MAX_CYCLES: usize = 20;

/// Checks everything that needs more than one part of the file.
pub(super) fn check(context: &Context<'_>, flow: &Flow, problems: &mut Problems<'_>) {
    one_maker(context, problems);
    match Topology::of(flow) {
        Ok(topology) => {
            let origins = origins(flow, &topology);
            for (name, job) in &flow.jobs {
                if let Some(raw) = context.jobs.get(name) {
                    chunks_pair_up(raw, job, &origins, problems);
                    windows_are_windows(raw, job, &origins, problems);
                }
            }
        }
        Err(_) => report_cycles(context, flow.clone(), problems),
    }
    shared_places(context, problems);
    if context.jobs_are_known {
        buffers_drain(context, flow, problems);
    }
    // What is misspelt elsewhere is no news here.
    if let (false, Ok(topology)) = (problems.any_error(), Topology::of(flow)) {
        unused(context, flow, &topology, problems);
    }
}

/// A data set has one maker, or two attempts of different jobs would publish the same chunk.
fn one_maker(context: &Context<'_>, problems: &mut Problems<'_>) {
    for (dataset, makers) in &context.makers {
        let [first, others @ ..] = makers.as_slice() else {
            continue;
        };
        for other in others {
            let Some(output) = output_of(other) else {
                continue;
            };
            let job = &first.name;
            let note = output_of(first).map(|first| problems.source.position(first.place.value));
            let problem = problems
                .error(
                    &output.place,
                    format!("job {job:?} makes the data set {dataset:?} already"),
                )
                .expected("one job for each data set");
            if let Some(position) = note {
                problem.note(format!("it is the output of {job:?} at {position}"));
            }
            problem.hint("give each job a data set of its own");
        }
    }
}

fn output_of(job: &NamedEntry<RawJob>) -> Option<&At<Text>> {
    job.value.as_ref()?.output.as_ref()
}

/// Reports a circle, opens it and looks for the next.
fn report_cycles(context: &Context<'_>, mut flow: Flow, problems: &mut Problems<'_>) {
    for _ in 0..MAX_CYCLES {
        let Err(cycle) = Topology::of(&flow) else {
            return;
        };
        let (Some(first), Some(last)) = (cycle.jobs.first(), cycle.jobs.last()) else {
            return;
        };
        let Some(made) = flow.jobs.get(last).map(|job| job.output.clone()) else {
            return;
        };
        if let Some(raw) = context.jobs.get(first) {
            let arrows = cycle.arrows();
            problems
                .error(
                    &input_place(raw, Some(&made)),
                    format!("the jobs wait for each other: {arrows}"),
                )
                .expected("jobs that feed each other in one direction")
                .hint(format!(
                    "the circle opens where one of them stops reading, here {made:?}"
                ));
        }
        if let Some(job) = flow.jobs.get_mut(first) {
            job.inputs.retain(|input| input.dataset != made);
        }
    }
}

/// Where a job names a data set as its input; the input as a whole where it does not.
fn input_place(job: &NamedEntry<RawJob>, dataset: Option<&str>) -> Place {
    let Some(inputs) = job.value.as_ref().and_then(|job| job.input.as_ref()) else {
        return job.place.at_key();
    };
    let named = inputs
        .value
        .0
        .iter()
        .filter_map(|input| input.value.dataset.as_ref());
    let found = named
        .into_iter()
        .find(|name| Some(name.value.0.as_str()) == dataset);
    found.map_or_else(|| inputs.place.clone(), |name| name.place.clone())
}

/// Inputs of the same key must have the same keys, or chunks wait for partners for ever.
fn chunks_pair_up(
    raw: &NamedEntry<RawJob>,
    job: &Job,
    origins: &Origins<'_>,
    problems: &mut Problems<'_>,
) {
    let mut same = job
        .inputs
        .iter()
        .filter(|input| input.mapping == Mapping::SameKey);
    let Some(first) = same.next() else { return };
    let Some((first_origin, first_partition)) = origins.get(first.dataset.as_str()) else {
        return;
    };
    for input in same {
        let Some((origin, partition)) = origins.get(input.dataset.as_str()) else {
            continue;
        };
        if origin == first_origin {
            continue;
        }
        let place = input_place(raw, Some(&input.dataset));
        let (left, right) = (&first.dataset, &input.dataset);
        match pairing(first_partition, partition) {
            Pairing::Certain => {}
            Pairing::ByName => {
                problems
                    .warning(
                        &place,
                        format!("chunks of {left:?} and {right:?} are paired by name"),
                    )
                    .hint(
                        "make sure that both name their chunks alike, or read one with chunks: all",
                    );
            }
            Pairing::Wrong => {
                problems
                    .error(
                        &place,
                        format!("the chunks of {left:?} and {right:?} do not pair up"),
                    )
                    .note(format!(
                        "{left:?} has the chunks of {first_origin:?}, {right:?} those of {origin:?}"
                    ))
                    .expected("inputs that are cut alike")
                    .hint(format!(
                        "read all of one: {{ dataset: {right}, chunks: all }}"
                    ));
            }
        }
    }
}

/// Chunks that are found by their time must have one.
fn windows_are_windows(
    raw: &NamedEntry<RawJob>,
    job: &Job,
    origins: &Origins<'_>,
    problems: &mut Problems<'_>,
) {
    let timed = |mapping: &Mapping| matches!(mapping, Mapping::Windows | Mapping::Previous { .. });
    let Some(by) = job.inputs.iter().find(|input| timed(&input.mapping)) else {
        return;
    };
    let output = std::iter::once((&job.output, &by.dataset));
    let inputs = job.inputs.iter().filter(|input| timed(&input.mapping));
    let inputs = inputs.map(|input| (&input.dataset, &input.dataset));
    for (set, at) in inputs.chain(output) {
        let Some((origin, partition)) = origins.get(set.as_str()) else {
            continue;
        };
        if matches!(partition, Partition::Windows { .. }) {
            continue;
        }
        problems
            .error(
                &input_place(raw, Some(at)),
                format!("the chunks of {set:?} are no windows, so none can be found by its time"),
            )
            .note(format!("{set:?} has the chunks of {origin:?}"))
            .expected("data sets that are cut by windows on both sides")
            .hint(
                "cut it by { every: .. }, or name chunks by an expression: { match: .., to: .. }",
            );
    }
}

enum Pairing {
    Certain,
    ByName,
    Wrong,
}

fn pairing(left: &Partition, right: &Partition) -> Pairing {
    match (left, right) {
        (Partition::Single, Partition::Single) => Pairing::Certain,
        (Partition::List { values: left }, Partition::List { values: right }) => {
            let (left, right): (BTreeSet<_>, BTreeSet<_>) =
                (left.iter().collect(), right.iter().collect());
            if left == right {
                Pairing::Certain
            } else {
                Pairing::Wrong
            }
        }
        (
            Partition::Windows { calendar: left, .. },
            Partition::Windows {
                calendar: right, ..
            },
        ) => {
            if left == right {
                Pairing::Certain
            } else {
                Pairing::Wrong
            }
        }
        // Ranges of two tables have the same names and different bounds.
        (Partition::Key { .. } | Partition::Single, _)
        | (_, Partition::Key { .. } | Partition::Single) => Pairing::Wrong,
        _ => Pairing::ByName,
    }
}

/// For each data set the one whose partition its chunks come from.
fn origins<'f>(flow: &'f Flow, topology: &'f Topology) -> Origins<'f> {
    let declared = flow.datasets.iter();
    let mut origins: Origins<'f> = declared
        .filter_map(|(name, dataset)| {
            let partition = dataset.partition.as_ref()?;
            Some((name.as_str(), (name.as_str(), partition)))
        })
        .collect();
    for name in topology.order() {
        let Some(job) = flow.jobs.get(name) else {
            continue;
        };
        let same = job
            .inputs
            .iter()
            .find(|input| input.mapping == Mapping::SameKey);
        let before = |input: &&Input| matches!(input.mapping, Mapping::Previous { .. });
        let named = |input: &Input| matches!(input.mapping, Mapping::To(_));
        let same = same.or_else(|| {
            let previous = job.inputs.iter().find(before);
            previous.filter(|_| !job.inputs.iter().any(named))
        });
        let origin = same.and_then(|input| origins.get(input.dataset.as_str()).copied());
        if let Some(origin) = origin {
            origins.entry(job.output.as_str()).or_insert(origin);
        }
    }
    origins
}

/// A buffer that never drains stops its job for ever.
fn buffers_drain(context: &Context<'_>, flow: &Flow, problems: &mut Problems<'_>) {
    let mut readers: BTreeMap<&str, Vec<(&str, &Mapping)>> = BTreeMap::new();
    for (name, job) in &flow.jobs {
        for input in &job.inputs {
            readers
                .entry(&input.dataset)
                .or_default()
                .push((name, &input.mapping));
        }
    }
    for entry in context.datasets.entries {
        let buffer = entry.value.as_ref().and_then(|raw| raw.buffer.as_ref());
        let made = context.makers.contains_key(entry.name.as_str());
        let Some(buffer) = buffer.filter(|_| made) else {
            continue;
        };
        let place = buffer.place.at_key();
        let readers = readers
            .get(entry.name.as_str())
            .map_or(&[][..], Vec::as_slice);
        if readers.is_empty() {
            problems
                .error(
                    &place,
                    format!("no job reads {:?}, so its buffer never drains", entry.name),
                )
                .hint("remove the buffer: a full one would stop the job for ever");
        }
        // Only one to one is a published chunk consumed whatever happens to the others.
        let waits = readers
            .iter()
            .find(|(_, mapping)| **mapping != Mapping::SameKey);
        if let Some((job, mapping)) = waits {
            let how_many = if **mapping == Mapping::All {
                "all"
            } else {
                "several"
            };
            problems
                .error(
                    &place,
                    format!(
                        "a buffer would hold back chunks while job {job:?} waits for {how_many} of them"
                    ),
                )
                .hint("remove the buffer: the two would wait for each other for ever");
        }
    }
}

/// Warns of parts that nothing uses: usually a misspelt name elsewhere.
fn unused(context: &Context<'_>, flow: &Flow, topology: &Topology, problems: &mut Problems<'_>) {
    unused_datasets(context, topology, problems);
    let used: BTreeSet<&str> = flow
        .jobs
        .iter()
        .flat_map(|(name, job)| job.pools.iter().chain([name]))
        .map(String::as_str)
        .collect();
    for entry in context.pools.entries {
        if !used.contains(entry.name.as_str()) {
            problems
                .warning(
                    &entry.place.at_key(),
                    format!("no job draws from the pool {:?}", entry.name),
                )
                .did_you_mean(&entry.name, used.iter().copied());
        }
    }
    let by_datasets = flow.datasets.values().map(|dataset| &dataset.at.connection);
    let by_jobs = flow.jobs.values().flat_map(|job| &job.connections);
    let by_rules = flow
        .datasets
        .values()
        .flat_map(|set| set.checks.connections());
    let used: BTreeSet<&str> = by_datasets
        .chain(by_jobs)
        .map(String::as_str)
        .chain(by_rules)
        .collect();
    for entry in context.connections.entries {
        if !used.contains(entry.name.as_str()) {
            problems.warning(
                &entry.place.at_key(),
                format!("nothing uses the connection {:?}", entry.name),
            );
        }
    }
    if context.jobs.entries.is_empty() && context.datasets.entries.is_empty() {
        let file = Place {
            value: Mark::default(),
            key: Mark::default(),
            path: "".into(),
        };
        problems.warning(
            &file,
            "the flow declares no data set and no job, so there is nothing to do",
        );
    }
}

fn unused_datasets(context: &Context<'_>, topology: &Topology, problems: &mut Problems<'_>) {
    for entry in context.datasets.entries {
        if !topology.readers(&entry.name).is_empty() {
            continue;
        }
        if topology.maker(&entry.name).is_none() {
            problems.warning(
                &entry.place.at_key(),
                format!("no job uses the data set {:?}", entry.name),
            );
        }
        let keep = entry.value.as_ref().and_then(|raw| raw.keep.as_ref());
        if let Some(keep) = keep.filter(|keep| keep.value == KeepFor::UntilConsumed) {
            problems
                .warning(
                    &keep.place,
                    format!(
                        "no job reads {:?}, so it would be removed as soon as it is made",
                        entry.name
                    ),
                )
                .hint("write keep: forever, or a duration");
        }
    }
}

/// Two data sets at one place overwrite each other.
fn shared_places(context: &Context<'_>, problems: &mut Problems<'_>) {
    let mut taken: BTreeMap<(String, String), &NamedEntry<RawDataSet>> = BTreeMap::new();
    for entry in context.datasets.entries {
        let Some(key) = place_key(context, entry) else {
            continue;
        };
        let made = |name: &str| context.makers.contains_key(name);
        let Some(first) = taken.get(&key) else {
            taken.insert(key, entry);
            continue;
        };
        let place = entry
            .value
            .as_ref()
            .and_then(|raw| raw.at.as_ref())
            .map(|at| &at.place);
        let place = place.map_or_else(|| entry.place.at_key(), Place::at_key);
        let note = format!(
            "{:?} stands at {}",
            first.name,
            problems.source.position(first.place.key)
        );
        let message = format!("{:?} is at the same place as {:?}", entry.name, first.name);
        match (made(&entry.name), made(&first.name)) {
            (true, true) => {
                problems
                    .error(&place, message)
                    .note(note)
                    .expected("a table or path of its own for each data set that a job makes");
            }
            (false, false) => {}
            _ => {
                problems
                    .warning(&place, message)
                    .note(note)
                    .hint("a job writes there while another may read it as a source");
            }
        }
    }
}

/// What two data sets at one place have in common.
fn place_key(context: &Context<'_>, entry: &NamedEntry<RawDataSet>) -> Option<(String, String)> {
    let at = &entry.value.as_ref()?.at.as_ref()?.value;
    let connection = context
        .built_connections
        .get(&at.connection.as_ref()?.value.0)?;
    // Two names for one URL or root are one place.
    let endpoint = match &connection.kind {
        ConnectionKind::Postgres { url } => url.clone(),
        ConnectionKind::Files { root, .. } => root.trim_end_matches('/').to_owned(),
        ConnectionKind::Other { .. } => at.connection.as_ref()?.value.0.clone(),
    };
    match (at.table.as_ref(), at.path.as_ref()) {
        (Some(table), _) => Some((endpoint, text::folded_table(&table.value.0))),
        (None, Some(path)) => Some((endpoint, path.value.0.clone())),
        (None, None) => None,
    }
}
