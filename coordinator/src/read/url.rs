//! One way to name the control database for every program: a URL, or libpq's `key=value` text, which
//! the daemons' client reads by itself and the command line's only as a URL.
//!
//! The text may hold a password, so no part of it is ever in an error.

use std::fmt::Write as _;

use common::endpoint::tls::{Roots, TlsMode};
use common::endpoint::{ConnectError, ExposeSecret as _, PgTarget, SecretString};
use tokio_postgres::config::Host;

/// The same target as a URL; a text that is no `key=value` pairs is answered as it is.
///
/// # Errors
/// [`ConnectError::InvalidUrl`] in the daemons' words.
pub fn as_url(text: &str) -> Result<SecretString, ConnectError> {
    let is_pairs = !text.contains("://") && text.contains('=');
    if !is_pairs {
        return Ok(SecretString::from(text.to_owned()));
    }
    let target = PgTarget::parse(&SecretString::from(text.to_owned()))?;
    let config = target.config();
    let invalid = |problem: &str, hint: &'static str| ConnectError::InvalidUrl {
        problem: problem.to_owned(),
        hint,
    };
    let [host] = config.get_hosts() else {
        return Err(invalid(
            "the command line takes one host, by name",
            "write host=NAME; several hosts, and hostaddr, are for the daemons",
        ));
    };
    let mut url = String::from("postgresql://");
    if let Some(user) = config.get_user() {
        url.push_str(&encoded(user.as_bytes()));
    }
    if let Some(password) = config.get_password() {
        url.push(':');
        url.push_str(&encoded(password));
    }
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let mut query = Vec::new();
    match host {
        Host::Tcp(name) => {
            let name = if name.contains(':') {
                format!("[{name}]")
            } else {
                name.clone()
            };
            // Writing to a String cannot fail.
            let _ = write!(url, "@{name}:{port}");
        }
        Host::Unix(path) => {
            // A URL has a host where a user or a port is; the parameter wins over it.
            let _ = write!(url, "@localhost:{port}");
            query.push(format!(
                "host={}",
                encoded(path.as_os_str().as_encoded_bytes())
            ));
        }
    }
    if let Some(database) = config.get_dbname() {
        url.push('/');
        url.push_str(&encoded(database.as_bytes()));
    }
    query.extend(tls(target.tls_mode()));
    let _ = write!(url, "?{}", query.join("&"));
    Ok(SecretString::from(url))
}

fn tls(mode: &TlsMode) -> Vec<String> {
    let (word, roots) = match mode {
        TlsMode::Disable => ("disable", None),
        TlsMode::Prefer => ("prefer", None),
        TlsMode::Require => ("require", None),
        TlsMode::VerifyCa(roots) => ("verify-ca", Some(roots)),
        TlsMode::VerifyFull(roots) => ("verify-full", Some(roots)),
    };
    let mut query = vec![format!("sslmode={word}")];
    if let Some(Roots::File(path)) = roots {
        let path = encoded(path.as_os_str().as_encoded_bytes());
        query.push(format!("sslrootcert={path}"));
    }
    query
}

/// Everything but letters, digits and `-._~` in percent-encoding.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// What [`as_url`] answers, for a client that wants text.
///
/// # Errors
/// As [`as_url`].
pub fn parsed<T: std::str::FromStr>(text: &str) -> Result<Result<T, T::Err>, ConnectError> {
    Ok(as_url(text)?.expose_secret().parse())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sqlx::postgres::PgConnectOptions;

    use super::*;

    fn options(text: &str) -> PgConnectOptions {
        parsed(text).unwrap().unwrap()
    }

    #[test]
    fn pairs_and_a_url_name_the_same_database() {
        let by_pairs = options(
            "host=db port=5433 user='o p' password='a@b/c \\'' dbname='d b' sslmode=disable",
        );
        let by_url = options("postgres://o%20p:a%40b%2Fc%20'@db:5433/d%20b?sslmode=disable");
        for options in [by_pairs, by_url] {
            assert_eq!(options.get_host(), "db");
            assert_eq!(options.get_port(), 5433);
            assert_eq!(options.get_username(), "o p");
            assert_eq!(options.get_database(), Some("d b"));
        }
        let socket = options("host='/run/post gres' user=a dbname=b");
        let shown = socket.get_socket().map(|path| path.as_path());
        assert_eq!(shown, Some(Path::new("/run/post gres")));
    }

    #[test]
    fn what_cannot_be_read_is_told_in_the_daemons_words_and_without_the_password() {
        for text in [
            "host=a,b user=x password=sesame",
            "user=x password=sesame",
            "host=a sslmode=perhaps password=sesame",
            "host=a password='sesame",
            "host=a service=sesame",
        ] {
            let error = as_url(text).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("sesame"), "{said}");
        }
    }
}
