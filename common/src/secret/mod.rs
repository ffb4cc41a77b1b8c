//! Secrets by reference: `${secret:NAME}`, `${env:NAME}` and `${file:/path}` inside texts.
//!
//! Flow files and the database hold references only; the process that connects resolves them. No
//! error, log line or `Debug` output of this room ever holds a secret's value.

mod command;
mod literal;
mod redact;
mod reference;
mod source;

pub use literal::{literal_url_password, mask_literals, names_a_secret};
pub use redact::{MIN_HIDDEN, RedactedStream, Redactor};
pub use reference::{Reference, SecretError, holds_reference, references};
pub use source::{
    Resolved, SECRET_COMMAND_VARIABLE, SECRETS_DIR_VARIABLE, SecretSource, resolve, resolve_url,
};

#[cfg(test)]
mod tests;
