//! How a command ends when it does not do what was asked, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use crate::read::ReadError;

/// The exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something went wrong.
    Error = 1,
    /// Asked wrongly.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// Understood and not done.
    Refused = 4,
    /// Something is failed or exhausted and nothing moves.
    Degraded = 5,
    /// What was waited for did not come in time.
    TimedOut = 124,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command stopped.
#[derive(Debug)]
pub struct Failure {
    /// The code to end with.
    pub exit: Exit,
    /// What happened; `None` where there is nobody left to tell (a closed pipe).
    pub message: Option<String>,
    /// The next step.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with a message.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: Some(message.into()),
            hint: None,
        }
    }

    /// Asked wrongly.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let exit = match error {
            ReadError::NotFound { .. } => Exit::NotFound,
            ReadError::Refused { .. } => Exit::Refused,
            ReadError::Usage { .. } => Exit::Usage,
            _ => Exit::Error,
        };
        Self {
            exit,
            message: Some(error.to_string()),
            hint: error.hint(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reader has seen enough (`coordinator events | head`).
            return Self {
                exit: Exit::Ok,
                message: None,
                hint: None,
            };
        }
        Self::new(Exit::Error, format!("write the answer: {error}"))
    }
}
