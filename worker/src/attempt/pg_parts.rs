//! The parts of a PostgreSQL connection string, for scripts that want them one by one.
//!
//! Lenient on purpose: settings that libpq knows and our own driver does not (`sslmode=verify-full`,
//! `sslrootcert`) must not stand between a script and its host name. It must never fail.

/// What was found; what is not there stays `None`.
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct PgParts {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: Option<String>,
    /// The password as it is written in the URL, where that differs: it is a secret too.
    pub(crate) written_password: Option<String>,
}

impl PgParts {
    /// Reads a URL or `key=value` pairs; of several hosts the first, with libpq's defaults for
    /// port and database.
    pub(crate) fn of(text: &str) -> Self {
        let text = text.trim();
        let url = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let mut parts = match url {
            Some(rest) => Self::of_url(rest),
            None => Self::of_pairs(text),
        };
        for value in [&mut parts.host, &mut parts.port] {
            if let Some(first) = value.as_deref().and_then(|all| all.split(',').next()) {
                *value = Some(first.to_owned()).filter(|first| !first.is_empty());
            }
        }
        parts.port.get_or_insert_with(|| "5432".to_owned());
        if parts.database.is_none() {
            parts.database.clone_from(&parts.user);
        }
        parts
    }

    fn of_url(rest: &str) -> Self {
        let mut parts = Self::default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        parts.set("user", user);
        parts.set("password", password);
        parts.set("dbname", database);
        let first = hosts.split(',').next().unwrap_or("");
        let (host, port) = split_port(first);
        parts.set("host", host);
        parts.set("port", port);
        for pair in query.split('&') {
            if let Some((name, value)) = pair.split_once('=') {
                parts.set(name, value);
            }
        }
        parts
    }

    /// Sets a part from its form in a URL.
    fn set(&mut self, name: &str, written: &str) {
        let value = percent_decoded(written);
        if name == "password" && value != written {
            self.written_password = Some(written.to_owned());
        }
        self.put(name, value);
    }

    fn put(&mut self, name: &str, value: String) {
        let part = match name {
            "host" | "hostaddr" => &mut self.host,
            "port" => &mut self.port,
            "user" => &mut self.user,
            "password" => &mut self.password,
            "dbname" => &mut self.database,
            _ => return,
        };
        if !value.is_empty() {
            *part = Some(value);
        }
    }

    /// `host=a user='b c'`: values may be quoted, `\` escapes.
    fn of_pairs(text: &str) -> Self {
        let mut parts = Self::default();
        let mut rest = text.chars().peekable();
        loop {
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            let mut name = String::new();
            while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
                name.push(c);
            }
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            if rest.next_if_eq(&'=').is_none() {
                return parts;
            }
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            let quoted = rest.next_if_eq(&'\'').is_some();
            let mut value = String::new();
            while let Some(c) = rest.next_if(|c| quoted || !c.is_whitespace()) {
                match c {
                    '\\' => value.extend(rest.next()),
                    '\'' if quoted => break,
                    _ => value.push(c),
                }
            }
            parts.put(&name, value);
        }
    }
}

/// `host:port`, where the host may be `[::1]`.
fn split_port(text: &str) -> (&str, &str) {
    if let Some((host, after)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        return (host, after.strip_prefix(':').unwrap_or(""));
    }
    text.rsplit_once(':').unwrap_or((text, ""))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::PgParts;

    fn five(text: &str) -> [String; 5] {
        let parts = PgParts::of(text);
        [
            parts.host,
            parts.port,
            parts.user,
            parts.password,
            parts.database,
        ]
        .map(Option::unwrap_or_default)
    }

    #[test]
    fn urls_in_all_their_forms() {
        assert_eq!(
            five("postgres://me:p%40ss%2F@db.example:6432/sales?sslmode=verify-full"),
            ["db.example", "6432", "me", "p@ss/", "sales"]
        );
        assert_eq!(five("postgresql://[::1]/x"), ["::1", "5432", "", "", "x"]);
        assert_eq!(five("postgres://me@a:1,b:2/"), ["a", "1", "me", "", "me"]);
        assert_eq!(
            five("postgresql:///db?host=/var/run/postgresql&user=u&password=p%20w"),
            ["/var/run/postgresql", "5432", "u", "p w", "db"]
        );
        assert_eq!(
            five("postgres://u:a@b:c@h/d"),
            ["h", "5432", "u", "a@b:c", "d"]
        );
    }

    #[test]
    fn the_password_as_written_is_kept_for_masking() {
        let parts = PgParts::of("postgres://me:p%40ss@h/d");
        assert_eq!(parts.written_password.as_deref(), Some("p%40ss"));
    }

    #[test]
    fn pairs_with_quotes_and_escapes() {
        assert_eq!(
            five("host=db port = 7 user='' dbname=d"),
            ["db", "7", "", "", "d"]
        );
        assert_eq!(
            five(r"host=db user='o\'brien' password='a b\\c' dbname=d"),
            ["db", "5432", "o'brien", r"a b\c", "d"]
        );
        assert_eq!(five("nonsense"), ["", "5432", "", "", ""]);
        assert_eq!(five("100%"), ["", "5432", "", "", ""]);
    }
}
