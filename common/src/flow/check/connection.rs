//! Connections: their settings, and that no secret is written into them.

use std::collections::BTreeMap;

use super::{Context, text};
use crate::flow::model::{Connection, ConnectionKind};
use crate::flow::raw::{RawConnection, RawFiles, RawOther, RawPostgres};
use crate::flow::read::{At, Named, NamedEntry, Place, Problems};
use crate::flow::scalar::{Text, Written};
use crate::secret::{self, Reference};

/// Builds every connection that can be built.
pub(super) fn build_all(
    context: &Context<'_>,
    environment: Option<&str>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Connection> {
    let mut built = BTreeMap::new();
    for entry in context.connections {
        if let Some(connection) = build(entry, environment, problems) {
            built.insert(entry.name.clone(), connection);
        }
    }
    built
}

fn build(
    entry: &NamedEntry<RawConnection>,
    environment: Option<&str>,
    problems: &mut Problems<'_>,
) -> Option<Connection> {
    let (kind, own) = match entry.value.as_ref()? {
        RawConnection::Postgres(raw) => (postgres(raw, problems), &raw.environment),
        RawConnection::Files(raw) => (files(raw, problems), &raw.environment),
        RawConnection::Other(raw) => (Some(other(raw, problems)), &raw.environment),
    };
    if let Some(own) = own {
        text::label(own, "an environment", problems);
    }
    let own = own.as_ref().map(|own| own.value.0.as_str());
    Some(Connection {
        kind: kind?,
        environment: own.or(environment).map(str::to_owned),
    })
}

fn postgres(raw: &RawPostgres, problems: &mut Problems<'_>) -> Option<ConnectionKind> {
    let At {
        value: Text(url),
        place,
    } = raw.url.as_ref()?;
    let clean = no_url_password(url, place, problems) && references(url, place, problems).is_some();
    let has_scheme = ["postgres://", "postgresql://", "${"]
        .iter()
        .any(|start| url.starts_with(start));
    if clean && !has_scheme {
        // The text is not quoted: what is no URL may be anything, a password too.
        problems
            .error(place, format!("{} is no PostgreSQL URL", place.path))
            .expected("postgresql://user@host:5432/database, or a reference such as \"${secret:ERP_URL}\"");
    }
    Some(ConnectionKind::Postgres { url: url.clone() })
}

fn files(raw: &RawFiles, problems: &mut Problems<'_>) -> Option<ConnectionKind> {
    let At {
        value: Text(root),
        place,
    } = raw.root.as_ref()?;
    let found = references(root, place, problems).unwrap_or_default();
    if found
        .iter()
        .any(|reference| !matches!(reference, Reference::Env(_)))
    {
        problems
            .error(place, "a root may hold ${env:NAME} only")
            .hint("roots are printed in status and logs, so they cannot be secrets");
    } else if !(root.starts_with('/') || root.starts_with("${env:")) {
        problems
            .error(place, format!("the root {root:?} is not absolute"))
            .expected("an absolute path such as /data/lake");
    } else if root.split('/').any(|part| part == "..") || root.chars().any(char::is_control) {
        problems
            .error(
                place,
                format!("the root {root:?} holds .. or a control character"),
            )
            .expected("an absolute path such as /data/lake");
    }
    let min_free_bytes = raw.min_free.as_ref().map_or(0, |size| size.value.0);
    Some(ConnectionKind::Files {
        root: root.clone(),
        min_free_bytes,
    })
}

fn other(raw: &RawOther, problems: &mut Problems<'_>) -> ConnectionKind {
    let settings = raw
        .settings
        .as_ref()
        .map(|settings| variables(&settings.value, problems));
    ConnectionKind::Other {
        settings: settings.unwrap_or_default(),
    }
}

/// Name to value, refusing wrong references and literal secrets.
pub(super) fn variables(
    named: &Named<Written>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for entry in &named.0 {
        text::name(&entry.name, &entry.place.at_key(), "setting", problems);
        let Some(Written(value)) = &entry.value else {
            continue;
        };
        if no_literal_secret(&entry.name, value, &entry.place, problems) {
            references(value, &entry.place, problems);
        }
        variables.insert(entry.name.clone(), value.clone());
    }
    variables
}

/// Refuses a value that is a secret itself instead of a reference to one.
fn no_literal_secret(name: &str, value: &str, place: &Place, problems: &mut Problems<'_>) -> bool {
    if secret::names_a_secret(name) && !value.is_empty() && !secret::holds_reference(value) {
        // Points at the name: the value must not be printed, on whatever line it stands.
        problems
            .error(
                &place.at_key(),
                format!("{} holds a secret in plain text", place.path),
            )
            .expected("a reference to a secret")
            .hint(format!(
                "write {name}: \"${{secret:{}}}\"",
                suggested_name(name)
            ));
        return false;
    }
    no_url_password(value, place, problems)
}

fn no_url_password(url: &str, place: &Place, problems: &mut Problems<'_>) -> bool {
    let clean = secret::literal_url_password(url).is_none();
    if !clean {
        problems
            .error(
                &place.at_key(),
                format!("{} holds a password in plain text", place.path),
            )
            .expected("a URL whose password is a reference")
            .hint("put the password, or the whole URL, where ${secret:NAME} finds it");
    }
    clean
}

/// A name for the secret in the style of environment variables.
fn suggested_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// The references in a text; reports a wrong one.
fn references(text: &str, place: &Place, problems: &mut Problems<'_>) -> Option<Vec<Reference>> {
    match secret::references(text) {
        Ok(references) => Some(references),
        Err(error) => {
            problems
                .error(place, format!("{}: {error}", place.path))
                .expected("${secret:NAME}, ${env:NAME} or ${file:/path}; $${ is a plain ${");
            None
        }
    }
}
