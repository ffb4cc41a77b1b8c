//! Which chunks a command is about: names, states, messages and ranges of numbers.
//!
//! The parsing is pure; what a selector matches is decided by `odf.select_chunks` alone, for
//! every client.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use common::domain::ChunkStatus;
use serde_json::{Map, Value, json};

use super::failure::Failure;

/// The name of a data set, or of one of its chunks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The flow, where the name says it (`flow:data_set`).
    pub flow: Option<String>,
    /// The data set.
    pub dataset: String,
    /// The chunk inside it.
    pub key: Option<String>,
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (set, key) = match text.split_once('/') {
            Some((set, key)) => (set, Some(key.to_owned())),
            None => (text, None),
        };
        let (flow, dataset) = match set.split_once(':') {
            Some((flow, dataset)) => (Some(flow.to_owned()), dataset),
            None => (None, set),
        };
        let empty = |part: &Option<String>| part.as_ref().is_some_and(String::is_empty);
        if dataset.is_empty() || empty(&flow) || empty(&key) {
            return Err(format!("expected DATASET or DATASET/KEY, found {text:?}"));
        }
        Ok(Self {
            flow,
            dataset: dataset.to_owned(),
            key,
        })
    }
}

/// Numbers of chunks as Slurm writes them: `120-240:2,300`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(pub Vec<Range>);

/// First and last number, both inside, and the step between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// From 1.
    pub first: i64,
    /// Not below the first.
    pub last: i64,
    /// 1 takes every one.
    pub step: i64,
}

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|part| range(part.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn range(text: &str) -> Result<Range, String> {
    let expected = || format!("expected numbers such as 120-240:2,300, found {text:?}");
    let number = |digits: &str| match digits.parse::<i64>() {
        Ok(n) if n >= 1 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
        _ => Err(expected()),
    };
    let (span, step) = match text.split_once(':') {
        Some((span, step)) => (span, number(step)?),
        None => (text, 1),
    };
    let (first, last) = match span.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(span)?, number(span)?),
    };
    if last < first {
        return Err(format!("expected the smaller number first, found {text:?}"));
    }
    Ok(Range { first, last, step })
}

impl Ranges {
    /// As SQL takes them: `[[first, last, step], ...]`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.0
            .iter()
            .map(|range| json!([range.first, range.last, range.step]))
            .collect()
    }
}

/// A status by its word.
pub(crate) fn status(word: &str) -> Result<ChunkStatus, String> {
    ChunkStatus::from_word(&word.to_ascii_lowercase()).ok_or_else(|| {
        let words: Vec<&str> = ChunkStatus::ALL
            .iter()
            .map(|status| status.word())
            .collect();
        format!("expected one of {}", words.join(", "))
    })
}

/// What narrows a selection down.
#[derive(Debug, Clone, Default, Args)]
pub struct Filters {
    /// Only chunks with one of these states
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status)]
    pub status: Vec<ChunkStatus>,
    /// Only chunks whose message contains this text, in any case
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// Only these numbers of the plan, for example 120-240:2,300
    #[arg(long, value_name = "RANGES")]
    pub range: Option<Ranges>,
    /// Only chunks that this worker runs
    #[arg(long, value_name = "WORKER")]
    pub worker: Option<String>,
}

/// Which chunks a verb is about.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Data sets and chunks
    #[arg(value_name = "DATASET[/KEY]")]
    pub names: Vec<Name>,
    /// Every data set
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Only what was made from superseded data; set by the verbs that offer it.
    #[arg(skip)]
    pub stale: bool,
    /// What narrows it down.
    #[command(flatten)]
    pub filters: Filters,
}

impl Selection {
    /// The selectors that `odf.select_chunks` takes, one for each data set, none overlapping.
    ///
    /// # Errors
    /// [`Failure`] for a selection that names nothing.
    pub fn to_json(&self, flow: Option<&str>) -> Result<Vec<Value>, Failure> {
        if self.names.is_empty() && !self.all {
            return Err(Failure::usage("no chunks are named")
                .hint("name data sets or chunks (orders, orders/00042), or --all"));
        }
        let mut base = Map::new();
        if let Some(flow) = flow {
            base.insert("flow".to_owned(), json!(flow));
        }
        let filters = &self.filters;
        if !filters.status.is_empty() {
            let words: Vec<&str> = filters.status.iter().map(|status| status.word()).collect();
            base.insert("status".to_owned(), json!(words));
        }
        if let Some(text) = &filters.error {
            base.insert("error".to_owned(), json!(text));
        }
        if let Some(ranges) = &filters.range {
            base.insert("ranges".to_owned(), ranges.to_json());
        }
        if let Some(worker) = &filters.worker {
            base.insert("worker".to_owned(), json!(worker));
        }
        if self.stale {
            base.insert("stale".to_owned(), json!(true));
        }
        if self.all {
            return Ok(vec![Value::Object(base)]);
        }
        // A data set named whole takes in those of its chunks that are named as well.
        let mut sets: BTreeMap<(Option<&str>, &str), Option<Vec<&str>>> = BTreeMap::new();
        for name in &self.names {
            let set = (name.flow.as_deref().or(flow), name.dataset.as_str());
            let keys = sets.entry(set).or_insert_with(|| Some(Vec::new()));
            match (&name.key, keys.as_mut()) {
                (Some(key), Some(keys)) => keys.push(key),
                (Some(_), None) => {}
                (None, _) => *keys = None,
            }
        }
        Ok(sets
            .into_iter()
            .map(|((flow, dataset), keys)| {
                let mut selector = base.clone();
                if let Some(flow) = flow {
                    selector.insert("flow".to_owned(), json!(flow));
                }
                selector.insert("dataset".to_owned(), json!(dataset));
                if let Some(keys) = keys {
                    selector.insert("keys".to_owned(), json!(keys));
                }
                Value::Object(selector)
            })
            .collect())
    }

    /// Whether every name is that of a single chunk.
    #[must_use]
    pub fn names_chunks(&self) -> bool {
        !self.names.is_empty() && self.names.iter().all(|name| name.key.is_some())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Name, Range, Ranges, Selection};

    #[test]
    fn ranges_are_written_as_in_slurm() {
        let ranges: Ranges = "120-240:2, 300".parse().unwrap();
        assert_eq!(
            ranges.0,
            [
                Range {
                    first: 120,
                    last: 240,
                    step: 2
                },
                Range {
                    first: 300,
                    last: 300,
                    step: 1
                }
            ]
        );
        assert_eq!(ranges.to_json(), json!([[120, 240, 2], [300, 300, 1]]));
    }

    #[test]
    fn what_is_no_range_is_refused_with_an_example() {
        for text in [
            "",
            "0",
            "-5",
            "5-",
            "9-3",
            "1-9:0",
            "1..9",
            "+4",
            "1,,2",
            "99999999999999999999",
        ] {
            let error = text.parse::<Ranges>().unwrap_err();
            assert!(error.contains("expected"), "{text:?}: {error}");
        }
    }

    #[test]
    fn names_are_split_at_the_first_slash_and_a_colon_before_it() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert_eq!(name("orders").key, None);
        let chunk = name("orders/2026-01-01T00:00");
        assert_eq!(
            (chunk.dataset.as_str(), chunk.key.as_deref()),
            ("orders", Some("2026-01-01T00:00"))
        );
        assert_eq!(chunk.flow, None);
        assert_eq!(name("sales:orders/1").flow.as_deref(), Some("sales"));
        for text in ["", "/1", "orders/", ":orders", "a:"] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn chunks_of_one_data_set_make_one_selector_and_a_whole_data_set_takes_them_in() {
        let names = ["mid/1", "dst/7", "mid/2"]
            .map(|name| name.parse().unwrap())
            .to_vec();
        let selection = Selection {
            names,
            ..Selection::default()
        };
        assert_eq!(
            selection.to_json(Some("f")).unwrap(),
            [
                json!({ "flow": "f", "dataset": "dst", "keys": ["7"] }),
                json!({ "flow": "f", "dataset": "mid", "keys": ["1", "2"] }),
            ]
        );
        let names = ["mid/1", "mid", "mid/2"]
            .map(|name| name.parse().unwrap())
            .to_vec();
        let selection = Selection {
            names,
            ..Selection::default()
        };
        assert_eq!(
            selection.to_json(None).unwrap(),
            [json!({ "dataset": "mid" })]
        );
    }

    #[test]
    fn a_selection_of_nothing_is_refused() {
        assert!(Selection::default().to_json(None).is_err());
    }
}
