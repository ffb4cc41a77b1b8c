//! From how a command ended to the code that the process ends with.
//!
//! 0 done, 1 error, 2 asked wrongly, 3 not found, 4 understood and refused, 5 found degraded.

use common::store::StoreError;

use crate::declare::DeclareError;

/// Something went wrong that is nobody's answer.
pub const ERROR: u8 = 1;
/// Asked wrongly: the same question can never succeed.
pub const USAGE: u8 = 2;
/// What was named is not there.
pub const NOT_FOUND: u8 = 3;
/// Understood and not done; nothing was changed.
pub const REFUSED: u8 = 4;
/// The question was answered, and the answer is bad.
pub const DEGRADED: u8 = 5;

/// The code for an error, by the first of its causes that has one.
#[must_use]
pub fn of(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| {
            let store = cause.downcast_ref::<StoreError>().and_then(of_store);
            store.or_else(|| cause.downcast_ref::<DeclareError>().map(|_| USAGE))
        })
        .unwrap_or(ERROR)
}

fn of_store(error: &StoreError) -> Option<u8> {
    match error {
        StoreError::Usage(_) => Some(USAGE),
        StoreError::NotFound(_) => Some(NOT_FOUND),
        StoreError::Refused(_) | StoreError::NameTaken(_) => Some(REFUSED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use common::store::error::Said;

    fn said() -> Said {
        Said {
            message: "no".to_owned(),
            hint: None,
        }
    }

    #[test]
    fn a_cause_below_context_decides() {
        let refused: Result<(), _> = Err(StoreError::Refused(said()));
        assert_eq!(of(&refused.context("apply flow x").unwrap_err()), REFUSED);
        let missing: Result<(), _> = Err(StoreError::NotFound(said()));
        assert_eq!(of(&missing.context("check").unwrap_err()), NOT_FOUND);
    }

    #[test]
    fn a_broken_file_is_a_wrong_question_and_everything_else_an_error() {
        assert_eq!(of(&DeclareError::Wrong(Vec::new()).into()), USAGE);
        assert_eq!(of(&anyhow::anyhow!("disk on fire")), ERROR);
        let away = StoreError::Unreachable {
            problem: "gone".to_owned(),
        };
        assert_eq!(of(&away.into()), ERROR);
    }
}
