//! Where a connection goes: a libpq url or `key=value` text, read with every `sslmode`.
//!
//! tokio-postgres reads most of it; the TLS options that it does not know (`verify-ca`,
//! `verify-full`, `sslrootcert`) are taken out first. The text holds a password, so no part of
//! it is ever quoted in an error unless it is known to be a host, a database or an option's name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::ConnectError;
use super::tls::{Roots, TlsMode};

/// How long a host may take to answer, where the url does not say.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a silent connection stays before the first probe, and unacknowledged data before it is cut.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// A parsed connection target. Its `Debug` shows no password.
#[derive(Clone)]
pub struct PgTarget {
    pub(super) config: Config,
    pub(super) tls: TlsMode,
}

impl PgTarget {
    /// Reads a resolved url (`postgres://user:password@host:port/database?sslmode=...`) or the
    /// `host=... dbname=...` form, and fills in time-outs that it does not give: 10 s to connect,
    /// 30 s of keep-alive and of unacknowledged data.
    ///
    /// # Errors
    /// [`ConnectError::InvalidUrl`], which names what is wrong without quoting the text.
    pub fn parse(url: &SecretString) -> Result<Self, ConnectError> {
        let (plain, tls_options) = take_tls_options(url.expose_secret())?;
        let tls = tls_mode(&tls_options)?;
        let mut config = Config::from_str(plain.expose_secret()).map_err(|e| unreadable(&e))?;
        check_hosts(&config)?;
        config.ssl_mode(match tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa(_) | TlsMode::VerifyFull(_) => SslMode::Require,
        });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(PEER_TIMEOUT);
        }
        if !plain.expose_secret().contains("keepalives_idle") {
            config.keepalives_idle(PEER_TIMEOUT);
        }
        Ok(Self { config, tls })
    }

    /// `host:port/database` for messages; several hosts are joined by commas.
    #[must_use]
    pub fn address(&self) -> String {
        let hosts = self.config.get_hosts();
        let ports = self.config.get_ports();
        let mut shown: Vec<String> = hosts
            .iter()
            .enumerate()
            .map(|(i, host)| {
                let port = ports.get(i).or_else(|| ports.first()).unwrap_or(&5432);
                match host {
                    Host::Tcp(name) => format!("{name}:{port}"),
                    Host::Unix(path) => format!("{}:{port}", path.display()),
                }
            })
            .collect();
        if shown.is_empty() {
            shown.extend(self.config.get_hostaddrs().iter().map(ToString::to_string));
        }
        let database = self
            .config
            .get_dbname()
            .or_else(|| self.config.get_user())
            .unwrap_or("postgres");
        format!("{}/{database}", shown.join(","))
    }

    /// The driver's settings: hosts, ports, user, password, database.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How its sessions are protected.
    #[must_use]
    pub fn tls_mode(&self) -> &TlsMode {
        &self.tls
    }

    /// The whole time that connecting may take: one time-out for each host and one for TLS and login.
    pub(super) fn deadline(&self) -> Duration {
        let each = self
            .config
            .get_connect_timeout()
            .copied()
            .unwrap_or(CONNECT_TIMEOUT);
        let hosts = self
            .config
            .get_hosts()
            .len()
            .max(self.config.get_hostaddrs().len());
        each * (u32::try_from(hosts).unwrap_or(u32::MAX).saturating_add(1))
    }
}

impl fmt::Debug for PgTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgTarget")
            .field("address", &self.address())
            .field("user", &self.config.get_user())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Options of ours, removed from the text before tokio-postgres reads it.
const TLS_OPTIONS: [&str; 2] = ["sslmode", "sslrootcert"];

/// Options of libpq that are known and not supported: only these are named in an error.
const UNSUPPORTED: [&str; 20] = [
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslpassword",
];

fn invalid(problem: impl Into<String>, hint: &'static str) -> ConnectError {
    ConnectError::InvalidUrl {
        problem: problem.into(),
        hint,
    }
}

/// The error of a text that tokio-postgres does not read; its own message may quote a password.
fn unreadable(error: &tokio_postgres::Error) -> ConnectError {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let cause = cause.unwrap_or_default();
    if let Some(known) = UNSUPPORTED
        .iter()
        .find(|option| cause == format!("unknown option `{option}`"))
    {
        return invalid(
            format!("the option {known} is not supported"),
            "leave it out; TLS is chosen by sslmode and sslrootcert",
        );
    }
    if cause.starts_with("invalid value for option") {
        return invalid(
            cause,
            "see the manual of libpq for the values an option takes",
        );
    }
    invalid(
        "it is not a url that can be read",
        "write postgres://user:password@host:5432/database and percent-encode special characters of the password (@ is %40)",
    )
}

/// A host that cannot be one is most often the rest of a password with an unescaped `@`.
fn check_hosts(config: &Config) -> Result<(), ConnectError> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(invalid(
            "it names no host",
            "write postgres://user@host:5432/database, or host=/var/run/postgresql for a local socket",
        ));
    }
    for host in config.get_hosts() {
        if let Host::Tcp(name) = host {
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
            if name.is_empty() || !name.chars().all(plain) {
                return Err(invalid(
                    "the host holds characters that no host has",
                    "percent-encode special characters of the password: @ is %40, / is %2F",
                ));
            }
        }
    }
    Ok(())
}

/// Splits the text into what tokio-postgres reads and our TLS options, in order.
fn take_tls_options(text: &str) -> Result<(SecretString, Vec<(String, String)>), ConnectError> {
    let text = text.trim();
    let is_url = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if is_url {
        Ok(take_from_url(text))
    } else {
        take_from_pairs(text)
    }
}

fn take_from_url(text: &str) -> (SecretString, Vec<(String, String)>) {
    // As tokio-postgres reads it: credentials end at the first `@`, options start at the next `?`.
    let after_credentials = text.find('@').map_or(0, |at| at + 1);
    let Some(mark) = text[after_credentials..].find('?') else {
        return (text.into(), Vec::new());
    };
    let (base, query) = text.split_at(after_credentials + mark);
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for pair in query[1..].split('&') {
        match pair.split_once('=') {
            Some((key, value)) if TLS_OPTIONS.contains(&percent_decode(key).as_str()) => {
                ours.push((percent_decode(key), percent_decode(value)));
            }
            _ => theirs.push(pair),
        }
    }
    let plain = if theirs.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", theirs.join("&"))
    };
    (plain.into(), ours)
}

fn take_from_pairs(text: &str) -> Result<(SecretString, Vec<(String, String)>), ConnectError> {
    let broken = || {
        invalid(
            "it is neither a url nor key=value pairs",
            "write postgres://user:password@host:5432/database",
        )
    };
    let mut ours = Vec::new();
    let mut theirs = String::new();
    let mut rest = text;
    while !rest.trim_start().is_empty() {
        rest = rest.trim_start();
        let (key, after) = rest.split_once('=').ok_or_else(broken)?;
        let after = after.trim_start();
        let length = value_length(after).ok_or_else(broken)?;
        let (raw, next) = after.split_at(length);
        if TLS_OPTIONS.contains(&key.trim_end()) {
            ours.push((key.trim_end().to_owned(), unescape_value(raw)));
        } else {
            theirs.push_str(key.trim_end());
            theirs.push('=');
            theirs.push_str(raw);
            theirs.push(' ');
        }
        rest = next;
    }
    Ok((theirs.into(), ours))
}

/// Bytes of a value at the start of the text, quotes included; `None` where a quote is not closed.
fn value_length(text: &str) -> Option<usize> {
    let quoted = text.starts_with('\'');
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '\'' if quoted => return Some(at + 1),
            c if !quoted && c.is_whitespace() => return Some(at),
            _ => {}
        }
    }
    (!quoted).then_some(text.len())
}

fn unescape_value(raw: &str) -> String {
    let inner = raw
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .unwrap_or(raw);
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        value.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    value
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| tail.get(..2).and_then(|two| hex::decode(two).ok()))
            .flatten();
        match code {
            Some(code) => {
                bytes.extend(code);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tls_mode(options: &[(String, String)]) -> Result<TlsMode, ConnectError> {
    let last = |name: &str| {
        options
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let roots = match last("sslrootcert") {
        None => None,
        Some("system") => Some(Roots::System),
        Some(path) => Some(Roots::File(PathBuf::from(path))),
    };
    // As in libpq: a named root certificate makes `require` verify the chain, and `system` verifies all.
    match (last("sslmode"), roots) {
        (None, Some(Roots::System)) => Ok(TlsMode::VerifyFull(Roots::System)),
        (None | Some("prefer" | "allow"), _) => Ok(TlsMode::Prefer),
        (Some("disable"), _) => Ok(TlsMode::Disable),
        (Some("require"), Some(roots)) => Ok(TlsMode::VerifyCa(roots)),
        (Some("require"), None) => Ok(TlsMode::Require),
        (Some("verify-ca"), roots) => Ok(TlsMode::VerifyCa(roots.unwrap_or(Roots::System))),
        (Some("verify-full"), roots) => Ok(TlsMode::VerifyFull(roots.unwrap_or(Roots::System))),
        (Some(_), _) => Err(invalid(
            "its sslmode is not known",
            "use disable, allow, prefer, require, verify-ca or verify-full",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{PgTarget, Roots, TlsMode};
    use secrecy::SecretString;

    fn parse(url: &str) -> PgTarget {
        PgTarget::parse(&SecretString::from(url)).unwrap()
    }

    fn refusal(url: &str) -> String {
        PgTarget::parse(&SecretString::from(url))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_sslmode_of_libpq_is_read_in_both_forms() {
        let file = || Roots::File("/ca a.pem".into());
        for (options, pairs, expected) in [
            ("", "", TlsMode::Prefer),
            ("?sslmode=disable", "sslmode=disable", TlsMode::Disable),
            ("?sslmode=allow", "sslmode = allow", TlsMode::Prefer),
            ("?sslmode=require", "sslmode='require'", TlsMode::Require),
            (
                "?connect_timeout=3&sslmode=require&sslrootcert=/ca%20a.pem",
                r"sslmode=require sslrootcert='/ca a.pem' connect_timeout=3",
                TlsMode::VerifyCa(file()),
            ),
            (
                "?sslmode=verify-full&sslrootcert=/ca%20a.pem&keepalives=1",
                r"sslmode=verify-full sslrootcert=/ca\ a.pem",
                TlsMode::VerifyFull(file()),
            ),
            (
                "?sslmode=verify-full",
                "sslmode=verify-full",
                TlsMode::VerifyFull(Roots::System),
            ),
            (
                "?sslrootcert=system",
                "sslrootcert=system",
                TlsMode::VerifyFull(Roots::System),
            ),
        ] {
            assert_eq!(
                parse(&format!("postgres://u:p@h/db{options}")).tls,
                expected
            );
            let text = format!("host=h user=u password='p \\' q' dbname=db {pairs}");
            assert_eq!(parse(&text).tls, expected, "{text}");
        }
    }

    #[test]
    fn the_address_names_host_port_and_database() {
        assert_eq!(parse("postgres://u:p@h:5433/db").address(), "h:5433/db");
        assert_eq!(parse("postgresql://u@h").address(), "h:5432/u");
        assert_eq!(
            parse("host=/run/pg port=6000 user=u").address(),
            "/run/pg:6000/u"
        );
        assert_eq!(parse("postgres://u@a:1,b:2/db").address(), "a:1,b:2/db");
    }

    #[test]
    fn time_outs_are_filled_in_and_what_the_url_says_stands() {
        let target = parse("postgres://u@h/db");
        assert_eq!(
            target.config.get_connect_timeout(),
            Some(&super::CONNECT_TIMEOUT)
        );
        assert_eq!(target.config.get_keepalives_idle(), super::PEER_TIMEOUT);
        let target =
            parse("postgres://u@h/db?connect_timeout=3&keepalives_idle=7&tcp_user_timeout=5");
        assert_eq!(target.config.get_connect_timeout().unwrap().as_secs(), 3);
        assert_eq!(target.config.get_keepalives_idle().as_secs(), 7);
        assert_eq!(target.config.get_tcp_user_timeout().unwrap().as_secs(), 5);
        assert_eq!(target.deadline().as_secs(), 6);
    }

    #[test]
    fn refusals_never_quote_the_password() {
        for url in [
            "postgres://u:hunter2@hunter2@host/db",
            "postgres://u:x@hun?ter2=hunter2@host/db",
            "hunter2",
            "user=u hunter2 = hunter2 x",
            "user=u password='hunter2",
            "postgres://u:hunter2@host/db?hunter2=1",
            "postgres://u:hunter2@host:hunter2/db",
            "postgres://u:hunter2@host/db?sslmode=hunter2",
            "postgres://u:hunter2@/db",
        ] {
            let message = refusal(url);
            assert!(!message.contains("hunter2"), "{url}: {message}");
            assert!(message.contains("hint:"), "{message}");
        }
        assert!(refusal("postgres://u@h/db?gssencmode=disable").contains("gssencmode"));
        let shown = format!("{:?}", parse("postgres://u:hunter2@h/db"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
