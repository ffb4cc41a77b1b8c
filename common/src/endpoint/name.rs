//! Names and literals as SQL takes them: quoting, and reading `schema.table`.
//!
//! Everything that is put into SQL text passes through here. Nothing in here connects to
//! anything, and nothing may be put into SQL text unquoted elsewhere.

use std::fmt;

/// Why a name or a value cannot be written in SQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// PostgreSQL has no way to write the character NUL.
    #[error("a {what} without the character NUL was expected, found {found:?}")]
    Nul {
        /// `name` or `value`.
        what: &'static str,
        /// The offending text.
        found: String,
    },
    /// The text is not a table's name.
    #[error(
        "a table such as public.orders or \"Sales\".\"Order lines\" was expected, found {found:?}: {problem}; hint: {hint}"
    )]
    NotATable {
        /// The text as written.
        found: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
}

/// Writes a name as a quoted identifier: always in double quotes, inner ones doubled.
///
/// # Errors
/// A name that holds NUL.
pub fn quote_ident(name: &str) -> Result<String, NameError> {
    refuse_nul("name", name)?;
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// Writes a value as a string literal that means the same whatever `standard_conforming_strings` says.
///
/// Quotes are doubled; a value with a backslash becomes an `E''` string with backslashes doubled.
///
/// # Errors
/// A value that holds NUL.
pub fn quote_literal(value: &str) -> Result<String, NameError> {
    refuse_nul("value", value)?;
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') {
        Ok(format!("E'{}'", quoted.replace('\\', "\\\\")))
    } else {
        Ok(format!("'{quoted}'"))
    }
}

fn refuse_nul(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.contains('\0') {
        return Err(NameError::Nul {
            what,
            found: text.to_owned(),
        });
    }
    Ok(())
}

/// A table's name, as parts without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableName {
    /// The schema; `None` is looked up along the session's `search_path`.
    pub schema: Option<String>,
    /// The table's own name.
    pub name: String,
}

impl TableName {
    /// Reads `table` or `schema.table`; a part in double quotes is taken as written, any other
    /// is folded to lower case as SQL does.
    ///
    /// # Errors
    /// A sentence with a hint, where the text has an empty part, more than two parts, or a
    /// character that needs quotes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        refuse_nul("name", text)?;
        let refuse = |problem: String, hint| NameError::NotATable {
            found: text.to_owned(),
            problem,
            hint,
        };
        let mut parts = split_qualified(text.trim()).map_err(|problem| {
            refuse(
                problem,
                "write a part with other characters in double quotes",
            )
        })?;
        match (parts.len(), parts.pop()) {
            (1, Some(name)) => Ok(Self { schema: None, name }),
            (2, Some(name)) => Ok(Self {
                schema: parts.pop(),
                name,
            }),
            _ => Err(refuse(
                "it has more than two parts".to_owned(),
                "the database is chosen by the connection's url, not by the table's name",
            )),
        }
    }

    /// The name as SQL text, every part quoted.
    ///
    /// # Errors
    /// A part that holds NUL.
    pub fn quoted(&self) -> Result<String, NameError> {
        let name = quote_ident(&self.name)?;
        match &self.schema {
            Some(schema) => Ok(format!("{}.{name}", quote_ident(schema)?)),
            None => Ok(name),
        }
    }
}

impl fmt::Display for TableName {
    /// Parts joined by a dot, quoted only where SQL needs it; for people, never for SQL text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |part: &str| {
            let mut chars = part.chars();
            chars
                .next()
                .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
                && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let shown = |part: &str| {
            if plain(part) {
                part.to_owned()
            } else {
                format!("\"{}\"", part.replace('"', "\"\""))
            }
        };
        if let Some(schema) = &self.schema {
            write!(f, "{}.", shown(schema))?;
        }
        f.write_str(&shown(&self.name))
    }
}

/// Splits a dotted name into its parts, unquoted, folding what was not in quotes.
pub(super) fn split_qualified(text: &str) -> Result<Vec<String>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
            take_quoted(quoted)?
        } else {
            take_plain(rest)?
        };
        parts.push(part);
        if after.is_empty() {
            return Ok(parts);
        }
        let Some(next) = after.strip_prefix('.') else {
            return Err(format!(
                "{after:?} follows a part where a dot or the end should be"
            ));
        };
        rest = next;
    }
}

fn take_quoted(after_quote: &str) -> Result<(String, &str), String> {
    let mut part = String::new();
    let mut rest = after_quote;
    loop {
        let Some(end) = rest.find('"') else {
            return Err("a double quote is not closed".to_owned());
        };
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        if let Some(doubled) = rest.strip_prefix('"') {
            part.push('"');
            rest = doubled;
        } else if part.is_empty() {
            return Err("a part in quotes is empty".to_owned());
        } else {
            return Ok((part, rest));
        }
    }
}

fn take_plain(text: &str) -> Result<(String, &str), String> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()))
        .unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    match part.chars().next() {
        None => Err("a part is empty".to_owned()),
        Some(first) if first.is_ascii_digit() || first == '$' => {
            Err(format!("{part:?} starts with {first:?}"))
        }
        Some(_) => Ok((part.to_ascii_lowercase(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::{NameError, TableName, quote_ident, quote_literal};

    fn table(schema: Option<&str>, name: &str) -> TableName {
        TableName {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_table_is_read_as_sql_reads_it() {
        let read = |text| TableName::parse(text).unwrap();
        assert_eq!(read("orders"), table(None, "orders"));
        assert_eq!(read(" public.Orders "), table(Some("public"), "orders"));
        assert_eq!(
            read(r#""Sales"."Order ""lines"".x""#),
            table(Some("Sales"), r#"Order "lines".x"#)
        );
        assert_eq!(read("Größe.a$1"), table(Some("größe"), "a$1"));
    }

    #[test]
    fn what_is_not_a_table_is_refused_with_a_hint() {
        for text in [
            "", ".", "a.", ".a", "a b", "a-b", "1a", "\"a", "\"\"", "a\"b\"", "a;drop",
        ] {
            let error = TableName::parse(text).unwrap_err().to_string();
            assert!(error.contains("hint:"), "{text:?}: {error}");
        }
        let error = TableName::parse("db.public.orders")
            .unwrap_err()
            .to_string();
        assert!(error.contains("connection's url"), "{error}");
        assert!(matches!(
            TableName::parse("a\0b"),
            Err(NameError::Nul { .. })
        ));
    }

    #[test]
    fn quoting_doubles_what_would_end_the_text() {
        assert_eq!(quote_ident(r#"a"b"#).unwrap(), r#""a""b""#);
        assert_eq!(quote_literal("it's").unwrap(), "'it''s'");
        assert_eq!(quote_literal(r"\x00").unwrap(), r"E'\\x00'");
        assert_eq!(quote_literal(r"\'").unwrap(), r"E'\\'''");
        assert!(quote_ident("a\0").is_err());
        assert!(quote_literal("\0").is_err());
    }

    #[test]
    fn a_table_is_shown_with_quotes_only_where_needed() {
        assert_eq!(table(Some("public"), "orders").to_string(), "public.orders");
        assert_eq!(table(None, "Order").to_string(), "\"Order\"");
        assert_eq!(table(Some("a"), "b c").quoted().unwrap(), "\"a\".\"b c\"");
    }
}
