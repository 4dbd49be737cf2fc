//! The query: the `k` nearest pages by MaxSim, as a tantivy query that composes with all others.

mod batch;
mod certainty;
mod effort;
mod eligible;
mod explain;
mod hit;
mod knobs;
mod ladder;
mod prepared;
mod probe;
mod question;
mod report;
mod rescore;
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
pub use rescore::{Fallback, LateInteractionRescorer, RescoredHit};

pub(crate) use question::reader_of;

use eligible::EligiblePages;
use ladder::Ladder;
use prepared::PreparedQuery;
use question::Question;
use scan::Threads;

use crate::cache::SegmentCache;
use crate::segment::SegmentFile;
use crate::{Error, LateInteractionOptions, Precision, QueryVectors};

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
    question: Question,
    k: usize,
    effort: Effort,
    knobs: Knobs,
    filter: Option<Arc<dyn Query>>,
}

impl LateInteractionQuery {
    pub(crate) fn new(cache: Arc<SegmentCache>, field: Field, vectors: QueryVectors) -> Self {
        let question = Question::new(cache, field, vectors);
        Self { question, k: DEFAULT_K, effort: Effort::default(), knobs: Knobs::default(), filter: None }
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
        self.report_by(searcher, Threads::Many)
    }

    fn report_by(&self, searcher: &Searcher, threads: Threads) -> Result<SearchReport, Error> {
        self.report_in(searcher, &self.question.open(searcher)?, threads)
    }

    fn report_in(
        &self,
        searcher: &Searcher,
        files: &[Arc<SegmentFile>],
        threads: Threads,
    ) -> Result<SearchReport, Error> {
        let field = self.question.field;
        let filter = match &self.filter {
            Some(filter) => Some(filter.weight(EnableScoring::disabled_from_searcher(searcher))?),
            None => None,
        };
        let options = LateInteractionOptions::of(searcher.schema(), field)?;
        let precision = if options.keeps_f16() { Precision::F16 } else { options.precision() };
        let mut segments = Vec::with_capacity(files.len());
        for ((segment, reader), file) in (0..).zip(searcher.segment_readers()).zip(files) {
            if let Some(table) = file.field(field) {
                segments.push(EligiblePages::new(segment, reader, file, field, table, filter.as_deref())?);
            }
        }
        let eligible: usize = segments.iter().map(EligiblePages::len).sum();
        let exact = SearchReport { expected_recall: 1.0, precision, ..SearchReport::default() };
        let k = self.k.min(eligible);
        if k == 0 {
            return Ok(exact);
        }
        let mut query = PreparedQuery::new(self.question.vectors());
        for pages in segments.iter().filter(|pages| pages.len() > 0) {
            pages.file.blocks(field).iter().for_each(|block| query.prepare(block));
        }
        let (hits, proven, expected_recall, mut work) = match self.effort.loss() {
            Some(loss) if options.precision() != Precision::F16 && eligible > FEW_PAGES.max(2 * k) => {
                let climbed = Ladder::new(&query, &segments, k, loss, self.knobs)?.climb()?;
                let proven = climbed.hits.iter().take_while(|hit| hit.score > climbed.bound).count();
                let missing = climbed.missing.min((k - proven) as f64);
                (climbed.hits, proven, 1.0 - missing / k as f64, climbed.work)
            }
            _ => {
                let (hits, work) = scan::top_k(&query, &segments, self.k, threads)?;
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
    /// As [`search`](Self::search), or the searcher has no such document.
    pub fn explain_page(&self, searcher: &Searcher, address: DocAddress) -> Result<Option<PageExplanation>, Error> {
        let files = self.question.open(searcher)?;
        reader_of(searcher, address)?;
        let file = &files[address.segment_ord as usize];
        explain::explain(file, self.question.field, address.doc_id, self.question.vectors())
    }
}

impl Query for LateInteractionQuery {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let searcher = scoring.searcher().ok_or(Error::NoSearcher)?;
        let files = self.question.open(searcher)?;
        let report = self.report_in(searcher, &files, Threads::Many)?;
        Ok(Box::new(weight::LateInteractionWeight::new(self.clone(), searcher, files, report)))
    }
}

impl fmt::Debug for LateInteractionQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateInteractionQuery")
            .field("field", &self.question.field)
            .field("query_tokens", &self.question.vectors().tokens())
            .field("k", &self.k)
            .field("effort", &self.effort)
            .field("knobs", &self.knobs)
            .field("filter", &self.filter)
            .finish()
    }
}
