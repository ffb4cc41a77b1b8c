//! Secrets by reference: `${secret:NAME}`, `${env:NAME}` and `${file:/path}` inside texts.
//!
//! Flow files and the database hold references only; the process that connects resolves them. No
//! error, log line or `Debug` output of this room ever holds a secret's value.

mod literal;
mod reference;

pub use literal::{literal_url_password, mask_literals, names_a_secret};
pub use reference::{Reference, SecretError, holds_reference, references};
