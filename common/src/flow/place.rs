//! Where things stand in a flow file, and the list of what is wrong with them.
//!
//! Knows positions and paths, and neither YAML nor what any key means.

use std::rc::Rc;

use super::diagnostic::{Diagnostic, Severity, Source};
use super::tree::{Mark, Node};

/// More problems than this are counted, not kept.
const MAX_PROBLEMS: usize = 100;

/// Where a value stands and which keys lead there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The value.
    pub(crate) value: Mark,
    /// Its key; the value itself where it has none.
    pub(crate) key: Mark,
    /// For example `jobs.load.input`.
    pub(crate) path: Rc<str>,
}

impl Place {
    /// The document itself.
    pub(crate) fn root(node: &Node) -> Self {
        Self {
            value: node.mark,
            key: node.mark,
            path: Rc::from(""),
        }
    }

    /// The value of a key below this place.
    pub(crate) fn child(&self, key: &Node, name: &str, value: &Node) -> Self {
        // A name may hold anything, so one that would be misread in a path is quoted.
        let plain = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || "_-".contains(c));
        let name = if plain {
            name.to_owned()
        } else {
            format!("{:?}", super::tree::shorten(name))
        };
        let path = if self.path.is_empty() {
            name
        } else {
            format!("{}.{name}", self.path)
        };
        Self {
            value: value.mark,
            key: key.mark,
            path: Rc::from(path),
        }
    }

    /// An item of a list at this place, numbered from 0.
    pub(crate) fn item(&self, index: usize, value: &Node) -> Self {
        let path = format!("{}[{index}]", self.path);
        Self {
            value: value.mark,
            key: value.mark,
            path: Rc::from(path),
        }
    }

    /// The same, pointing at its key.
    pub(crate) fn at_key(&self) -> Self {
        Self {
            value: self.key,
            ..self.clone()
        }
    }
}

/// A value of the file and its place.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// What stands under a key.
#[derive(Debug, Clone)]
pub(crate) enum Given<T> {
    /// No such key.
    Missing,
    /// Something that could not be read, which was reported.
    Unreadable,
    /// A value.
    Is(At<T>),
}

impl<T> Given<T> {
    /// Whether the key is there, readable or not.
    pub(crate) fn is_written(&self) -> bool {
        !matches!(self, Self::Missing)
    }

    /// The value, where there is one that could be read.
    pub(crate) fn as_ref(&self) -> Option<&At<T>> {
        match self {
            Self::Is(value) => Some(value),
            Self::Missing | Self::Unreadable => None,
        }
    }
}

/// The problems found so far.
#[derive(Debug)]
pub(crate) struct Problems<'s> {
    pub(crate) source: &'s Source<'s>,
    list: Vec<Diagnostic>,
    dropped: usize,
    /// Whether one of those not kept is an error.
    dropped_error: bool,
    /// Where a dropped problem is written to, so that callers need not care.
    scratch: Option<Diagnostic>,
}

impl<'s> Problems<'s> {
    pub(crate) fn new(source: &'s Source<'s>) -> Self {
        Self {
            source,
            list: Vec::new(),
            dropped: 0,
            dropped_error: false,
            scratch: None,
        }
    }

    /// Reports an error at a place.
    pub(crate) fn error(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.report(Severity::Error, place, message.into())
    }

    /// Reports a warning at a place.
    pub(crate) fn warning(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.report(Severity::Warning, place, message.into())
    }

    fn report(&mut self, severity: Severity, place: &Place, message: String) -> &mut Diagnostic {
        let diagnostic = self
            .source
            .diagnostic(severity, place.value, &place.path, message);
        if self.list.len() < MAX_PROBLEMS {
            self.list.push(diagnostic);
            let last = self.list.len() - 1;
            return &mut self.list[last];
        }
        self.dropped += 1;
        self.dropped_error |= severity == Severity::Error;
        self.scratch.insert(diagnostic)
    }

    /// Whether further problems are only counted, so that nobody need look for hints.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_PROBLEMS
    }

    /// Whether the file cannot be used.
    pub(crate) fn any_error(&self) -> bool {
        self.dropped_error || self.list.iter().any(Diagnostic::is_error)
    }

    /// All problems in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.list
            .sort_by_key(|problem| (problem.line, problem.column));
        if self.dropped > 0 {
            let message = format!("{} more problems are not shown", self.dropped);
            let severity = if self.dropped_error {
                Severity::Error
            } else {
                Severity::Warning
            };
            self.list.push(
                self.source
                    .diagnostic(severity, Mark::default(), "", message),
            );
        }
        self.list
    }
}
