//! The references inside a text, found without resolving them.

use std::fmt;

/// A reference to a value that is kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `${secret:NAME}`: looked up in the environment, a directory of files, or by a command.
    Secret(String),
    /// `${env:NAME}`: an environment variable of the process that resolves it.
    Env(String),
    /// `${file:/path}`: the content of a file.
    File(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "${{secret:{name}}}"),
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{path}}}"),
        }
    }
}

/// Why references could not be read or resolved. Names appear in it, values never.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// `${` without `}`.
    #[error("a reference beginning with ${{ has no closing }}")]
    Unclosed,
    /// No kind, or none that is known. What stands there is not repeated: it may be a secret.
    #[error("a reference is none of ${{secret:NAME}}, ${{env:NAME}} and ${{file:/path}}")]
    UnknownKind,
    /// A name that no environment variable or file of secrets can have.
    #[error("the name in a ${{{kind}:...}} reference is not usable, expected {expected}")]
    BadName {
        /// `secret`, `env` or `file`.
        kind: &'static str,
        /// What a name must look like.
        expected: &'static str,
    },
    /// Nowhere to be found.
    #[error("there is no {reference}: looked in {looked}")]
    NotFound {
        /// What was looked for.
        reference: Reference,
        /// Every place that was looked at, and those that are not configured.
        looked: String,
    },
    /// Found, and empty: hardly what anybody wants to connect with.
    #[error("{reference} is empty ({place})")]
    Empty {
        /// What was looked for.
        reference: Reference,
        /// Where it was found.
        place: String,
    },
    /// Found, and not UTF-8 text.
    #[error("{reference} is not UTF-8 text ({place})")]
    NotText {
        /// What was looked for.
        reference: Reference,
        /// Where it was found.
        place: String,
    },
    /// A file that every user of the machine may read or change.
    #[error(
        "{reference}: the file {path} has mode {mode:04o}, open to every user of this machine; \
         hint: chmod 0600 {path}"
    )]
    TooOpen {
        /// What was looked for.
        reference: Reference,
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that cannot be read.
    #[error("{reference}: cannot read {path}: {reason}")]
    Unreadable {
        /// What was looked for.
        reference: Reference,
        /// The file.
        path: String,
        /// Why, as the operating system says it.
        reason: String,
    },
    /// The command for secrets failed. Its output is not repeated.
    #[error("{reference}: the command {program:?} {reason}")]
    Command {
        /// What was looked for.
        reference: Reference,
        /// The program, without arguments.
        program: String,
        /// What happened.
        reason: String,
    },
}

/// A stretch of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Literal(&'t str),
    Reference(Reference),
}

/// Splits a text into what stands as it is and what must be looked up; `$${` is a plain `${`.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, SecretError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            // The escape: one of the two dollars stays.
            pieces.push(Piece::Literal(&rest[..start - 1]));
            pieces.push(Piece::Literal("${"));
            rest = &rest[start + 2..];
            continue;
        }
        if start > 0 {
            pieces.push(Piece::Literal(&rest[..start]));
        }
        let inside = &rest[start + 2..];
        let end = inside.find('}').ok_or(SecretError::Unclosed)?;
        pieces.push(Piece::Reference(reference(&inside[..end])?));
        rest = &inside[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    Ok(pieces)
}

fn reference(inside: &str) -> Result<Reference, SecretError> {
    let (kind, name) = inside.split_once(':').ok_or(SecretError::UnknownKind)?;
    match kind {
        "secret" if is_secret_name(name) => Ok(Reference::Secret(name.to_owned())),
        "secret" => Err(SecretError::BadName {
            kind: "secret",
            expected: "letters, digits, _, - and ., a letter or _ first",
        }),
        "env" if is_variable_name(name) => Ok(Reference::Env(name.to_owned())),
        "env" => Err(SecretError::BadName {
            kind: "env",
            expected: "letters, digits and _, no digit first",
        }),
        "file" if name.starts_with('/') && !name.contains('\0') => {
            Ok(Reference::File(name.to_owned()))
        }
        "file" => Err(SecretError::BadName {
            kind: "file",
            expected: "an absolute path",
        }),
        _ => Err(SecretError::UnknownKind),
    }
}

/// A secret's name is a file's name in the secrets directory as well, so it must not leave it.
fn is_secret_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.len() <= 200
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

pub(super) fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The references in a text, in order, unresolved.
///
/// # Errors
/// A `${` that is no reference; [`SecretError`] says why without repeating the text.
pub fn references(text: &str) -> Result<Vec<Reference>, SecretError> {
    let pieces = pieces(text)?;
    Ok(pieces
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Reference(reference) => Some(reference),
            Piece::Literal(_) => None,
        })
        .collect())
}

/// Whether a text holds at least one well-formed reference.
#[must_use]
pub fn holds_reference(text: &str) -> bool {
    references(text).is_ok_and(|references| !references.is_empty())
}
