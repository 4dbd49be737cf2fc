//! An index on disk, built and searched as an application does it.

use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use colqwen_index::field::{Effort, Precision, SearchReport};
use colqwen_index::tantivy::directory::MmapDirectory;
use colqwen_index::tantivy::index::IndexSettings;
use colqwen_index::tantivy::query::TermQuery;
use colqwen_index::tantivy::schema::{Field, INDEXED, IndexRecordOption, STORED, Schema};
use colqwen_index::tantivy::{IndexReader, TantivyDocument, Term};
use colqwen_index::{LateInteraction, LateInteractionOptions, MultiVector, PageVectors, QueryVectors, UnitLength};
use cpu_time::{ProcessTime, ThreadTime};

use crate::collection::Collection;

/// Hits per query.
pub const K: usize = 10;
/// The filter that keeps one document in so many.
const BUCKETS: usize = 100;
/// The bucket that is asked for.
const BUCKET: u64 = 7;
/// What the writer may hold in memory.
const WRITER_BYTES: usize = 100_000_000;

/// Why a bench ended.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The documents that a search is among.
#[derive(Clone, Copy)]
pub enum Only {
    All,
    /// One in a hundred.
    Bucket,
}

/// What building an index took and gave.
pub struct Built {
    /// CPU seconds of adding, committing and merging.
    pub seconds: f64,
    pub bytes_per_token: f64,
    pub segments: usize,
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, bytes_per_token, segments } = self;
        write!(f, "built in {seconds:.1} CPU s, {bytes_per_token:.1} bytes a token, {segments} segments")
    }
}

/// An index of a collection.
pub struct Engine {
    late: LateInteraction,
    field: Field,
    bucket: Field,
    /// Each document stores its `number`.
    pub reader: IndexReader,
    queries: Vec<QueryVectors>,
}

impl Engine {
    /// Builds the index in `folder` through one writer with the default merge policy, committing after so many documents
    /// each time or once.
    pub fn build(
        collection: &Collection,
        precision: Precision,
        commit_every: Option<NonZeroUsize>,
        folder: &Path,
    ) -> Result<(Self, Built), Failure> {
        std::fs::create_dir_all(folder)?;
        let dim = collection.shape.dim;
        let mut schema = Schema::builder();
        let field = LateInteractionOptions::new(dim).with_precision(precision).add_to(&mut schema, "tokens");
        let number = schema.add_u64_field("number", STORED);
        let bucket = schema.add_u64_field("bucket", INDEXED);
        let late = LateInteraction::new();
        let index = late.create(MmapDirectory::open(folder)?, schema.build(), IndexSettings::default())?;
        // Making the data is no part of building.
        let (start, mut making, mut tokens) = (ProcessTime::now(), Duration::ZERO, 0);
        let mut writer = index.writer_with_num_threads(1, WRITER_BYTES)?;
        for at in 0..collection.shape.documents {
            let start = ThreadTime::now();
            let page = collection.document(at);
            making += start.elapsed();
            tokens += page.len() / dim;
            let values = page.iter().map(|value| value.to_f32()).collect();
            let mut document = TantivyDocument::new();
            document.add_u64(number, at as u64);
            document.add_u64(bucket, (at % BUCKETS) as u64);
            late.add(&mut document, field, &PageVectors::new(vectors(dim, values)?))?;
            writer.add_document(document)?;
            if commit_every.is_some_and(|every| (at + 1) % every == 0) {
                writer.commit()?;
            }
        }
        writer.commit()?;
        writer.wait_merging_threads()?;
        let seconds = (start.elapsed() - making).as_secs_f64();
        let bytes: u64 =
            std::fs::read_dir(folder)?.map(|file| Ok(file?.metadata()?.len())).sum::<std::io::Result<u64>>()?;
        let reader = late.reader(&index)?;
        let built = Built {
            seconds,
            bytes_per_token: bytes as f64 / tokens as f64,
            segments: reader.searcher().segment_readers().len(),
        };
        let queries = collection.queries().into_iter().map(|query| Ok(QueryVectors::new(vectors(dim, query)?)));
        let queries = queries.collect::<Result<_, Failure>>()?;
        Ok((Self { late, field, bucket, reader, queries }, built))
    }

    /// How many queries there are.
    pub fn queries(&self) -> usize {
        self.queries.len()
    }

    /// Searches one of the queries.
    pub fn search(&self, query: usize, effort: Effort, only: Only) -> Result<SearchReport, Failure> {
        let searcher = self.reader.searcher();
        let query = self.late.query(self.field, self.queries[query].clone()).k(K).effort(effort);
        Ok(match only {
            Only::All => query.report(&searcher)?,
            Only::Bucket => {
                let bucket = TermQuery::new(Term::from_field_u64(self.bucket, BUCKET), IndexRecordOption::Basic);
                query.filter(bucket).report(&searcher)?
            }
        })
    }
}

fn vectors(dim: usize, values: Vec<f32>) -> Result<MultiVector, colqwen_index::field::Error> {
    MultiVector::try_new(dim, values, UnitLength::Normalize)
}
