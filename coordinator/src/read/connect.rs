//! The way into the control database for everything that reads it for people.
//!
//! Two connections at most: a command asks one thing after the other. The first connection is
//! made outside the pool, because the pool waits out a refused connection instead of saying so.

use std::str::FromStr;
use std::time::Duration;

use common::endpoint::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

use super::error::ReadError;
use super::url;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Opens a pool for a command, after one connection has shown that the server lets us in.
///
/// # Errors
/// [`ReadError::Usage`] for a text that is no URL, [`ReadError::Unreachable`] where nobody
/// answers or the login is refused; neither repeats the URL, which may hold a password.
pub async fn connect(url: &str, program: &str) -> Result<PgPool, ReadError> {
    let options = options(url, program)?;
    let target = target(&options);
    let first = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
    let connection = match first {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(unreachable(target, &error)),
        Err(_) => {
            return Err(ReadError::Unreachable {
                target,
                cause: "no answer within 10 s".to_owned(),
                hint: Some("check host and port, and whether a firewall is in between".to_owned()),
            });
        }
    };
    // The session is not needed any more; a failure to say good-bye changes nothing.
    connection.close().await.ok();
    Ok(PgPoolOptions::new()
        .max_connections(2)
        .min_connections(0)
        .acquire_timeout(CONNECT_LIMIT)
        .connect_lazy_with(options))
}

fn options(url: &str, program: &str) -> Result<PgConnectOptions, ReadError> {
    let unreadable = |problem: String| {
        ReadError::Usage {
        message: format!("the control database's URL cannot be read: {problem}"),
        hint: Some("it looks like postgresql://user@host:5432/database, or host=... user=... dbname=...; a password is better kept in ~/.pgpass".to_owned()),
    }
    };
    let url = url::as_url(url).map_err(|error| {
        let text = error.to_string();
        let (message, hint) = text.split_once("; hint: ").unwrap_or((&text, ""));
        ReadError::Usage {
            message: format!("the control database: {message}"),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        }
    })?;
    let url = url.expose_secret();
    // The parser takes any scheme, and would look for another kind of server at our port.
    let (scheme, _) = url.split_once("://").unwrap_or_default();
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(unreadable(
            "it does not begin with postgresql:// and is no key=value text".to_owned(),
        ));
    }
    let parsed = PgConnectOptions::from_str(url).map_err(|error| unreadable(plain(&error)))?;
    Ok(parsed
        .application_name(program)
        .options([
            ("statement_timeout", "5min"),
            ("lock_timeout", "20s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ])
        .disable_statement_logging())
}

/// `user@host:port/database`, never a password.
fn target(options: &PgConnectOptions) -> String {
    let place = match options.get_socket() {
        Some(path) => path.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options
        .get_database()
        .unwrap_or_else(|| options.get_username());
    format!("{}@{place}/{database}", options.get_username())
}

fn unreachable(target: String, error: &sqlx::Error) -> ReadError {
    let hint = match error {
        sqlx::Error::Io(_) => Some("is the server running, and are host and port right?"),
        sqlx::Error::Tls(_) => Some("check sslmode and sslrootcert in the URL"),
        sqlx::Error::Database(inner) => match inner.code().as_deref() {
            Some("28P01" | "28000") => {
                Some("check the user and its password (in the URL, PGPASSWORD or ~/.pgpass)")
            }
            Some("3D000") => Some("create the database, or name another one in the URL"),
            Some("53300") => {
                Some("the server has no connection left: try again or raise max_connections")
            }
            Some("42501") => {
                Some("the login may not connect to this database: grant connect on database")
            }
            _ => None,
        },
        _ => None,
    };
    ReadError::Unreachable {
        target,
        cause: plain(error),
        hint: hint.map(str::to_owned),
    }
}

/// The cause without sqlx's own introduction.
fn plain(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(inner) => inner.message().to_owned(),
        sqlx::Error::Io(inner) => inner.to_string(),
        sqlx::Error::Tls(inner) | sqlx::Error::Configuration(inner) => inner.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::connect;

    #[tokio::test]
    async fn a_refused_connection_is_told_at_once_and_without_the_password() {
        let error = connect("postgresql://ann:sesame@127.0.0.1:9/odf", "test")
            .await
            .unwrap_err();
        let text = format!("{error} {error:?} {:?}", error.hint());
        assert!(text.contains("ann@127.0.0.1:9/odf"), "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }

    #[tokio::test]
    async fn a_broken_url_is_a_usage_error_that_does_not_repeat_it() {
        let error = connect("postgresql://ann:sesame@host:port/odf", "test")
            .await
            .unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("cannot be read"), "{text}");
        assert!(!text.contains("sesame"), "{text}");
        let error = connect("mysql://ann:sesame@host/odf", "test").await;
        let text = format!("{:?}", error.unwrap_err());
        assert!(text.contains("does not begin with"), "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }
}
