//! Settings and environment variables: their names, references in their values, and that no
//! secret is written out where a reference belongs.

use std::collections::{BTreeMap, HashMap};

use super::{Context, text};
use crate::flow::model::{Connection, ConnectionKind};
use crate::flow::read::{Named, Place, Problems};
use crate::flow::scalar::Written;
use crate::flow::tree::shorten;
use crate::secret::{self, Reference};

/// Name to value, refusing wrong references and literal secrets.
pub(super) fn build(
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
            .hint(format!("write {name}: \"${{secret:{}}}\"", upper(name)));
        return false;
    }
    no_url_password(value, place, problems)
}

pub(super) fn no_url_password(url: &str, place: &Place, problems: &mut Problems<'_>) -> bool {
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

/// In the style of environment variables.
fn upper(name: &str) -> String {
    let fold = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.chars().map(fold).collect()
}

/// The references in a text; reports a wrong one.
pub(super) fn references(
    text: &str,
    place: &Place,
    problems: &mut Problems<'_>,
) -> Option<Vec<Reference>> {
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

/// Checks the name of an environment variable.
pub(super) fn name(name: &str, place: &Place, problems: &mut Problems<'_>) {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let usable = starts && plain;
    // An empty name is reported where all settings' names are.
    if !usable && !name.is_empty() {
        problems
            .error(
                place,
                format!("{:?} cannot name an environment variable", shorten(name)),
            )
            .expected("letters, digits and _, no digit first");
    } else if name.starts_with("ODF_") {
        problems
            .error(
                place,
                format!(
                    "{:?} is one of the variables that a worker sets itself",
                    shorten(name)
                ),
            )
            .expected("a name that does not begin with ODF_");
    }
}

/// Scripts get connections as variables, whose names cannot tell `a-b` from `A_B`.
pub(super) fn no_collision(context: &Context<'_>, problems: &mut Problems<'_>) {
    let mut taken: HashMap<String, &str> = HashMap::new();
    for entry in context.connections.entries {
        let Some(connection) = context.built_connections.get(&entry.name) else {
            continue;
        };
        for variable in variables_of(&entry.name, connection) {
            let Some(other) = taken.insert(variable.clone(), &entry.name) else {
                continue;
            };
            let message = if other == entry.name {
                format!("two settings of {other:?} give scripts the same variable {variable}")
            } else {
                let name = &entry.name;
                format!("{other:?} and {name:?} give scripts the same variable {variable}")
            };
            problems
                .error(&entry.place.at_key(), message)
                .hint("give one of them a name that differs in letters or digits");
            break;
        }
    }
}

/// The variables that tell a script about a connection.
fn variables_of(name: &str, connection: &Connection) -> Vec<String> {
    let settings: Vec<String> = match &connection.kind {
        ConnectionKind::Postgres { .. } => ["URL", "HOST", "PORT", "USER", "PASSWORD", "DATABASE"]
            .map(str::to_owned)
            .to_vec(),
        ConnectionKind::Files { .. } => vec!["ROOT".to_owned()],
        ConnectionKind::Other { settings } => {
            settings.keys().map(|setting| upper(setting)).collect()
        }
    };
    settings
        .iter()
        .map(|setting| format!("ODF_CONN_{}_{setting}", upper(name)))
        .collect()
}
