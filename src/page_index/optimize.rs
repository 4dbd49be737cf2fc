//! Rewrites a page index into one segment, with a codebook trained on all of it.

use colqwen_index_ingest::embeddings::PageReader;

use super::PageIndex;
use crate::Error;

impl PageIndex {
    /// Trains a new codebook, and merges all segments into one without deleted pages.
    ///
    /// Pages in 8 bits, in f16, or with an f16 copy get new codes. Pages in 4 or 2 bits keep theirs unless their vectors
    /// are given again as `embeddings`, which are imported first.
    ///
    /// # Errors
    /// As [`import`](Self::import); the last commit stands.
    pub fn optimize(&mut self, embeddings: Vec<PageReader>, progress: impl FnMut(u64) -> bool) -> Result<(), Error> {
        self.handle.retrain(self.fields.tokens)?;
        if !embeddings.is_empty() {
            self.import(embeddings, progress)?;
        }
        let writer = self.current_writer()?;
        writer.merge_all(&self.index.searchable_segment_ids()?)?;
        self.reload()
    }
}
