//! What is wrong with a flow file, said so that a person can repair it without asking anybody.
//!
//! A diagnostic owns everything that it prints. It must never print a secret that somebody wrote
//! into the file by mistake: source lines are masked before they are kept.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::tree::Mark;

/// Source lines are cut to about this many characters around the caret.
const SNIPPET_WIDTH: usize = 100;

/// What stands for the part of a line that was cut.
const DOTS: &str = "...";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and probably does not mean what its author thinks.
    Warning,
}

/// One problem of a flow file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name as the reader was told it.
    pub file: String,
    /// Line, from 1; 0 when the problem is the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 when the problem is the file as a whole.
    pub column: u32,
    /// The keys that lead there, for example `jobs.load.input`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what was found.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// Other places that matter, as sentences.
    pub notes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The source line, with anything that looks like a secret masked.
    pub snippet: Option<Snippet>,
}

/// A source line and where its caret goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    /// The line, control characters replaced, cut around the caret when it is long.
    pub text: String,
    /// Characters before the caret.
    pub indent: usize,
    /// Length of the caret in characters, at least 1.
    pub width: usize,
}

impl Diagnostic {
    /// Whether the file cannot be used because of this.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Says what was expected.
    pub(crate) fn expected(&mut self, expected: impl Into<String>) -> &mut Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what to do.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says `did you mean "x"?` if one of the known names is close to what was written.
    pub(crate) fn did_you_mean<'n>(
        &mut self,
        written: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> &mut Self {
        if let Some(name) = closest(written, known) {
            self.hint = Some(format!("did you mean {name:?}?"));
        }
        self
    }

    /// Adds a sentence about another place.
    pub(crate) fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.notes.push(note.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}", self.message)?;
        let number = if self.line == 0 {
            String::new()
        } else {
            self.line.to_string()
        };
        let margin = " ".repeat(number.len().max(1));
        write!(f, "\n{margin}--> {}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " ({})", self.path)?;
        }
        if let Some(snippet) = &self.snippet {
            let indent = " ".repeat(snippet.indent);
            let caret = "^".repeat(snippet.width);
            write!(
                f,
                "\n{margin} |\n{number} | {}\n{margin} | {indent}{caret}",
                snippet.text
            )?;
        }
        for note in &self.notes {
            write!(f, "\n{margin} = note: {note}")?;
        }
        if let Some(expected) = &self.expected {
            write!(f, "\n{margin} = expected {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{margin} = hint: {hint}")?;
        }
        Ok(())
    }
}

/// All diagnostics as a person reads them, with their number at the end; empty for none.
#[must_use]
pub fn report(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&format!("{diagnostic}\n\n"));
    }
    let errors = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .count();
    let counted = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        many => Some(format!("{many} {word}s")),
    };
    let warnings = diagnostics.len() - errors;
    let parts: Vec<String> = [counted(errors, "error"), counted(warnings, "warning")]
        .into_iter()
        .flatten()
        .collect();
    if !parts.is_empty() {
        text.push_str(&format!("{}\n", parts.join(", ")));
    }
    text
}

/// The text that diagnostics point into.
#[derive(Debug)]
pub(crate) struct Source<'t> {
    file: &'t str,
    lines: Vec<&'t str>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            lines: text.split('\n').collect(),
        }
    }

    /// `file:line:col`, for notes about other places.
    pub(crate) fn position(&self, mark: Mark) -> String {
        format!("{}:{}:{}", self.file, mark.line, mark.column)
    }

    /// A line's text, from 1.
    pub(crate) fn line(&self, number: u32) -> Option<&'t str> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.lines.get(index).copied()
    }

    /// A diagnostic that points at a mark.
    pub(crate) fn diagnostic(
        &self,
        severity: Severity,
        mark: Mark,
        path: &str,
        message: String,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            file: self.file.to_owned(),
            line: mark.line,
            column: if mark.line == 0 { 0 } else { mark.column },
            path: path.to_owned(),
            message,
            expected: None,
            notes: Vec::new(),
            hint: None,
            snippet: self.line(mark.line).map(|line| snippet(line, mark)),
        }
    }
}

fn snippet(line: &str, mark: Mark) -> Snippet {
    let start = usize::try_from(mark.column.saturating_sub(1)).unwrap_or(0);
    let end = start.saturating_add(usize::try_from(mark.width.max(1)).unwrap_or(1));
    let line = line.strip_suffix('\r').unwrap_or(line);
    let masked = crate::secret::mask_literals(line);
    let mut cells: Vec<char> = Vec::new();
    let (mut indent, mut stop) = (None, 0);
    for (column, character) in masked {
        if column >= start && indent.is_none() {
            indent = Some(cells.len());
        }
        cells.push(if character.is_control() {
            ' '
        } else {
            character
        });
        if column < end {
            stop = cells.len();
        }
    }
    let indent = indent.unwrap_or(cells.len());
    let width = stop.saturating_sub(indent).max(1);
    crop(&cells, indent, width)
}

/// Cuts a long line to a window around the caret.
fn crop(cells: &[char], indent: usize, width: usize) -> Snippet {
    let near_start = indent + width.min(SNIPPET_WIDTH / 2) <= SNIPPET_WIDTH;
    let from = if near_start {
        0
    } else {
        indent.saturating_sub(SNIPPET_WIDTH / 2)
    };
    let to = cells.len().min(from + SNIPPET_WIDTH);
    // Dots that would stand for fewer characters than they are show nothing.
    let to = if cells.len() - to <= DOTS.len() {
        cells.len()
    } else {
        to
    };
    let mut text: String = cells[from..to].iter().collect();
    let mut indent = indent - from;
    if from > 0 {
        text.insert_str(0, DOTS);
        indent += DOTS.len();
    }
    if to < cells.len() {
        text.push_str(DOTS);
    }
    let width = width
        .min(text.chars().count().saturating_sub(indent))
        .max(1);
    Snippet {
        text,
        indent,
        width,
    }
}

/// The known name that a person most likely meant, if any is close enough.
pub(crate) fn closest<'n>(
    written: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    let written_chars: Vec<char> = written.chars().take(64).collect();
    let allowed = (written_chars.len() / 3).clamp(1, 4);
    known
        .into_iter()
        .filter(|name| *name != written)
        .filter(|name| name.chars().count().abs_diff(written_chars.len()) <= allowed)
        .map(|name| (distance(&written_chars, name), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edit distance without case, where swapping two neighbours is one edit.
fn distance(left: &[char], right: &str) -> usize {
    let fold = |c: &char| c.to_lowercase().next().unwrap_or(*c);
    let left: Vec<char> = left.iter().map(fold).collect();
    let right: Vec<char> = right.chars().take(64).map(|c| fold(&c)).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let mut best = (previous[column] + usize::from(a != b))
                .min(previous[column + 1] + 1)
                .min(current[column] + 1);
            let swapped = row > 0 && column > 0 && *a == right[column - 1] && left[row - 1] == *b;
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}
