//! Ranges of a table's key with about as many rows each, found by walking the real keys.
//!
//! One pass in the server numbers the rows in key order and returns only those at which a chunk
//! may begin, so neither side holds the table. Equal keys are never parted: `rank()` tells where
//! a group of equals begins, by the server's own idea of equal (1.0 and 1.00, `e` with an accent
//! in two spellings). A cut inside a group moves to its start. The first range has no lower bound
//! and the last no upper one, so rows inserted later are covered wherever they fall.

use std::pin::pin;

use common::domain::{Bounds, KeyColumn, NewChunk};
use common::endpoint::{PgSession, quote_ident};
use common::flow::model::ChunkSize;
use futures_util::TryStreamExt;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Transaction};

use super::batcher::Batcher;
use super::chunk_key::Ordinals;
use super::key_column::{self, Found};
use super::source::{self, Table, get};
use super::{MAX_CHUNKS, SplitError, SplitLimits};

pub(super) async fn split(
    session: &mut PgSession,
    limits: SplitLimits,
    declared_table: &str,
    declared_columns: &[String],
    size: ChunkSize,
    out: &mut Batcher<'_>,
) -> Result<(), SplitError> {
    refuse_zero(size)?;
    let transaction = source::begin(session, limits).await?;
    let table = source::resolve(&transaction, declared_table).await?;
    let key = key_column::discover(&transaction, &table, declared_columns).await?;
    let names = key
        .iter()
        .map(|found| quote_ident(&found.column.name))
        .collect::<Result<Vec<_>, _>>()?;
    let (rows, nulls) = count(&transaction, &table, &key, &names).await?;
    let keyed = rows - nulls;
    let cut = Cut::plan(size, keyed)?;
    let mut walk = Walk {
        columns: key.iter().map(|found| found.column.clone()).collect(),
        ordinals: Ordinals::up_to(cut.chunks),
        lower: None,
        first_rank: 1,
        last_row: 0,
        nulls,
    };
    if keyed > 0 {
        walk.through(&transaction, &table, &names, &cut, out)
            .await?;
    }
    walk.finish(out).await?;
    remark(&table, &key, &walk, &cut, out);
    out.summary.columns = walk.columns;
    transaction
        .commit()
        .await
        .map_err(SplitError::doing("end the snapshot of the source"))
}

fn refuse_zero(size: ChunkSize) -> Result<(), SplitError> {
    match size {
        ChunkSize::Chunks(0) | ChunkSize::Rows(0) => Err(SplitError::refused(
            "at least one chunk, and at least one row in each, was expected, found 0",
            "write a larger number under partition",
        )),
        ChunkSize::Chunks(chunks) if u64::from(chunks) > MAX_CHUNKS => Err(SplitError::refused(
            format!("at most {MAX_CHUNKS} chunks were expected, found {chunks}"),
            "make the chunks larger",
        )),
        _ => Ok(()),
    }
}

/// Rows in all and those with NULL in the key.
async fn count(
    transaction: &Transaction<'_>,
    table: &Table,
    key: &[Found],
    names: &[String],
) -> Result<(i64, i64), SplitError> {
    let nullable: Vec<String> = key
        .iter()
        .zip(names)
        .filter(|(found, _)| found.nullable)
        .map(|(_, name)| format!("{name} IS NULL"))
        .collect();
    let nulls = if nullable.is_empty() {
        "0::bigint".to_owned()
    } else {
        format!("count(*) FILTER (WHERE {})", nullable.join(" OR "))
    };
    let sql = format!("SELECT count(*), {nulls} FROM {}", table.quoted);
    let row = transaction
        .query_typed(&sql, &[])
        .await
        .map_err(SplitError::doing("count the rows of the source"))?;
    let row = row
        .first()
        .ok_or_else(|| SplitError::Broken("count(*) returned no row".to_owned()))?;
    Ok((get(row, 0)?, get(row, 1)?))
}

/// Where chunks begin, as a condition on row numbers `k.n`, from 1, with its parameters.
struct Cut {
    condition: &'static str,
    parameters: Vec<i64>,
    /// The most chunks that it makes.
    chunks: u64,
}

impl Cut {
    fn plan(size: ChunkSize, keyed: i64) -> Result<Self, SplitError> {
        let cut = match size {
            ChunkSize::Rows(rows) => {
                let step = i64::try_from(rows).unwrap_or(i64::MAX);
                Self {
                    condition: "(k.n - 1) % $1 = 0",
                    parameters: vec![step],
                    chunks: keyed.max(1).unsigned_abs().div_ceil(step.unsigned_abs()),
                }
            }
            ChunkSize::Chunks(chunks) => {
                let chunks = i64::from(chunks).min(keyed.max(1));
                Self {
                    condition: "(k.n - 1) * $1 / $2 <> (k.n - 2) * $1 / $2",
                    parameters: vec![chunks, keyed],
                    chunks: chunks.unsigned_abs(),
                }
            }
        };
        if cut.chunks > MAX_CHUNKS {
            return Err(SplitError::refused(
                format!(
                    "at most {MAX_CHUNKS} chunks were expected, {keyed} rows make {}",
                    cut.chunks
                ),
                "make the chunks larger",
            ));
        }
        Ok(cut)
    }
}

/// The chunk being gathered while boundaries come in.
struct Walk {
    columns: Vec<KeyColumn>,
    ordinals: Ordinals,
    /// Where it begins; `None` at the open end.
    lower: Option<Vec<String>>,
    /// The number of the first row that has its lower key.
    first_rank: i64,
    last_row: i64,
    nulls: i64,
}

impl Walk {
    async fn through(
        &mut self,
        transaction: &Transaction<'_>,
        table: &Table,
        names: &[String],
        cut: &Cut,
        out: &mut Batcher<'_>,
    ) -> Result<(), SplitError> {
        const WALK: &str = "walk the keys of the source";
        let sql = walking_statement(table, names, cut.condition);
        let parameters = cut
            .parameters
            .iter()
            .map(|parameter| (parameter as &(dyn ToSql + Sync), Type::INT8));
        let rows = transaction
            .query_typed_raw(&sql, parameters)
            .await
            .map_err(SplitError::doing(WALK))?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(SplitError::doing(WALK))? {
            self.take(&row, out).await?;
        }
        Ok(())
    }

    /// Takes one row of the walk: the first, the last, or one at which a chunk may begin.
    async fn take(&mut self, row: &Row, out: &mut Batcher<'_>) -> Result<(), SplitError> {
        let width = self.columns.len();
        let key = (0..width)
            .map(|i| get(row, i))
            .collect::<Result<Vec<String>, _>>()?;
        let (number, rank): (i64, i64) = (get(row, width)?, get(row, width + 1)?);
        let (cuts, last): (bool, bool) = (get(row, width + 2)?, get(row, width + 3)?);
        if number <= self.last_row || rank < self.first_rank || rank > number {
            return Err(SplitError::Broken(format!(
                "row {number} of rank {rank} came after row {}",
                self.last_row
            )));
        }
        self.last_row = number;
        if number == 1 {
            out.summary.outer = Some((key.clone(), key.clone()));
        }
        if let (true, Some(outer)) = (last, &mut out.summary.outer) {
            outer.1.clone_from(&key);
        }
        if cuts && rank > self.first_rank {
            let lower = self.lower.replace(key.clone());
            let rows = rank - self.first_rank;
            self.first_rank = rank;
            self.emit(lower, Some(key), rows, out).await?;
        }
        Ok(())
    }

    async fn emit(
        &self,
        lower: Option<Vec<String>>,
        upper: Option<Vec<String>>,
        rows: i64,
        out: &mut Batcher<'_>,
    ) -> Result<(), SplitError> {
        out.push(NewChunk {
            key: self.ordinals.key(out.chunks() + 1),
            bounds: Bounds::KeyRange {
                columns: self.columns.clone(),
                lower,
                upper,
            },
            est_rows: Some(rows),
            est_bytes: None,
        })
        .await
    }

    /// Pushes the last range, and the chunk of NULL keys where there are ranges beside it: a
    /// single range without bounds has the condition TRUE and holds the NULLs itself.
    async fn finish(&mut self, out: &mut Batcher<'_>) -> Result<(), SplitError> {
        let lower = self.lower.take();
        let rest = self.last_row + 1 - self.first_rank;
        if lower.is_none() {
            return self.emit(None, None, rest + self.nulls, out).await;
        }
        self.emit(lower, None, rest, out).await?;
        if self.nulls == 0 {
            return Ok(());
        }
        out.push(NewChunk {
            key: "null".to_owned(),
            bounds: Bounds::NullKeys {
                columns: self.columns.clone(),
            },
            est_rows: Some(self.nulls),
            est_bytes: None,
        })
        .await
    }
}

/// The one pass: every row numbered and ranked in key order, those at which a chunk may begin
/// returned, and the first and the last for the outer bounds.
///
/// All window functions share one window and none looks back further than a row, so the server
/// streams. `format('%s', ...)` prints by the type's own output function, unlike a cast to text.
fn walking_statement(table: &Table, names: &[String], condition: &str) -> String {
    let list = |f: &dyn Fn(usize, &String) -> String, separator: &str| {
        names
            .iter()
            .enumerate()
            .map(|(i, name)| f(i, name))
            .collect::<Vec<_>>()
            .join(separator)
    };
    format!(
        "SELECT {printed}, k.n, k.r, {condition} AS cuts, k.last \
         FROM (SELECT {aliased}, row_number() OVER w AS n, rank() OVER w AS r, \
                      lead(1) OVER w IS NULL AS last \
               FROM {table} WHERE {known} WINDOW w AS (ORDER BY {ordered})) k \
         WHERE {condition} OR k.last OR k.n = 1",
        printed = list(&|i, _| format!("format('%s', k.c{i})"), ", "),
        aliased = list(&|i, name| format!("{name} AS c{i}"), ", "),
        known = list(&|_, name| format!("{name} IS NOT NULL"), " AND "),
        ordered = list(&|_, name| name.clone(), ", "),
        table = table.quoted,
    )
}

/// Notes what a person should know: NULLs, ranges fewer than asked for, policies.
fn remark(table: &Table, key: &[Found], walk: &Walk, cut: &Cut, out: &mut Batcher<'_>) {
    let ranges = out.chunks() - u64::from(walk.nulls > 0 && out.chunks() > 1);
    if walk.nulls > 0 && out.chunks() > 1 {
        out.note(format!(
            "{} rows with NULL in the key get their own chunk, `null`.",
            walk.nulls
        ));
    } else if walk.nulls > 0 {
        out.note(format!(
            "The only chunk holds the {} rows with NULL in the key as well.",
            walk.nulls
        ));
    } else if out.chunks() > 1 {
        let nullable: Vec<&str> = key
            .iter()
            .filter(|found| found.nullable)
            .map(|found| found.column.name.as_str())
            .collect();
        if !nullable.is_empty() {
            out.note(format!(
                "No key is NULL now, but {} may be: rows inserted later with NULL there belong to no chunk.",
                nullable.join(", ")
            ));
        }
    }
    if ranges < cut.chunks {
        out.note(format!(
            "{ranges} ranges instead of {}: equal keys stay together.",
            cut.chunks
        ));
    }
    if table.row_security {
        out.note(format!(
            "Row security is in force on {} for this login: only the rows that it may see are planned.",
            table.shown
        ));
    }
}
