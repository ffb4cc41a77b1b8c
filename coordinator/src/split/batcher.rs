//! Gathers chunks into batches for the sink and keeps what the summary needs.
//!
//! The one way out for every scheme, so that the limits on a plan hold for all of them.

use common::domain::NewChunk;

use super::{BATCH, ChunkSink, MAX_CHUNKS, SizeFigures, SplitError, SplitSummary};

pub(super) struct Batcher<'a> {
    sink: &'a mut dyn ChunkSink,
    batch: Vec<NewChunk>,
    rows: Vec<i64>,
    bytes: Vec<i64>,
    /// What the scheme fills in itself: key, outer bounds, notes; the rest is counted here.
    pub(super) summary: SplitSummary,
}

impl<'a> Batcher<'a> {
    pub(super) fn new(sink: &'a mut dyn ChunkSink) -> Self {
        Self {
            sink,
            batch: Vec::new(),
            rows: Vec::new(),
            bytes: Vec::new(),
            summary: SplitSummary::default(),
        }
    }

    /// Chunks pushed so far.
    pub(super) fn chunks(&self) -> u64 {
        self.summary.chunks
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.summary.notes.push(note.into());
    }

    pub(super) async fn push(&mut self, chunk: NewChunk) -> Result<(), SplitError> {
        if self.summary.chunks == MAX_CHUNKS {
            return Err(SplitError::refused(
                format!("a plan of at most {MAX_CHUNKS} chunks was expected, this one has more"),
                "make the chunks larger",
            ));
        }
        self.summary.chunks += 1;
        self.rows.extend(chunk.est_rows);
        self.bytes.extend(chunk.est_bytes);
        self.batch.push(chunk);
        if self.batch.len() == BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SplitError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.sink.push(batch).await.map_err(SplitError::Sink)
    }

    pub(super) async fn finish(mut self) -> Result<SplitSummary, SplitError> {
        self.flush().await?;
        let total = |sizes: &[i64]| {
            (!sizes.is_empty()).then(|| sizes.iter().fold(0_i64, |sum, n| sum.saturating_add(*n)))
        };
        let mut summary = self.summary;
        summary.rows_estimate = total(&self.rows);
        summary.bytes_estimate = total(&self.bytes);
        summary.rows = SizeFigures::of(&mut self.rows);
        summary.bytes = SizeFigures::of(&mut self.bytes);
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::{Batcher, ChunkSink};
    use common::domain::{Bounds, NewChunk};

    struct Sizes(Vec<usize>);

    #[async_trait::async_trait]
    impl ChunkSink for Sizes {
        async fn push(&mut self, batch: Vec<NewChunk>) -> anyhow::Result<()> {
            self.0.push(batch.len());
            Ok(())
        }
    }

    #[tokio::test]
    async fn batches_are_bounded_and_the_rest_is_not_lost() {
        let mut sink = Sizes(Vec::new());
        let mut out = Batcher::new(&mut sink);
        for i in 0..10_001 {
            let chunk = NewChunk {
                key: i.to_string(),
                bounds: Bounds::Single,
                est_rows: Some(2),
                est_bytes: None,
            };
            out.push(chunk).await.unwrap();
        }
        let summary = out.finish().await.unwrap();
        assert_eq!(sink.0, [5_000, 5_000, 1]);
        assert_eq!(
            (summary.chunks, summary.rows_estimate),
            (10_001, Some(20_002))
        );
        assert_eq!(summary.bytes_estimate, None);
    }
}
