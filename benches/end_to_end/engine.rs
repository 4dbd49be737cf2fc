//! Our side: an index on disk, built and searched as an application does it.

use std::error::Error;
use std::path::Path;

use colqwen_index::field::{Effort, Precision, SearchReport};
use colqwen_index::tantivy::directory::MmapDirectory;
use colqwen_index::tantivy::index::IndexSettings;
use colqwen_index::tantivy::query::TermQuery;
use colqwen_index::tantivy::schema::{Field, INDEXED, IndexRecordOption, STORED, Schema, Value};
use colqwen_index::tantivy::{IndexReader, TantivyDocument, Term};
use colqwen_index::{
    LateInteraction, LateInteractionOptions, MultiVector, PageHit, PageVectors, QueryVectors, UnitLength,
};
use cpu_time::ProcessTime;

use crate::shape::Collection;

/// The filter that keeps one document in so many.
pub const BUCKETS: usize = 100;
/// The bucket that is asked for.
pub const BUCKET: u64 = 7;

/// CPU seconds that searches are repeated for.
const SEARCH_SECONDS: f64 = 2.0;

pub struct Engine {
    late: LateInteraction,
    field: Field,
    bucket: Field,
    reader: IndexReader,
    queries: Vec<QueryVectors>,
    /// CPU seconds of adding, committing and merging.
    pub build_seconds: f64,
    pub bytes_per_token: f64,
    pub segments: usize,
}

/// The documents that a search is among.
#[derive(Clone, Copy)]
pub enum Only {
    All,
    /// One in [`BUCKETS`].
    Bucket,
}

impl Engine {
    /// Builds the index in `folder`.
    pub fn build(collection: &Collection, precision: Precision, folder: &Path) -> Result<Self, Box<dyn Error>> {
        std::fs::create_dir_all(folder)?;
        let dim = collection.shape.dim;
        let mut schema = Schema::builder();
        let field = LateInteractionOptions::new(dim).with_precision(precision).add_to(&mut schema, "tokens");
        let number = schema.add_u64_field("number", STORED);
        let bucket = schema.add_u64_field("bucket", INDEXED);
        let late = LateInteraction::new();
        let index = late.create(MmapDirectory::open(folder)?, schema.build(), IndexSettings::default())?;
        let start = ProcessTime::now();
        let mut writer = index.writer_with_num_threads(1, 100_000_000)?;
        for (at, page) in collection.documents.iter().enumerate() {
            let values = page.iter().map(|value| value.to_f32()).collect();
            let mut document = TantivyDocument::new();
            document.add_u64(number, at as u64);
            document.add_u64(bucket, (at % BUCKETS) as u64);
            late.add(&mut document, field, &PageVectors::new(vectors(dim, values)?))?;
            writer.add_document(document)?;
        }
        writer.commit()?;
        writer.wait_merging_threads()?;
        let build_seconds = start.elapsed().as_secs_f64();
        let bytes: u64 =
            std::fs::read_dir(folder)?.map(|file| Ok(file?.metadata()?.len())).sum::<std::io::Result<u64>>()?;
        let reader = late.reader(&index)?;
        let queries = collection.queries.iter().map(|query| Ok(QueryVectors::new(vectors(dim, query.clone())?)));
        let queries = queries.collect::<Result<_, Box<dyn Error>>>()?;
        Ok(Self {
            segments: reader.searcher().segment_readers().len(),
            bytes_per_token: bytes as f64 / collection.tokens() as f64,
            late,
            field,
            bucket,
            reader,
            queries,
            build_seconds,
        })
    }

    /// Searches all queries once.
    pub fn search(&self, effort: Effort, only: Only, k: usize) -> Result<Vec<SearchReport>, Box<dyn Error>> {
        let searcher = self.reader.searcher();
        let bucket = TermQuery::new(Term::from_field_u64(self.bucket, BUCKET), IndexRecordOption::Basic);
        let one = |query: &QueryVectors| {
            let query = self.late.query(self.field, query.clone()).k(k).effort(effort);
            Ok(match only {
                Only::All => query.report(&searcher)?,
                Only::Bucket => query.filter(bucket.clone()).report(&searcher)?,
            })
        };
        self.queries.iter().map(one).collect()
    }

    /// What one query takes on this thread, in CPU milliseconds.
    pub fn cpu_ms(&self, effort: Effort, only: Only, k: usize) -> Result<f64, Box<dyn Error>> {
        // The first round brings the files into memory.
        self.search(effort, only, k)?;
        let (start, mut rounds) = (ProcessTime::now(), 0);
        while rounds == 0 || start.elapsed().as_secs_f64() < SEARCH_SECONDS {
            self.search(effort, only, k)?;
            rounds += 1;
        }
        Ok(start.elapsed().as_secs_f64() * 1e3 / (rounds * self.queries.len()) as f64)
    }

    /// The numbers of the documents that were found.
    pub fn numbers(&self, report: &SearchReport) -> Result<Vec<usize>, Box<dyn Error>> {
        let searcher = self.reader.searcher();
        let number = searcher.schema().get_field("number")?;
        let read = |hit: &PageHit| -> Result<usize, Box<dyn Error>> {
            let document: TantivyDocument = searcher.doc(hit.address)?;
            let value =
                document.get_first(number).and_then(|value| value.as_u64()).ok_or("a document has no number")?;
            Ok(value as usize)
        };
        report.hits.iter().map(read).collect()
    }
}

fn vectors(dim: usize, values: Vec<f32>) -> Result<MultiVector, colqwen_index::field::Error> {
    MultiVector::try_new(dim, values, UnitLength::Normalize)
}
