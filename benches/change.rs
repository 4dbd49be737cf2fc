//! What a change costs, what a filter saves, and what searching a mapped index holds in memory.
//!
//! ```text
//! cargo bench --no-default-features --bench change [-- --shape NAME:DOCUMENTSxTOKENS --bits B]
//! ```
//! Prints CPU and wall milliseconds of deleting two documents and committing, CPU milliseconds per search with a filter that
//! one document in a hundred passes and without, and the peak of live heap bytes while searching against the index's size.
//! All searches run on one thread.

mod collection;
mod machine;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use collection::{Collection, Shape};
use colqwen_index::field::{Effort, Precision};
use colqwen_index::tantivy::directory::MmapDirectory;
use colqwen_index::tantivy::index::IndexSettings;
use colqwen_index::tantivy::query::TermQuery;
use colqwen_index::tantivy::schema::{Field, INDEXED, IndexRecordOption, Schema};
use colqwen_index::tantivy::{Index, IndexWriter, TantivyDocument, Term};
use colqwen_index::{LateInteraction, LateInteractionOptions, MultiVector, PageVectors, QueryVectors, UnitLength};
use cpu_time::ProcessTime;
use machine::Setting;
use peak_alloc::PeakAlloc;

/// How often two documents are deleted.
const CHANGES: u64 = 20;
/// One document in so many passes the filter.
const PARTS: u64 = 100;
/// Hits per query.
const K: usize = 10;

/// The system's allocator, counting live bytes and their peak.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

type Failure = Box<dyn Error + Send + Sync>;

/// What a change costs, what a filter saves, and what searching holds in memory.
#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "large:10000x300", value_name = "NAME:DOCUMENTSxTOKENS[-TOKENS]")]
    shape: Shape,
    /// Bits per value.
    #[arg(long, default_value_t = 8)]
    bits: u32,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The fields of the index.
#[derive(Clone, Copy)]
struct Fields {
    number: Field,
    part: Field,
    tokens: Field,
}

fn fill(
    late: &LateInteraction,
    fields: Fields,
    collection: &Collection,
    writer: &mut IndexWriter,
) -> Result<(), Failure> {
    let dim = collection.shape.dim;
    for at in 0..collection.shape.documents {
        let values = collection.document(at).iter().map(|value| value.to_f32()).collect();
        let vectors = MultiVector::try_new(dim, values, UnitLength::Normalize)?;
        let mut document = TantivyDocument::new();
        document.add_u64(fields.number, at as u64);
        document.add_u64(fields.part, at as u64 % PARTS);
        late.add(&mut document, fields.tokens, &PageVectors::new(vectors))?;
        writer.add_document(document)?;
    }
    writer.commit()?;
    Ok(())
}

/// Deletes two documents and commits, again and again.
fn change(writer: &mut IndexWriter, number: Field, documents: u64) -> Result<(), Failure> {
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for change in 0..CHANGES.min(documents / 2) {
        let (start, start_cpu) = (Instant::now(), ProcessTime::now());
        for deleted in [change, documents - 1 - change] {
            writer.delete_term(Term::from_field_u64(number, deleted));
        }
        writer.commit()?;
        cpu.push(start_cpu.elapsed());
        wall.push(start.elapsed());
    }
    cpu.sort_unstable();
    wall.sort_unstable();
    let middle_and_last = |times: &[Duration]| {
        let of = |at: usize| times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        format!("median {:.2} ms, slowest {:.2} ms", of(times.len() / 2), of(times.len().saturating_sub(1)))
    };
    println!("delete 2 and commit: CPU {}; wall {}", middle_and_last(&cpu), middle_and_last(&wall));
    Ok(())
}

/// An index that is searched by somebody who did not write it.
struct Opened {
    late: LateInteraction,
    index: Index,
    fields: Fields,
    queries: Vec<QueryVectors>,
}

impl Opened {
    fn open(folder: &Path, fields: Fields, collection: &Collection) -> Result<Self, Failure> {
        let late = LateInteraction::new();
        let index = late.open(MmapDirectory::open(folder)?)?;
        let dim = collection.shape.dim;
        let query = |values| Ok(QueryVectors::new(MultiVector::try_new(dim, values, UnitLength::Normalize)?));
        let queries = collection.queries().into_iter().map(query).collect::<Result<_, Failure>>()?;
        Ok(Self { late, index, fields, queries })
    }

    /// CPU milliseconds per search and tokens looked at.
    fn search(&self, filtered: bool, effort: Effort) -> Result<(f64, u64), Failure> {
        let searcher = self.late.reader(&self.index)?.searcher();
        let round = || -> Result<u64, Failure> {
            let mut tokens = 0;
            for (part, vectors) in (0..PARTS).cycle().zip(&self.queries) {
                let mut query = self.late.query(self.fields.tokens, vectors.clone()).k(K).effort(effort);
                if filtered {
                    let term = Term::from_field_u64(self.fields.part, part);
                    query = query.filter(TermQuery::new(term, IndexRecordOption::Basic));
                }
                tokens += query.report(&searcher)?.work.tokens;
            }
            Ok(tokens)
        };
        // The first round brings the index into memory.
        round()?;
        let start = ProcessTime::now();
        let tokens = round()?;
        let queries = self.queries.len();
        Ok((start.elapsed().as_secs_f64() * 1e3 / queries as f64, tokens / queries as u64))
    }
}

fn searches(opened: &Opened, bytes: u64) -> Result<(), Failure> {
    let before = HEAP.current_usage();
    for (name, effort) in [("default effort", Effort::default()), ("exact", Effort::Exact)] {
        HEAP.reset_peak_usage();
        let (all, all_tokens) = opened.search(false, effort)?;
        let (few, few_tokens) = opened.search(true, effort)?;
        let heap = HEAP.peak_usage().saturating_sub(before);
        println!(
            "{name}: {all:.2} ms ({all_tokens} tokens), filtered to 1 % {few:.2} ms ({few_tokens} tokens): {:.2} of it",
            few / all
        );
        let share = 100.0 * heap as f64 / bytes as f64;
        println!("  peak heap {:.2} MB of {:.1} MB on disk: {share:.1} %", heap as f64 / 1e6, bytes as f64 / 1e6);
    }
    Ok(())
}

fn run() -> Result<(), Failure> {
    let args = Args::parse();
    let precision = Precision::from_bits(args.bits)?;
    println!("{}", Setting::now());
    println!("{}; {} bits", args.shape, precision.bits());
    let collection = Collection::new(args.shape);
    let mut schema = Schema::builder();
    let number = schema.add_u64_field("number", INDEXED);
    let part = schema.add_u64_field("part", INDEXED);
    let options = LateInteractionOptions::new(collection.shape.dim).with_precision(precision);
    let fields = Fields { number, part, tokens: options.add_to(&mut schema, "tokens") };
    let folder = tempfile::tempdir()?;
    {
        let late = LateInteraction::new();
        let index = late.create(MmapDirectory::open(folder.path())?, schema.build(), IndexSettings::default())?;
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 200_000_000)?;
        fill(&late, fields, &collection, &mut writer)?;
        change(&mut writer, number, collection.shape.documents as u64)?;
        writer.wait_merging_threads()?;
    }
    // A new handle: nothing of the writer's is counted.
    let opened = Opened::open(folder.path(), fields, &collection)?;
    let files = std::fs::read_dir(folder.path())?;
    let bytes = files.map(|file| Ok(file?.metadata()?.len())).sum::<std::io::Result<u64>>()?;
    searches(&opened, bytes)
}

fn main() -> Result<(), Failure> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build()?.install(run)
}
