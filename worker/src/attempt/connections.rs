//! A job's connections with their secrets resolved, for one attempt.
//!
//! Read anew for every attempt, so that a rotated password needs no restart. The values live
//! as long as the attempt; nothing here prints them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::domain::JobSpec;
use common::flow::model::{ConnectionKind, Run};
use secrecy::ExposeSecret;

use super::pg_parts::PgParts;
use super::{Failure, SecretResolver};

const REFERENCE: &str = "${secret:";

/// A connection as a script sees it.
#[derive(Clone)]
pub(crate) enum Resolved {
    Postgres { url: String, parts: PgParts },
    Files { root: PathBuf, min_free_bytes: u64 },
    Other { settings: BTreeMap<String, String> },
}

/// Resolves texts and remembers which values must never be shown.
pub(crate) struct Resolver<'a> {
    secrets: &'a dyn SecretResolver,
    known: BTreeMap<String, String>,
    hidden: Vec<String>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(secrets: &'a dyn SecretResolver) -> Self {
        Self {
            secrets,
            known: BTreeMap::new(),
            hidden: Vec::new(),
        }
    }

    /// The text with its references replaced.
    ///
    /// Each secret is resolved by itself and not with the text around it: only so is it known
    /// what to mask when a script prints the token without its `Bearer`.
    pub(crate) fn text(&mut self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, reference, after)) = first_secret(rest) {
            out.push_str(&self.plain(before)?);
            if !self.known.contains_key(reference) {
                let value = self.secrets.resolve(reference)?;
                let value = value.expose_secret().to_owned();
                self.hidden.push(value.clone());
                self.known.insert(reference.to_owned(), value);
            }
            out.push_str(&self.known[reference]);
            rest = after;
        }
        out.push_str(&self.plain(rest)?);
        Ok(out)
    }

    /// A URL with its references replaced; its parts are hidden by whoever takes it apart.
    fn url(&mut self, url: &str) -> Result<String, String> {
        Ok(self.secrets.resolve_url(url)?.expose_secret().to_owned())
    }

    /// Text without secrets, perhaps with other references.
    fn plain(&self, text: &str) -> Result<String, String> {
        if !text.contains("${") {
            return Ok(text.to_owned());
        }
        Ok(self.secrets.resolve(text)?.expose_secret().to_owned())
    }

    /// Never show this value.
    pub(crate) fn hide(&mut self, value: Option<&String>) {
        self.hidden.extend(value.cloned());
    }

    /// The values to mask.
    pub(crate) fn into_hidden(self) -> Vec<String> {
        self.hidden
    }
}

/// Splits at the first `${secret:...}` that is not escaped as `$${`.
fn first_secret(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(found) = text[from..].find(REFERENCE) {
        let start = from + found;
        let end = start + text[start..].find('}')? + 1;
        if !text[..start].ends_with('$') {
            return Some((&text[..start], &text[start..end], &text[end..]));
        }
        from = end;
    }
    None
}

/// Resolves the connections of a job.
///
/// # Errors
/// A `host` failure: what one worker cannot resolve, another may.
pub(crate) fn resolve_all(
    spec: &JobSpec,
    resolver: &mut Resolver<'_>,
) -> Result<BTreeMap<String, Resolved>, Failure> {
    let mut all = BTreeMap::new();
    for (name, connection) in &spec.connections {
        let resolved = resolve(&connection.kind, resolver).map_err(|problem| {
            Failure::host(format!("connection {name} on this worker: {problem}"))
        })?;
        all.insert(name.clone(), resolved);
    }
    Ok(all)
}

fn resolve(kind: &ConnectionKind, resolver: &mut Resolver<'_>) -> Result<Resolved, String> {
    Ok(match kind {
        ConnectionKind::Postgres { url } => {
            let secret = url.contains(REFERENCE);
            let url = resolver.url(url)?;
            let parts = PgParts::of(&url);
            // A password written into the flow file is no less a password.
            resolver.hide(parts.password.as_ref());
            resolver.hide(parts.written_password.as_ref());
            resolver.hide(secret.then_some(&url));
            Resolved::Postgres { url, parts }
        }
        ConnectionKind::Files {
            root,
            min_free_bytes,
        } => {
            let root = PathBuf::from(resolver.text(root)?);
            if !root.is_absolute() {
                return Err(format!(
                    "expected an absolute path as root, found {:?}",
                    root.display().to_string()
                ));
            }
            Resolved::Files {
                root,
                min_free_bytes: *min_free_bytes,
            }
        }
        ConnectionKind::Other { settings } => Resolved::Other {
            settings: settings
                .iter()
                .map(|(name, value)| Ok((name.clone(), resolver.text(value)?)))
                .collect::<Result<_, String>>()?,
        },
    })
}

/// Resolves a script job's own variables.
///
/// # Errors
/// As [`resolve_all`]; a permanent failure for a name that is not the job's to set.
pub(crate) fn resolve_env(
    spec: &JobSpec,
    resolver: &mut Resolver<'_>,
) -> Result<Vec<(String, String)>, Failure> {
    let Run::Script { env, .. } = &spec.job.run;
    let mut all = Vec::new();
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || name.starts_with("ODF_") {
            return Err(Failure::permanent(format!(
                "job {}: env {name:?} cannot be set (expected a name without = that does not begin with ODF_)",
                spec.name
            )));
        }
        let value = resolver.text(value).map_err(|problem| {
            Failure::host(format!(
                "job {}: env {name} on this worker: {problem}",
                spec.name
            ))
        })?;
        all.push((name.clone(), value));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::{Resolver, SecretResolver};

    struct Fixed;

    impl SecretResolver for Fixed {
        fn resolve(&self, text: &str) -> Result<SecretString, String> {
            match text {
                "${secret:TOKEN}" => Ok("s3cret}${secret:X}".to_owned().into()),
                "${env:HOME} " => Ok("/home ".to_owned().into()),
                "$${secret:TOKEN}" => Ok("${secret:TOKEN}".to_owned().into()),
                other => Err(format!("{other} is not known")),
            }
        }
    }

    #[test]
    fn secrets_inside_a_text_are_known_by_themselves() {
        let mut resolver = Resolver::new(&Fixed);
        let text = resolver.text("${env:HOME} ${secret:TOKEN}/${secret:TOKEN}");
        assert_eq!(
            text.as_deref(),
            Ok("/home s3cret}${secret:X}/s3cret}${secret:X}")
        );
        assert_eq!(resolver.into_hidden(), ["s3cret}${secret:X}"]);
    }

    #[test]
    fn an_escaped_reference_is_no_secret_and_an_unknown_one_an_error() {
        let mut resolver = Resolver::new(&Fixed);
        assert_eq!(
            resolver.text("$${secret:TOKEN}").as_deref(),
            Ok("${secret:TOKEN}")
        );
        assert!(resolver.text("x ${secret:NONE}").is_err());
        assert!(resolver.into_hidden().is_empty());
    }
}
