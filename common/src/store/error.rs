//! What a call to the control database can come to, by what the caller does about it.
//!
//! The one place that reads our own SQLSTATEs (class `OD`).

use secrecy::SecretString;
use tokio_postgres::error::SqlState;

use crate::endpoint::{self, ConnectError};

/// Why a call was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No session could be opened.
    #[error("open control database: {0}")]
    Connect(#[from] ConnectError),
    /// The connection was lost or too slow: whether the call took effect is unknown, repeat it.
    #[error("control database does not answer: {problem}")]
    Unreachable {
        /// What the driver said.
        problem: String,
    },
    /// The server aborted the call for a deadlock or a conflict; nothing took effect.
    #[error("control database aborted the call: {problem}")]
    Conflict {
        /// The server's words.
        problem: String,
    },
    /// The session is not known: register again.
    #[error("{0}")]
    UnknownSession(Said),
    /// A wrong argument.
    #[error("{0}")]
    Usage(Said),
    /// This build and the installed functions do not speak the same protocol.
    #[error("{0}")]
    Protocol(Said),
    /// Another living worker has that name.
    #[error("{0}")]
    NameTaken(Said),
    /// No such pool, data set, worker, ...
    #[error("{0}")]
    NotFound(Said),
    /// Understood and refused.
    #[error("{0}")]
    Refused(Said),
    /// Somebody else took this over, or what it rested on was declared anew: begin again.
    #[error("{0}")]
    Overtaken(Said),
    /// This coordinator does not lead any more.
    #[error("{0}")]
    TermOver(Said),
    /// The login may not do that.
    #[error(
        "{problem}; hint: log in with a role that may: odf_worker, odf_operator or odf_coordinator"
    )]
    Denied {
        /// The server's words.
        problem: String,
    },
    /// The database has no OpenDataFlow schema, or one of another release.
    #[error(
        "the control database has no usable OpenDataFlow schema ({problem}); hint: run 'coordinator init'"
    )]
    NoSchema {
        /// The server's words.
        problem: String,
    },
    /// Any other error of the server.
    #[error("control database: {message} (SQLSTATE {code})")]
    Database {
        /// Five characters.
        code: String,
        /// The server's words.
        message: String,
    },
    /// An answer that this build does not understand.
    #[error(
        "odf.{verb} answered something unexpected ({problem}); hint: install the same release everywhere"
    )]
    Answer {
        /// Which function.
        verb: &'static str,
        /// What did not fit.
        problem: String,
    },
}

/// What one of our functions said when it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The message.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{}; hint: {hint}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Conflict { .. } => true,
            Self::Connect(error) => error.may_pass(),
            // Shut-down and start-up of the server, out of connections, cancelled statements.
            Self::Database { code, .. } => matches!(&code[..2], "57" | "53" | "55" | "08"),
            _ => false,
        }
    }

    /// Reads a driver's error apart.
    #[must_use]
    pub fn from_driver(error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::Unreachable {
                problem: endpoint::describe(error),
            };
        };
        let said = Said {
            message: db.message().to_owned(),
            hint: db.hint().map(str::to_owned),
        };
        let problem = db.message().to_owned();
        match db.code().code() {
            "OD001" => Self::UnknownSession(said),
            "OD002" | "OD005" => Self::Usage(said),
            "OD003" => Self::Protocol(said),
            "OD004" => Self::NameTaken(said),
            "OD010" => Self::NotFound(said),
            "OD011" => Self::Refused(said),
            "OD012" => Self::Overtaken(said),
            "OD020" => Self::TermOver(said),
            code if code == SqlState::INSUFFICIENT_PRIVILEGE.code() => Self::Denied { problem },
            code if code == SqlState::INVALID_SCHEMA_NAME.code()
                || code == SqlState::UNDEFINED_FUNCTION.code()
                || code == SqlState::UNDEFINED_TABLE.code() =>
            {
                Self::NoSchema { problem }
            }
            code if code == SqlState::T_R_DEADLOCK_DETECTED.code()
                || code == SqlState::T_R_SERIALIZATION_FAILURE.code() =>
            {
                Self::Conflict { problem }
            }
            // The server is ending this session: as good as a lost connection.
            "57P01" | "57P02" | "57P03" => Self::Unreachable { problem },
            code => Self::Database {
                code: code.to_owned(),
                message: problem,
            },
        }
    }

    pub(super) fn from_pool(url: &SecretString, error: &deadpool_postgres::PoolError) -> Self {
        Self::Connect(endpoint::pool::explain(url, error))
    }
}
