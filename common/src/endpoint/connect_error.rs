//! Why a connection could not be made, by what a person does about it.
//!
//! The one place that reads a driver's error apart. No variant ever holds the url or a password:
//! only host, port, database, user and the server's own words.

use tokio_postgres::error::SqlState;

use super::PgTarget;

/// A connection that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The url cannot be read.
    #[error("a PostgreSQL url was expected: {problem}; hint: {hint}")]
    InvalidUrl {
        /// What is wrong, without the text itself.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// Nothing answers at the address, or not in time.
    #[error(
        "cannot reach {address}: {problem}; hint: check host and port, that the server runs, and that the network lets this host through"
    )]
    Unreachable {
        /// `host:port/database`.
        address: String,
        /// What the network said.
        problem: String,
    },
    /// The server refuses the user, the password or this host.
    #[error("{address} refuses user {user:?}: {problem}; hint: {hint}")]
    Authentication {
        /// `host:port/database`.
        address: String,
        /// The user that was refused.
        user: String,
        /// The server's words.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// The server has no such database.
    #[error(
        "no such database at {address}: {problem}; hint: check the name behind the host in the url; `psql -l` lists them"
    )]
    NoSuchDatabase {
        /// `host:port/database`.
        address: String,
        /// The server's words.
        problem: String,
    },
    /// Encryption could not be set up.
    #[error("no TLS session with {address}: {problem}; hint: {hint}")]
    Tls {
        /// `host:port/database`.
        address: String,
        /// What was wrong.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// The server is there and takes no session now: starting, shutting down, or full.
    #[error(
        "{address} takes no session now: {problem}; hint: it is tried again; if it lasts, look at max_connections and at the server's log"
    )]
    Busy {
        /// `host:port/database`.
        address: String,
        /// The server's words.
        problem: String,
    },
    /// The server refused for a reason of its own.
    #[error("{address} refused the session: {problem}")]
    Refused {
        /// `host:port/database`.
        address: String,
        /// The server's words.
        problem: String,
    },
}

impl ConnectError {
    /// Whether the same url may well work later without anybody changing anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. })
    }

    /// Reads a driver's error while connecting.
    #[must_use]
    pub fn from_driver(target: &PgTarget, error: &tokio_postgres::Error) -> Self {
        let address = target.address();
        let problem = describe(error);
        let user = || target.config.get_user().unwrap_or_default().to_owned();
        let Some(code) = error.code() else {
            return Self::without_sqlstate(address, user(), problem, error);
        };
        match code {
            &SqlState::INVALID_PASSWORD => Self::Authentication {
                address,
                user: user(),
                problem,
                hint: "check user and password; a secret is read anew by every attempt",
            },
            &SqlState::INVALID_AUTHORIZATION_SPECIFICATION | &SqlState::INSUFFICIENT_PRIVILEGE => {
                Self::Authentication {
                    address,
                    user: user(),
                    problem,
                    hint: "check the user's name, its right to connect, and the server's pg_hba.conf for this host",
                }
            }
            &SqlState::INVALID_CATALOG_NAME => Self::NoSuchDatabase { address, problem },
            &SqlState::TOO_MANY_CONNECTIONS
            | &SqlState::CANNOT_CONNECT_NOW
            | &SqlState::ADMIN_SHUTDOWN
            | &SqlState::CRASH_SHUTDOWN => Self::Busy { address, problem },
            _ => Self::Refused { address, problem },
        }
    }

    fn without_sqlstate(
        address: String,
        user: String,
        problem: String,
        error: &tokio_postgres::Error,
    ) -> Self {
        // The driver keeps its kinds to itself; its first words are what tells them apart.
        let kind = error.to_string();
        if kind.contains("TLS") || source_of::<rustls::Error>(error).is_some() {
            return Self::Tls {
                address,
                problem,
                hint: tls_hint(error),
            };
        }
        if kind.contains("authentication") || problem.contains("password missing") {
            return Self::Authentication {
                address,
                user,
                problem,
                hint: "the url must hold a password that this server's method takes",
            };
        }
        Self::Unreachable { address, problem }
    }
}

fn tls_hint(error: &tokio_postgres::Error) -> &'static str {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer,
    };
    match source_of::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(
            NotValidForName | NotValidForNameContext { .. },
        )) => "connect by a name that the server's certificate holds, or use sslmode=verify-ca",
        Some(rustls::Error::InvalidCertificate(UnknownIssuer)) => {
            "name the root certificate that signed the server's by sslrootcert=/path/ca.pem"
        }
        Some(rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
            "the server's certificate has expired: renew it, and check this host's clock"
        }
        _ => "check that the server has ssl = on, or choose another sslmode",
    }
}

fn source_of<E: std::error::Error + 'static>(error: &tokio_postgres::Error) -> Option<&E> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        // std::io::Error::source skips the error that it wraps; get_ref does not.
        let wrapped = cause
            .downcast_ref::<std::io::Error>()
            .and_then(|e| e.get_ref());
        if let Some(found) = wrapped.and_then(|inner| inner.downcast_ref::<E>()) {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// A driver's error in one line: the server's message with SQLSTATE, detail and hint, or the
/// chain of causes; the driver's own `Display` says only "db error".
#[must_use]
pub fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        let mut text = format!("{} (SQLSTATE {})", server.message(), server.code().code());
        for (label, more) in [
            ("detail", server.detail()),
            ("server's hint", server.hint()),
        ] {
            if let Some(more) = more {
                text.push_str(&format!("; {label}: {more}"));
            }
        }
        return text;
    }
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
