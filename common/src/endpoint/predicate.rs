//! Bounds as a SQL condition: what a script gets as `ODF_PREDICATE`.
//!
//! The text is safe to put into a statement whatever the names and values are: identifiers are
//! always quoted, values are typed literals, and type and collation names, which come from a
//! database that may have been tampered with, must parse as such. Where values can be bound as
//! parameters instead, bind them.

use crate::domain::{Bounds, ColumnSpan, KeyColumn};

use super::name::{NameError, quote_ident, quote_literal, split_qualified};

/// Why bounds cannot be written as a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredicateError {
    /// A name or a value that SQL cannot hold.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A bound with more or fewer values than there are key columns.
    #[error("a key bound with {expected} values was expected, found {found}")]
    Arity {
        /// The number of key columns.
        expected: usize,
        /// The number of values.
        found: usize,
    },
    /// A type or collation that is not one, as `format_type` prints them.
    #[error("a SQL {what} was expected for column {column:?}, found {found:?}")]
    NotA {
        /// `type` or `collation`.
        what: &'static str,
        /// The key column.
        column: String,
        /// The text found.
        found: String,
    },
    /// Bounds that do not speak of a table's rows.
    #[error(
        "bounds of kind {kind} have no SQL condition; hint: use the chunk's own values instead"
    )]
    NoCondition {
        /// The kind's word.
        kind: &'static str,
    },
}

/// Writes bounds as one SQL boolean expression over the key columns, in parentheses.
///
/// `TRUE` where nothing bounds it (rows with NULL in the key included). Ranges over several
/// columns compare row values; every column but the first is then tested for NULL as well,
/// because `(5, NULL) >= (3, 1)` is true and such a row belongs to the NULL keys' chunk.
///
/// # Errors
/// NUL in a name or value, a bound of the wrong length, a type or collation that does not parse
/// as one, or bounds of a kind that has no condition (value, file, row, a window without a column, a
/// product of which a part has none).
pub fn sql_predicate(bounds: &Bounds) -> Result<String, PredicateError> {
    match bounds {
        Bounds::KeyRange {
            columns,
            lower,
            upper,
        } => range(columns, lower.as_deref(), upper.as_deref()),
        Bounds::NullKeys { columns } => {
            let tests = columns
                .iter()
                .map(|column| Ok(format!("{} IS NULL", quote_ident(&column.name)?)))
                .collect::<Result<Vec<_>, PredicateError>>()?;
            if tests.is_empty() {
                return Err(PredicateError::Arity {
                    expected: 1,
                    found: 0,
                });
            }
            Ok(format!("({})", tests.join(" OR ")))
        }
        Bounds::Window {
            rows: Some(rows), ..
        } => span(rows, ">=", "AND", "<").map(|inside| format!("({inside})")),
        Bounds::OutsideWindows { rows } => {
            let name = quote_ident(&rows.column.name)?;
            let outside = span(rows, "<", "OR", ">=")?;
            Ok(format!("({outside} OR {name} IS NULL)"))
        }
        Bounds::Product { parts } => {
            let parts = parts
                .iter()
                .map(sql_predicate)
                .collect::<Result<Vec<_>, _>>()?;
            Ok(format!("({})", parts.join(" AND ")))
        }
        Bounds::Single => Ok("TRUE".to_owned()),
        Bounds::Window { rows: None, .. } => Err(PredicateError::NoCondition { kind: "window" }),
        Bounds::Value { .. } => Err(PredicateError::NoCondition { kind: "value" }),
        Bounds::File { .. } => Err(PredicateError::NoCondition { kind: "file" }),
        Bounds::Row { .. } => Err(PredicateError::NoCondition { kind: "row" }),
    }
}

/// One column held against the lower and the upper end of a span.
fn span(
    rows: &ColumnSpan,
    to_lower: &str,
    word: &str,
    to_upper: &str,
) -> Result<String, PredicateError> {
    let name = quote_ident(&rows.column.name)?;
    let columns = std::slice::from_ref(&rows.column);
    let lower = literals(columns, std::slice::from_ref(&rows.lower))?;
    let upper = literals(columns, std::slice::from_ref(&rows.upper))?;
    Ok(format!(
        "{name} {to_lower} {} {word} {name} {to_upper} {}",
        row(&lower),
        row(&upper)
    ))
}

fn range(
    columns: &[KeyColumn],
    lower: Option<&[String]>,
    upper: Option<&[String]>,
) -> Result<String, PredicateError> {
    let names = columns
        .iter()
        .map(|column| quote_ident(&column.name))
        .collect::<Result<Vec<_>, _>>()?;
    let mut tests = Vec::new();
    for (operator, bound) in [(">=", lower), ("<", upper)] {
        if let Some(values) = bound {
            let values = literals(columns, values)?;
            tests.push(format!("{} {operator} {}", row(&names), row(&values)));
        }
    }
    if tests.is_empty() {
        return Ok("TRUE".to_owned());
    }
    tests.extend(
        names
            .iter()
            .skip(1)
            .map(|name| format!("{name} IS NOT NULL")),
    );
    Ok(format!("({})", tests.join(" AND ")))
}

/// One expression as it is, several as a row value.
fn row(expressions: &[String]) -> String {
    match expressions {
        [one] => one.clone(),
        many => format!("({})", many.join(", ")),
    }
}

fn literals(columns: &[KeyColumn], values: &[String]) -> Result<Vec<String>, PredicateError> {
    if columns.len() != values.len() || columns.is_empty() {
        return Err(PredicateError::Arity {
            expected: columns.len(),
            found: values.len(),
        });
    }
    columns
        .iter()
        .zip(values)
        .map(|(column, value)| {
            let literal = quote_literal(value)?;
            let sql_type = checked_type(column)?;
            Ok(match checked_collation(column)? {
                Some(collation) => format!("{literal}::{sql_type} COLLATE {collation}"),
                None => format!("{literal}::{sql_type}"),
            })
        })
        .collect()
}

/// The column's type, once it is known to be nothing but a type.
///
/// # Errors
/// A text that is no type as `format_type` prints one.
pub fn checked_type(column: &KeyColumn) -> Result<&str, PredicateError> {
    if is_type(&column.sql_type) {
        Ok(&column.sql_type)
    } else {
        Err(PredicateError::NotA {
            what: "type",
            column: column.name.clone(),
            found: column.sql_type.clone(),
        })
    }
}

/// The column's collation, parsed and quoted again, where it has one.
///
/// # Errors
/// A text that is no qualified name.
pub fn checked_collation(column: &KeyColumn) -> Result<Option<String>, PredicateError> {
    let Some(text) = &column.collation else {
        return Ok(None);
    };
    let parts = split_qualified(text).ok().filter(|parts| parts.len() <= 2);
    let Some(parts) = parts else {
        return Err(PredicateError::NotA {
            what: "collation",
            column: column.name.clone(),
            found: text.clone(),
        });
    };
    let quoted = parts
        .iter()
        .map(|part| quote_ident(part))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(quoted.join(".")))
}

/// Words that a type of several words is made of; none of them can make an expression.
const TYPE_WORDS: [&str; 18] = [
    "double",
    "precision",
    "character",
    "varying",
    "bit",
    "time",
    "timestamp",
    "with",
    "without",
    "zone",
    "interval",
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "to",
];

/// Whether a text is a type and nothing else: a name of one or two parts or known words, with
/// numbers in parentheses and `[]` behind it.
fn is_type(text: &str) -> bool {
    let Some(bare) = without_modifiers(text) else {
        return false;
    };
    let words: Vec<&str> = bare.split(' ').filter(|word| !word.is_empty()).collect();
    if words.len() > 1 && !bare.contains('"') {
        return words.iter().all(|word| TYPE_WORDS.contains(word));
    }
    split_qualified(bare.trim()).is_ok_and(|parts| parts.len() <= 2)
}

/// Takes `(12,2)` and trailing `[]` away; `None` where parentheses hold anything but numbers.
fn without_modifiers(text: &str) -> Option<String> {
    let mut bare = String::new();
    let mut rest = text.trim();
    while let Some(array) = rest.strip_suffix("[]") {
        rest = array;
    }
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\0' => return None,
            '"' => {
                quoted = !quoted;
                bare.push(c);
            }
            '(' if !quoted => {
                let (inside, after) = rest.split_once(')')?;
                let numeric = |c: char| c.is_ascii_digit() || matches!(c, ',' | '-' | ' ');
                if inside.is_empty() || !inside.chars().all(numeric) || inside.contains("--") {
                    return None;
                }
                rest = after;
            }
            _ => bare.push(c),
        }
    }
    Some(bare)
}

#[cfg(test)]
mod tests {
    use super::{PredicateError, is_type, sql_predicate};
    use crate::domain::{Bounds, ColumnSpan, KeyColumn};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn column(name: &str, sql_type: &str, collation: Option<&str>) -> KeyColumn {
        KeyColumn {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
            collation: collation.map(str::to_owned),
        }
    }

    fn between(columns: Vec<KeyColumn>, lower: &[&str], upper: &[&str]) -> Bounds {
        let values = |texts: &[&str]| {
            (!texts.is_empty()).then(|| texts.iter().map(|t| (*t).to_owned()).collect())
        };
        Bounds::KeyRange {
            columns,
            lower: values(lower),
            upper: values(upper),
        }
    }

    #[test]
    fn ranges_are_half_open_typed_and_quoted() {
        let id = || vec![column("id", "bigint", None)];
        let written = |bounds| sql_predicate(&bounds).unwrap();
        assert_eq!(
            written(between(id(), &["-5"], &["7"])),
            r#"("id" >= '-5'::bigint AND "id" < '7'::bigint)"#
        );
        assert_eq!(
            written(between(id(), &["1"], &[])),
            r#"("id" >= '1'::bigint)"#
        );
        assert_eq!(written(between(id(), &[], &[])), "TRUE");
        assert_eq!(written(Bounds::Single), "TRUE");
        assert_eq!(
            written(between(
                vec![
                    column("a", "integer", None),
                    column("B", "text", Some("\"C\""))
                ],
                &["1", "it's"],
                &[]
            )),
            r#"(("a", "B") >= ('1'::integer, 'it''s'::text COLLATE "C") AND "B" IS NOT NULL)"#
        );
    }

    #[test]
    fn windows_are_spans_of_their_column_and_products_hold_all_of_their_parts() {
        let instant = |text: &str| text.parse().unwrap();
        let rows = ColumnSpan {
            column: column("at", "timestamp with time zone", None),
            lower: "2024-03-30T23:00:00Z".to_owned(),
            upper: "2024-03-31T22:00:00Z".to_owned(),
        };
        let window = |rows| Bounds::Window {
            start: instant("2024-03-30T23:00:00Z"),
            end: instant("2024-03-31T22:00:00Z"),
            zone: "Europe/Berlin".to_owned(),
            label: "2024-03-31".to_owned(),
            rows,
        };
        let inside = r#"("at" >= '2024-03-30T23:00:00Z'::timestamp with time zone AND "at" < '2024-03-31T22:00:00Z'::timestamp with time zone)"#;
        assert_eq!(sql_predicate(&window(Some(rows.clone()))).unwrap(), inside);
        let outside = sql_predicate(&Bounds::OutsideWindows { rows: rows.clone() }).unwrap();
        assert!(outside.contains(" OR \"at\" IS NULL)"), "{outside}");
        let id = between(vec![column("id", "bigint", None)], &["1"], &["7"]);
        let both = Bounds::Product {
            parts: vec![window(Some(rows)), id],
        };
        assert_eq!(
            sql_predicate(&both).unwrap(),
            format!(r#"({inside} AND ("id" >= '1'::bigint AND "id" < '7'::bigint))"#)
        );
        // Half a condition would hand every chunk the rows of its neighbours.
        let open = Bounds::Product {
            parts: vec![both, window(None)],
        };
        assert_eq!(
            sql_predicate(&open),
            Err(PredicateError::NoCondition { kind: "window" })
        );
    }

    #[test]
    fn null_keys_ask_for_any_column() {
        let bounds = Bounds::NullKeys {
            columns: vec![column("a", "integer", None), column("b", "text", None)],
        };
        assert_eq!(
            sql_predicate(&bounds).unwrap(),
            r#"("a" IS NULL OR "b" IS NULL)"#
        );
    }

    #[test]
    fn types_are_types_and_nothing_else() {
        for good in [
            "bigint",
            "numeric(12,2)",
            "numeric(3,-2)",
            "character varying(20)",
            "double precision",
            "timestamp(3) with time zone",
            "interval day to second(3)",
            "\"char\"",
            "text[]",
            "zoo.mood",
            "\"My Schema\".\"odd (type\"\" or\"",
            "bit varying(3)",
            "größe",
        ] {
            assert!(is_type(good), "{good}");
        }
        for bad in [
            "",
            "int or true",
            "int) or (true",
            "int(select 1)",
            "int; drop table x",
            "int--",
            "int(1--2)",
            "int\n\\! touch pwned",
            "a.b.c",
            "\"open",
            "int COLLATE \"C\"",
            "int()",
            "time\0zone",
            "int/**/",
            "\"a\" or \"b\"",
        ] {
            assert!(!is_type(bad), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let text = || vec![column("k", "text", None)];
        assert!(matches!(
            sql_predicate(&between(text(), &["a\0b"], &[])),
            Err(PredicateError::Name(_))
        ));
        assert!(matches!(
            sql_predicate(&between(text(), &["a", "b"], &[])),
            Err(PredicateError::Arity {
                expected: 1,
                found: 2
            })
        ));
        let odd = vec![column("k", "text", Some("\"C\" or true"))];
        assert!(matches!(
            sql_predicate(&between(odd, &["a"], &[])),
            Err(PredicateError::NotA {
                what: "collation",
                ..
            })
        ));
        let file = Bounds::File {
            path: "a".into(),
            bytes: 1,
        };
        assert!(matches!(
            sql_predicate(&file),
            Err(PredicateError::NoCondition { kind: "file" })
        ));
    }

    /// Reads one quoted token back, as the server's lexer would under either string mode.
    fn unquote(text: &str, quote: char) -> (String, &str) {
        let escapes = text.starts_with('E');
        let mut rest = text.trim_start_matches('E').strip_prefix(quote).unwrap();
        let mut value = String::new();
        loop {
            let c = rest.chars().next().expect("an open literal");
            rest = &rest[c.len_utf8()..];
            if c == quote {
                match rest.strip_prefix(quote) {
                    Some(after) => rest = after,
                    None => return (value, rest),
                }
            } else if c == '\\' && quote == '\'' {
                assert!(
                    escapes,
                    "a backslash in a plain literal depends on a setting"
                );
                rest = rest.strip_prefix('\\').expect("only doubled backslashes");
            }
            value.push(c);
        }
    }

    proptest! {
        #[test]
        fn any_name_and_value_come_back_from_the_text(name in any::<String>(), value in any::<String>()) {
            let bounds = between(vec![column(&name, "text", None)], &[&value], &[]);
            let written = sql_predicate(&bounds);
            if name.contains('\0') || value.contains('\0') {
                prop_assert!(written.is_err());
                return Ok(());
            }
            let written = written.unwrap();
            let (read_name, rest) = unquote(written.strip_prefix('(').unwrap(), '"');
            let (read_value, rest) = unquote(rest.strip_prefix(" >= ").unwrap(), '\'');
            prop_assert_eq!(read_name, name);
            prop_assert_eq!(read_value, value);
            prop_assert_eq!(rest, "::text)");
        }

        #[test]
        fn hostile_fragments_stay_inside_their_quotes(
            parts in proptest::collection::vec(
                proptest::sample::select(vec!["'", "\"", "\\", "\n", "%", "$(touch pwned)", "--", "/*", ";", "$$", "E'", "é", "😀", ":x", "\\'", "''"]),
                0..12,
            )
        ) {
            let text = parts.concat();
            let bounds = between(vec![column(&text, "text", None)], &[], &[&text]);
            let written = sql_predicate(&bounds).unwrap();
            let (read_name, rest) = unquote(written.strip_prefix('(').unwrap(), '"');
            let (read_value, rest) = unquote(rest.strip_prefix(" < ").unwrap(), '\'');
            prop_assert_eq!(&read_name, &text);
            prop_assert_eq!(&read_value, &text);
            prop_assert_eq!(rest, "::text)");
        }
    }
}
