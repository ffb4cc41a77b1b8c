//! Connections: their settings, and that no secret is written into them.

use std::collections::BTreeMap;

use super::{Context, text, variables};
use crate::flow::model::{Connection, ConnectionKind};
use crate::flow::raw::{RawConnection, RawFiles, RawOther, RawPostgres};
use crate::flow::read::{At, NamedEntry, Problems};
use crate::flow::scalar::Text;
use crate::secret::Reference;

/// Builds every connection that can be built.
pub(super) fn build_all(
    context: &Context<'_>,
    environment: Option<&str>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Connection> {
    let mut built = BTreeMap::new();
    for entry in context.connections.entries {
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
    if let Some(own) = own.as_ref() {
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
    let clean = variables::no_url_password(url, place, problems)
        && variables::references(url, place, problems).is_some();
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
    let found = variables::references(root, place, problems).unwrap_or_default();
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
        .map(|settings| variables::build(&settings.value, problems));
    ConnectionKind::Other {
        settings: settings.unwrap_or_default(),
    }
}
