//! One line of text for an error and everything that caused it.
//!
//! It only formats: what is secret must not be in an error in the first place.

use std::error::Error;

/// The error's message and those of its causes, outermost first, joined by `: `.
///
/// Some errors show their cause themselves; such a cause is not said twice.
#[must_use]
pub fn error_text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("disk full")]
    struct Inner;

    #[test]
    fn causes_are_told_once() {
        assert_eq!(
            error_text(&Outer("write the file", Inner)),
            "write the file: disk full"
        );
        assert_eq!(
            error_text(&Outer("write the file: disk full", Inner)),
            "write the file: disk full"
        );
    }
}
