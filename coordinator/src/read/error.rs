//! What a question to the control database can come to, by what its asker does next.
//!
//! Every variant that a person sees carries a sentence and, where there is one, the next step.
//! Nothing in here ever holds a password: a target is shown as `user@host:port/database`.

use sqlx::postgres::PgDatabaseError;

/// Why the control database did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What was named is not there (`OD010`).
    #[error("{message}")]
    NotFound {
        /// What was looked for.
        message: String,
        /// What there is instead.
        hint: Option<String>,
    },
    /// Understood and not done (`OD011`).
    #[error("{message}")]
    Refused {
        /// What was refused and why.
        message: String,
        /// What can be done.
        hint: Option<String>,
    },
    /// Asked wrongly (`OD002`).
    #[error("{message}")]
    Usage {
        /// What was expected and what was found.
        message: String,
        /// How to ask.
        hint: Option<String>,
    },
    /// No OpenDataFlow schema in this database.
    #[error("this database has no OpenDataFlow schema")]
    NoSchema,
    /// A schema of another release.
    #[error("the OpenDataFlow schema of this database does not fit this program: {0}")]
    OtherRelease(String),
    /// The login may not do that.
    #[error("{message}")]
    Denied {
        /// What the server said.
        message: String,
        /// The role whose members may.
        needs: &'static str,
    },
    /// The server could not be reached or did not let us in.
    #[error("cannot reach the control database {target}: {cause}")]
    Unreachable {
        /// `user@host:port/database`.
        target: String,
        /// What happened.
        cause: String,
        /// What can be done.
        hint: Option<String>,
    },
    /// The server gave the statement up.
    #[error("the control database took too long: {0}")]
    TooSlow(String),
    /// Anything else.
    #[error("control database: {0}")]
    Database(String),
}

impl ReadError {
    /// The next step for a person, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { hint, .. }
            | Self::Refused { hint, .. }
            | Self::Usage { hint, .. }
            | Self::Unreachable { hint, .. } => hint.clone(),
            Self::NoSchema => Some("coordinator init".to_owned()),
            Self::OtherRelease(_) => {
                Some("run 'coordinator init' of this release, or use the program of the release that is installed".to_owned())
            }
            Self::Denied { needs, .. } => {
                Some(format!("the login needs the role {needs}: grant {needs} to LOGIN"))
            }
            Self::TooSlow(_) => Some("ask for less, or try again when the database is less busy".to_owned()),
            Self::Database(_) => None,
        }
    }

    /// Whether asking again later may help: the server was away or busy.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TooSlow(_))
    }
}

/// The operators' functions; what else is refused is reading.
const VERBS: [&str; 13] = [
    "scale",
    "scale_worker",
    "drain_worker",
    "pause",
    "request",
    "request_chunks",
    "reject",
    "approve",
    "apply_flow",
    "ask_replan",
    "confirm_replan",
    "withdraw_replan",
    "record_reconciliation",
];

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(inner) => match inner.try_downcast::<PgDatabaseError>() {
                Ok(inner) => from_server(&inner),
                Err(inner) => Self::Database(inner.to_string()),
            },
            sqlx::Error::PoolTimedOut => Self::Unreachable {
                target: "in time".to_owned(),
                cause: "no connection within 10 s".to_owned(),
                hint: None,
            },
            sqlx::Error::Io(inner) => Self::Unreachable {
                target: "any more".to_owned(),
                cause: inner.to_string(),
                hint: None,
            },
            other => Self::Database(other.to_string()),
        }
    }
}

fn from_server(error: &PgDatabaseError) -> ReadError {
    let message = error.message().to_owned();
    let hint = error.hint().map(str::to_owned);
    match error.code() {
        "OD010" => ReadError::NotFound { message, hint },
        "OD011" | "OD004" | "OD020" => ReadError::Refused { message, hint },
        "OD002" => ReadError::Usage { message, hint },
        "3F000" | "42P01" => ReadError::NoSchema,
        "42883" | "42703" | "OD003" => ReadError::OtherRelease(message),
        "42501" => {
            let called = message.strip_prefix("permission denied for function ");
            let is_verb = called.is_some_and(|name| VERBS.contains(&name));
            ReadError::Denied {
                message,
                needs: if is_verb {
                    "odf_operator"
                } else {
                    "odf_viewer"
                },
            }
        }
        "57014" | "55P03" => ReadError::TooSlow(message),
        "57P01" | "57P02" | "57P03" | "53300" => ReadError::Unreachable {
            target: "just now".to_owned(),
            cause: message,
            hint: None,
        },
        code => ReadError::Database(format!("{message} (SQLSTATE {code})")),
    }
}
