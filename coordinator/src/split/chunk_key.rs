//! Chunk names: numbers wide enough to sort as text, and readable names made from values.
//!
//! A name is unique in its data set, never empty, never holds `/`, and has at most
//! [`LONGEST`] bytes.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

pub(super) use common::domain::chunk::{LONGEST_KEY as LONGEST, key_objection as objection};

/// Numbers from 1, zero-padded to at least five digits and to the width of the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ordinals {
    width: usize,
}

impl Ordinals {
    /// Numbers for a plan of at most that many chunks.
    pub(super) fn up_to(chunks: u64) -> Self {
        Self {
            width: chunks.to_string().len().max(5),
        }
    }

    pub(super) fn key(self, ordinal: u64) -> String {
        format!("{ordinal:0width$}", width = self.width)
    }
}

/// Readable, unique names for distinct values, in their order: letters, digits, `.`, `_` and `-`
/// stay, anything else becomes `_`. Values whose names would be the same, or too long, get a part
/// of their SHA-256 behind, so a name depends on the values alone and not on their order.
pub(super) fn readable<'a>(values: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut uses: HashMap<String, u32> = HashMap::new();
    for value in values.clone() {
        *uses.entry(plain(value)).or_default() += 1;
    }
    values
        .map(|value| {
            let name = plain(value);
            if uses.get(&name).is_some_and(|&n| n == 1) && objection(&name).is_none() {
                return name;
            }
            let hash: String = Sha256::digest(value.as_bytes())
                .iter()
                .take(6)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let mut cut = name.len().min(LONGEST - 1 - hash.len());
            while !name.is_char_boundary(cut) {
                cut -= 1;
            }
            format!("{}~{hash}", &name[..cut])
        })
        .collect()
}

fn plain(value: &str) -> String {
    value
        .chars()
        .map(|c| match c {
            '.' | '_' | '-' => c,
            c if c.is_alphanumeric() => c,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Ordinals, objection, readable};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::collections::HashSet;

    #[test]
    fn ordinals_sort_as_text_up_to_the_last() {
        assert_eq!(Ordinals::up_to(3).key(1), "00001");
        assert_eq!(Ordinals::up_to(1_000_000).key(1), "0000001");
        assert!(Ordinals::up_to(100_000).key(9) < Ordinals::up_to(100_000).key(10));
    }

    #[test]
    fn names_are_readable_and_collisions_are_told_apart() {
        let names = |values: &[&str]| readable(values.iter().copied());
        assert_eq!(names(&["in/a.csv", "été"]), ["in_a.csv", "été"]);
        let both = names(&["in/a", "in_a", "b"]);
        assert!(both[0].starts_with("in_a~") && both[1].starts_with("in_a~") && both[0] != both[1]);
        assert_eq!(both[2], "b");
        assert!(names(&["."])[0].starts_with(".~"));
        assert!(names(&[""])[0].starts_with('~'));
    }

    proptest! {
        #[test]
        fn any_distinct_values_get_distinct_usable_names(values in proptest::collection::hash_set(any::<String>(), 0..20)) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let names = readable(values.iter().copied());
            for name in &names {
                prop_assert_eq!(objection(name), None);
                prop_assert!(name.len() <= LONGEST);
            }
            prop_assert_eq!(names.iter().collect::<HashSet<_>>().len(), values.len());
        }
    }
}
