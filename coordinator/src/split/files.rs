//! One chunk for each file that a pattern finds, ordered by path, with its size.

use std::path::Path;

use common::domain::{Bounds, NewChunk};
use common::endpoint::files;

use super::SplitError;
use super::batcher::Batcher;
use super::chunk_key;

/// Files left out that are named one by one; of the rest only the number is told.
const NAMED: usize = 20;

pub(super) async fn split(
    root: &Path,
    pattern: &str,
    out: &mut Batcher<'_>,
) -> Result<(), SplitError> {
    let listing = {
        let (root, pattern) = (root.to_owned(), pattern.to_owned());
        tokio::task::spawn_blocking(move || files::list(&root, &pattern))
            .await
            .map_err(|error| SplitError::Broken(format!("listing files ended early: {error}")))??
    };
    if listing.files.is_empty() {
        let braces = if pattern.contains('{') {
            " Braces mean themselves in a pattern, not a choice."
        } else {
            ""
        };
        out.note(format!(
            "No file matches {pattern:?} below {}: the plan is empty.{braces}",
            root.display()
        ));
    }
    for skipped in listing.skipped.iter().take(NAMED) {
        out.note(format!("Left out {skipped}."));
    }
    if listing.skipped.len() > NAMED {
        out.note(format!("Left out {} more.", listing.skipped.len() - NAMED));
    }
    let keys = chunk_key::readable(listing.files.iter().map(|file| file.path.as_str()));
    for (key, file) in keys.into_iter().zip(listing.files) {
        out.push(NewChunk {
            key,
            est_rows: None,
            est_bytes: i64::try_from(file.bytes).ok(),
            bounds: Bounds::File {
                path: file.path,
                bytes: file.bytes,
            },
        })
        .await?;
    }
    Ok(())
}
