//! The chunk: its status, the one transition table, and its bounds.
//!
//! `odf.chunk_status` in SQL has the same words in the same order, and `odf.chunk_transition`
//! the same pairs; `tests/it/transitions.rs` compares both with this file.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// What production of a chunk has come to. `running` is derived from a live lease and
/// `resubmit` from a pending request: neither is ever stored as a chunk's own state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkStatus {
    /// An input is not validated yet.
    Waiting,
    /// Every input is there: a worker may claim it.
    Ready,
    /// Leased by one attempt.
    Running,
    /// Published, waiting for a person's approval.
    Complete,
    /// Published and checked: consumers may take it.
    Validated,
    /// The last attempt failed; it is retried when its time comes.
    Failed,
    /// No attempts left, or a permanent error: a person decides.
    Exhausted,
    /// Set aside by a person.
    Held,
    /// Ended by a person.
    Cancelled,
    /// Replaced by its children.
    Split,
    /// A person asked for it to run again.
    Resubmit,
}

impl ChunkStatus {
    /// Every status, in the order of the SQL enum.
    pub const ALL: [Self; 11] = [
        Self::Waiting,
        Self::Ready,
        Self::Running,
        Self::Complete,
        Self::Validated,
        Self::Failed,
        Self::Exhausted,
        Self::Held,
        Self::Cancelled,
        Self::Split,
        Self::Resubmit,
    ];

    /// The word used in SQL, on the command line and in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Validated => "validated",
            Self::Failed => "failed",
            Self::Exhausted => "exhausted",
            Self::Held => "held",
            Self::Cancelled => "cancelled",
            Self::Split => "split",
            Self::Resubmit => "resubmit",
        }
    }

    /// The status of that word, if there is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// The stored states that a chunk may go to from this stored state.
    ///
    /// This is the one transition table. `ready -> ready` (a lease lost or handed back) draws a
    /// new place in the queue and is not a change of state, so it is not listed.
    #[must_use]
    pub fn successors(self) -> &'static [Self] {
        use ChunkStatus::{
            Cancelled, Complete, Exhausted, Failed, Held, Ready, Split, Validated, Waiting,
        };
        match self {
            Self::Waiting => &[Ready, Held, Cancelled],
            Self::Ready => &[
                Waiting, Complete, Validated, Failed, Exhausted, Held, Cancelled, Split,
            ],
            Self::Complete => &[Validated, Waiting, Ready, Cancelled],
            Self::Validated => &[Waiting, Ready],
            Self::Failed => &[Waiting, Ready, Exhausted, Held, Cancelled, Split],
            Self::Exhausted => &[Waiting, Ready, Held, Cancelled, Split],
            Self::Held => &[Waiting, Ready, Validated, Cancelled],
            Self::Cancelled => &[Waiting, Ready],
            Self::Split => &[Waiting, Ready],
            Self::Running | Self::Resubmit => &[],
        }
    }
}

/// One column of a chunk key, as the source database describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// The column's name, unquoted.
    pub name: String,
    /// Its SQL type as `format_type` prints it, for example `bigint` or `numeric(12,2)`.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// A collation to compare under, quoted and qualified as SQL takes it, where it is not the column's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

/// The values of one column that lie in `[lower, upper)`, as text of its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSpan {
    /// The column.
    pub column: KeyColumn,
    /// First value inside.
    pub lower: String,
    /// First value outside.
    pub upper: String,
}

/// What part of its data set a chunk is. Values travel as data: bind parameters, environment, argv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Bounds {
    /// Rows whose key tuple lies in `[lower, upper)`; `None` is open-ended.
    KeyRange {
        /// The key's columns, most significant first.
        columns: Vec<KeyColumn>,
        /// First key inside, one text value a column, as the server prints it.
        lower: Option<Vec<String>>,
        /// First key outside.
        upper: Option<Vec<String>>,
    },
    /// Rows in which any key column is NULL.
    NullKeys {
        /// The key's columns.
        columns: Vec<KeyColumn>,
    },
    /// One declared value.
    Value {
        /// The value as written in the flow file.
        value: String,
    },
    /// One file below the connection's root.
    File {
        /// Path relative to the root, `/` between parts.
        path: String,
        /// Its size in bytes when the plan was made.
        bytes: u64,
    },
    /// One row of a planning query or one line of a planning command's output.
    Row {
        /// Column name and text value, in the query's order; `None` is NULL.
        values: Vec<(String, Option<String>)>,
    },
    /// A window of a calendar: the instants in `[start, end)`.
    Window {
        /// First instant inside.
        start: DateTime<Utc>,
        /// First instant outside.
        end: DateTime<Utc>,
        /// The zone whose clock cut it, for example `Europe/Berlin`.
        zone: String,
        /// Its name in that zone's time, for example `2024-10-27T02+0200` or `2024-W13`.
        label: String,
        /// The rows of a table that lie in it, where the partition names a column.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows: Option<ColumnSpan>,
    },
    /// Rows outside of all windows of their table, or without a time.
    OutsideWindows {
        /// What the windows cover together.
        rows: ColumnSpan,
    },
    /// What several dimensions have in common.
    Product {
        /// One part for each dimension, in the declared order; none of them a product.
        parts: Vec<Bounds>,
    },
    /// The whole data set.
    Single,
}

impl Bounds {
    /// What the chunk covers, for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let tuple = |parts: &[String]| match parts {
            [one] => one.clone(),
            several => format!("({})", several.join(", ")),
        };
        let names = |columns: &[KeyColumn]| {
            tuple(
                &columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect::<Vec<_>>(),
            )
        };
        match self {
            Self::KeyRange {
                columns,
                lower,
                upper,
            } => {
                let key = names(columns);
                match (lower, upper) {
                    (Some(lower), Some(upper)) => {
                        format!("{key} from {} to below {}", tuple(lower), tuple(upper))
                    }
                    (Some(lower), None) => format!("{key} from {} on", tuple(lower)),
                    (None, Some(upper)) => format!("{key} below {}", tuple(upper)),
                    (None, None) => format!("every {key}"),
                }
            }
            Self::NullKeys { columns } => format!("rows without {}", names(columns)),
            Self::Value { value } => format!("the value {value}"),
            Self::File { path, bytes } => {
                format!("the file {path} ({})", super::size::format_bytes(*bytes))
            }
            Self::Row { values } => {
                let parts: Vec<String> = values
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", value.as_deref().unwrap_or("NULL")))
                    .collect();
                parts.join(", ")
            }
            Self::Window {
                start,
                end,
                zone,
                label,
                rows,
            } => {
                let column = rows
                    .as_ref()
                    .map(|rows| format!("{} in ", rows.column.name));
                format!(
                    "{}{label} {zone} ({} to below {})",
                    column.unwrap_or_default(),
                    rfc3339(*start),
                    rfc3339(*end)
                )
            }
            Self::OutsideWindows { rows } => format!(
                "rows with {} below {}, from {} on, or without one",
                rows.column.name, rows.lower, rows.upper
            ),
            Self::Product { parts } => {
                let parts: Vec<String> = parts.iter().map(Self::in_words).collect();
                parts.join("; ")
            }
            Self::Single => "the whole data set".to_owned(),
        }
    }

    /// The window of these bounds or of one of their dimensions: start, end, zone and label.
    #[must_use]
    pub fn window(&self) -> Option<(DateTime<Utc>, DateTime<Utc>, &str, &str)> {
        match self {
            Self::Window {
                start,
                end,
                zone,
                label,
                ..
            } => Some((*start, *end, zone, label)),
            Self::Product { parts } => parts.iter().find_map(Self::window),
            _ => None,
        }
    }
}

/// The most bytes in a chunk's key.
pub const LONGEST_KEY: usize = 200;

/// Says why a text cannot be a chunk's key as it is; `None` where it can.
#[must_use]
pub fn key_objection(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        Some("it is empty")
    } else if key.contains('/') {
        Some("it holds `/`")
    } else if key.chars().any(char::is_control) {
        Some("it holds a control character")
    } else if key.len() > LONGEST_KEY {
        Some("it is longer than 200 bytes")
    } else if matches!(key, "." | "..") || key.trim() != key {
        Some("it is only dots, or starts or ends with a blank")
    } else {
        None
    }
}

/// An instant as scripts and people read it: `2024-03-31T01:00:00Z`.
#[must_use]
pub fn rfc3339(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A chunk that a splitter proposes; the store gives it its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewChunk {
    /// Its name inside the data set, for example `00042`; unique there, never empty, no `/`.
    pub key: String,
    /// What it covers.
    pub bounds: Bounds,
    /// Rows expected, where the splitter knows.
    pub est_rows: Option<i64>,
    /// Bytes expected, where the splitter knows.
    pub est_bytes: Option<i64>,
}
