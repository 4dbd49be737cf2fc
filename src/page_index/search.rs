//! Searching a page index: by vectors, by words, or by both.

use std::collections::HashMap;

use colqwen_index_field::{Effort, Fusion, HitList, LateInteractionQuery, QueryVectors, SearchReport};
use rayon::prelude::*;
use tantivy::collector::TopDocs;
use tantivy::query::{AllQuery, BooleanQuery, ConstScoreQuery, Occur, Query, QueryParser, QueryParserError};
use tantivy::snippet::SnippetGenerator;
use tantivy::{DocAddress, Searcher, TantivyDocument};

mod nesting;

use super::PageIndex;
use super::fields::{DOC_ID, PAGE};
use crate::Error;

/// How many hits of each kind enter the fusion, at least.
const FUSION_DEPTH: usize = 100;

/// The weight of MaxSim in reciprocal rank fusion when the model is untrained: random vectors may order pages that the
/// words leave equal, but never displace a page that the words found.
pub const UNTRAINED_LATE_WEIGHT: f32 = 0.1;

/// How hits are found and ranked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// By MaxSim of the token embeddings.
    #[default]
    Late,
    /// By BM25 of the text layer.
    Bm25,
    /// By both, fused.
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
    /// How hybrid ranking makes one list of hits by MaxSim and by BM25, at least 100 of each.
    pub fusion: Fusion,
}

impl SearchRequest<'_> {
    /// How many hits of each kind are looked for: collectors make room for all that are asked for.
    fn depth(&self, searcher: &Searcher) -> usize {
        let depth = if self.mode == Mode::Hybrid { self.k.max(FUSION_DEPTH) } else { self.k };
        depth.min(usize::try_from(searcher.num_docs()).unwrap_or(usize::MAX))
    }
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
        let filter = self.filter_of(request)?;
        let query = self.late_query(searcher, request, filter.as_deref());
        let late = query.map(|query| query.report(searcher)).transpose()?;
        self.answer(searcher, request, filter.as_deref(), late)
    }

    /// Searches a snapshot for many requests, in parallel on the rayon pool that this is called in; the answers are in the
    /// order of the requests.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn report_batch(&self, searcher: &Searcher, requests: &[SearchRequest<'_>]) -> Result<Vec<Answer>, Error> {
        let filters = requests.iter().map(|request| self.filter_of(request)).collect::<Result<Vec<_>, _>>()?;
        let queries: Vec<Option<LateInteractionQuery>> = requests
            .iter()
            .zip(&filters)
            .map(|(request, filter)| self.late_query(searcher, request, filter.as_deref()))
            .collect();
        let asked: Vec<LateInteractionQuery> = queries.iter().flatten().cloned().collect();
        let mut reports = LateInteractionQuery::report_batch(&asked, searcher)?.into_iter();
        let reports: Vec<Option<SearchReport>> =
            queries.iter().map(|query| query.as_ref().and_then(|_| reports.next())).collect();
        let answers: Vec<Result<Answer, Error>> = requests
            .par_iter()
            .zip(&filters)
            .zip(reports)
            .map(|((request, filter), late)| self.answer(searcher, request, filter.as_deref(), late))
            .collect();
        answers.into_iter().collect()
    }

    fn filter_of(&self, request: &SearchRequest<'_>) -> Result<Option<Box<dyn Query>>, Error> {
        request.filter.map(|filter| self.parse_filter(filter)).transpose()
    }

    /// The query by MaxSim, if the request has one.
    fn late_query(
        &self,
        searcher: &Searcher,
        request: &SearchRequest<'_>,
        filter: Option<&dyn Query>,
    ) -> Option<LateInteractionQuery> {
        let vectors = request.vectors.as_ref().filter(|_| request.mode != Mode::Bm25)?;
        let query = self.handle.query(self.fields.tokens, vectors.clone());
        let query = query.k(request.depth(searcher)).effort(request.effort);
        Some(match filter {
            Some(filter) => query.filter(filter.box_clone()),
            None => query,
        })
    }

    /// The hits of a request whose hits by MaxSim are found.
    fn answer(
        &self,
        searcher: &Searcher,
        request: &SearchRequest<'_>,
        filter: Option<&dyn Query>,
        late: Option<SearchReport>,
    ) -> Result<Answer, Error> {
        let by_words = || self.by_words(searcher, request, filter, request.depth(searcher));
        let (ranked, late) = match request.mode {
            Mode::Late => (ranked(late.as_ref()), late),
            Mode::Bm25 => (by_words()?, None),
            Mode::Hybrid => {
                let late = HitList::new(ranked(late.as_ref())).weight(request.late_weight.unwrap_or(1.0));
                let words = HitList::new(by_words()?);
                (request.fusion.fuse(&[late, words], request.k), None)
            }
        };
        Ok(Answer { hits: self.resolve(searcher, ranked)?, late })
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
        let depth = nesting::depth(filter);
        if depth > nesting::DEEPEST {
            let most = nesting::DEEPEST;
            let problem = format!("expected at most {most} brackets and NOTs within each other, received {depth}");
            // Nobody reads all of such a filter.
            return Err(Error::Filter { filter: filter.chars().take(100).collect(), problem });
        }
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
    /// The stored page cannot be read, or the searcher has no such page: the hit is another searcher's.
    pub fn snippet(&self, searcher: &Searcher, hit: &Hit, text: &str, letters: usize) -> Result<String, Error> {
        let DocAddress { segment_ord: segment, doc_id: doc } = hit.address;
        let segments = searcher.segment_readers();
        if segments.get(segment as usize).is_none_or(|reader| doc >= reader.max_doc()) {
            return Err(colqwen_index_field::Error::NoDocument { segment, doc, segments: segments.len() }.into());
        }
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
    report.iter().flat_map(|report| &report.hits).map(|hit| (*hit).into()).collect()
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

#[cfg(test)]
mod tests {
    use colqwen_index_field::{MultiVector, Normalization, PageVectors, UnitLength};
    use colqwen_index_ingest::embeddings::PageRecord;

    use super::super::PageIndexOptions;
    use super::*;

    const PAGES: u32 = 40;

    fn direction(angle: f32) -> MultiVector {
        MultiVector::try_new(2, vec![angle.cos(), angle.sin()], UnitLength::Require).unwrap()
    }

    /// Pages whose words say nothing about their vectors.
    fn index() -> (tempfile::TempDir, PageIndex) {
        let folder = tempfile::tempdir().unwrap();
        let mut index = PageIndex::create(folder.path().join("index"), &PageIndexOptions::new(2)).unwrap();
        let mut writer = index.writer().unwrap();
        for page in 1..=PAGES {
            let vectors = PageVectors::new(direction(page as f32 * 0.37));
            let mut record = PageRecord::new(if page % 2 == 0 { "even" } else { "odd" }, page, vectors);
            record.text = Some("lamp ".repeat(page as usize % 4) + &"bog ".repeat(1 + page as usize * 7 % 5));
            writer.upsert(&record).unwrap();
        }
        writer.commit().unwrap();
        drop(writer);
        index.reload().unwrap();
        (folder, index)
    }

    fn request(mode: Mode) -> SearchRequest<'static> {
        let vectors = Some(QueryVectors::new(direction(1.0)));
        SearchRequest { vectors, text: Some("lamp"), k: 100, mode, ..SearchRequest::default() }
    }

    #[test]
    fn hybrid_search_fuses_what_the_other_modes_find() {
        let (_folder, index) = index();
        let searcher = index.searcher();
        let search = |request: &SearchRequest<'_>| -> Vec<(f32, DocAddress)> {
            index.search(&searcher, request).unwrap().iter().map(|hit| (hit.score, hit.address)).collect()
        };
        let (late, words) = (search(&request(Mode::Late)), search(&request(Mode::Bm25)));
        assert!(late.len() == PAGES as usize && words.len() == PAGES as usize * 3 / 4);
        let mut rankings = Vec::new();
        for fusion in [Fusion::default(), Fusion::WeightedSum(Normalization::MinMax)] {
            for weight in [None, Some(0.1)] {
                let hybrid = SearchRequest { fusion, late_weight: weight, k: 7, ..request(Mode::Hybrid) };
                let lists = [HitList::new(late.clone()).weight(weight.unwrap_or(1.0)), HitList::new(words.clone())];
                assert_eq!(search(&hybrid), fusion.fuse(&lists, 7));
                rankings.push(search(&hybrid).into_iter().map(|(_, address)| address).collect::<Vec<_>>());
            }
        }
        assert!((1..4).all(|at| !rankings[..at].contains(&rankings[at])), "fusion and weight matter: {rankings:?}");
    }

    #[test]
    fn a_batch_of_requests_is_answered_as_they_are_one_by_one() {
        let (_folder, index) = index();
        let searcher = index.searcher();
        let filtered = |mode| SearchRequest { filter: Some("doc_id:odd"), k: 3, ..request(mode) };
        let modes = [Mode::Late, Mode::Bm25, Mode::Hybrid];
        let mut requests: Vec<_> = modes.into_iter().flat_map(|mode| [request(mode), filtered(mode)]).collect();
        requests.push(SearchRequest { vectors: None, ..request(Mode::Hybrid) });
        requests.push(request(Mode::Late));
        let one_by_one: Vec<Answer> =
            requests.iter().map(|request| index.report(&searcher, request).unwrap()).collect();
        assert!(one_by_one.iter().all(|answer| !answer.hits.is_empty()));
        assert_eq!(index.report_batch(&searcher, &requests).unwrap(), one_by_one);
        assert_eq!(index.report_batch(&searcher, &[]).unwrap(), []);
        requests[4].filter = Some("nofield:1");
        assert!(matches!(index.report_batch(&searcher, &requests), Err(Error::Filter { .. })));
    }
    #[test]
    fn a_filter_that_nests_too_deep_is_refused_and_a_deep_one_is_not() {
        let (_folder, index) = index();
        let searcher = index.searcher();
        let search =
            |filter: &str| index.search(&searcher, &SearchRequest { filter: Some(filter), ..request(Mode::Late) });
        for filter in ["(".repeat(20_000), "NOT ".repeat(20_000), "text:(NOT ".repeat(20_000)] {
            let error = search(&filter).unwrap_err();
            assert!(matches!(error, Error::Filter { .. }) && error.to_string().len() < 1000, "{error}");
            assert!(error.to_string().contains("at most 100 brackets and NOTs"), "{error}");
        }
        let deep = format!("{}doc_id:odd{}", "(".repeat(100), ")".repeat(100));
        assert_eq!(search(&deep).unwrap().len(), PAGES as usize / 2);
        let wide = vec!["(doc_id:odd AND page:1)"; 300].join(" OR ");
        assert_eq!(search(&wide).unwrap().len(), 1);
    }

    #[test]
    fn a_snippet_of_another_searchers_hit_is_refused() {
        let (_folder, index) = index();
        let searcher = index.searcher();
        let hit = index.search(&searcher, &request(Mode::Bm25)).unwrap().remove(0);
        assert!(index.snippet(&searcher, &hit, "lamp", 20).unwrap().contains("lamp"));
        for (segment, doc) in [(9, 0), (0, PAGES), (0, u32::MAX)] {
            let hit = Hit { address: DocAddress::new(segment, doc), ..hit.clone() };
            let error = index.snippet(&searcher, &hit, "lamp", 20).unwrap_err();
            assert!(matches!(error, Error::Field(colqwen_index_field::Error::NoDocument { .. })), "{error}");
        }
    }
}
