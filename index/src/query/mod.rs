//! The query: the `k` nearest pages by MaxSim, as a tantivy query that composes with all others.

mod explain;
mod scan;
mod weight;

use std::fmt;
use std::sync::Arc;

use tantivy::query::{EnableScoring, Query, Weight};
use tantivy::schema::Field;
use tantivy::{DocAddress, Searcher};

pub use explain::{PageExplanation, TokenMatch};
pub use scan::PageHit;

use crate::cache::SegmentCache;
use crate::segment::SegmentFile;
use crate::{Error, LateInteractionOptions, Origin, QueryVectors};

/// How many pages a query finds unless [`LateInteractionQuery::k`] says otherwise.
const DEFAULT_K: usize = 10;

/// Finds the `k` live pages with the highest MaxSim: for each query token its best page token, summed.
///
/// The set of hits is fixed before other clauses are looked at, as in Lucene's kNN queries: in a `BooleanQuery` the other
/// clauses filter these `k` hits and add to their scores. To search among matching documents only, give the condition to
/// [`filter`](Self::filter), which applies before scoring and always leaves `k` hits where there are as many.
/// Counting counts the hits, at most `k`.
#[derive(Clone)]
pub struct LateInteractionQuery {
    cache: Arc<SegmentCache>,
    field: Field,
    vectors: Arc<QueryVectors>,
    k: usize,
    filter: Option<Arc<dyn Query>>,
}

impl LateInteractionQuery {
    pub(crate) fn new(cache: Arc<SegmentCache>, field: Field, vectors: QueryVectors) -> Self {
        Self { cache, field, vectors: Arc::new(vectors), k: DEFAULT_K, filter: None }
    }

    /// Sets how many pages are found (default 10).
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// Searches only documents that match `filter`.
    pub fn filter(mut self, filter: impl Query) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// The hits, best first; equal scores by ascending address.
    ///
    /// # Errors
    /// The field is no late-interaction field or has another dimension, a segment holds pages of another model, or a
    /// segment file is gone or damaged.
    pub fn search(&self, searcher: &Searcher) -> Result<Vec<PageHit>, Error> {
        self.search_in(searcher, &self.open(searcher)?)
    }

    fn search_in(&self, searcher: &Searcher, files: &[Arc<SegmentFile>]) -> Result<Vec<PageHit>, Error> {
        let filter = match &self.filter {
            Some(filter) => Some(filter.weight(EnableScoring::disabled_from_searcher(searcher))?),
            None => None,
        };
        scan::top_k(searcher, files, self.field, &self.vectors.vectors, self.k, filter.as_deref())
    }

    /// Which page token answered each query token of the page at `address`, whether or not the page is among the hits;
    /// `None` if the document has no vectors in the field.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn explain_page(&self, searcher: &Searcher, address: DocAddress) -> Result<Option<PageExplanation>, Error> {
        let files = self.open(searcher)?;
        explain::explain(&files[address.segment_ord as usize], self.field, address.doc_id, &self.vectors.vectors)
    }

    /// Opens all segments and checks that the query can be compared with their pages.
    fn open(&self, searcher: &Searcher) -> Result<Vec<Arc<SegmentFile>>, Error> {
        let options = LateInteractionOptions::of(searcher.schema(), self.field)?;
        let name = || searcher.schema().get_field_name(self.field).to_owned();
        let (received, expected) = (self.vectors.vectors.dim(), options.dim());
        if received != expected {
            return Err(Error::Dim { field: name(), received, expected });
        }
        let files = self.cache.all(searcher)?;
        let Origin::Model(received) = self.vectors.origin else { return Ok(files) };
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

impl Query for LateInteractionQuery {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let searcher = scoring.searcher().ok_or(Error::NoSearcher)?;
        let files = self.open(searcher)?;
        let hits = self.search_in(searcher, &files)?;
        Ok(Box::new(weight::LateInteractionWeight::new(self.clone(), searcher, files, hits)))
    }
}

impl fmt::Debug for LateInteractionQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateInteractionQuery")
            .field("field", &self.field)
            .field("query_tokens", &self.vectors.vectors.tokens())
            .field("k", &self.k)
            .field("filter", &self.filter)
            .finish()
    }
}
