//! How many rows an attempt's inputs have: what their publications say, or a count at the source.

use common::domain::{Bounds, InputChunk};
use common::endpoint::name::TableName;
use common::flow::rules::{Check, Checks, RowCount};

use super::probe::InputRows;
use super::session;
use crate::attempt::{AttemptContext, Failure};

/// The rows of every input that a `row_count` rule asks about.
///
/// # Errors
/// `transient` where a source cannot be reached.
pub(crate) async fn input_rows(context: &AttemptContext) -> Result<Vec<InputRows>, Failure> {
    let Some(wanted) = wanted(&context.spec.checks) else {
        return Ok(Vec::new());
    };
    let chunks = || context.item.inputs.iter().chain(&context.fan_in);
    let mut known: Vec<InputRows> = Vec::new();
    for chunk in chunks() {
        let asked = wanted.is_empty() || wanted.contains(&chunk.dataset.as_str());
        if asked && !known.iter().any(|input| input.dataset == chunk.dataset) {
            let all: Vec<&InputChunk> = chunks()
                .filter(|each| each.dataset == chunk.dataset)
                .collect();
            known.push(rows_of(context, &all).await?);
        }
    }
    Ok(known)
}

/// The inputs that rules name, none for "the only one"; `None` where no rule asks.
fn wanted(checks: &Checks) -> Option<Vec<&str>> {
    let asked: Vec<Option<&str>> = checks
        .validate
        .iter()
        .filter_map(|rule| match &rule.check {
            Check::RowCount(RowCount::Input { dataset, .. }) => Some(dataset.as_deref()),
            _ => None,
        })
        .collect();
    if asked.is_empty() {
        return None;
    }
    let named: Option<Vec<&str>> = asked.into_iter().collect();
    Some(named.unwrap_or_default())
}

async fn rows_of(context: &AttemptContext, chunks: &[&InputChunk]) -> Result<InputRows, Failure> {
    let dataset = chunks
        .first()
        .map_or("", |chunk| chunk.dataset.as_str())
        .to_owned();
    let published: Option<u64> = chunks
        .iter()
        .map(|chunk| chunk.rows.and_then(|rows| u64::try_from(rows).ok()))
        .sum();
    if let Some(rows) = published {
        return Ok(InputRows {
            dataset,
            rows: Ok(rows),
            source: "as published",
        });
    }
    let mut total = Ok(0);
    for chunk in chunks {
        match (count(context, chunk).await?, &mut total) {
            (Ok(rows), Ok(total)) => *total += rows,
            (Err(why), total @ Ok(_)) => *total = Err(why),
            (_, Err(_)) => {}
        }
    }
    Ok(InputRows {
        dataset,
        rows: total,
        source: "counted there now",
    })
}

/// Counts the rows of a table's chunk; the inner error says why it cannot be counted.
async fn count(
    context: &AttemptContext,
    chunk: &InputChunk,
) -> Result<Result<u64, String>, Failure> {
    let Some(table) = &chunk.at.table else {
        return Ok(Err(
            "its publication has no number of rows and it is no table".to_owned(),
        ));
    };
    let condition = match &chunk.bounds {
        Bounds::KeyRange { .. } | Bounds::NullKeys { .. } | Bounds::Single => {
            common::endpoint::predicate::sql_predicate(&chunk.bounds).map_err(|error| {
                Failure::permanent(format!("count {}/{}: {error}", chunk.dataset, chunk.key))
            })?
        }
        _ => return Ok(Err("its chunk is no range of a key".to_owned())),
    };
    let quoted = TableName::parse(table)
        .and_then(|table| table.quoted())
        .map_err(|error| {
            Failure::permanent(format!("count {}/{}: {error}", chunk.dataset, chunk.key))
        })?;
    let name = &chunk.at.connection;
    let mut opened = session::open(context, name).await?;
    let transaction = session::begin(&mut opened, name).await?;
    let row = transaction
        .query_typed(
            &format!("SELECT count(*) FROM {quoted} WHERE {condition}"),
            &[],
        )
        .await
        .map_err(|error| session::failed(name, &error))?;
    let rows: i64 = row.first().map_or(0, |row| row.get(0));
    drop(transaction);
    opened.close().await;
    Ok(u64::try_from(rows).map_err(|_| "a negative count".to_owned()))
}
