//! What the simulation knows: which pages hold which words, what people ask, and what the model answered before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, ensure};
use colqwen_index::PageIndex;
use colqwen_index::ingest::encoder::Encoder;
use colqwen_index::model::Model;
use colqwen_index::page_index::{Effort, Mode, SearchRequest};
use colqwen_index::train::clicks::record::{LoggedQuery, Record};
use colqwen_index::train::data::PageId;
use colqwen_index::train::metrics::Judged;
use colqwen_index::train::random::{Purpose, Stream};

/// Hits that are shown and judged.
const SHOWN: usize = 10;
/// Queries that are encoded together.
const AT_ONCE: usize = 32;
/// Words that are asked for are on no more than this share of the pages.
const RARE: f64 = 0.05;

/// Pages by their words, queries, and the first answers.
pub struct World {
    words: BTreeMap<PageId, BTreeSet<String>>,
    /// Queries of the week, in the order in which days take them.
    pub asked: Vec<String>,
    /// Queries that nobody asked.
    pub new: Vec<String>,
    first: HashMap<String, Vec<PageId>>,
}

impl World {
    /// Draws `asked` and `new` queries of 2 to 4 words that some page of `index` holds, all of different sets of words.
    pub fn of(index: &PageIndex, asked: usize, new: usize, seed: u64) -> Result<Self> {
        let searcher = index.searcher();
        let mut words = BTreeMap::new();
        let mut pages_with: HashMap<String, usize> = HashMap::new();
        for page in index.texts(&searcher) {
            let page = page?;
            let held: BTreeSet<String> = page.text.as_deref().map_or_else(BTreeSet::new, distinct);
            held.iter().for_each(|word| *pages_with.entry(word.clone()).or_default() += 1);
            words.insert(PageId::new(page.doc_id, page.page), held);
        }
        let most = (RARE * words.len() as f64) as usize;
        let rare: Vec<Vec<&String>> = words
            .values()
            .map(|held| held.iter().filter(|word| pages_with[*word] <= most).collect::<Vec<_>>())
            .filter(|held| held.len() >= 4)
            .collect();
        ensure!(!rare.is_empty(), "no page has four words that few others have");
        let mut stream = Stream::new(seed, Purpose::Weights, &[]);
        let mut sets = BTreeSet::new();
        let mut queries = Vec::new();
        while queries.len() < asked + new {
            let held = &rare[stream.below(rare.len())];
            let count = 2 + stream.below(3);
            let chosen: BTreeSet<&String> = (0..count).map(|_| held[stream.below(held.len())]).collect();
            let query = chosen.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
            if chosen.len() == count && sets.insert(query.clone()) {
                queries.push(query);
            }
        }
        let new = queries.split_off(asked);
        let mut world = Self { words, asked: queries, new, first: HashMap::new() };
        let name = index.model().map(|model| model.name.clone()).unwrap_or_default();
        let model = Model::load(&name, "cpu")?;
        let all: Vec<String> = world.asked.iter().chain(&world.new).cloned().collect();
        let first = world.rankings(index, &*model.encoder, &all)?;
        world.first = all.into_iter().zip(first).collect();
        Ok(world)
    }

    pub fn pages(&self) -> usize {
        self.words.len()
    }

    /// The list that the model shows.
    pub fn first(&self, query: &str) -> Vec<PageId> {
        self.first[query].clone()
    }

    /// Whether a page holds all words of a query.
    pub fn answers(&self, query: &str, page: &PageId) -> bool {
        self.words.get(page).is_some_and(|held| query.split(' ').all(|word| held.contains(word)))
    }

    /// A page that stands in many lists without answering.
    pub fn intruder(&self) -> PageId {
        let mut counts: BTreeMap<&PageId, usize> = BTreeMap::new();
        for (query, shown) in &self.first {
            shown
                .iter()
                .filter(|page| !self.answers(query, page))
                .for_each(|page| *counts.entry(page).or_default() += 1);
        }
        let most = counts.iter().max_by_key(|(page, count)| (**count, std::cmp::Reverse(**page)));
        most.map_or_else(|| PageId::new("", 0), |(page, _)| (*page).clone())
    }

    /// Each asked query's share of the impressions.
    pub fn traffic(&self, records: &[Record]) -> Vec<f64> {
        let mut counts: HashMap<&str, f64> = HashMap::new();
        for record in records {
            if let Record::Impression(shown) = record
                && let LoggedQuery::Text(text) = &shown.query
            {
                *counts.entry(text).or_default() += 1.0;
            }
        }
        let total: f64 = self.asked.iter().filter_map(|query| counts.get(query.as_str())).sum();
        self.asked
            .iter()
            .map(|query| counts.get(query.as_str()).copied().unwrap_or_default() / total.max(1.0))
            .collect()
    }

    /// nDCG@10 of each query under a model.
    pub fn judge(&self, index: &PageIndex, encoder: &dyn Encoder, queries: &[String]) -> Result<Vec<f64>> {
        let rankings = self.rankings(index, encoder, queries)?;
        queries.iter().zip(&rankings).map(|(query, ranking)| self.ndcg(query, ranking)).collect()
    }

    /// nDCG@10 of each query under the model before.
    pub fn before(&self, queries: &[String]) -> Result<Vec<f64>> {
        queries.iter().map(|query| self.ndcg(query, &self.first[query])).collect()
    }

    /// nDCG@10 of each query by BM25 of the text layer.
    pub fn bm25(&self, index: &PageIndex, queries: &[String]) -> Result<Vec<f64>> {
        let searcher = index.searcher();
        let judge = |query: &String| {
            let request = SearchRequest { text: Some(query), k: SHOWN, mode: Mode::Bm25, ..SearchRequest::default() };
            let hits = index.search(&searcher, &request)?;
            self.ndcg(query, &hits.into_iter().map(|hit| PageId::new(hit.doc_id, hit.page)).collect::<Vec<_>>())
        };
        queries.iter().map(judge).collect()
    }

    /// For how many queries that it does not answer a page is among the first ten now and was not before.
    pub fn entered(&self, index: &PageIndex, encoder: &dyn Encoder, page: &PageId) -> Result<usize> {
        let all: Vec<String> = self.asked.iter().chain(&self.new).cloned().collect();
        let rankings = self.rankings(index, encoder, &all)?;
        let entered = |(query, ranking): (&String, Vec<PageId>)| {
            !self.answers(query, page) && ranking.contains(page) && !self.first[query].contains(page)
        };
        Ok(all.iter().zip(rankings).filter(|(query, ranking)| entered((query, ranking.clone()))).count())
    }

    fn ndcg(&self, query: &str, ranking: &[PageId]) -> Result<f64> {
        let relevant: Vec<&PageId> = self.words.keys().filter(|page| self.answers(query, page)).collect();
        Ok(Judged::new(ranking, relevant)?.ndcg(SHOWN))
    }

    fn rankings(&self, index: &PageIndex, encoder: &dyn Encoder, queries: &[String]) -> Result<Vec<Vec<PageId>>> {
        let searcher = index.searcher();
        let mut rankings = Vec::with_capacity(queries.len());
        for queries in queries.chunks(AT_ONCE) {
            let texts: Vec<&str> = queries.iter().map(String::as_str).collect();
            let request = |vectors| SearchRequest {
                vectors: Some(vectors),
                k: SHOWN,
                effort: Effort::Exact,
                ..SearchRequest::default()
            };
            let requests: Vec<SearchRequest<'_>> = encoder.encode_queries(&texts)?.into_iter().map(request).collect();
            for answer in index.report_batch(&searcher, &requests)? {
                rankings.push(answer.hits.into_iter().map(|hit| PageId::new(hit.doc_id, hit.page)).collect());
            }
        }
        Ok(rankings)
    }
}

/// Words of 4 to 12 letters, in lower case.
fn distinct(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).map(str::to_lowercase);
    words
        .filter(|word| (4..=12).contains(&word.len()) && word.bytes().all(|letter| letter.is_ascii_lowercase()))
        .collect()
}
