//! Which figures are "the source at its extract" for a chunk: pure.
//!
//! The nearest publication upstream that was recounted and summed by us, itself first. A chunk made
//! of several chunks of one data set takes all of them: row sums add up. Where no sum is kept rows
//! alone are compared, and where not even those are, nothing is claimed.

use chrono::{DateTime, Utc};
use common::policy::row_sum;
use serde::Serialize;

use crate::read::reconciliation::Published;

/// What a chunk of a table is expected to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Rows.
    pub rows: i64,
    /// The row sum; `None` where only rows are known.
    pub sum: Option<String>,
    /// Whose figures these are.
    pub from: String,
    /// When they were published, the last of several.
    pub at: DateTime<Utc>,
    /// Whether columns were named by their places.
    pub by_place: bool,
}

/// The figures of the nearest publication upstream that has them; `None` where none does.
#[must_use]
pub fn expected(way: &[Published]) -> Option<Expected> {
    let own = way.iter().find(|published| published.parent.is_none())?;
    with_sum(way, own).or_else(|| with_rows(way, own))
}

fn own_figures(published: &Published, rows: i64, sum: Option<String>) -> Expected {
    Expected {
        rows,
        sum,
        from: format!(
            "{}/{} generation {}",
            published.dataset, published.key, published.generation
        ),
        at: published.published_at,
        by_place: published.by_place,
    }
}

fn with_sum(way: &[Published], published: &Published) -> Option<Expected> {
    let sum = published.row_sum.as_deref().and_then(row_sum::normal);
    if let (Some(rows), Some(sum)) = (published.rows, sum) {
        return Some(own_figures(published, rows, Some(sum)));
    }
    joined(way, published, with_sum)
}

/// Rows only. What was counted where it was read from says more than what was counted where it was
/// written to, so the way up comes first.
fn with_rows(way: &[Published], published: &Published) -> Option<Expected> {
    let counted = || {
        published
            .rows
            .map(|rows| own_figures(published, rows, None))
    };
    let reported = || {
        published
            .rows_out
            .map(|rows| own_figures(published, rows, None))
    };
    if published.parent.is_some() {
        return counted()
            .or_else(|| joined(way, published, with_rows))
            .or_else(reported);
    }
    joined(way, published, with_rows)
        .or_else(counted)
        .or_else(reported)
}

/// The figures of all inputs together, where they are chunks of one data set and each has them.
fn joined(
    way: &[Published],
    published: &Published,
    figures: fn(&[Published], &Published) -> Option<Expected>,
) -> Option<Expected> {
    let inputs: Vec<&Published> = way
        .iter()
        .filter(|input| {
            input.parent == Some(published.chunk_id) && input.depth == published.depth + 1
        })
        .collect();
    let first = inputs.first()?;
    let whole = usize::try_from(published.inputs).is_ok_and(|known| known == inputs.len());
    if !whole
        || inputs
            .iter()
            .any(|input| input.data_set_id != first.data_set_id)
    {
        return None;
    }
    let mut all = figures(way, first)?;
    for input in inputs.iter().skip(1) {
        let next = figures(way, input)?;
        all.rows = all.rows.checked_add(next.rows)?;
        all.sum = match (&all.sum, &next.sum) {
            (Some(left), Some(right)) => Some(row_sum::joined(left, right)?),
            _ => None,
        };
        all.at = all.at.max(next.at);
        all.by_place |= next.by_place;
    }
    if inputs.len() > 1 {
        all.from = format!("{} chunks of {}", inputs.len(), first.dataset);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::expected;
    use crate::read::reconciliation::Published;

    fn published(chunk: i64, parent: Option<i64>, depth: i32, set: i32) -> Published {
        Published {
            chunk_id: chunk,
            parent,
            depth,
            data_set_id: set,
            dataset: format!("f:set{set}"),
            key: chunk.to_string(),
            generation: 1,
            published_at: DateTime::from_timestamp(1_000_000 + chunk, 0).unwrap(),
            rows_out: None,
            bytes_out: None,
            checksum: None,
            location: None,
            inputs: 0,
            rows: None,
            row_sum: None,
            by_place: false,
        }
    }

    fn summed(mut of: Published, rows: i64, sum: &str) -> Published {
        of.rows = Some(rows);
        of.row_sum = Some(sum.to_owned());
        of
    }

    const ONE: &str = "0000000000000001";

    #[test]
    fn the_nearest_publication_with_a_sum_counts() {
        let mut target = published(3, None, 0, 3);
        (target.inputs, target.rows, target.rows_out) = (1, Some(7), Some(8));
        let mut middle = published(2, Some(3), 1, 2);
        (middle.inputs, middle.rows) = (1, Some(9));
        let extract = summed(published(1, Some(2), 2, 1), 10, ONE);
        let way = [target.clone(), middle.clone(), extract];
        let found = expected(&way).unwrap();
        assert_eq!((found.rows, found.sum.as_deref()), (10, Some(ONE)));
        assert_eq!(found.from, "f:set1/1 generation 1");
        // Without the sum, rows of the nearest that is not the target itself.
        let found = expected(&way[..2]).unwrap();
        assert_eq!((found.rows, found.sum), (9, None));
        // The target's own, where there is nothing else.
        assert_eq!(expected(&way[..1]).unwrap().rows, 7);
        target.rows = None;
        assert_eq!(expected(&[target.clone()]).unwrap().rows, 8);
        target.rows_out = None;
        assert_eq!(expected(&[target]), None);
        assert_eq!(expected(&[]), None);
    }

    #[test]
    fn several_inputs_of_one_data_set_add_up_and_of_two_do_not() {
        let mut target = published(9, None, 0, 3);
        target.inputs = 2;
        let left = summed(published(1, Some(9), 1, 1), 10, ONE);
        let right = summed(published(2, Some(9), 1, 1), 5, "ffffffffffffffff");
        let found = expected(&[target.clone(), left.clone(), right.clone()]).unwrap();
        assert_eq!(
            (found.rows, found.sum.as_deref()),
            (15, Some("0000000000000000"))
        );
        assert_eq!(found.from, "2 chunks of f:set1");
        // One of them is not there, or is of another data set: nothing is claimed.
        assert_eq!(expected(&[target.clone(), left.clone()]), None);
        let mut other = right.clone();
        other.data_set_id = 2;
        assert_eq!(expected(&[target.clone(), left.clone(), other]), None);
        // One has rows only: rows only.
        let mut rows_only = right;
        rows_only.row_sum = None;
        let found = expected(&[target, left, rows_only]).unwrap();
        assert_eq!((found.rows, found.sum), (15, None));
    }

    #[test]
    fn a_sum_that_is_none_is_not_compared() {
        let way = [summed(published(1, None, 0, 1), 10, "not a sum")];
        let found = expected(&way).unwrap();
        assert_eq!((found.rows, found.sum), (10, None));
    }
}
