//! Why a data set could not be cut, by what a person does about it.

use common::endpoint::files::FilesError;
use common::endpoint::{ConnectError, NameError, PredicateError, describe};

/// A split or a check that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// No session with the source.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The declaration cannot be followed on this source.
    #[error("{what}; hint: {hint}")]
    Refused {
        /// What was expected, where, and what was found.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The source failed a statement.
    #[error("{doing}: {}", describe(.source))]
    Source {
        /// What was being done, in the present tense.
        doing: &'static str,
        /// The driver's error.
        source: tokio_postgres::Error,
    },
    /// Files could not be listed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A name that SQL cannot hold.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Bounds that cannot be used.
    #[error(transparent)]
    Bounds(#[from] PredicateError),
    /// A planning command failed.
    #[error("planning command {program:?} {problem}{}", shown_stderr(.stderr))]
    Command {
        /// The program, as declared.
        program: String,
        /// What happened.
        problem: String,
        /// The end of what it wrote to stderr, secrets masked.
        stderr: String,
    },
    /// The sink did not take the chunks.
    #[error("store the chunks: {0:#}")]
    Sink(anyhow::Error),
    /// The server's answer breaks a rule of this room: a bug, never to be passed over.
    #[error(
        "the source's answer was not as expected: {0}; hint: this is a bug of OpenDataFlow, please report it"
    )]
    Broken(String),
}

fn shown_stderr(stderr: &str) -> String {
    if stderr.trim().is_empty() {
        String::new()
    } else {
        format!("; its last words: {}", stderr.trim())
    }
}

impl SplitError {
    pub(super) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// Names what was being done when the driver failed.
    pub(super) fn doing(doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Source { doing, source }
    }
}
