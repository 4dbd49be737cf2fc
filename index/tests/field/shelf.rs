//! An index of numbered pages in codes, under tantivy's default merge policy.

use colqwen_index_field::{
    Effort, LateInteraction, LateInteractionOptions, LateInteractionQuery, MultiVector, Origin, PageVectors, Precision,
    QueryVectors, SearchReport,
};
use tantivy::directory::RamDirectory;
use tantivy::index::IndexSettings;
use tantivy::query::TermQuery;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema};
use tantivy::{Index, IndexReader, IndexWriter, TantivyDocument, Term};

use crate::data::Corpus;

/// Pages are filtered by their number modulo this.
pub const PARTS: u64 = 100;

/// The numbers of the pages found, beside the report.
pub struct Answer {
    pub numbers: Vec<u64>,
    pub report: SearchReport,
}

impl Answer {
    /// The share of an exact answer that this one has.
    pub fn recall(&self, exact: &Self) -> f64 {
        let found = exact.numbers.iter().filter(|number| self.numbers.contains(number)).count();
        found as f64 / exact.numbers.len() as f64
    }
}

pub struct Shelf {
    pub handle: LateInteraction,
    pub index: Index,
    writer: Option<IndexWriter>,
    pub reader: IndexReader,
    pub tokens: Field,
    number: Field,
    part: Field,
}

fn writer(index: &Index) -> IndexWriter {
    // One thread: one segment per commit.
    index.writer_with_num_threads(1, 100_000_000).unwrap()
}

impl Shelf {
    pub fn new(options: LateInteractionOptions) -> Self {
        let mut schema = Schema::builder();
        let number = schema.add_u64_field("number", INDEXED | FAST);
        let part = schema.add_u64_field("part", INDEXED);
        let tokens = options.add_to(&mut schema, "tokens");
        let handle = LateInteraction::new();
        let index = handle.create(RamDirectory::create(), schema.build(), IndexSettings::default()).unwrap();
        let writer = Some(writer(&index));
        let reader = handle.reader(&index).unwrap();
        Self { handle, index, writer, reader, tokens, number, part }
    }

    /// All pages of a corpus by one commit.
    pub fn of(corpus: &Corpus, precision: Precision) -> Self {
        let mut shelf = Self::new(LateInteractionOptions::new(corpus.shape.dim).with_precision(precision));
        shelf.add(corpus.pages(0..corpus.shape.pages));
        shelf
    }

    fn writer(&mut self) -> &mut IndexWriter {
        self.writer.as_mut().unwrap()
    }

    /// Adds pages and commits.
    pub fn add(&mut self, pages: impl Iterator<Item = (u64, MultiVector)>) {
        self.add_of_model(pages, Origin::Unknown);
    }

    /// Adds pages of a model and commits.
    pub fn add_of_model(&mut self, pages: impl Iterator<Item = (u64, MultiVector)>, origin: Origin) {
        for (number, vectors) in pages {
            let mut document = TantivyDocument::new();
            document.add_u64(self.number, number);
            document.add_u64(self.part, number % PARTS);
            self.handle.add(&mut document, self.tokens, &PageVectors::new(vectors).with_origin(origin)).unwrap();
            self.writer().add_document(document).unwrap();
        }
        self.writer().commit().unwrap();
        self.handle.reload(&self.reader).unwrap();
    }

    /// Deletes pages and commits.
    pub fn delete(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let term = Term::from_field_u64(self.number, number);
            self.writer().delete_term(term);
        }
        self.add(std::iter::empty());
    }

    /// Merges all segments into one.
    pub fn merge(&mut self) {
        let segments = self.index.searchable_segment_ids().unwrap();
        self.writer().merge(&segments).wait().unwrap();
        self.handle.reload(&self.reader).unwrap();
    }

    /// Waits for the merges that the policy began.
    pub fn settle(&mut self) {
        // Ending a writer is the only way to wait for them.
        self.writer.take().unwrap().wait_merging_threads().unwrap();
        self.writer = Some(writer(&self.index));
        self.handle.reload(&self.reader).unwrap();
    }

    pub fn query(&self, vectors: &MultiVector, k: usize, effort: Effort) -> LateInteractionQuery {
        self.handle.query(self.tokens, QueryVectors::new(vectors.clone())).k(k).effort(effort)
    }

    /// The pages of one part, a hundredth of all.
    pub fn in_part(&self, part: u64) -> TermQuery {
        TermQuery::new(Term::from_field_u64(self.part, part), IndexRecordOption::Basic)
    }

    /// One page.
    pub fn number(&self, number: u64) -> TermQuery {
        TermQuery::new(Term::from_field_u64(self.number, number), IndexRecordOption::Basic)
    }

    pub fn ask(&self, query: &LateInteractionQuery) -> Answer {
        let searcher = self.reader.searcher();
        let report = query.report(&searcher).unwrap();
        let number = |segment: u32, doc: u32| {
            searcher.segment_reader(segment).fast_fields().u64("number").unwrap().first(doc).unwrap()
        };
        let numbers = report.hits.iter().map(|hit| number(hit.address.segment_ord, hit.address.doc_id)).collect();
        Answer { numbers, report }
    }

    pub fn search(&self, vectors: &MultiVector, k: usize, effort: Effort) -> Answer {
        self.ask(&self.query(vectors, k, effort))
    }
}
