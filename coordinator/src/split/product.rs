//! One chunk for each combination of the chunks of several dimensions, the first the slowest.

use async_trait::async_trait;
use common::domain::{Bounds, NewChunk};
use common::flow::model::Partition;

use super::batcher::Batcher;
use super::{ChunkSink, MAX_CHUNKS, SplitError, SplitRequest};

/// Stands between the keys of the dimensions. No scheme that makes keys of values writes it.
const BETWEEN: char = '@';

#[derive(Default)]
struct Gathered(Vec<NewChunk>);

#[async_trait]
impl ChunkSink for Gathered {
    async fn push(&mut self, batch: Vec<NewChunk>) -> anyhow::Result<()> {
        self.0.extend(batch);
        Ok(())
    }
}

pub(super) async fn split(
    request: &SplitRequest<'_>,
    parts: &[Partition],
    out: &mut Batcher<'_>,
) -> Result<(), SplitError> {
    let mut dimensions = Vec::new();
    let mut chunks: u64 = 1;
    for partition in parts {
        let request = SplitRequest {
            partition,
            ..request.clone()
        };
        let mut sink = Gathered::default();
        // A split that splits: its future would hold itself.
        let summary = Box::pin(super::split(request, &mut sink)).await?;
        for note in summary.notes {
            out.note(note);
        }
        if let Some(odd) = sink.0.iter().find(|chunk| chunk.key.contains(BETWEEN)) {
            return Err(SplitError::refused(
                format!(
                    "the key {:?} of a dimension holds {BETWEEN:?}, which stands between dimensions",
                    odd.key
                ),
                "name its chunks without that character",
            ));
        }
        chunks = chunks.saturating_mul(sink.0.len() as u64);
        if chunks > MAX_CHUNKS {
            return Err(SplitError::refused(
                format!(
                    "a plan of at most {MAX_CHUNKS} chunks was expected, this product has more"
                ),
                "make its dimensions smaller",
            ));
        }
        dimensions.push(sink.0);
    }
    for number in 0..chunks {
        out.push(combination(&dimensions, number)).await?;
    }
    Ok(())
}

/// The combination of that number, from 0: its digits, each in the base of its dimension.
fn combination(dimensions: &[Vec<NewChunk>], number: u64) -> NewChunk {
    let mut left = number;
    let mut picked = Vec::new();
    for dimension in dimensions.iter().rev() {
        let base = dimension.len().max(1) as u64;
        let digit = usize::try_from(left % base).unwrap_or(0);
        picked.extend(dimension.get(digit));
        left /= base;
    }
    picked.reverse();
    let keys: Vec<&str> = picked.iter().map(|chunk| chunk.key.as_str()).collect();
    NewChunk {
        key: keys.join(&BETWEEN.to_string()),
        bounds: Bounds::Product {
            parts: picked.iter().map(|chunk| chunk.bounds.clone()).collect(),
        },
        est_rows: None,
        est_bytes: None,
    }
}
