//! An index beside a plain map of the same pages, searched by the definition of MaxSim.

use std::collections::BTreeMap;

use colqwen_index_field::{
    LateInteraction, LateInteractionOptions, MultiVector, Origin, PageVectors, QueryVectors, UnitLength,
};
use tantivy::collector::TopDocs;
use tantivy::directory::error::LockError;
use tantivy::index::IndexSettings;
use tantivy::merge_policy::NoMergePolicy;
use tantivy::schema::{FAST, Facet, FacetOptions, Field, INDEXED, STORED, Schema, TEXT, Value};
use tantivy::{Directory, Index, IndexReader, IndexWriter, Searcher, TantivyDocument, TantivyError, Term};

pub const DIM: usize = 24;
pub const SMALL_DIM: usize = 5;

/// Random numbers that are the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Unit vectors whose values f16 holds exactly enough for the oracle to agree to 1e-4.
    pub fn vectors(&mut self, dim: usize, tokens: usize) -> MultiVector {
        let values = (0..dim * tokens).map(|_| self.next() as f32 / u64::MAX as f32 - 0.5).collect();
        MultiVector::try_new(dim, values, UnitLength::Normalize).unwrap()
    }
}

/// MaxSim by its definition.
pub fn maxsim(query: &MultiVector, page: &MultiVector) -> f32 {
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    query.iter().map(|token| page.iter().map(|other| dot(token, other)).fold(f32::NEG_INFINITY, f32::max)).sum()
}

#[derive(Clone, Copy)]
pub struct Fields {
    pub id: Field,
    pub text: Field,
    pub facet: Field,
    pub tokens: Field,
    pub small: Field,
}

pub fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let id = builder.add_u64_field("id", INDEXED | FAST | STORED);
    let text = builder.add_text_field("text", TEXT | STORED);
    let facet = builder.add_facet_field("facet", FacetOptions::default());
    let tokens = LateInteractionOptions::new(DIM).add_to(&mut builder, "tokens");
    let small = LateInteractionOptions::new(SMALL_DIM).add_to(&mut builder, "small");
    (builder.build(), Fields { id, text, facet, tokens, small })
}

/// One document of the oracle.
#[derive(Clone)]
pub struct Page {
    pub tokens: Option<MultiVector>,
    pub small: Option<MultiVector>,
}

/// An index and what it should hold: `pages` as of now, `committed` as of the last commit.
pub struct Pair {
    pub handle: LateInteraction,
    pub index: Index,
    pub fields: Fields,
    pub writer: Option<IndexWriter>,
    pub pages: BTreeMap<u64, Page>,
    pub committed: BTreeMap<u64, Page>,
    pub random: Random,
    pub origin: Origin,
}

impl Pair {
    pub fn create(directory: impl Into<Box<dyn Directory>>, settings: IndexSettings) -> Self {
        let (schema, fields) = schema();
        let handle = LateInteraction::new();
        let index = handle.create(directory, schema, settings).unwrap();
        let mut pair = Self {
            handle,
            index,
            fields,
            writer: None,
            pages: BTreeMap::new(),
            committed: BTreeMap::new(),
            random: Random::new(1),
            origin: Origin::Unknown,
        };
        pair.open_writer();
        pair
    }

    pub fn open_writer(&mut self) {
        // The crash test starts processes; between fork and exec each of them holds a copy of this process's locks.
        let opened = (0..100).find_map(|_| match self.index.writer_with_num_threads(2, 40_000_000) {
            Err(TantivyError::LockFailure(LockError::LockBusy, _)) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                None
            }
            outcome => Some(outcome.unwrap()),
        });
        let writer: IndexWriter = opened.expect("another writer holds the lock");
        writer.set_merge_policy(Box::new(NoMergePolicy));
        self.writer = Some(writer);
    }

    /// Drops everything in memory and opens the directory again.
    pub fn reopen(&mut self, directory: impl Into<Box<dyn Directory>>) {
        self.writer = None;
        self.handle = LateInteraction::new();
        self.index = self.handle.open(directory).unwrap();
        self.pages = self.committed.clone();
        self.open_writer();
    }

    pub fn writer(&mut self) -> &mut IndexWriter {
        self.writer.as_mut().unwrap()
    }

    /// A document of 1 to 40 tokens; each seventh lacks the large field, each third has the small one.
    pub fn document(&mut self, id: u64) -> (TantivyDocument, Page) {
        let tokens = 1 + self.random.below(40) as usize;
        let page = Page {
            tokens: (id % 7 != 3).then(|| self.random.vectors(DIM, tokens)),
            small: id.is_multiple_of(3).then(|| self.random.vectors(SMALL_DIM, tokens)),
        };
        let mut document = TantivyDocument::new();
        document.add_u64(self.fields.id, id);
        document.add_text(self.fields.text, if id.is_multiple_of(2) { "even page" } else { "odd page" });
        document.add_facet(self.fields.facet, Facet::from(&format!("/rest/{}", id % 3)));
        for (field, vectors) in [(self.fields.tokens, &page.tokens), (self.fields.small, &page.small)] {
            if let Some(vectors) = vectors {
                let page = PageVectors::new(vectors.clone()).with_origin(self.origin);
                self.handle.add(&mut document, field, &page).unwrap();
            }
        }
        (document, page)
    }

    pub fn add(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let (document, page) = self.document(id);
            self.pages.insert(id, page);
            self.writer().add_document(document).unwrap();
        }
    }

    pub fn delete(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let term = Term::from_field_u64(self.fields.id, id);
            self.writer().delete_term(term);
            self.pages.remove(&id);
        }
    }

    pub fn upsert(&mut self, ids: impl IntoIterator<Item = u64> + Clone) {
        self.delete(ids.clone());
        self.add(ids);
    }

    pub fn commit(&mut self) {
        self.writer().commit().unwrap();
        self.committed = self.pages.clone();
    }

    pub fn merge(&mut self) {
        let segments = self.index.searchable_segment_ids().unwrap();
        self.writer().merge(&segments).wait().unwrap();
    }

    pub fn reader(&self) -> IndexReader {
        self.handle.reader(&self.index).unwrap()
    }

    /// Searches both fields with fresh queries and compares with the committed pages.
    pub fn check(&mut self) {
        let searcher = self.reader().searcher();
        self.check_searcher(&searcher);
    }

    pub fn check_searcher(&mut self, searcher: &Searcher) {
        assert_eq!(searcher.num_docs(), self.committed.len() as u64);
        for (field, dim) in [(self.fields.tokens, DIM), (self.fields.small, SMALL_DIM)] {
            for k in [1, 5, 1000] {
                let query_tokens = 1 + self.random.below(9) as usize;
                let query = self.random.vectors(dim, query_tokens);
                let expected = self.expected(field, &query, |_| true);
                let found = search(&self.handle, searcher, self.fields, field, &query, k);
                assert_same(&found, &expected[..k.min(expected.len())]);
            }
        }
    }

    /// All committed pages of a field that pass, best first.
    pub fn expected(&self, field: Field, query: &MultiVector, passes: impl Fn(u64) -> bool) -> Vec<(u64, f32)> {
        let mut expected: Vec<(u64, f32)> = self
            .committed
            .iter()
            .filter(|(id, _)| passes(**id))
            .filter_map(|(id, page)| {
                let vectors = if field == self.fields.tokens { &page.tokens } else { &page.small };
                Some((*id, maxsim(query, vectors.as_ref()?)))
            })
            .collect();
        expected.sort_by(|one, other| other.1.total_cmp(&one.1));
        expected
    }
}

/// The `k` nearest pages through tantivy's own collector: id and score.
pub fn search(
    handle: &LateInteraction,
    searcher: &Searcher,
    fields: Fields,
    field: Field,
    query: &MultiVector,
    k: usize,
) -> Vec<(u64, f32)> {
    let query = handle.query(field, QueryVectors::new(query.clone())).k(k);
    ids(searcher, fields, &query, k)
}

pub fn ids(searcher: &Searcher, fields: Fields, query: &dyn tantivy::query::Query, k: usize) -> Vec<(u64, f32)> {
    let hits = searcher.search(query, &TopDocs::with_limit(k).order_by_score()).unwrap();
    hits.into_iter().map(|(score, address)| (id_of(searcher, fields, address), score)).collect()
}

pub fn id_of(searcher: &Searcher, fields: Fields, address: tantivy::DocAddress) -> u64 {
    let document: TantivyDocument = searcher.doc(address).unwrap();
    document.get_first(fields.id).and_then(|value| value.as_value().as_u64()).unwrap()
}

/// The same pages in the same order; f16 storage may move scores by 1e-3 and swap pages that are nearer than that.
pub fn assert_same(found: &[(u64, f32)], expected: &[(u64, f32)]) {
    assert_eq!(found.len(), expected.len(), "hits");
    for ((id, score), (expected_id, expected_score)) in found.iter().zip(expected) {
        assert!((score - expected_score).abs() < 4e-3, "page {id} has {score}, page {expected_id} {expected_score}");
    }
    let exact: BTreeMap<u64, f32> = expected.iter().copied().collect();
    let worst = expected.last().map_or(0.0, |last| last.1);
    for (id, score) in found {
        let expected_score = exact.get(id).copied().unwrap_or(worst);
        assert!((score - expected_score).abs() < 4e-3, "page {id} has {score}, expected {expected_score}");
    }
}
