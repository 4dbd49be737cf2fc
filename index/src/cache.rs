//! Open segment files, shared by the queries of a handle and kept as long as a reader may search them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tantivy::index::SegmentId;
use tantivy::{Searcher, SearcherGeneration, SegmentReader, Warmer};

use crate::Error;
use crate::plugin::open_segment_file;
use crate::segment::SegmentFile;

/// Finds open segment files by segment; what no reader holds any more is closed.
#[derive(Debug, Default)]
pub(crate) struct SegmentCache {
    open: Mutex<HashMap<SegmentId, Weak<SegmentFile>>>,
}

impl SegmentCache {
    /// The open file of a segment, opened now if need be.
    pub fn get(&self, reader: &SegmentReader) -> Result<Arc<SegmentFile>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&reader.segment_id()).and_then(Weak::upgrade) {
            return Ok(file);
        }
        open.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(open_segment_file(reader)?);
        open.insert(reader.segment_id(), Arc::downgrade(&file));
        Ok(file)
    }

    /// The open files of all segments of a searcher, in segment order.
    pub fn all(&self, searcher: &Searcher) -> Result<Vec<Arc<SegmentFile>>, Error> {
        searcher.segment_readers().iter().map(|reader| self.get(reader)).collect()
    }
}

/// Opens the files of each new searcher of one reader before anybody searches it, and holds them while it lives:
/// after a merge the file of an old searcher cannot be opened any more.
pub(crate) struct ReaderWarmer {
    cache: Arc<SegmentCache>,
    held: Mutex<HashMap<SegmentId, Arc<SegmentFile>>>,
}

impl ReaderWarmer {
    pub fn new(cache: Arc<SegmentCache>) -> Self {
        Self { cache, held: Mutex::default() }
    }
}

impl Warmer for ReaderWarmer {
    fn warm(&self, searcher: &Searcher) -> tantivy::Result<()> {
        let files = self.cache.all(searcher)?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(searcher.segment_readers().iter().map(SegmentReader::segment_id).zip(files));
        Ok(())
    }

    fn garbage_collect(&self, live: &[&SearcherGeneration]) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|segment, _| live.iter().any(|generation| generation.segments().contains_key(segment)));
    }
}
