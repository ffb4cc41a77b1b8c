//! From the bytes of a flow file to a checked flow, or to everything that is wrong with them.
//!
//! Files are refused here for what they are as text: not UTF-8, empty, too large, not one YAML
//! document, or so nested or aliased that reading them could exhaust a machine.

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Error, Options};
use sha2::{Digest, Sha256};

use super::check;
use super::diagnostic::{Diagnostic, Severity, Source};
use super::model::Flow;
use super::raw::RawFlow;
use super::read::{FromNode, Place, Problems};
use super::tree::{Document, Mark, Node, Value};

/// Larger flow files are refused: 4 MiB.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// A flow file that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it declares, every default filled in.
    pub flow: Flow,
    /// What its author should look at, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// SHA-256 of the file's bytes, in hex.
    pub digest_sha256: String,
}

/// Reads and checks a flow file whose bytes may be anything.
///
/// # Errors
/// Every problem that was found, in the order of the file, at least one of them an error.
pub fn parse_flow_bytes(bytes: &[u8], file_name: &str) -> Result<Parsed, Vec<Diagnostic>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_flow(text, file_name),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = valid.split('\n').count();
            let column = valid
                .rsplit('\n')
                .next()
                .map_or(0, |last| last.chars().count());
            let mark = Mark {
                line: u32::try_from(line).unwrap_or(u32::MAX),
                column: u32::try_from(column + 1).unwrap_or(u32::MAX),
                width: 1,
            };
            let source = Source::new(file_name, "");
            let message = "the file is not UTF-8 text".to_owned();
            let mut problem = source.diagnostic(Severity::Error, mark, "", message);
            problem.hint("save it as UTF-8, for example with iconv -t UTF-8");
            Err(vec![problem])
        }
    }
}

/// Reads and checks a flow file.
///
/// # Errors
/// Every problem that was found, in the order of the file, at least one of them an error.
pub fn parse_flow(text: &str, file_name: &str) -> Result<Parsed, Vec<Diagnostic>> {
    let digest_sha256 = hex::encode(Sha256::digest(text.as_bytes()));
    if text.len() > MAX_FILE_BYTES {
        let source = Source::new(file_name, "");
        let message = format!("the file has {} bytes", text.len());
        let mut problem = source.diagnostic(Severity::Error, Mark::default(), "", message);
        problem.expected(format!("at most {MAX_FILE_BYTES} bytes (4 MiB)"));
        problem.hint("lists that long belong into a query or command partition");
        return Err(vec![problem]);
    }
    // Positions are counted without a byte order mark, as editors do.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(file_name, text);
    let node = parse_tree(text, &source).map_err(|problem| vec![*problem])?;
    let mut problems = Problems::new(&source);
    let raw = RawFlow::read(&node, &Place::root(&node), &mut problems);
    let flow = raw.and_then(|raw| check::check(&raw, &mut problems));
    let any_error = problems.any_error();
    let list = problems.finish();
    match flow {
        Some(flow) if !any_error => Ok(Parsed {
            flow,
            warnings: list,
            digest_sha256,
        }),
        _ => Err(list),
    }
}

/// Parses one YAML document within narrow budgets.
fn parse_tree(text: &str, source: &Source<'_>) -> Result<Node, Box<Diagnostic>> {
    let document: Document = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| Box::new(syntax_problem(&error, source)))?;
    let node = document.into_tree(text);
    if matches!(node.value, Value::Empty) {
        let message = "the file is empty".to_owned();
        let mut problem = source.diagnostic(Severity::Error, Mark::default(), "", message);
        problem.expected("a flow file that begins with flow: NAME");
        problem.hint("`coordinator example` prints a runnable start");
        return Err(Box::new(problem));
    }
    Ok(node)
}

/// Duplicates pass so that both can be named; aliases and depth are bounded far below what
/// could hurt, because a flow file needs little of either.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 400_000,
            max_events: 1_000_000,
            max_aliases: 10_000,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    }
}

/// What is wrong with a text that is no YAML document of ours.
fn syntax_problem(error: &Error, source: &Source<'_>) -> Diagnostic {
    let error = innermost(error);
    let mark = error
        .location()
        .map_or_else(Mark::default, |location| Mark {
            line: u32::try_from(location.line()).unwrap_or(u32::MAX),
            column: u32::try_from(location.column()).unwrap_or(u32::MAX),
            width: 1,
        });
    let line = source.line(mark.line).unwrap_or("");
    let indent_has_tab = line
        .chars()
        .take_while(|c| c.is_whitespace())
        .any(|c| c == '\t');
    let (message, hint) = match error {
        Error::MultipleDocuments { .. } => (
            "the file has more than one YAML document".to_owned(),
            Some("one file declares one flow: remove the line with ---".to_owned()),
        ),
        Error::Budget { breach, .. } => budget_message(breach),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::RecursiveReferencesRequireWeakTypes { .. } => (
            "aliases (*name) expand to too much".to_owned(),
            Some("write the values out instead of nesting anchors and aliases".to_owned()),
        ),
        _ if indent_has_tab => (
            "a tab is used for indentation".to_owned(),
            Some("YAML is indented with spaces: replace the tab with spaces".to_owned()),
        ),
        _ => {
            let message = bare_message(error);
            let hint = quoting_hint(line, mark, &message);
            (format!("this is not YAML: {message}"), hint)
        }
    };
    let mut problem = source.diagnostic(Severity::Error, mark, "", message);
    problem.hint = hint;
    problem
}

/// The error itself, without the snippet and the alias that it was met through.
fn innermost(mut error: &Error) -> &Error {
    loop {
        error = match error.without_snippet() {
            Error::AliasError { error, .. } => error,
            plain => return plain,
        };
    }
}

fn budget_message(breach: &BudgetBreach) -> (String, Option<String>) {
    let (what, hint) = match breach {
        BudgetBreach::Documents { .. } => (
            "the file has more than one YAML document".to_owned(),
            "one file declares one flow: remove the line with ---",
        ),
        BudgetBreach::Depth { .. } => (
            "lists and maps are nested more than 32 deep".to_owned(),
            "a flow file needs fewer than 10 levels",
        ),
        BudgetBreach::Aliases { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::RecordedAnchorEvents { .. }
        | BudgetBreach::RecordedAnchorBytes { .. }
        | BudgetBreach::MergeKeys { .. } => (
            "aliases (*name) expand to too much".to_owned(),
            "write the values out instead of nesting anchors and aliases",
        ),
        _ => (
            "the file has too many values".to_owned(),
            "lists that long belong into a query or command partition",
        ),
    };
    (what, Some(hint.to_owned()))
}

/// The parser's message without the position, which is printed beside it.
fn bare_message(error: &Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// Common slips that a parser can only describe from its own point of view.
fn quoting_hint(line: &str, mark: Mark, message: &str) -> Option<String> {
    let start = usize::try_from(mark.column.saturating_sub(1)).ok()?;
    let before: String = line.chars().take(start).collect();
    let at = line.chars().nth(start);
    if before.trim_end().ends_with('$') || (at == Some('{') && before.ends_with('$')) {
        return Some("quote references inside { }: \"${secret:NAME}\"".to_owned());
    }
    match at {
        _ if message.contains("quote") => {
            Some("a quote may be missing at the end of this text or of one above".to_owned())
        }
        Some('@' | '`' | '%') => Some("quote text that begins with this character".to_owned()),
        Some(':') => Some("quote text that holds \": \", and check the indentation".to_owned()),
        _ => None,
    }
}
