//! The query: the `k` nearest pages by MaxSim, as a tantivy query that composes with all others.

mod certainty;
mod effort;
mod eligible;
mod explain;
mod hit;
mod knobs;
mod ladder;
mod prepared;
mod probe;
mod report;
mod scan;
mod weight;

use std::fmt;
use std::sync::Arc;

use tantivy::query::{EnableScoring, Query, Weight};
use tantivy::schema::Field;
use tantivy::{DocAddress, Searcher};

pub use effort::Effort;
pub use explain::{PageExplanation, TokenMatch};
pub use hit::PageHit;
pub use knobs::Knobs;
pub use report::{SearchReport, SearchWork};

use eligible::EligiblePages;
use ladder::Ladder;
use prepared::PreparedQuery;

use crate::cache::SegmentCache;
use crate::segment::SegmentFile;
use crate::{Error, LateInteractionOptions, Origin, Precision, QueryVectors};

/// Eligible pages up to which all are scored: estimating would cost as much.
const FEW_PAGES: usize = 96;

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
    effort: Effort,
    knobs: Knobs,
    filter: Option<Arc<dyn Query>>,
}

impl LateInteractionQuery {
    pub(crate) fn new(cache: Arc<SegmentCache>, field: Field, vectors: QueryVectors) -> Self {
        Self {
            cache,
            field,
            vectors: Arc::new(vectors),
            k: DEFAULT_K,
            effort: Effort::default(),
            knobs: Knobs::default(),
            filter: None,
        }
    }

    /// Sets how many pages are found (default 10).
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// Sets how much work goes into the search (default [`Effort::default`]). Pages stored as f16 are always all scored.
    pub fn effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
        self
    }

    /// Sets what lies beneath the effort (default [`Knobs::default`]).
    pub fn knobs(mut self, knobs: Knobs) -> Self {
        self.knobs = knobs;
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
        Ok(self.report(searcher)?.hits)
    }

    /// The hits, how sure they are, and what finding them took.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn report(&self, searcher: &Searcher) -> Result<SearchReport, Error> {
        self.report_in(searcher, &self.open(searcher)?)
    }

    fn report_in(&self, searcher: &Searcher, files: &[Arc<SegmentFile>]) -> Result<SearchReport, Error> {
        let filter = match &self.filter {
            Some(filter) => Some(filter.weight(EnableScoring::disabled_from_searcher(searcher))?),
            None => None,
        };
        let options = LateInteractionOptions::of(searcher.schema(), self.field)?;
        let precision = if options.keeps_f16() { Precision::F16 } else { options.precision() };
        let mut segments = Vec::with_capacity(files.len());
        for ((segment, reader), file) in (0..).zip(searcher.segment_readers()).zip(files) {
            if let Some(table) = file.field(self.field) {
                segments.push(EligiblePages::new(segment, reader, file, self.field, table, filter.as_deref())?);
            }
        }
        let eligible: usize = segments.iter().map(EligiblePages::len).sum();
        let exact = SearchReport { expected_recall: 1.0, precision, ..SearchReport::default() };
        if self.k == 0 {
            return Ok(exact);
        }
        let mut query = PreparedQuery::new(&self.vectors.vectors);
        for pages in segments.iter().filter(|pages| pages.len() > 0) {
            pages.file.blocks(self.field).iter().for_each(|block| query.prepare(block));
        }
        let (hits, proven, expected_recall, mut work) = match self.effort.loss() {
            Some(loss) if options.precision() != Precision::F16 && eligible > FEW_PAGES.max(2 * self.k) => {
                let climbed = Ladder::new(&query, &segments, self.k, loss, self.knobs)?.climb()?;
                let proven = climbed.hits.iter().take_while(|hit| hit.score > climbed.bound).count();
                let missing = climbed.missing.min((self.k - proven) as f64);
                (climbed.hits, proven, 1.0 - missing / self.k as f64, climbed.work)
            }
            _ => {
                let (hits, work) = scan::top_k(&query, &segments, self.k)?;
                let proven = hits.len();
                (hits, proven, 1.0, work)
            }
        };
        work.eligible = eligible as u64;
        Ok(SearchReport { hits, proven, expected_recall: expected_recall as f32, work, ..exact })
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
        let report = self.report_in(searcher, &files)?;
        Ok(Box::new(weight::LateInteractionWeight::new(self.clone(), searcher, files, report)))
    }
}

impl fmt::Debug for LateInteractionQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateInteractionQuery")
            .field("field", &self.field)
            .field("query_tokens", &self.vectors.vectors.tokens())
            .field("k", &self.k)
            .field("effort", &self.effort)
            .field("filter", &self.filter)
            .finish()
    }
}
