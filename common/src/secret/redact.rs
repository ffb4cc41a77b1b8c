//! Hiding known secret values in text, bytes and streams of bytes.
//!
//! Overlapping values are hidden as a whole, and a value that a stream delivers in two parts is
//! hidden as well: what might still become one is held back until it is decided.

use std::collections::BTreeSet;
use std::fmt;

use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::literal::url_password_values;
use super::source::Resolved;

/// Shorter values are not hidden: masking `prod` or `1` would hide a log, not a secret. In bytes.
pub const MIN_HIDDEN: usize = 4;

/// What stands for a hidden value.
const STARS: &[u8] = b"***";

/// Knows secret values and replaces them with `***`.
#[derive(Default)]
pub struct Redactor {
    /// Longest first, so that the first that fits at a place is the longest.
    values: Vec<SecretSlice<u8>>,
    /// For each byte, whether a value begins with it.
    starts: Vec<bool>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} values)", self.values.len())
    }
}

impl Redactor {
    /// A redactor that knows these values.
    #[must_use]
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s SecretString>) -> Self {
        let mut redactor = Self::default();
        for secret in secrets {
            redactor.hide(secret);
        }
        redactor
    }

    /// Learns a value: as it is, percent-encoded, as JSON writes it, and the password inside it
    /// if it is a URL.
    pub fn hide(&mut self, secret: &SecretString) {
        let value = secret.expose_secret();
        let mut forms = BTreeSet::new();
        add_forms(value, &mut forms);
        for password in url_password_values(value) {
            add_forms(password, &mut forms);
            if let Some(decoded) = percent_decode(password) {
                add_forms(&decoded, &mut forms);
            }
        }
        for form in forms.into_iter().filter(|form| form.len() >= MIN_HIDDEN) {
            if !self
                .values
                .iter()
                .any(|known| known.expose_secret() == form)
            {
                self.values.push(SecretSlice::from(form));
            }
        }
        self.values
            .sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
        self.starts = vec![false; 256];
        for value in &self.values {
            if let Some(first) = value.expose_secret().first() {
                self.starts[usize::from(*first)] = true;
            }
        }
    }

    /// Learns what a resolved text holds: its secrets, and the password of a URL.
    pub fn hide_resolved(&mut self, resolved: &Resolved) {
        for secret in &resolved.secrets {
            self.hide(secret);
        }
        for password in url_password_values(resolved.value.expose_secret()) {
            self.hide(&SecretString::from(password.to_owned()));
        }
    }

    /// A text with every known value replaced.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        // Values are valid UTF-8, so they begin and end between characters.
        String::from_utf8_lossy(&self.redact_bytes(text.as_bytes())).into_owned()
    }

    /// Bytes with every known value replaced.
    #[must_use]
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.stream();
        let mut shown = stream.push(bytes);
        shown.extend(stream.finish());
        shown
    }

    /// A filter for bytes that come in pieces, for example the output of a script.
    #[must_use]
    pub fn stream(&self) -> RedactedStream<'_> {
        RedactedStream {
            redactor: self,
            held: Vec::new(),
            hidden: 0,
        }
    }

    /// What is known about a value beginning at the start of `bytes`.
    fn look(&self, bytes: &[u8], at_end: bool) -> Look {
        let Some(first) = bytes.first() else {
            return Look::Nothing;
        };
        if !self
            .starts
            .get(usize::from(*first))
            .copied()
            .unwrap_or(false)
        {
            return Look::Nothing;
        }
        for value in self.values.iter().map(ExposeSecret::expose_secret) {
            if bytes.starts_with(value) {
                return Look::Value(value.len());
            }
            if !at_end && value.starts_with(bytes) {
                return Look::Undecided;
            }
        }
        Look::Nothing
    }
}

enum Look {
    Nothing,
    Value(usize),
    /// The bytes end inside what may be a value.
    Undecided,
}

/// Replaces known values in bytes that come in pieces.
pub struct RedactedStream<'r> {
    redactor: &'r Redactor,
    /// What was pushed and is not decided yet.
    held: Vec<u8>,
    /// How many of the held bytes belong to a value whose stars were shown already.
    hidden: usize,
}

impl fmt::Debug for RedactedStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedactedStream({} bytes held)", self.held.len())
    }
}

impl RedactedStream<'_> {
    /// Takes bytes and gives back what is certain; the rest follows with a later call.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        self.advance(false)
    }

    /// Gives back what was held back. The stream can be used again from its start.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        let shown = self.advance(true);
        self.hidden = 0;
        shown
    }

    fn advance(&mut self, at_end: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            match self.redactor.look(&self.held[at..], at_end) {
                Look::Undecided => break,
                Look::Value(length) => {
                    if at >= self.hidden {
                        shown.extend_from_slice(STARS);
                    }
                    self.hidden = self.hidden.max(at + length);
                }
                Look::Nothing => {}
            }
            if at >= self.hidden {
                shown.push(self.held[at]);
            }
            at += 1;
        }
        self.held.drain(..at);
        self.hidden = self.hidden.saturating_sub(at);
        shown
    }
}

/// The ways in which a value shows up in logs.
fn add_forms(value: &str, forms: &mut BTreeSet<Vec<u8>>) {
    forms.insert(value.as_bytes().to_vec());
    forms.insert(percent_encode(value, true).into_bytes());
    forms.insert(percent_encode(value, false).into_bytes());
    if let Ok(json) = serde_json::to_string(value) {
        // Without its quotes: it may stand inside a longer text.
        forms.insert(json.as_bytes()[1..json.len() - 1].to_vec());
    }
}

/// Everything but letters, digits and `-._~` as `%XX`.
pub(super) fn percent_encode(text: &str, upper: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ if upper => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push_str(&format!("%{byte:02x}")),
        }
    }
    encoded
}

/// The text behind `%XX`; `None` where it is no UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}
