//! What changes between two versions of a flow, and what each change means for work under way.
//!
//! Compares declarations only. Whether anything was published yet, and so whether an effect will
//! be felt, is for the store to say.

mod shown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use self::shown::{
    CHECKS, buffer, inputs, keep, kind_word, limit, list, map, or_none, partition, place, retry,
    run, seconds, verify,
};
use super::model::{
    Connection, ConnectionKind, DataSet, Flow, Input, Job, Keep, Location, Mapping, Pool,
};

/// What a change means for work under way, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing that runs or was published is touched.
    None,
    /// Attempts that run end as they began; later ones follow the new declaration.
    NewAttempts,
    /// Published chunks may be removed sooner than was promised.
    RemovesSooner,
    /// The data set's chunks are no longer those of its plan: it has to be planned again.
    NewPlan,
    /// Published chunks stay behind at a place that nothing refers to any more.
    OrphansChunks,
    /// A job is gone: its waiting chunks are never made.
    RemovesJob,
    /// A data set is gone, with its plan and its history.
    RemovesDataSet,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no effect on running work",
            Self::NewAttempts => "new attempts only",
            Self::RemovesSooner => "may remove published chunks sooner",
            Self::NewPlan => "needs a new plan",
            Self::OrphansChunks => "orphans published chunks",
            Self::RemovesJob => "removes a job",
            Self::RemovesDataSet => "removes a data set",
        })
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The keys that lead there, for example `jobs.load.timeout`.
    pub path: String,
    /// How it was written, every default filled in; `None` where it is new.
    pub old: Option<String>,
    /// How it is written now; `None` where it is gone.
    pub new: Option<String>,
    /// What it means for work under way.
    pub effect: Effect,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            old,
            new,
            effect,
        } = self;
        match (old, new) {
            (Some(old), Some(new)) => write!(f, "{path}: {old} -> {new}")?,
            (None, Some(new)) => write!(f, "{path}: added, {new}")?,
            (Some(old), None) => write!(f, "{path}: removed, was {old}")?,
            (None, None) => write!(f, "{path}")?,
        }
        write!(f, " ({effect})")
    }
}

/// Every difference between two versions of one flow: connections, pools, data sets, jobs.
#[must_use]
pub fn diff(old: &Flow, new: &Flow) -> Vec<Change> {
    let versions = Versions::of(old, new);
    let mut changes = Changes(Vec::new());
    let (a, b) = (or_none(&old.environment), or_none(&new.environment));
    changes.field("environment", &a, &b, Effect::NewAttempts);
    let section = Section {
        name: "connections",
        removed: Effect::None,
        show: &kind_word,
    };
    changes.section(
        &section,
        &old.connections,
        &new.connections,
        |changes, name, a, b| {
            connection(changes, name, &versions, a, b);
        },
    );
    let section = Section {
        name: "pools",
        removed: Effect::None,
        show: &|pool: &Pool| limit(pool.limit),
    };
    let (old_pools, new_pools) = (own_pools(old, new), own_pools(new, old));
    changes.section(&section, &old_pools, &new_pools, |changes, name, a, b| {
        // A limit is read at every claim; what runs above a lowered one runs to its end.
        let path = format!("pools.{name}.limit");
        changes.field(&path, &limit(a.limit), &limit(b.limit), Effect::None);
    });
    let section = Section {
        name: "datasets",
        removed: Effect::RemovesDataSet,
        show: &|dataset: &DataSet| place(&dataset.at),
    };
    changes.section(
        &section,
        &old.datasets,
        &new.datasets,
        |changes, name, a, b| {
            dataset(changes, name, &versions, a, b);
        },
    );
    let section = Section {
        name: "jobs",
        removed: Effect::RemovesJob,
        show: &|job: &Job| format!("makes {}", job.output),
    };
    changes.section(&section, &old.jobs, &new.jobs, job);
    changes.0
}

/// The pools without those that come and go with their jobs.
fn own_pools(flow: &Flow, other: &Flow) -> BTreeMap<String, Pool> {
    let follows_job = |name: &String, pool: &Pool| {
        pool.limit.is_none() && flow.jobs.contains_key(name) && !other.jobs.contains_key(name)
    };
    let own = flow
        .pools
        .iter()
        .filter(|(name, pool)| !follows_job(name, pool));
    own.map(|(name, pool)| (name.clone(), pool.clone()))
        .collect()
}

/// Both flows, and what the old one made: only that can be left behind.
struct Versions<'f> {
    old: &'f Flow,
    new: &'f Flow,
    made: BTreeSet<&'f str>,
    made_at: BTreeSet<&'f str>,
}

impl<'f> Versions<'f> {
    fn of(old: &'f Flow, new: &'f Flow) -> Self {
        let made: BTreeSet<&str> = old.jobs.values().map(|job| job.output.as_str()).collect();
        let datasets = made.iter().filter_map(|name| old.datasets.get(*name));
        let made_at = datasets
            .map(|dataset| dataset.at.connection.as_str())
            .collect();
        Self {
            old,
            new,
            made,
            made_at,
        }
    }
}

/// What the entries of a section have in common.
struct Section<'s, T> {
    name: &'s str,
    removed: Effect,
    show: &'s dyn Fn(&T) -> String,
}

struct Changes(Vec<Change>);

impl Changes {
    fn field(&mut self, path: &str, old: &str, new: &str, effect: Effect) {
        if old != new {
            self.0.push(Change {
                path: path.to_owned(),
                old: Some(old.to_owned()),
                new: Some(new.to_owned()),
                effect,
            });
        }
    }

    /// Compares two maps; additions have no effect, removals have the given one.
    fn section<T>(
        &mut self,
        section: &Section<'_, T>,
        old: &BTreeMap<String, T>,
        new: &BTreeMap<String, T>,
        compare: impl Fn(&mut Self, &str, &T, &T),
    ) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (a, b) = (old.get(name), new.get(name));
            if let (Some(a), Some(b)) = (a, b) {
                compare(self, name, a, b);
                continue;
            }
            self.0.push(Change {
                path: format!("{}.{name}", section.name),
                old: a.map(section.show),
                new: b.map(section.show),
                effect: if b.is_none() {
                    section.removed
                } else {
                    Effect::None
                },
            });
        }
    }
}

fn connection(
    changes: &mut Changes,
    name: &str,
    versions: &Versions<'_>,
    a: &Connection,
    b: &Connection,
) {
    let path = |key: &str| format!("connections.{name}.{key}");
    // A moved end takes the published chunks of its data sets out of sight.
    let made_there = versions.made_at.contains(name);
    let moved = if made_there {
        Effect::OrphansChunks
    } else {
        Effect::NewPlan
    };
    match (&a.kind, &b.kind) {
        (ConnectionKind::Postgres { url: a }, ConnectionKind::Postgres { url: b }) => {
            let same_end = database(a).is_some() && database(a) == database(b);
            let effect = if same_end { Effect::NewAttempts } else { moved };
            changes.field(&path("url"), a, b, effect);
        }
        (
            ConnectionKind::Files {
                root: a,
                min_free_bytes: free_a,
            },
            ConnectionKind::Files {
                root: b,
                min_free_bytes: free_b,
            },
        ) => {
            changes.field(&path("root"), a, b, moved);
            let (a, b) = (format!("{free_a} B"), format!("{free_b} B"));
            changes.field(&path("min_free"), &a, &b, Effect::None);
        }
        (ConnectionKind::Other { settings: a }, ConnectionKind::Other { settings: b }) => {
            changes.field(&path("settings"), &map(a), &map(b), Effect::NewAttempts);
        }
        _ => changes.field(&path("kind"), &kind_word(a), &kind_word(b), moved),
    }
    let (old, new) = (&versions.old.environment, &versions.new.environment);
    if (&a.environment, &b.environment) != (old, new) {
        // Otherwise it follows the flow's, whose change is listed already.
        let (a, b) = (or_none(&a.environment), or_none(&b.environment));
        changes.field(&path("environment"), &a, &b, Effect::NewAttempts);
    }
}

/// Hosts and database of a URL, without user, password and parameters; `None` where a reference
/// hides them.
fn database(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let end = rest.find('?').unwrap_or(rest.len());
    let rest = &rest[..end];
    let database = rest.rsplit_once('@').map_or(rest, |(_, database)| database);
    (!database.contains("${")).then_some(database)
}

fn dataset(changes: &mut Changes, name: &str, versions: &Versions<'_>, a: &DataSet, b: &DataSet) {
    let path = |key: &str| format!("datasets.{name}.{key}");
    let was_made = versions.made.contains(name);
    let moved = if was_made {
        Effect::OrphansChunks
    } else {
        Effect::NewPlan
    };
    let end_of = |flow: &'_ Flow, at: &Location| flow.connections.get(&at.connection).cloned();
    let same_place = (&a.at.table, &a.at.path) == (&b.at.table, &b.at.path)
        && end_of(versions.old, &a.at) == end_of(versions.new, &b.at);
    let effect = if same_place {
        Effect::NewAttempts
    } else {
        moved
    };
    changes.field(&path("at"), &place(&a.at), &place(&b.at), effect);
    let (cut_a, cut_b) = (
        partition(a.partition.as_ref()),
        partition(b.partition.as_ref()),
    );
    changes.field(&path("partition"), &cut_a, &cut_b, Effect::NewPlan);
    changes.field(
        &path("buffer"),
        &buffer(a.buffer),
        &buffer(b.buffer),
        Effect::None,
    );
    let as_long = keeps_as_long(a.keep, b.keep);
    let effect = if as_long {
        Effect::None
    } else {
        Effect::RemovesSooner
    };
    changes.field(&path("keep"), &keep(a.keep), &keep(b.keep), effect);
    changes.field(
        &path("verify"),
        verify(a.verify),
        verify(b.verify),
        Effect::NewAttempts,
    );
    for (key, show) in CHECKS {
        changes.field(
            &path(key),
            &show(&a.checks),
            &show(&b.checks),
            Effect::NewAttempts,
        );
    }
}

fn keeps_as_long(old: Keep, new: Keep) -> bool {
    match (old, new) {
        (_, Keep::Forever) => true,
        (Keep::Seconds(old), Keep::Seconds(new)) => new >= old,
        (old, new) => old == new,
    }
}

/// How one field of a job is shown.
type Shown = fn(&Job) -> String;

fn job(changes: &mut Changes, name: &str, a: &Job, b: &Job) {
    let path = |key: &str| format!("jobs.{name}.{key}");
    let mut field = |key: &str, old: String, new: String, effect| {
        changes.field(&path(key), &old, &new, effect);
    };
    // The chunks of an output follow from those of its inputs, unless it takes them whole.
    let mapped = |job: &Job| -> BTreeSet<String> {
        let mapped = job
            .inputs
            .iter()
            .filter(|input| input.mapping != Mapping::All);
        mapped
            .map(|input| {
                // Whether it may be unvalidated is nothing to its chunks.
                let input = Input {
                    accept_unvalidated: false,
                    ..input.clone()
                };
                inputs(&[input])
            })
            .collect()
    };
    let recut = mapped(a) != mapped(b);
    let effect = if recut {
        Effect::NewPlan
    } else {
        Effect::NewAttempts
    };
    field("input", inputs(&a.inputs), inputs(&b.inputs), effect);
    field(
        "output",
        a.output.clone(),
        b.output.clone(),
        Effect::OrphansChunks,
    );
    let plain: [(&str, Shown); 11] = [
        ("run", |job| run(&job.run)),
        ("pools", |job| list(&job.pools)),
        ("connections", |job| list(&job.connections)),
        ("labels", |job| list(&job.labels)),
        ("priority", |job| job.priority.to_string()),
        ("retry", |job| retry(job.retry)),
        ("timeout", |job| {
            job.timeout_seconds.map_or("none".to_owned(), seconds)
        }),
        ("silence", |job| seconds(job.silence_seconds)),
        ("kill_grace", |job| seconds(job.kill_grace_seconds)),
        ("approve", |job| job.approve.to_string()),
        ("environments", |job| {
            if job.mixed_environments {
                "mixed"
            } else {
                "same"
            }
            .to_owned()
        }),
    ];
    for (name, shown) in plain {
        field(name, shown(a), shown(b), Effect::NewAttempts);
    }
}
