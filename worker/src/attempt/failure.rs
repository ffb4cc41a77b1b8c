//! A failure on its way to become an attempt's outcome: class and message, decided where it happens.
//!
//! Messages are for people: what was expected, what was found, what to do. Never a secret.

use std::fmt;
use std::io;
use std::path::Path;

use common::domain::{AttemptResult, FailureClass, Outcome};

/// Why an attempt ends without output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides what happens next.
    pub class: FailureClass,
    /// One or a few lines for people.
    pub error: String,
}

impl Failure {
    /// A failure of any class.
    pub fn new(class: FailureClass, error: impl Into<String>) -> Self {
        Self {
            class,
            error: error.into(),
        }
    }

    /// This host is at fault.
    pub fn host(error: impl Into<String>) -> Self {
        Self::new(FailureClass::Host, error)
    }

    /// The declaration or the data is at fault; no retry helps.
    pub fn permanent(error: impl Into<String>) -> Self {
        Self::new(FailureClass::Permanent, error)
    }

    /// The output did not pass its checks.
    pub fn invalid(error: impl Into<String>) -> Self {
        Self::new(FailureClass::Invalid, error)
    }

    /// Worth another try.
    pub fn transient(error: impl Into<String>) -> Self {
        Self::new(FailureClass::Transient, error)
    }

    /// An operation on a file of this host that failed: the host's fault.
    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::host(format!("{what} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.word(), self.error)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Failed {
            class: failure.class,
            error: failure.error,
        }
    }
}

impl From<Failure> for AttemptResult {
    fn from(failure: Failure) -> Self {
        Self::bare(failure.into())
    }
}
