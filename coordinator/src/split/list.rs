//! One chunk for each declared value, in the declared order.

use std::collections::HashMap;

use common::domain::{Bounds, NewChunk};

use super::SplitError;
use super::batcher::Batcher;
use super::chunk_key;

pub(super) async fn split(values: &[String], out: &mut Batcher<'_>) -> Result<(), SplitError> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, value) in values.iter().enumerate() {
        if let Some(first) = seen.insert(value, index) {
            return Err(SplitError::refused(
                format!(
                    "distinct values were expected, value {} of the list repeats value {}: {value:?}",
                    index + 1,
                    first + 1
                ),
                "remove one of them",
            ));
        }
        if value.is_empty() || value.contains('\0') {
            return Err(SplitError::refused(
                format!(
                    "value {} of the list is empty or holds the character NUL",
                    index + 1
                ),
                "write a value that a script can be given",
            ));
        }
    }
    if values.is_empty() {
        return Err(SplitError::refused(
            "a list of values was expected, it is empty",
            "declare at least one value",
        ));
    }
    let keys = chunk_key::readable(values.iter().map(String::as_str));
    for (key, value) in keys.into_iter().zip(values) {
        out.push(NewChunk {
            key,
            bounds: Bounds::Value {
                value: value.clone(),
            },
            est_rows: None,
            est_bytes: None,
        })
        .await?;
    }
    Ok(())
}
