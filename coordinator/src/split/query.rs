//! One chunk for each row of a query, its columns as text.
//!
//! The query runs as the body of a cursor in a read-only snapshot: the server then takes it as one
//! statement that reads, whatever its text, and hands out rows in portions in the query's order.

use std::collections::HashMap;

use common::domain::{Bounds, NewChunk};
use common::endpoint::PgSession;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow, Transaction};

use super::batcher::Batcher;
use super::chunk_key::{self, Ordinals};
use super::{BATCH, SplitError, SplitLimits, source};

pub(super) async fn split(
    session: &mut PgSession,
    limits: SplitLimits,
    sql: &str,
    key: Option<&str>,
    out: &mut Batcher<'_>,
) -> Result<(), SplitError> {
    let transaction = source::begin(session, limits).await?;
    // Numbers need a width that fits the last one: a cursor that scrolls counts rows in one run.
    let scroll = if key.is_some() { "NO SCROLL" } else { "SCROLL" };
    transaction
        .query_typed(&format!("DECLARE odf_plan {scroll} CURSOR FOR {sql}"), &[])
        .await
        .map_err(SplitError::doing("run the planning query"))?;
    let rows = if key.is_some() {
        0
    } else {
        count(&transaction).await?
    };
    let mut rows = Rows {
        key: key.map(str::to_owned),
        key_column: None,
        names: None,
        ordinals: Ordinals::up_to(rows),
        seen: HashMap::new(),
        taken: 0,
    };
    let fetch = format!("FETCH FORWARD {BATCH} FROM odf_plan");
    loop {
        let messages = transaction
            .simple_query(&fetch)
            .await
            .map_err(SplitError::doing("read the rows of the planning query"))?;
        let before = rows.taken;
        for message in &messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    rows.describe(
                        columns
                            .iter()
                            .map(|column| column.name().to_owned())
                            .collect(),
                    )?;
                }
                SimpleQueryMessage::Row(row) => rows.take(row, out).await?,
                _ => {}
            }
        }
        if rows.taken == before {
            break;
        }
    }
    if rows.taken == 0 {
        out.note("The planning query returned no rows: the plan is empty.");
    }
    transaction
        .commit()
        .await
        .map_err(SplitError::doing("end the snapshot of the source"))
}

/// The number of the cursor's rows, leaving it before the first.
async fn count(transaction: &Transaction<'_>) -> Result<u64, SplitError> {
    const COUNT: &str = "count the rows of the planning query";
    let moved = transaction
        .simple_query("MOVE FORWARD ALL FROM odf_plan")
        .await
        .map_err(SplitError::doing(COUNT))?;
    transaction
        .simple_query("MOVE ABSOLUTE 0 FROM odf_plan")
        .await
        .map_err(SplitError::doing(COUNT))?;
    moved
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        })
        .ok_or_else(|| SplitError::Broken("MOVE told no number of rows".to_owned()))
}

struct Rows {
    key: Option<String>,
    key_column: Option<usize>,
    names: Option<Vec<String>>,
    ordinals: Ordinals,
    seen: HashMap<String, u64>,
    taken: u64,
}

impl Rows {
    fn describe(&mut self, names: Vec<String>) -> Result<(), SplitError> {
        if self.names.is_some() {
            return Ok(());
        }
        if names.is_empty() {
            return Err(SplitError::refused(
                "a planning query with at least one column was expected",
                "select what the job needs to know of each chunk",
            ));
        }
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(SplitError::refused(
                    format!("the planning query returns column {name:?} twice"),
                    "give every column a name of its own with AS",
                ));
            }
        }
        if let Some(key) = &self.key {
            let found = names.iter().position(|name| name == key);
            self.key_column = Some(found.ok_or_else(|| {
                SplitError::refused(
                    format!(
                        "the planning query returns no column {key:?}, which is to name the chunks"
                    ),
                    format!("its columns are {}", names.join(", ")),
                )
            })?);
        }
        self.names = Some(names);
        Ok(())
    }

    async fn take(
        &mut self,
        row: &SimpleQueryRow,
        out: &mut Batcher<'_>,
    ) -> Result<(), SplitError> {
        self.taken += 1;
        let Some(names) = &self.names else {
            return Err(SplitError::Broken(
                "a row came before its description".to_owned(),
            ));
        };
        let values = names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let value = row
                    .try_get(i)
                    .map_err(SplitError::doing("read the planning query's row"))?;
                Ok((name.clone(), value.map(str::to_owned)))
            })
            .collect::<Result<Vec<_>, SplitError>>()?;
        let key = match self.key_column {
            None => self.ordinals.key(self.taken),
            Some(column) => {
                let value = values.get(column).and_then(|(_, value)| value.clone());
                named(value, self.taken, "row", &mut self.seen)?
            }
        };
        out.push(NewChunk {
            key,
            bounds: Bounds::Row { values },
            est_rows: None,
            est_bytes: None,
        })
        .await
    }
}

/// A chunk's name given by a row or line: refused, naming the place, unless it is a name and new.
pub(super) fn named(
    value: Option<String>,
    place: u64,
    what: &str,
    seen: &mut HashMap<String, u64>,
) -> Result<String, SplitError> {
    let hint = "make it short, unique and without `/`, for example with replace(...)";
    let Some(name) = value else {
        return Err(SplitError::refused(
            format!("{what} {place} names its chunk NULL"),
            hint,
        ));
    };
    if let Some(objection) = chunk_key::objection(&name) {
        return Err(SplitError::refused(
            format!(
                "{what} {place} names its chunk {:?}: {objection}",
                shortened(&name)
            ),
            hint,
        ));
    }
    if let Some(first) = seen.insert(name.clone(), place) {
        return Err(SplitError::refused(
            format!("{what} {place} names its chunk {name:?}, as {what} {first} does"),
            hint,
        ));
    }
    Ok(name)
}

fn shortened(name: &str) -> String {
    if name.chars().count() > 80 {
        name.chars().take(80).chain(['…']).collect()
    } else {
        name.to_owned()
    }
}
