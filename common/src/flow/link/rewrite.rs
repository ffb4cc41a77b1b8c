//! Keys made of other keys by a regular expression and a template.
//!
//! The engine that checks an expression at `apply` is the one that evaluates it here.

use regex::Regex;

use super::LinkError;
use crate::domain::chunk::key_objection;
use crate::flow::model::Rewrite;

/// An expression ready to be used.
pub(super) struct Rewriter<'r> {
    regex: Regex,
    rewrite: &'r Rewrite,
}

impl<'r> Rewriter<'r> {
    pub(super) fn new(rewrite: &'r Rewrite) -> Result<Self, LinkError> {
        let regex = Regex::new(&rewrite.pattern).map_err(|error| LinkError {
            what: format!(
                "the expression {:?} cannot be read: {error}",
                rewrite.pattern
            ),
            hint: "apply the flow again: its expressions are checked there".to_owned(),
        })?;
        Ok(Self { regex, rewrite })
    }

    /// The key made of the key of `dataset/key`.
    pub(super) fn image(&self, dataset: &str, key: &str) -> Result<String, LinkError> {
        let Rewrite { pattern, template } = self.rewrite;
        let Some(found) = self.regex.captures(key) else {
            return Err(LinkError {
                what: format!("chunk {dataset}/{key} does not match the expression {pattern:?}"),
                hint: "write an expression that every key matches".to_owned(),
            });
        };
        let mut image = String::new();
        found.expand(template, &mut image);
        match key_objection(&image) {
            None => Ok(image),
            Some(objection) => Err(LinkError {
                what: format!(
                    "the expression {pattern:?} makes {image:?} of {dataset}/{key}, which is no key: {objection}"
                ),
                hint: "change the expression or what it puts together".to_owned(),
            }),
        }
    }
}

/// The first group that a template names and the expression does not have.
///
/// A template is read as the engine reads it, which would put nothing in the place of such a group:
/// `$1a` is the group named `1a`.
pub(crate) fn unknown_group(regex: &Regex, template: &str) -> Option<String> {
    let known = |name: &str| match name.parse::<usize>() {
        Ok(number) => number < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|group| group == name),
    };
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('$') {
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map(|(name, _)| name),
            None => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
                rest.get(..length).filter(|name| !name.is_empty())
            }
        };
        // A dollar sign that names nothing stands for itself.
        if let Some(name) = name.filter(|name| !known(name)) {
            return Some(name.to_owned());
        }
    }
    None
}
