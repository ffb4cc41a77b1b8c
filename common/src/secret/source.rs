//! Where secrets are looked up, and the resolving of texts that refer to them.
//!
//! Everything is read again at every call, so that a rotated password needs no restart. Calls
//! block (files, a command of up to 10 s): async callers wrap them in `spawn_blocking`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::command::{MAX_OUTPUT, ask};
use super::redact::percent_encode;
use super::reference::{Piece, Reference, SecretError, is_variable_name, pieces};

/// The environment variable that names the directory of files, one for each secret.
pub const SECRETS_DIR_VARIABLE: &str = "ODF_SECRETS_DIR";

/// The environment variable that names the command that prints a secret: argv, no shell.
pub const SECRET_COMMAND_VARIABLE: &str = "ODF_SECRET_COMMAND";

/// How long the command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Container platforms mount secrets here, readable by all, in a file system of the one container.
const MOUNTED_SECRETS: &str = "/run/secrets";

/// Where the values of references come from.
#[derive(Clone)]
pub struct SecretSource {
    variables: Variables,
    directory: Option<PathBuf>,
    command: Vec<String>,
    limit: Duration,
}

#[derive(Clone)]
enum Variables {
    Process,
    Fixed(BTreeMap<String, String>),
}

impl fmt::Debug for SecretSource {
    /// Names places, never values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSource")
            .field("directory", &self.directory)
            .field("command", &self.command.first())
            .finish_non_exhaustive()
    }
}

impl SecretSource {
    /// This process's environment, with the directory and the command that it names.
    #[must_use]
    pub fn from_process() -> Self {
        let directory = std::env::var_os(SECRETS_DIR_VARIABLE).filter(|path| !path.is_empty());
        let command = std::env::var(SECRET_COMMAND_VARIABLE).unwrap_or_default();
        let mut source = Self {
            variables: Variables::Process,
            directory: directory.map(PathBuf::from),
            command: Vec::new(),
            limit: COMMAND_LIMIT,
        };
        source.command = split_command(&command);
        source
    }

    /// The given variables instead of the process's environment; no directory and no command.
    #[must_use]
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            variables: Variables::Fixed(variables.into_iter().collect()),
            directory: None,
            command: Vec::new(),
            limit: COMMAND_LIMIT,
        }
    }

    /// Looks into a directory with one file for each secret as well.
    #[must_use]
    pub fn with_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Asks a command as well: split at white space, no shell, the secret's name as its last argument.
    #[must_use]
    pub fn with_command(mut self, command: &str) -> Self {
        self.command = split_command(command);
        self
    }

    /// Gives the command another time than 10 s.
    #[must_use]
    pub fn with_command_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The value of one reference.
    ///
    /// # Errors
    /// Where it cannot be found or must not be used; never with a value in it.
    pub fn look_up(&self, reference: &Reference) -> Result<SecretString, SecretError> {
        let value = match reference {
            Reference::Env(name) => return self.variable_or_error(name, reference),
            Reference::File(path) => read_file(Path::new(path), reference)?
                .ok_or_else(|| not_found(reference, format!("the file {path}"))),
            Reference::Secret(name) => self.secret(name, reference),
        }?;
        Ok(value)
    }

    fn variable(&self, name: &str, reference: &Reference) -> Result<Option<String>, SecretError> {
        match &self.variables {
            Variables::Fixed(fixed) => Ok(fixed.get(name).cloned()),
            Variables::Process => match std::env::var_os(name).map(std::ffi::OsString::into_string)
            {
                None => Ok(None),
                Some(Ok(value)) => Ok(Some(value)),
                Some(Err(_)) => Err(SecretError::NotText {
                    reference: reference.clone(),
                    place: format!("environment variable {name}"),
                }),
            },
        }
    }

    fn variable_or_error(
        &self,
        name: &str,
        reference: &Reference,
    ) -> Result<SecretString, SecretError> {
        self.variable(name, reference)?
            .map(SecretString::from)
            .ok_or_else(|| not_found(reference, format!("the environment variable {name}")))
    }

    fn secret(&self, name: &str, reference: &Reference) -> Result<SecretString, SecretError> {
        let mut looked = Vec::new();
        if is_variable_name(name) {
            if let Some(value) = self.variable(name, reference)? {
                return not_empty(value, reference, format!("environment variable {name}"));
            }
            looked.push(format!("the environment variable {name}"));
        }
        match &self.directory {
            None => looked.push(format!("no directory (${SECRETS_DIR_VARIABLE} is not set)")),
            Some(directory) => {
                let path = directory.join(name);
                if let Some(value) = read_file(&path, reference)? {
                    return Ok(value);
                }
                looked.push(format!("the file {}", path.display()));
            }
        }
        let Some(program) = self.command.first() else {
            looked.push(format!(
                "no command (${SECRET_COMMAND_VARIABLE} is not set)"
            ));
            return Err(not_found(reference, looked.join(", ")));
        };
        let output =
            ask(&self.command, name, self.limit).map_err(|reason| SecretError::Command {
                reference: reference.clone(),
                program: program.clone(),
                reason,
            })?;
        text_value(output, reference, format!("command {program:?}"))
    }
}

fn split_command(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

fn not_found(reference: &Reference, looked: String) -> SecretError {
    SecretError::NotFound {
        reference: reference.clone(),
        looked,
    }
}

/// A file's content; `None` where there is no such file.
fn read_file(path: &Path, reference: &Reference) -> Result<Option<SecretString>, SecretError> {
    let unreadable = |reason: String| SecretError::Unreadable {
        reference: reference.clone(),
        path: path.display().to_string(),
        reason,
    };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
        Ok(metadata) if !metadata.is_file() => return Err(unreadable("it is no file".to_owned())),
        Ok(_) => {}
    }
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mode = file
        .metadata()
        .map_err(|error| unreadable(error.to_string()))?
        .mode()
        & 0o7777;
    if mode & 0o006 != 0 && !is_mounted_secret(path) {
        return Err(SecretError::TooOpen {
            reference: reference.clone(),
            path: path.display().to_string(),
            mode,
        });
    }
    let mut content = Vec::new();
    file.take(MAX_OUTPUT + 1)
        .read_to_end(&mut content)
        .map_err(|error| unreadable(error.to_string()))?;
    if content.len() as u64 > MAX_OUTPUT {
        return Err(unreadable(format!("it has more than {MAX_OUTPUT} bytes")));
    }
    text_value(content, reference, format!("file {}", path.display())).map(Some)
}

fn is_mounted_secret(path: &Path) -> bool {
    let directory = path
        .parent()
        .and_then(|parent| fs::canonicalize(parent).ok());
    directory.is_some_and(|directory| directory.starts_with(MOUNTED_SECRETS))
}

/// Text without the newline that editors and `echo` put at the end.
fn text_value(
    bytes: Vec<u8>,
    reference: &Reference,
    place: String,
) -> Result<SecretString, SecretError> {
    let Ok(mut text) = String::from_utf8(bytes) else {
        return Err(SecretError::NotText {
            reference: reference.clone(),
            place,
        });
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    not_empty(text, reference, place)
}

fn not_empty(
    text: String,
    reference: &Reference,
    place: String,
) -> Result<SecretString, SecretError> {
    if text.is_empty() {
        return Err(SecretError::Empty {
            reference: reference.clone(),
            place,
        });
    }
    Ok(SecretString::from(text))
}

/// A text with its references replaced, and the secrets that went into it.
pub struct Resolved {
    /// The whole text.
    pub value: SecretString,
    /// The values of its `${secret:...}` and `${file:...}` references, for a [`Redactor`].
    ///
    /// [`Redactor`]: super::Redactor
    pub secrets: Vec<SecretString>,
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolved([REDACTED], {} secrets)", self.secrets.len())
    }
}

/// Replaces every reference of a text by its value; `$${` becomes `${`.
///
/// # Errors
/// The first reference that is malformed or cannot be found; never with a value in it.
pub fn resolve(text: &str, source: &SecretSource) -> Result<SecretString, SecretError> {
    resolve_pieces(text, source, |_, _| false).map(|resolved| resolved.value)
}

/// Resolves a URL: a reference in its user or password is percent-encoded, because a password
/// may hold `@`, `/` and whatever else a URL gives a meaning.
///
/// A URL that is a reference as a whole is taken as it is. The secrets come beside the URL.
///
/// # Errors
/// Like [`resolve`].
pub fn resolve_url(text: &str, source: &SecretSource) -> Result<Resolved, SecretError> {
    resolve_pieces(text, source, in_user_info)
}

/// Whether the piece at an index stands between `://` and the `@` of a URL.
fn in_user_info(pieces: &[Piece<'_>], index: usize) -> bool {
    let starts = pieces[..index]
        .iter()
        .any(|piece| matches!(piece, Piece::Literal(text) if text.contains("://")));
    let rest = pieces[index + 1..].iter().find_map(|piece| match piece {
        Piece::Literal(text) => text.find(['@', '/', '?']).map(|at| text.as_bytes()[at]),
        Piece::Reference(_) => None,
    });
    starts && rest == Some(b'@')
}

fn resolve_pieces(
    text: &str,
    source: &SecretSource,
    encode: impl Fn(&[Piece<'_>], usize) -> bool,
) -> Result<Resolved, SecretError> {
    let pieces = pieces(text)?;
    let mut value = String::with_capacity(text.len());
    let mut secrets = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Literal(text) => value.push_str(text),
            Piece::Reference(reference) => {
                let found = source.look_up(reference)?;
                if encode(&pieces, index) {
                    value.push_str(&percent_encode(found.expose_secret(), true));
                } else {
                    value.push_str(found.expose_secret());
                }
                if !matches!(reference, Reference::Env(_)) {
                    secrets.push(found);
                }
            }
        }
    }
    Ok(Resolved {
        value: SecretString::from(value),
        secrets,
    })
}
