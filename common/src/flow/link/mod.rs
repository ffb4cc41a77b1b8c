//! Which chunk is made from which: the edges of a made data set, drawn from its inputs' plans.
//!
//! Pure, and the one place that decides it: `coordinator plan` shows what the planning loop stores.
//! A chunk that an output needs and that its input's plan does not have is a gap, told by name; such
//! an output is never made without it.

mod rewrite;
#[cfg(test)]
mod tests;
mod time;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::model::{Flow, Mapping, Partition, Rewrite};
use super::topology::Topology;
use crate::calendar::Calendar;
use crate::domain::{Bounds, NewChunk};
use rewrite::Rewriter;
pub(crate) use rewrite::unknown_group;

/// One input with its planned chunks. Inputs that are taken whole have no edges and do not come here.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The data set's name.
    pub dataset: &'a str,
    /// Which of its chunks.
    pub mapping: &'a Mapping,
    /// The calendar that its windows are of, where they are windows.
    pub calendar: Option<&'a Calendar>,
    /// Its chunks, in plan order.
    pub chunks: &'a [NewChunk],
}

/// A made data set's chunks with what they are made from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Links {
    /// Its chunks, in plan order.
    pub chunks: Vec<NewChunk>,
    /// Each with the indices of an output, a side and one of its chunks.
    pub edges: Vec<Edge>,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// One for each side.
    pub figures: Vec<Figures>,
}

/// That an output is made from an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Index into [`Links::chunks`].
    pub output: usize,
    /// Index into the sides.
    pub side: usize,
    /// Index into that side's chunks.
    pub input: usize,
}

/// A chunk that an output needs and that its input's plan does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Index into [`Links::chunks`].
    pub output: usize,
    /// Index into the sides.
    pub side: usize,
    /// Its key; in words where several keys would do.
    pub wanted: String,
    /// Whether `wanted` is a key.
    pub is_key: bool,
}

/// How many chunks of an input an output has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// The input.
    pub dataset: String,
    /// Fewest inputs of an output.
    pub min: usize,
    /// Most inputs of an output.
    pub max: usize,
    /// Missing inputs of all outputs.
    pub gaps: usize,
    /// Chunks of the input that no output takes.
    pub unused: usize,
}

/// Why no edges can be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; hint: {hint}")]
pub struct LinkError {
    /// What was expected and found, and where.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// What one side comes to, before chunks are left out.
#[derive(Debug, Default)]
struct Drawn {
    edges: Vec<(usize, usize)>,
    gaps: Vec<(usize, String, bool)>,
    skipped: Vec<usize>,
    unused: usize,
}

impl Drawn {
    fn gap(&mut self, output: usize, key: String) {
        self.gaps.push((output, key, true));
    }
}

/// Draws the edges of `output`. Its chunks are `own`, where it has a partition of its own; else those
/// of the first input of the same keys, else the keys that the first expression makes, else those of
/// the first input of which it takes the window before.
///
/// # Errors
/// Keys that do not pair up or match no expression, windows that lie in two outputs.
pub fn link(
    output: &str,
    own: Option<Vec<NewChunk>>,
    sides: &[Side<'_>],
) -> Result<Links, LinkError> {
    let chunks = match own {
        Some(own) => own,
        None => outputs(output, sides)?,
    };
    let mut by_key = HashMap::new();
    for (index, chunk) in chunks.iter().enumerate() {
        by_key.insert(chunk.key.as_str(), index);
    }
    let mut drawn = Vec::new();
    for side in sides {
        drawn.push(match side.mapping {
            Mapping::SameKey => same_key(output, &chunks, side)?,
            Mapping::Windows => time::inside(output, &chunks, side)?,
            Mapping::Previous { first } => time::before(output, &chunks, side, *first)?,
            Mapping::To(rewrite) => to(&chunks, &by_key, side, rewrite)?,
            Mapping::From(rewrite) => from(output, &chunks, side, rewrite)?,
            Mapping::All => Drawn::default(),
        });
    }
    Ok(gather(chunks, sides, drawn))
}

/// The chunks of a data set without a partition of its own.
fn outputs(output: &str, sides: &[Side<'_>]) -> Result<Vec<NewChunk>, LinkError> {
    let copied = |wanted: fn(&Mapping) -> bool| {
        let side = sides.iter().find(|side| wanted(side.mapping));
        side.map(|side| side.chunks.to_vec())
    };
    if let Some(same) = copied(|mapping| *mapping == Mapping::SameKey) {
        return Ok(same);
    }
    for side in sides {
        if let Mapping::To(rewrite) = side.mapping {
            return images(side, rewrite);
        }
    }
    copied(|mapping| matches!(mapping, Mapping::Previous { .. })).ok_or_else(|| LinkError {
        what: format!("nothing says which chunks {output} has"),
        hint: "give it a partition".to_owned(),
    })
}

/// The distinct keys that an expression makes of an input's, in the order of its plan.
fn images(side: &Side<'_>, rewrite: &Rewrite) -> Result<Vec<NewChunk>, LinkError> {
    let rewriter = Rewriter::new(rewrite)?;
    let mut seen = HashSet::new();
    let mut chunks = Vec::new();
    for chunk in side.chunks {
        let key = rewriter.image(side.dataset, &chunk.key)?;
        if seen.insert(key.clone()) {
            chunks.push(NewChunk {
                bounds: Bounds::Value { value: key.clone() },
                key,
                est_rows: None,
                est_bytes: None,
            });
        }
    }
    Ok(chunks)
}

fn keys(chunks: &[NewChunk]) -> HashMap<&str, usize> {
    let keys = chunks.iter().enumerate();
    keys.map(|(index, chunk)| (chunk.key.as_str(), index))
        .collect()
}

fn same_key(output: &str, outputs: &[NewChunk], side: &Side<'_>) -> Result<Drawn, LinkError> {
    let known = keys(side.chunks);
    let wanted = keys(outputs);
    let odd = outputs
        .iter()
        .find(|chunk| !known.contains_key(chunk.key.as_str()))
        .or_else(|| {
            side.chunks
                .iter()
                .find(|chunk| !wanted.contains_key(chunk.key.as_str()))
        });
    if let Some(odd) = odd {
        return Err(LinkError {
            what: format!(
                "the inputs of {output} do not have the same chunks: {} and another differ in chunk {}",
                side.dataset, odd.key
            ),
            hint: "inputs taken chunk by chunk need equal keys; take one of them whole with {dataset: ..., chunks: all}"
                .to_owned(),
        });
    }
    let edges = outputs.iter().enumerate();
    let edges = edges.filter_map(|(index, chunk)| Some((index, *known.get(chunk.key.as_str())?)));
    Ok(Drawn {
        edges: edges.collect(),
        ..Drawn::default()
    })
}

fn to(
    outputs: &[NewChunk],
    by_key: &HashMap<&str, usize>,
    side: &Side<'_>,
    rewrite: &Rewrite,
) -> Result<Drawn, LinkError> {
    let rewriter = Rewriter::new(rewrite)?;
    let mut drawn = Drawn::default();
    let mut fed = vec![false; outputs.len()];
    for (input, chunk) in side.chunks.iter().enumerate() {
        match by_key.get(rewriter.image(side.dataset, &chunk.key)?.as_str()) {
            Some(index) => {
                fed[*index] = true;
                drawn.edges.push((*index, input));
            }
            None => drawn.unused += 1,
        }
    }
    for (index, chunk) in outputs.iter().enumerate().filter(|(index, _)| !fed[*index]) {
        let wanted = format!(
            "a key that {:?} turns into {:?}",
            rewrite.pattern, chunk.key
        );
        drawn.gaps.push((index, wanted, false));
    }
    Ok(drawn)
}

fn from(
    output: &str,
    outputs: &[NewChunk],
    side: &Side<'_>,
    rewrite: &Rewrite,
) -> Result<Drawn, LinkError> {
    let rewriter = Rewriter::new(rewrite)?;
    let known = keys(side.chunks);
    let mut drawn = Drawn::default();
    let mut used = HashSet::new();
    for (index, chunk) in outputs.iter().enumerate() {
        let image = rewriter.image(output, &chunk.key)?;
        match known.get(image.as_str()) {
            Some(input) => {
                used.insert(*input);
                drawn.edges.push((index, *input));
            }
            None => drawn.gap(index, image),
        }
    }
    drawn.unused = side.chunks.len() - used.len();
    Ok(drawn)
}

/// Puts the sides together, without the chunks that one of them leaves out.
fn gather(chunks: Vec<NewChunk>, sides: &[Side<'_>], drawn: Vec<Drawn>) -> Links {
    let skipped: HashSet<usize> = drawn
        .iter()
        .flat_map(|d| d.skipped.iter().copied())
        .collect();
    let mut places: Vec<Option<usize>> = Vec::with_capacity(chunks.len());
    let mut kept = Vec::with_capacity(chunks.len());
    for (index, chunk) in chunks.into_iter().enumerate() {
        if skipped.contains(&index) {
            places.push(None);
        } else {
            places.push(Some(kept.len()));
            kept.push(chunk);
        }
    }
    let mut links = Links {
        chunks: kept,
        ..Links::default()
    };
    for (side, drawn) in drawn.into_iter().enumerate() {
        let mut counts = vec![0_usize; links.chunks.len()];
        let gaps = links.gaps.len();
        for (output, input) in drawn.edges {
            if let Some(output) = places[output] {
                counts[output] += 1;
                links.edges.push(Edge {
                    output,
                    side,
                    input,
                });
            }
        }
        for (output, wanted, is_key) in drawn.gaps {
            if let Some(output) = places[output] {
                links.gaps.push(Gap {
                    output,
                    side,
                    wanted,
                    is_key,
                });
            }
        }
        links.figures.push(Figures {
            dataset: sides[side].dataset.to_owned(),
            min: counts.iter().copied().min().unwrap_or(0),
            max: counts.iter().copied().max().unwrap_or(0),
            gaps: links.gaps.len() - gaps,
            unused: drawn.unused,
        });
    }
    links
}

/// For each data set whose chunks are windows the calendar that they are of: its own, or that of the
/// input from which it has its keys.
#[must_use]
pub fn calendars<'f>(flow: &'f Flow, topology: &Topology) -> BTreeMap<&'f str, &'f Calendar> {
    let mut found: BTreeMap<&str, &Calendar> = BTreeMap::new();
    for (name, set) in &flow.datasets {
        if let Some(Partition::Windows { calendar, .. }) = &set.partition {
            found.insert(name, calendar);
        }
    }
    for name in topology.order() {
        let Some(job) = flow.jobs.get(name) else {
            continue;
        };
        let is_cut = flow
            .datasets
            .get(&job.output)
            .is_none_or(|set| set.partition.is_some());
        if is_cut {
            continue;
        }
        let same = job
            .inputs
            .iter()
            .find(|input| input.mapping == Mapping::SameKey);
        let is_named = job
            .inputs
            .iter()
            .any(|input| matches!(input.mapping, Mapping::To(_)));
        let before = job
            .inputs
            .iter()
            .find(|input| matches!(input.mapping, Mapping::Previous { .. }));
        let origin = same.or(before.filter(|_| !is_named));
        if let Some(calendar) = origin.and_then(|input| found.get(input.dataset.as_str()).copied())
        {
            found.insert(&job.output, calendar);
        }
    }
    found
}
