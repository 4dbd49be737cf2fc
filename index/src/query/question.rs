//! What pages are compared with, and whether they can be: shared by queries and rescorers.

use std::sync::Arc;

use tantivy::schema::Field;
use tantivy::{DocAddress, Searcher, SegmentReader};

use crate::cache::SegmentCache;
use crate::segment::SegmentFile;
use crate::{Error, LateInteractionOptions, MAX_QUERY_TOKENS, MultiVector, Origin, QueryVectors};

/// Query vectors, the field whose pages they are compared with, and where its files are open.
#[derive(Clone)]
pub(super) struct Question {
    cache: Arc<SegmentCache>,
    pub field: Field,
    asked: Arc<QueryVectors>,
}

impl Question {
    pub fn new(cache: Arc<SegmentCache>, field: Field, vectors: QueryVectors) -> Self {
        Self { cache, field, asked: Arc::new(vectors) }
    }

    /// `query tokens x dim`.
    pub fn vectors(&self) -> &MultiVector {
        &self.asked.vectors
    }

    /// Opens all segments, in their order, and checks that the vectors can be compared with their pages.
    pub fn open(&self, searcher: &Searcher) -> Result<Vec<Arc<SegmentFile>>, Error> {
        let options = LateInteractionOptions::of(searcher.schema(), self.field)?;
        let name = || searcher.schema().get_field_name(self.field).to_owned();
        let (received, expected) = (self.vectors().dim(), options.dim());
        if received != expected {
            return Err(Error::Dim { field: name(), received, expected });
        }
        let tokens = self.vectors().tokens();
        if tokens > MAX_QUERY_TOKENS {
            return Err(Error::QueryTokens { received: tokens, most: MAX_QUERY_TOKENS });
        }
        let files = self.cache.all(searcher)?;
        let Origin::Model(received) = self.asked.origin else { return Ok(files) };
        for (file, reader) in files.iter().zip(searcher.segment_readers()) {
            if let Some(expected) = file.field(self.field).and_then(|table| table.other_live_model(received, reader)) {
                return Err(Error::OtherQueryModel {
                    field: name(),
                    segment: file.segment().to_owned(),
                    expected,
                    received,
                });
            }
        }
        Ok(files)
    }
}

/// The reader of the segment that holds a document, if the searcher has such a document.
pub(crate) fn reader_of(searcher: &Searcher, address: DocAddress) -> Result<&SegmentReader, Error> {
    let segments = searcher.segment_readers();
    let reader = segments.get(address.segment_ord as usize).filter(|reader| address.doc_id < reader.max_doc());
    reader.ok_or(Error::NoDocument { segment: address.segment_ord, doc: address.doc_id, segments: segments.len() })
}
