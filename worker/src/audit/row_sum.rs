//! The row sum: one number for the content of a set of rows, whatever their order.
//!
//! A stable format, kept with publications for years (docs/adr/0011): it must never change.

use xxhash_rust::xxh3::xxh3_64;

use super::row::Row;

/// The sum of the hashes of rows so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowSum {
    /// Columns in the byte order of their names: place in the row, encoded name.
    columns: Vec<(usize, Vec<u8>)>,
    sum: u64,
    buffer: Vec<u8>,
}

impl RowSum {
    /// Hears the columns, and again when there are more.
    pub(crate) fn columns(&mut self, names: &[String]) {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|a, b| names[*a].as_bytes().cmp(names[*b].as_bytes()));
        self.columns = order
            .into_iter()
            .map(|place| {
                let mut name = Vec::new();
                text(&mut name, names[place].as_bytes());
                (place, name)
            })
            .collect();
    }

    /// Adds a row: XXH3-64 (seed 0) of, for every field that is not NULL, in the byte order of the
    /// column names, the name and the value, each after its length as 8 bytes, little-endian.
    pub(crate) fn add(&mut self, row: &Row<'_>) {
        self.buffer.clear();
        for (place, name) in &self.columns {
            if let Some(value) = row.value(*place) {
                self.buffer.extend_from_slice(name);
                text(&mut self.buffer, value);
            }
        }
        self.sum = self.sum.wrapping_add(xxh3_64(&self.buffer));
    }

    /// The sum modulo 2^64, as 16 hex digits.
    pub(crate) fn hex(&self) -> String {
        format!("{:016x}", self.sum)
    }
}

fn text(buffer: &mut Vec<u8>, text: &[u8]) {
    buffer.extend_from_slice(&(text.len() as u64).to_le_bytes());
    buffer.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::Row;
    use super::RowSum;

    type Table = Vec<Vec<Option<Vec<u8>>>>;

    fn sum_of(names: &[&str], table: &Table) -> String {
        let mut sum = RowSum::default();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        sum.columns(&names);
        for row in table {
            let values: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
            sum.add(&Row {
                number: 1,
                values: &values,
                raw: &[],
            });
        }
        sum.hex()
    }

    /// The format as its record describes it, once more: what is kept for years must not move.
    #[test]
    fn the_format_is_the_one_that_was_written_down() {
        let mut bytes = Vec::new();
        for text in ["a", "1", "b", ""] {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let one = xxhash_rust::xxh3::xxh3_64(&bytes);
        // Columns in another order, and one that is NULL.
        let table = vec![vec![Some(b"".to_vec()), None, Some(b"1".to_vec())]];
        assert_eq!(sum_of(&["b", "c", "a"], &table), format!("{one:016x}"));
        assert_eq!(sum_of(&["b", "c", "a"], &table), "9b51687d6d1df43b");
    }

    fn tables() -> impl Strategy<Value = Table> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..6));
        prop::collection::vec(prop::collection::vec(value, 3), 1..12)
    }

    proptest! {
        #[test]
        fn order_does_not_matter(table in tables(), turn in any::<prop::sample::Index>()) {
            let mut other = table.clone();
            let by = turn.index(table.len());
            other.rotate_left(by);
            other.reverse();
            prop_assert_eq!(sum_of(&["a", "b", "c"], &table), sum_of(&["a", "b", "c"], &other));
        }

        #[test]
        fn anything_else_does(table in tables(), at in any::<prop::sample::Index>(), field in 0..3_usize) {
            let names = ["a", "b", "c"];
            let sum = sum_of(&names, &table);
            let at = at.index(table.len());
            let mut doubled = table.clone();
            doubled.push(table[at].clone());
            prop_assert_ne!(&sum, &sum_of(&names, &doubled), "a row twice");
            // XOR would not see this one.
            doubled.push(table[at].clone());
            prop_assert_ne!(&sum, &sum_of(&names, &doubled), "a row three times");
            let mut without = table.clone();
            without.remove(at);
            prop_assert_ne!(&sum, &sum_of(&names, &without), "a row is missing");
            let mut changed = table.clone();
            changed[at][field] = match &table[at][field] {
                None => Some(Vec::new()),
                Some(text) if text.is_empty() => None,
                Some(text) => Some([text.as_slice(), b"x"].concat()),
            };
            prop_assert_ne!(&sum, &sum_of(&names, &changed), "a field has another value");
            if let (Some(left), Some(right)) = (&table[at][0], &table[at][1])
                && let Some((last, rest)) = left.split_last()
            {
                let mut moved = table.clone();
                moved[at][0] = Some(rest.to_vec());
                moved[at][1] = Some([&[*last], right.as_slice()].concat());
                prop_assert_ne!(&sum, &sum_of(&names, &moved), "a boundary moved");
            }
            prop_assert_eq!(sum_of(&names, &table), sum);
        }
    }
}
