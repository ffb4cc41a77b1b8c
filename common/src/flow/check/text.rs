//! The rules of single texts: names, labels, paths below a root, templates and table names.

use crate::flow::diagnostic::Diagnostic;
use crate::flow::read::{At, Place, Problems};
use crate::flow::scalar::{Text, Written};
use crate::flow::tree::shorten;

/// Longest name of a connection, pool, data set or job, in characters.
const MAX_NAME: usize = 128;

/// Longest name of a flow: it becomes part of identifiers.
const MAX_FLOW_NAME: usize = 63;

/// What a path template may hold.
pub(super) const PLACEHOLDERS: [&str; 4] = ["chunk", "ordinal", "fence", "generation"];

/// Checks and returns a flow's name.
pub(super) fn flow_name(name: &At<Text>, problems: &mut Problems<'_>) -> String {
    let text = &name.value.0;
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !starts || !plain || text.len() > MAX_FLOW_NAME {
        problems
            .error(
                &name.place,
                format!("{:?} cannot name a flow", shorten(text)),
            )
            .expected(format!(
                "letters, digits, _ and -, a letter first, at most {MAX_FLOW_NAME} characters"
            ));
    }
    text.clone()
}

/// Checks a name that the author chose.
pub(super) fn name(name: &str, place: &Place, what: &str, problems: &mut Problems<'_>) {
    if let Some(wrong) = wrong_name(name) {
        problems
            .error(
                place,
                format!("{:?} cannot name a {what}: it {wrong}", shorten(name)),
            )
            .expected(format!(
                "1 to {MAX_NAME} characters without /, control characters and spaces at the ends"
            ));
    }
}

fn wrong_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.contains('/') {
        Some("holds a /, which divides a data set from its chunk")
    } else if name.chars().any(char::is_control) {
        Some("holds a control character")
    } else if name.trim() != name {
        Some("begins or ends with a space")
    } else if name == "." || name == ".." {
        Some("is a directory's name")
    } else if name.starts_with('-') {
        Some("begins with -, which a command line takes for an option")
    } else if name.chars().count() > MAX_NAME {
        Some("is too long")
    } else {
        None
    }
}

/// Checks an environment or a worker's label.
pub(super) fn label(label: &At<Text>, what: &str, problems: &mut Problems<'_>) {
    let text = &label.value.0;
    let plain = text
        .chars()
        .all(|c| !c.is_control() && !c.is_whitespace() && c != ',');
    if !plain || text.chars().count() > MAX_NAME {
        problems
            .error(
                &label.place,
                format!("{:?} cannot be {what}", shorten(text)),
            )
            .expected("text without spaces, commas and control characters");
    }
}

/// Checks a path that must stay below a directory; `what` is, for example, `the script`.
pub(super) fn relative_path(
    path: &At<Text>,
    what: &str,
    below: &str,
    problems: &mut Problems<'_>,
) -> bool {
    let text = path.value.0.as_str();
    let wrong = if text.starts_with('/') {
        "is absolute"
    } else if text.starts_with('~') {
        "begins with ~, which no shell expands here"
    } else if text.split('/').any(|part| part == "..") {
        "leads out of it with .."
    } else if text.chars().any(char::is_control) {
        "holds a control character"
    } else if text.contains('\\') {
        "holds a backslash"
    } else if text.split('/').any(|part| part.is_empty() || part == ".") {
        "has an empty part or a ."
    } else if text.trim() != text {
        "begins or ends with a space"
    } else {
        return true;
    };
    problems
        .error(&path.place, format!("{what} {:?} {wrong}", shorten(text)))
        .expected(format!("a path below {below}, parts divided by /"));
    false
}

/// The placeholders of a template; `None` where one is wrong, which is reported.
pub(super) fn placeholders<'t>(
    template: &'t At<Text>,
    problems: &mut Problems<'_>,
) -> Option<Vec<&'t str>> {
    let mut found = Vec::new();
    let mut rest = template.value.0.as_str();
    while let Some(start) = rest.find(['{', '}']) {
        let inside = &rest[start + 1..];
        let end = inside
            .find(['{', '}'])
            .filter(|end| inside[*end..].starts_with('}'));
        let (true, Some(end)) = (rest[start..].starts_with('{'), end) else {
            let message = "a { or } of the path has no partner";
            expect_placeholders(problems.error(&template.place, message));
            return None;
        };
        let word = &inside[..end];
        if !PLACEHOLDERS.contains(&word) {
            let message = format!(
                "there is no placeholder {{{}}}",
                shorten(word).escape_debug()
            );
            expect_placeholders(problems.error(&template.place, message))
                .did_you_mean(word, PLACEHOLDERS);
            return None;
        }
        found.push(word);
        rest = &inside[end + 1..];
    }
    Some(found)
}

fn expect_placeholders(problem: &mut Diagnostic) -> &mut Diagnostic {
    problem.expected("{chunk}, {ordinal}, {fence} or {generation}")
}

/// Checks an argument of a command: everybody on the host can see it, so it resolves nothing.
pub(super) fn argument(argument: &At<Written>, problems: &mut Problems<'_>) {
    let text = argument.value.0.as_str();
    if ["${secret:", "${env:", "${file:"]
        .iter()
        .any(|start| text.contains(start))
    {
        problems
            .error(
                &argument.place,
                "references are not resolved in arguments, which everybody can see in ps",
            )
            .hint("put it into env and let the script read the variable");
    } else if text.contains('\0') {
        problems.error(&argument.place, "an argument cannot hold a NUL character");
    }
}

/// Checks a table's name.
pub(super) fn table(table: &At<Text>, problems: &mut Problems<'_>) {
    if let Err(wrong) = table_parts(&table.value.0) {
        problems
            .error(
                &table.place,
                format!("the table {:?} {wrong}", shorten(&table.value.0)),
            )
            .expected("table or schema.table")
            .hint("quote a part as SQL does where it needs it: 'public.\"Order Lines\"'");
    }
}

/// One text for all ways to write a table's name.
pub(super) fn folded_table(text: &str) -> String {
    match table_parts(text) {
        Ok(parts) => format!("{parts:?}"),
        Err(_) => text.to_owned(),
    }
}

fn table_parts(text: &str) -> Result<Vec<String>, &'static str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part;
        (part, rest) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_part(quoted)?
        } else {
            plain_part(rest)?
        };
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => break,
            None => return Err("holds a character that needs quotes"),
        }
    }
    if parts.len() > 2 {
        return Err("has more than two parts");
    }
    Ok(parts)
}

fn quoted_part(text: &str) -> Result<(String, &str), &'static str> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("has a quote without a partner")?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => break,
        }
    }
    if part.is_empty() || part.contains('\0') {
        return Err("has an empty part");
    }
    Ok((part, rest))
}

fn plain_part(text: &str) -> Result<(String, &str), &'static str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    match part.chars().next() {
        None if rest.is_empty() || rest.starts_with('.') => Err("has an empty part"),
        None => Err("holds a character that needs quotes"),
        Some(first) if first.is_ascii_digit() || first == '$' => {
            Err("has a part that begins with a digit or $")
        }
        Some(_) => Ok((part.to_lowercase(), rest)),
    }
}
