//! Hiding secrets in what a script prints: any resolved value becomes `***`, also where it is
//! cut by the end of a read.
//!
//! Works on bytes, since output need not be text. Values too short to be secrets are left alone:
//! masking every `a` would hide the log and tell the secret.

/// Shorter values are not masked.
const MIN_SECRET: usize = 4;
/// Shorter single lines of a secret of several lines (a key file) are not masked alone.
const MIN_LINE: usize = 12;
const HIDDEN: &[u8] = b"***";

/// The values to hide. Holds secrets, so it does not print them.
#[derive(Clone, Default)]
pub struct Mask {
    /// Longest first, so that a value that begins with another is hidden whole.
    values: Vec<Vec<u8>>,
    starts: Vec<bool>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} values)", self.values.len())
    }
}

impl Mask {
    /// A mask for these values and, for those of several lines, their longer lines.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for value in values {
            if value.contains('\n') {
                all.extend(
                    value
                        .lines()
                        .map(str::trim)
                        .filter(|line| line.len() >= MIN_LINE)
                        .map(|line| line.as_bytes().to_vec()),
                );
            }
            all.push(value.trim().as_bytes().to_vec());
        }
        all.retain(|value| value.len() >= MIN_SECRET);
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        let mut starts = vec![false; 256];
        for value in &all {
            starts[usize::from(value[0])] = true;
        }
        Self {
            values: all,
            starts,
        }
    }

    /// The text with every value hidden.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut stream = MaskStream::default();
        let mut out = Vec::with_capacity(text.len());
        stream.push(self, text.as_bytes(), &mut out);
        stream.finish(self, &mut out);
        // Values are whole UTF-8 strings, so cutting them out leaves UTF-8.
        String::from_utf8_lossy(&out).into_owned()
    }

    fn longest(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// The value at the beginning of `bytes`, if one is there.
    fn hit(&self, bytes: &[u8]) -> Option<usize> {
        self.values
            .iter()
            .find(|value| bytes.starts_with(value))
            .map(Vec::len)
    }
}

/// Masking of a stream that comes in pieces.
#[derive(Default)]
pub(crate) struct MaskStream {
    /// Bytes that may be the beginning of a value.
    pending: Vec<u8>,
}

impl MaskStream {
    /// Masks what can be judged by now and appends it to `out`.
    pub(crate) fn push(&mut self, mask: &Mask, bytes: &[u8], out: &mut Vec<u8>) {
        if mask.values.is_empty() {
            out.extend_from_slice(bytes);
            return;
        }
        self.pending.extend_from_slice(bytes);
        // From here on a value could go on in the next piece.
        let judged = (self.pending.len() + 1).saturating_sub(mask.longest());
        let used = scan(mask, &self.pending, judged, out);
        self.pending.drain(..used);
    }

    /// Masks what is left.
    pub(crate) fn finish(&mut self, mask: &Mask, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.pending);
        scan(mask, &rest, rest.len(), out);
    }
}

/// Masks values that begin before `judged`; returns how many bytes are done with.
fn scan(mask: &Mask, bytes: &[u8], judged: usize, out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while at < judged {
        let plain = bytes[at..judged]
            .iter()
            .position(|byte| mask.starts[usize::from(*byte)])
            .unwrap_or(judged - at);
        out.extend_from_slice(&bytes[at..at + plain]);
        at += plain;
        if at >= judged {
            break;
        }
        if let Some(length) = mask.hit(&bytes[at..]) {
            out.extend_from_slice(HIDDEN);
            at += length;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Mask, MaskStream};

    fn mask(values: &[&str]) -> Mask {
        Mask::new(values.iter().map(|value| (*value).to_owned()))
    }

    #[test]
    fn values_are_hidden_and_the_longer_one_wins() {
        let mask = mask(&["hunter2", "hunter2-and-more", "abc", ""]);
        assert_eq!(
            mask.text("a hunter2 b hunter2-and-more abc hunter"),
            "a *** b *** abc hunter"
        );
    }

    #[test]
    fn lines_of_a_key_file_are_hidden_one_by_one() {
        let mask = mask(&["-----BEGIN-----\nMIIEvQIBADANBgkq\n-----END-----\n"]);
        assert_eq!(
            mask.text("read MIIEvQIBADANBgkq from file"),
            "read *** from file"
        );
    }

    #[test]
    fn debug_output_holds_no_value() {
        assert_eq!(format!("{:?}", mask(&["hunter2"])), "Mask(1 values)");
    }

    proptest! {
        /// However the output is cut into pieces, it is masked as if it came whole.
        #[test]
        fn cuts_do_not_matter(
            words in proptest::collection::vec(prop_oneof!["aaab", "aab", "b", "secret", "sec", "secretary"], 0..40),
            cuts in proptest::collection::vec(1_usize..7, 1..60),
        ) {
            let mask = mask(&["aaab", "secret", "secretary"]);
            let text: String = words.concat();
            let mut stream = MaskStream::default();
            let mut out = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                stream.push(&mask, piece, &mut out);
                rest = after;
            }
            stream.push(&mask, rest, &mut out);
            stream.finish(&mask, &mut out);
            let whole = mask.text(&text);
            prop_assert_eq!(String::from_utf8(out).unwrap(), whole.clone());
            prop_assert!(!whole.contains("aaab") && !whole.contains("secret"), "{}", whole);
        }
    }
}
