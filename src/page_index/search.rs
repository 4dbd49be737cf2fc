//! Searching a page index: by vectors, by words, or by both.

use std::collections::HashMap;

use colqwen_index_field::{Effort, QueryVectors, SearchReport};
use tantivy::collector::TopDocs;
use tantivy::query::{AllQuery, BooleanQuery, ConstScoreQuery, Occur, Query, QueryParser, QueryParserError};
use tantivy::snippet::SnippetGenerator;
use tantivy::{DocAddress, Searcher, TantivyDocument};

use super::PageIndex;
use super::fields::{DOC_ID, PAGE};
use crate::Error;

/// The constant of reciprocal rank fusion (Cormack, Clarke & Buettcher, SIGIR 2009).
const FUSION_CONSTANT: f32 = 60.0;
/// How many hits of each kind enter the fusion, at least.
const FUSION_DEPTH: usize = 100;

/// The weight of MaxSim in hybrid ranking when the model is untrained: random vectors may order pages that the words
/// leave equal, but never displace a page that the words found.
pub const UNTRAINED_LATE_WEIGHT: f32 = 0.1;

/// How hits are found and ranked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// By MaxSim of the token embeddings.
    #[default]
    Late,
    /// By BM25 of the text layer.
    Bm25,
    /// By reciprocal rank fusion of both.
    Hybrid,
}

/// Pages by falling score.
type Ranked = Vec<(f32, DocAddress)>;

/// One search.
#[derive(Clone, Debug, Default)]
pub struct SearchRequest<'a> {
    /// The query's embeddings; needed unless the mode is [`Mode::Bm25`].
    pub vectors: Option<QueryVectors>,
    /// The query's words; needed unless the mode is [`Mode::Late`].
    pub text: Option<&'a str>,
    /// How many hits.
    pub k: usize,
    /// How hits are ranked.
    pub mode: Mode,
    /// A tantivy query that every hit matches.
    pub filter: Option<&'a str>,
    /// How much work goes into finding hits by MaxSim.
    pub effort: Effort,
    /// The weight of MaxSim in hybrid ranking, against 1 for BM25.
    pub late_weight: Option<f32>,
}

/// The answer to a search.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The hits, best first.
    pub hits: Vec<Hit>,
    /// How sure the hits by MaxSim are and what finding them took; `None` unless the mode is [`Mode::Late`].
    pub late: Option<SearchReport>,
}

/// A page that was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Hit {
    /// The document.
    pub doc_id: String,
    /// The page within it, from 1.
    pub page: u32,
    /// MaxSim, BM25, or the fused score, by mode; higher is better.
    pub score: f32,
    /// Where the page stands in the searcher.
    pub address: DocAddress,
}

impl PageIndex {
    /// Searches a snapshot, best hit first.
    ///
    /// # Errors
    /// The filter is not understood, the query's vectors are of another model or dimension, or a file is gone or damaged.
    pub fn search(&self, searcher: &Searcher, request: &SearchRequest<'_>) -> Result<Vec<Hit>, Error> {
        Ok(self.report(searcher, request)?.hits)
    }

    /// Searches a snapshot, and says how sure the hits are and what finding them took.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn report(&self, searcher: &Searcher, request: &SearchRequest<'_>) -> Result<Answer, Error> {
        // Collectors make room for all hits that are asked for.
        let all = usize::try_from(searcher.num_docs()).unwrap_or(usize::MAX);
        let k = request.k.min(all);
        let filter = request.filter.map(|filter| self.parse_filter(filter)).transpose()?;
        let filter = filter.as_deref();
        let (ranked, late) = match request.mode {
            Mode::Late => {
                let report = self.by_vectors(searcher, request, filter, k)?;
                (ranked(report.as_ref()), report)
            }
            Mode::Bm25 => (self.by_words(searcher, request, filter, k)?, None),
            Mode::Hybrid => {
                let depth = k.max(FUSION_DEPTH).min(all);
                let late = ranked(self.by_vectors(searcher, request, filter, depth)?.as_ref());
                let words = self.by_words(searcher, request, filter, depth)?;
                (fuse(&[(late, request.late_weight.unwrap_or(1.0)), (words, 1.0)], k), None)
            }
        };
        Ok(Answer { hits: self.resolve(searcher, ranked)?, late })
    }

    fn by_vectors(
        &self,
        searcher: &Searcher,
        request: &SearchRequest<'_>,
        filter: Option<&dyn Query>,
        k: usize,
    ) -> Result<Option<SearchReport>, Error> {
        let Some(vectors) = &request.vectors else { return Ok(None) };
        let mut query = self.handle.query(self.fields.tokens, vectors.clone()).k(k).effort(request.effort);
        if let Some(filter) = filter {
            query = query.filter(filter.box_clone());
        }
        Ok(Some(query.report(searcher)?))
    }

    fn by_words(
        &self,
        searcher: &Searcher,
        request: &SearchRequest<'_>,
        filter: Option<&dyn Query>,
        k: usize,
    ) -> Result<Ranked, Error> {
        let (Some(text), true) = (request.text, k > 0) else { return Ok(Vec::new()) };
        let mut query = self.word_query(text);
        if let Some(filter) = filter {
            let filter: Box<dyn Query> = Box::new(ConstScoreQuery::new(filter.box_clone(), 0.0));
            query = Box::new(BooleanQuery::new(vec![(Occur::Must, query), (Occur::Must, filter)]));
        }
        Ok(searcher.search(&query, &TopDocs::with_limit(k).order_by_score())?)
    }

    /// The words of a text as a query: any of them may match, a quoted phrase counts as one word.
    pub fn word_query(&self, text: &str) -> Box<dyn Query> {
        let quotes = text.matches('"').count().is_multiple_of(2);
        let plain: String = text
            .chars()
            .map(|letter| if letter.is_alphanumeric() || (quotes && letter == '"') { letter } else { ' ' })
            .collect();
        // Lower case also keeps AND, OR and NOT from meaning something.
        let parser = QueryParser::for_index(&self.index, vec![self.fields.text]);
        parser.parse_query_lenient(&plain.to_lowercase()).0
    }

    fn parse_filter(&self, filter: &str) -> Result<Box<dyn Query>, Error> {
        let mut parser = QueryParser::for_index(&self.index, vec![self.fields.text]);
        parser.set_conjunction_by_default();
        let query = match parser.parse_query(filter) {
            // What tantivy keeps from people who type a query by mistake is a sensible filter.
            Err(QueryParserError::AllButQueryForbidden) => parser.parse_query_lenient(filter).0,
            other => other.map_err(|error| Error::Filter { filter: filter.to_owned(), problem: error.to_string() })?,
        };
        Ok(complete_exclusions(query))
    }

    /// Document and page of each hit, from the fast fields.
    fn resolve(&self, searcher: &Searcher, ranked: Ranked) -> Result<Vec<Hit>, Error> {
        let mut columns = HashMap::new();
        let mut hits = Vec::with_capacity(ranked.len());
        for (score, address) in ranked {
            let (ids, pages) = match columns.entry(address.segment_ord) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let fast = searcher.segment_reader(address.segment_ord).fast_fields();
                    entry.insert((fast.str(DOC_ID)?, fast.u64(PAGE)?))
                }
            };
            let mut doc_id = String::new();
            if let Some(ids) = ids
                && let Some(ordinal) = ids.term_ords(address.doc_id).next()
            {
                ids.ord_to_str(ordinal, &mut doc_id).map_err(tantivy::TantivyError::from)?;
            }
            let page = pages.first(address.doc_id).unwrap_or_default() as u32;
            hits.push(Hit { doc_id, page, score, address });
        }
        Ok(hits)
    }

    /// A few words of a page around what a text asks for; the beginning of the page where nothing matches.
    ///
    /// # Errors
    /// The stored page cannot be read.
    pub fn snippet(&self, searcher: &Searcher, hit: &Hit, text: &str, letters: usize) -> Result<String, Error> {
        let document: TantivyDocument = searcher.doc(hit.address)?;
        let mut generator = SnippetGenerator::create(searcher, &*self.word_query(text), self.fields.text)?;
        generator.set_max_num_chars(letters);
        let snippet = generator.snippet_from_doc(&document);
        let found = match snippet.fragment() {
            "" => {
                let stored = document.get_first(self.fields.text).map(tantivy::schema::OwnedValue::from);
                match stored {
                    Some(tantivy::schema::OwnedValue::Str(text)) => text.chars().take(letters).collect(),
                    _ => String::new(),
                }
            }
            fragment => fragment.to_owned(),
        };
        Ok(found.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn ranked(report: Option<&SearchReport>) -> Ranked {
    report.iter().flat_map(|report| &report.hits).map(|hit| (hit.score, hit.address)).collect()
}

/// Lets clauses that only exclude match everything else. Tantivy 0.27 makes such a clause of the second half of
/// `a AND NOT b`, and lets it match nothing (tantivy pull request 3025).
fn complete_exclusions(query: Box<dyn Query>) -> Box<dyn Query> {
    let Some(boolean) = query.downcast_ref::<BooleanQuery>() else { return query };
    let mut clauses: Vec<(Occur, Box<dyn Query>)> =
        boolean.clauses().iter().map(|(occur, clause)| (*occur, complete_exclusions(clause.box_clone()))).collect();
    if !clauses.is_empty() && clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) {
        clauses.push((Occur::Must, Box::new(AllQuery)));
    }
    Box::new(BooleanQuery::new(clauses))
}

/// Reciprocal rank fusion: each list adds `weight / (60 + rank)` to its pages.
fn fuse(lists: &[(Ranked, f32)], k: usize) -> Ranked {
    let mut fused: HashMap<DocAddress, f32> = HashMap::new();
    for (ranked, weight) in lists {
        for (rank, (_, address)) in (1u32..).zip(ranked) {
            *fused.entry(*address).or_default() += weight / (FUSION_CONSTANT + rank as f32);
        }
    }
    let mut ranked: Vec<(f32, DocAddress)> = fused.into_iter().map(|(address, score)| (score, address)).collect();
    ranked.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    ranked.truncate(k);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fusion_prefers_pages_that_both_lists_know() {
        let at = |doc| DocAddress::new(0, doc);
        let late = vec![(9.0, at(1)), (8.0, at(2))];
        let words = vec![(3.0, at(2)), (1.0, at(3))];
        let fused: Vec<u32> = fuse(&[(late, 1.0), (words, 1.0)], 3).iter().map(|(_, address)| address.doc_id).collect();
        assert_eq!(fused, [2, 1, 3]);
    }
}
