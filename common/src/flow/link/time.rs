//! Edges between windows: those inside an output's window, and the one before it.
//!
//! What an output needs is computed from the input's calendar and only then looked up in its plan, so
//! that a window which the plan lacks is missed by name instead of being overlooked.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Drawn, LinkError, Side};
use crate::calendar::Window;
use crate::domain::{Bounds, NewChunk};
use crate::flow::model::First;

type Span = (DateTime<Utc>, DateTime<Utc>);

/// A chunk's own window; a product's dimension does not make it one.
fn span(chunk: &NewChunk) -> Option<Span> {
    match &chunk.bounds {
        Bounds::Window { start, end, .. } => Some((*start, *end)),
        _ => None,
    }
}

fn output_span(output: &str, chunk: &NewChunk) -> Result<Span, LinkError> {
    span(chunk).ok_or_else(|| LinkError {
        what: format!(
            "chunk {output}/{} is no window, so no input can be found by its time",
            chunk.key
        ),
        hint: "cut the output by { every: .. }, or name its inputs by an expression".to_owned(),
    })
}

/// The windows that an input's calendar has between two instants.
fn expected(
    side: &Side<'_>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Window>, LinkError> {
    let calendar = side.calendar.ok_or_else(|| LinkError {
        what: format!("the chunks of {} are no windows", side.dataset),
        hint: "cut it by { every: .. }, or name its chunks by an expression".to_owned(),
    })?;
    Ok(calendar.over(from, to))
}

/// The planned windows of an input, by their span.
fn planned(side: &Side<'_>) -> HashMap<Span, usize> {
    let spans = side.chunks.iter().enumerate();
    spans
        .filter_map(|(index, chunk)| Some((span(chunk)?, index)))
        .collect()
}

/// The earliest beginning and the latest end of the outputs.
fn outer(output: &str, outputs: &[NewChunk]) -> Result<Option<Span>, LinkError> {
    let mut outer: Option<Span> = None;
    for chunk in outputs {
        let (start, end) = output_span(output, chunk)?;
        outer = Some(outer.map_or((start, end), |(first, last)| {
            (first.min(start), last.max(end))
        }));
    }
    Ok(outer)
}

/// Every window of the input that lies inside the output's.
pub(super) fn inside(
    output: &str,
    outputs: &[NewChunk],
    side: &Side<'_>,
) -> Result<Drawn, LinkError> {
    let mut drawn = Drawn::default();
    let Some((first, last)) = outer(output, outputs)? else {
        return Ok(drawn);
    };
    let windows = expected(side, first, last)?;
    let planned = planned(side);
    let mut used = HashSet::new();
    for (index, chunk) in outputs.iter().enumerate() {
        let (start, end) = output_span(output, chunk)?;
        let from = windows.partition_point(|window| window.end <= start);
        let until = windows.partition_point(|window| window.start < end);
        for window in &windows[from..until] {
            if window.start < start || window.end > end {
                return Err(crossing(side, window, output, chunk));
            }
            match planned.get(&(window.start, window.end)) {
                Some(input) => {
                    used.insert(*input);
                    drawn.edges.push((index, *input));
                }
                None => drawn.gap(index, window.label.clone()),
            }
        }
    }
    drawn.unused = side.chunks.len() - used.len();
    Ok(drawn)
}

fn crossing(side: &Side<'_>, window: &Window, output: &str, chunk: &NewChunk) -> LinkError {
    LinkError {
        what: format!(
            "window {}/{} lies only partly inside {output}/{}",
            side.dataset, window.label, chunk.key
        ),
        hint: "cut both in the same zone, by lengths of which one tiles the other".to_owned(),
    }
}

/// The window of the input that ends where the output's begins; and the outputs to leave out.
pub(super) fn before(
    output: &str,
    outputs: &[NewChunk],
    side: &Side<'_>,
    first: First,
) -> Result<Drawn, LinkError> {
    let mut drawn = Drawn::default();
    let Some((earliest, latest)) = outer(output, outputs)? else {
        return Ok(drawn);
    };
    let windows = expected(side, earliest - TimeDelta::seconds(1), latest)?;
    let planned = planned(side);
    let beginning = side
        .chunks
        .iter()
        .filter_map(span)
        .map(|(start, _)| start)
        .min();
    let mut used = HashSet::new();
    for (index, chunk) in outputs.iter().enumerate() {
        let (start, _) = output_span(output, chunk)?;
        let place = windows.partition_point(|window| window.end < start);
        let Some(window) = windows.get(place) else {
            continue;
        };
        if window.end != start {
            return Err(crossing(side, window, output, chunk));
        }
        match planned.get(&(window.start, window.end)) {
            Some(input) => {
                used.insert(*input);
                drawn.edges.push((index, *input));
            }
            // The policy is for the beginning of the input alone; further away a window is missing.
            None if beginning == Some(start) && first == First::Ready => {}
            None if beginning == Some(start) && first == First::Skip => drawn.skipped.push(index),
            None => drawn.gap(index, window.label.clone()),
        }
    }
    drawn.unused = side.chunks.len() - used.len();
    Ok(drawn)
}
