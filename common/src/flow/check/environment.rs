//! Environments: a job reads and writes one of them unless it says that it mixes them.
//!
//! The label is the author's word; whether a place really is what the label says is asked by the
//! worker, right before each attempt.

use super::Context;
use crate::flow::model::{Connection, Flow};
use crate::flow::read::Problems;
use crate::flow::tree::shorten;

/// Reports jobs that read one environment and write another without saying so.
pub(super) fn check(context: &Context<'_>, flow: &Flow, problems: &mut Problems<'_>) {
    for (name, job) in &flow.jobs {
        if job.mixed_environments {
            continue;
        }
        let place_of = |dataset: &str| -> Option<(&str, &str)> {
            let connection = &flow.datasets.get(dataset)?.at.connection;
            let (connection, Connection { environment, .. }) =
                flow.connections.get_key_value(connection)?;
            Some((connection, environment.as_deref()?))
        };
        let Some((to, written)) = place_of(&job.output) else {
            continue;
        };
        let Some((from, read)) = job
            .inputs
            .iter()
            .filter_map(|input| place_of(&input.dataset))
            .find(|(_, read)| *read != written)
        else {
            continue;
        };
        let Some(entry) = context.jobs.get(name) else {
            continue;
        };
        problems
            .error(
                &entry.place.at_key(),
                format!(
                    "job {:?} reads environment {read:?} (connection {from}) and writes environment {written:?} (connection {to})",
                    shorten(name)
                ),
            )
            .expected("one environment on both sides")
            .hint("if that is meant, say so in the job: environments: mixed");
    }
}
