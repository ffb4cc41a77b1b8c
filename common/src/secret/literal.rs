//! Secrets that somebody wrote out where a reference belongs: finding them and hiding them.
//!
//! Finding is strict, because it refuses a file; hiding is generous, because it only prints stars.

use super::reference::references;

/// Last words of a setting's name that say its value is a secret.
const SECRET_WORDS: [&str; 9] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "credentials",
    "apikey",
];

/// Words that make a secret of a following `key`.
const SECRET_KEYS: [&str; 5] = ["api", "access", "private", "secret", "encryption"];

/// Whether a setting of this name holds a secret: `client_secret`, `apiKey`, `DB_PASSWORD`.
///
/// The last word decides: `token_url` and `password_file` are no secrets.
#[must_use]
pub fn names_a_secret(name: &str) -> bool {
    let words = words(name);
    match words.as_slice() {
        [.., before, last] if last == "key" => SECRET_KEYS.contains(&before.as_str()),
        [.., last] => SECRET_WORDS.contains(&last.as_str()),
        [] => false,
    }
}

/// The words of `snake_case`, `kebab-case`, `dotted.case` and `camelCase`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_lower = false;
    for c in name.chars() {
        let starts_word = !c.is_alphanumeric() || (c.is_uppercase() && previous_lower);
        previous_lower = c.is_lowercase() || c.is_numeric();
        if starts_word {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The password that stands in a URL in plain text, if there is one.
///
/// A password that is a reference as a whole (`postgres://app:${secret:PW}@host/db`) is none.
#[must_use]
pub fn literal_url_password(text: &str) -> Option<&str> {
    url_passwords(text, Extent::Exact)
        .into_iter()
        .map(|(start, end)| &text[start..end])
        .find(|password| !is_reference(password))
}

fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.find('}') == Some(text.len() - 1) && references(text).is_ok()
}

/// How much of a URL is taken for its password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// What a URL parser takes, as far as there is one.
    Exact,
    /// Up to the last `@` that there is: nothing of a password that was not encoded is left over.
    Generous,
}

/// Byte ranges of what stands as a password in the URLs of a text.
fn url_passwords(text: &str, extent: Extent) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("://") {
        let start = from + at + 3;
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
        let end = text[start..]
            .find(is_end)
            .map_or(text.len(), |end| start + end);
        found.extend(authority_password(text, start, end, extent));
        found.extend(parameter_passwords(text, start, end));
        from = end;
    }
    found
}

/// Between the first `:` and an `@`, looking over references, which hold colons themselves.
fn authority_password(
    text: &str,
    start: usize,
    end: usize,
    extent: Extent,
) -> Option<(usize, usize)> {
    let stretch = &text[start..end];
    let authority_end = stretch.find(['/', '?', '#']).unwrap_or(stretch.len());
    let honest = outside_references(&stretch[..authority_end], '@').last();
    // A password that was not encoded may hold / or ?, so that its @ comes behind the authority;
    // but after a port such an @ belongs to the path.
    let port = stretch[..authority_end].rsplit(':').next().unwrap_or("");
    let behind_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let last = || outside_references(stretch, '@').last();
    let at = match (extent, honest) {
        (Extent::Exact, Some(at)) => at,
        (Extent::Exact, None) if behind_port => return None,
        _ => last()?,
    };
    let colon = outside_references(&stretch[..at], ':').next()?;
    let (from, to) = (start + colon + 1, start + at);
    (from < to).then_some((from, to))
}

fn outside_references(text: &str, wanted: char) -> impl DoubleEndedIterator<Item = usize> {
    let mut found = Vec::new();
    let mut from = 0;
    while from < text.len() {
        if text[from..].starts_with("${")
            && let Some(end) = text[from..].find('}')
        {
            from += end + 1;
            continue;
        }
        let Some(c) = text[from..].chars().next() else {
            break;
        };
        if c == wanted {
            found.push(from);
        }
        from += c.len_utf8();
    }
    found.into_iter()
}

/// `?password=...` and its like.
fn parameter_passwords(text: &str, start: usize, end: usize) -> Vec<(usize, usize)> {
    let Some(query) = text[start..end].find('?') else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut from = start + query + 1;
    while from < end {
        let to = text[from..end].find('&').map_or(end, |at| from + at);
        if let Some((name, value)) = text[from..to].split_once('=')
            && names_a_secret_parameter(name)
            && !value.is_empty()
        {
            found.push((to - value.len(), to));
        }
        from = to + 1;
    }
    found
}

/// libpq joins words: `sslpassword`.
fn names_a_secret_parameter(name: &str) -> bool {
    names_a_secret(name) || name.to_ascii_lowercase().ends_with("password")
}

/// A line with everything that looks like a written-out secret replaced by `***`.
///
/// Every character comes with the column (from 0) that it had, so that a caret can be placed.
#[must_use]
pub fn mask_literals(line: &str) -> Vec<(usize, char)> {
    let mut hidden: Vec<(usize, usize)> = url_passwords(line, Extent::Generous)
        .into_iter()
        .filter(|(start, end)| !is_reference(&line[*start..*end]))
        .chain(setting_values(line))
        .collect();
    hidden.sort_unstable();
    let mut shown = Vec::new();
    let mut hidden_until = 0;
    let mut ranges = hidden.into_iter().peekable();
    for (column, (byte, c)) in line.char_indices().enumerate() {
        while let Some((start, end)) = ranges.next_if(|(start, _)| *start <= byte) {
            if start.max(hidden_until) <= byte && end > hidden_until {
                if hidden_until <= byte {
                    shown.extend([(column, '*'); 3]);
                }
                hidden_until = end;
            }
        }
        if byte >= hidden_until {
            shown.push((column, c));
        }
    }
    shown
}

/// Byte ranges of values after `password: ` or `password=` and their like in a line of YAML.
fn setting_values(line: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (sign, mark) in line.match_indices([':', '=']) {
        let before = line[..sign].trim_end_matches(['"', '\'', ' ']);
        let is_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        let name_start = before.rfind(|c| !is_name(c)).map_or(0, |at| {
            at + before[at..].chars().next().map_or(1, char::len_utf8)
        });
        let after = &line[sign + 1..];
        let separated = mark == "=" || after.starts_with([' ', '\t', '"', '\'']);
        if !separated || !names_a_secret_parameter(&before[name_start..]) {
            continue;
        }
        let start = sign + 1 + (after.len() - after.trim_start().len());
        let value = &line[start..];
        let length = value[..value_length(value)].trim_end().len();
        let bare = value[..length].trim_matches(['"', '\'']);
        if length > 0 && !is_reference(bare) {
            found.push((start, start + length));
        }
    }
    found
}

/// Where a YAML scalar ends on its line; a plain one may hold anything, so it ends late.
fn value_length(value: &str) -> usize {
    let Some(quote @ ('"' | '\'')) = value.chars().next() else {
        let reference_end = value.starts_with("${").then(|| value.find('}')).flatten();
        return reference_end.map_or_else(
            || value.find([',', '}']).unwrap_or(value.len()),
            |end| end + 1,
        );
    };
    let mut escaped = false;
    for (at, c) in value.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && quote == '"' && !escaped;
    }
    value.len()
}

/// What stands as a password in the URLs of a text, references or not.
pub(super) fn url_password_values(text: &str) -> impl Iterator<Item = &str> {
    let found = url_passwords(text, Extent::Exact);
    found.into_iter().map(|(start, end)| &text[start..end])
}
