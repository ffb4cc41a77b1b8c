//! Which keys differ between two tables: both read in the order of their keys and merged, so that
//! memory does not grow with the chunk.

use std::cmp::Ordering;
use std::pin::Pin;

use common::domain::Bounds;
use common::endpoint::PgSession;
use common::policy::row_sum::RowSum;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use tokio_postgres::RowStream;

use super::place::TablePlace;
use super::table::{self, Described, Look, TableError};
use super::verdict::Figures;

/// How a key differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The source has it and the target has not.
    MissingInTarget,
    /// The target has it and the source has not.
    OnlyInTarget,
    /// Both have it, with other rows.
    Changed,
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyDifference {
    /// Its values; `None` is NULL.
    pub key: Vec<Option<String>>,
    /// How it differs.
    pub what: Difference,
    /// Rows of that key in the source.
    pub source_rows: i64,
    /// Rows of that key in the target.
    pub target_rows: i64,
}

/// All keys that differ, the first of them listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyList {
    /// The columns that make a key.
    pub columns: Vec<String>,
    /// Keys in the source that are not in the target.
    pub missing_in_target: i64,
    /// Keys in the target that are not in the source.
    pub only_in_target: i64,
    /// Keys of both with other rows.
    pub changed: i64,
    /// The first of them in the byte order of their keys.
    pub listed: Vec<KeyDifference>,
    /// What the source holds, which was read whole for this.
    #[serde(skip)]
    pub source: Figures,
}

impl KeyList {
    fn note(&mut self, what: Difference, of: &Group, source: i64, target: i64, most: usize) {
        match what {
            Difference::MissingInTarget => self.missing_in_target += 1,
            Difference::OnlyInTarget => self.only_in_target += 1,
            Difference::Changed => self.changed += 1,
        }
        if self.listed.len() < most {
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            self.listed.push(KeyDifference {
                key: of.key.iter().map(|part| part.as_ref().map(text)).collect(),
                what,
                source_rows: source,
                target_rows: target,
            });
        }
    }
}

/// One side: its place and a session there.
#[derive(Debug)]
pub struct Side<'a> {
    /// Where.
    pub place: &'a TablePlace,
    /// The session.
    pub session: &'a mut PgSession,
}

/// Lists the keys whose rows differ between target and source within the bounds.
///
/// # Errors
/// [`TableError`] where either cannot be read, or lacks a key column.
pub async fn differing(
    target: Side<'_>,
    source: Side<'_>,
    look: &Look,
    bounds: &Bounds,
    by_place: bool,
    most: usize,
) -> Result<KeyList, TableError> {
    let at_target = table::begin(target.session, look).await?;
    let at_source = table::begin(source.session, look).await?;
    let target_table = table::described(&at_target, target.place).await?;
    let source_table = table::described(&at_source, source.place).await?;
    let columns = key_columns(bounds, &target_table, &source_table);
    let mut sides = Vec::new();
    for (transaction, described) in [(&at_target, &target_table), (&at_source, &source_table)] {
        let sql = described.select(bounds, look.cutoff.as_deref(), &columns)?;
        let rows = table::stream(transaction, described, &sql).await?;
        sides.push(Sorted::new(described, &columns, by_place, rows)?);
    }
    let (Some(right), Some(left)) = (sides.pop(), sides.pop()) else {
        return Err(TableError::Unfit("two sides were expected".to_owned()));
    };
    merge(left, right, columns, most).await
}

/// What makes a key: the columns of the bounds, and the primary key where the other side has it too;
/// all columns where there is neither.
fn key_columns(bounds: &Bounds, target: &Described, source: &Described) -> Vec<String> {
    let mut names: Vec<String> = match bounds {
        Bounds::KeyRange { columns, .. } | Bounds::NullKeys { columns } => {
            columns.iter().map(|column| column.name.clone()).collect()
        }
        _ => Vec::new(),
    };
    let primary = if target.primary.is_empty() {
        &source.primary
    } else {
        &target.primary
    };
    let both = |name: &String| target.columns.contains(name) && source.columns.contains(name);
    if primary.iter().all(both) {
        names.extend(primary.iter().cloned());
    }
    let mut known = std::collections::BTreeSet::new();
    names.retain(|name| known.insert(name.clone()));
    if names.is_empty() {
        names.clone_from(&target.columns);
    }
    names
}

async fn merge(
    mut target: Sorted,
    mut source: Sorted,
    columns: Vec<String>,
    most: usize,
) -> Result<KeyList, TableError> {
    let mut list = KeyList {
        columns,
        missing_in_target: 0,
        only_in_target: 0,
        changed: 0,
        listed: Vec::new(),
        source: Figures {
            rows: None,
            sum: String::new(),
        },
    };
    let (mut left, mut right) = (target.next().await?, source.next().await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.key.cmp(&right.key),
        };
        match (order, &left, &right) {
            (Ordering::Less, Some(only), _) => {
                list.note(Difference::OnlyInTarget, only, 0, only.rows, most);
            }
            (Ordering::Greater, _, Some(missing)) => {
                list.note(Difference::MissingInTarget, missing, missing.rows, 0, most);
            }
            (_, Some(left), Some(right)) if left != right => {
                list.note(Difference::Changed, left, right.rows, left.rows, most);
            }
            _ => {}
        }
        if order != Ordering::Greater {
            left = target.next().await?;
        }
        if order != Ordering::Less {
            right = source.next().await?;
        }
    }
    list.source = Figures {
        rows: Some(source.rows),
        sum: source.sum.hex(),
    };
    Ok(list)
}

/// The rows of one key.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    key: Vec<Option<Vec<u8>>>,
    hash: u64,
    rows: i64,
}

/// Rows that come in the order of their keys, a key at a time.
struct Sorted {
    stream: Pin<Box<RowStream>>,
    places: Vec<usize>,
    sum: RowSum,
    rows: i64,
    ahead: Option<Group>,
    /// A stream that has ended may not be asked again.
    ended: bool,
}

impl Sorted {
    fn new(
        table: &Described,
        key: &[String],
        by_place: bool,
        rows: RowStream,
    ) -> Result<Self, TableError> {
        let place = |name: &String| {
            table
                .columns
                .iter()
                .position(|column| column == name)
                .ok_or_else(|| TableError::Unfit(format!("there is no key column {name:?}")))
        };
        let mut sum = RowSum::default();
        sum.columns(&table.names(by_place));
        Ok(Self {
            stream: Box::pin(rows),
            places: key.iter().map(place).collect::<Result<_, _>>()?,
            sum,
            rows: 0,
            ahead: None,
            ended: false,
        })
    }

    async fn row(&mut self) -> Result<Option<Group>, TableError> {
        if self.ended {
            return Ok(None);
        }
        let row = self
            .stream
            .try_next()
            .await
            .map_err(table::doing("read rows in the order of their keys"))?;
        let Some(row) = row else {
            self.ended = true;
            return Ok(None);
        };
        let values = table::values(&row)?;
        self.rows += 1;
        Ok(Some(Group {
            key: self
                .places
                .iter()
                .map(|place| values[*place].map(<[u8]>::to_vec))
                .collect(),
            hash: self.sum.add(&values),
            rows: 1,
        }))
    }

    /// All rows of the next key.
    async fn next(&mut self) -> Result<Option<Group>, TableError> {
        let mut group = match self.ahead.take() {
            Some(group) => group,
            None => match self.row().await? {
                Some(group) => group,
                None => return Ok(None),
            },
        };
        while let Some(next) = self.row().await? {
            if next.key != group.key {
                self.ahead = Some(next);
                break;
            }
            group.hash = group.hash.wrapping_add(next.hash);
            group.rows += 1;
        }
        Ok(Some(group))
    }
}
