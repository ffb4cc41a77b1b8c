//! The scheme that does not cut: one chunk, named `all`.

use common::domain::{Bounds, NewChunk};

use super::SplitError;
use super::batcher::Batcher;

pub(super) async fn split(out: &mut Batcher<'_>) -> Result<(), SplitError> {
    out.push(NewChunk {
        key: "all".to_owned(),
        bounds: Bounds::Single,
        est_rows: None,
        est_bytes: None,
    })
    .await
}
