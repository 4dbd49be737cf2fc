//! Rescoring: the hits of any other query, ranked anew by MaxSim.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use tantivy::collector::TopDocs;
use tantivy::query::Query;
use tantivy::schema::Field;
use tantivy::{DocAddress, DocId, Score, Searcher};

use super::eligible::EligiblePages;
use super::prepared::PreparedQuery;
use super::question::{Question, reader_of};
use super::scan::{self, Threads};
use crate::cache::SegmentCache;
use crate::{Error, QueryVectors};

/// What becomes of a hit whose document has no vectors.
///
/// Hits are ranked by score, whatever the score stems from. A MaxSim of unit vectors lies between minus and plus the number
/// of query tokens, and good pages lie well above 0; BM25 has no upper limit. So a score that is kept, or a fixed one, puts
/// documents among the rescored pages, where [`Last`](Self::Last) keeps them behind.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Fallback {
    /// It comes after all rescored hits, by falling first-pass score, and gets the lowest MaxSim among them (0 where
    /// there is none).
    #[default]
    Last,
    /// It keeps its first-pass score. Made for first passes on the scale of MaxSim: behind BM25 it may come before any page.
    FirstPass,
    /// It gets this score, and those that have it in common come by falling first-pass score.
    Score(f32),
    /// It is left out.
    Drop,
}

/// A hit of a first pass, ranked anew.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RescoredHit {
    /// What it is ranked by: MaxSim, or what [`Fallback`] says.
    pub score: f32,
    /// Where the document stands in the searcher.
    pub address: DocAddress,
    /// The score that the first pass gave.
    pub first_pass: Score,
    /// Whether the score is a MaxSim: false where the document has no vectors.
    pub rescored: bool,
}

impl From<RescoredHit> for (Score, DocAddress) {
    fn from(hit: RescoredHit) -> Self {
        (hit.score, hit.address)
    }
}

impl RescoredHit {
    /// The better hit first: higher score, then MaxSim before fallback, then the first pass's score among fallbacks, then
    /// lower address. NaN counts as the lowest score.
    fn rank(&self, other: &Self) -> Ordering {
        let falling = |one: f32, other: f32| other.max(f32::NEG_INFINITY).total_cmp(&one.max(f32::NEG_INFINITY));
        let by_first_pass = || if self.rescored { Ordering::Equal } else { falling(self.first_pass, other.first_pass) };
        falling(self.score, other.score)
            .then_with(|| other.rescored.cmp(&self.rescored))
            .then_with(by_first_pass)
            .then_with(|| self.address.cmp(&other.address))
    }
}

/// Ranks the hits of any tantivy query anew by MaxSim, at the highest precision stored.
///
/// The usual way to search by words first and by meaning second: BM25 finds some hundred documents, and only their vectors
/// are read. Made by [`LateInteraction::rescorer`](crate::LateInteraction::rescorer); the example is at the head of the crate.
#[derive(Clone)]
pub struct LateInteractionRescorer {
    question: Question,
    fallback: Fallback,
}

impl LateInteractionRescorer {
    pub(crate) fn new(cache: Arc<SegmentCache>, field: Field, vectors: QueryVectors) -> Self {
        Self { question: Question::new(cache, field, vectors), fallback: Fallback::default() }
    }

    /// Sets what becomes of hits without vectors (default [`Fallback::Last`]).
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Runs a query and rescores its `n` best hits: all of them, best first.
    ///
    /// # Errors
    /// As [`rescore`](Self::rescore), or the query fails.
    pub fn search(&self, searcher: &Searcher, first_pass: &dyn Query, n: usize) -> Result<Vec<RescoredHit>, Error> {
        // Collectors make room for all hits that are asked for, and refuse to be asked for none.
        let n = n.min(usize::try_from(searcher.num_docs()).unwrap_or(usize::MAX));
        let found = match n {
            0 => Vec::new(),
            n => searcher.search(first_pass, &TopDocs::with_limit(n).order_by_score())?,
        };
        self.rescore(searcher, found)
    }

    /// Rescores the hits of a first pass that the same searcher gave: all of them, best first; equal scores by ascending
    /// address, MaxSim before fallback.
    ///
    /// A document that is named twice counts once, with its first score. One that is deleted in this searcher is left out.
    ///
    /// # Errors
    /// The field is no late-interaction field or has another dimension, a segment holds pages of another model, the searcher
    /// has no such document, or a segment file is gone or damaged.
    pub fn rescore<H: Into<(Score, DocAddress)>>(
        &self,
        searcher: &Searcher,
        hits: impl IntoIterator<Item = H>,
    ) -> Result<Vec<RescoredHit>, Error> {
        let first_pass = live_hits(searcher, hits.into_iter().map(Into::into))?;
        let scores = self.scores(searcher, &first_pass)?;
        let lowest = scores.values().copied().reduce(f32::min).unwrap_or(0.0);
        let rescored = |(first_pass, address): (Score, DocAddress)| {
            let max_sim = scores.get(&address).copied();
            let score = match (max_sim, self.fallback) {
                (Some(score), _) | (None, Fallback::Score(score)) => score,
                (None, Fallback::Last) => lowest,
                (None, Fallback::FirstPass) => first_pass,
                (None, Fallback::Drop) => return None,
            };
            Some(RescoredHit { score, address, first_pass, rescored: max_sim.is_some() })
        };
        let mut hits: Vec<RescoredHit> = first_pass.into_iter().filter_map(rescored).collect();
        hits.sort_unstable_by(RescoredHit::rank);
        Ok(hits)
    }

    /// The MaxSim of those documents that have vectors.
    fn scores(&self, searcher: &Searcher, hits: &[(Score, DocAddress)]) -> Result<HashMap<DocAddress, f32>, Error> {
        let files = self.question.open(searcher)?;
        let field = self.question.field;
        let mut docs: Vec<Vec<DocId>> = vec![Vec::new(); files.len()];
        hits.iter().for_each(|(_, address)| docs[address.segment_ord as usize].push(address.doc_id));
        let mut segments = Vec::new();
        for (((segment, reader), file), docs) in (0..).zip(searcher.segment_readers()).zip(&files).zip(&docs) {
            if let (Some(table), false) = (file.field(field), docs.is_empty()) {
                segments.push(EligiblePages::among(docs, segment, reader, file, field, table));
            }
        }
        let mut query = PreparedQuery::new(self.question.vectors());
        segments.iter().flat_map(EligiblePages::scored_blocks).for_each(|block| query.prepare(block));
        let (scored, _) = scan::top_k(&query, &segments, hits.len().max(1), Threads::Many)?;
        Ok(scored.into_iter().map(|hit| (hit.address, hit.score)).collect())
    }
}

impl fmt::Debug for LateInteractionRescorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateInteractionRescorer")
            .field("field", &self.question.field)
            .field("query_tokens", &self.question.vectors().tokens())
            .field("fallback", &self.fallback)
            .finish()
    }
}

/// Each live document once.
fn live_hits(
    searcher: &Searcher,
    hits: impl Iterator<Item = (Score, DocAddress)>,
) -> Result<Vec<(Score, DocAddress)>, Error> {
    let mut seen = HashSet::new();
    let mut live = Vec::new();
    for (score, address) in hits {
        if !reader_of(searcher, address)?.is_deleted(address.doc_id) && seen.insert(address) {
            live.push((score, address));
        }
    }
    Ok(live)
}
