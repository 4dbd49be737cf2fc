//! What a change costs, what a filter saves, and what searching a mapped index holds in memory.
//!
//! ```text
//! cargo bench --bench change -- [DOCUMENTS] [TOKENS] [BITS]     (10000 60 4)
//! ```
//! Prints CPU and wall milliseconds of deleting two documents and committing, milliseconds per search with a filter that
//! one document in a hundred passes and without, and the peak of live heap bytes while searching against the index's size.
//! All searches run on one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use colqwen_index::field::{Effort, Precision};
use colqwen_index::tantivy::directory::MmapDirectory;
use colqwen_index::tantivy::index::IndexSettings;
use colqwen_index::tantivy::query::TermQuery;
use colqwen_index::tantivy::schema::{Field, INDEXED, IndexRecordOption, Schema};
use colqwen_index::tantivy::{Index, IndexWriter, TantivyDocument, Term};
use colqwen_index::{LateInteraction, LateInteractionOptions, MultiVector, PageVectors, QueryVectors, UnitLength};
use cpu_time::ProcessTime;

const DIM: usize = 128;
const QUERY_TOKENS: usize = 20;
const QUERIES: u64 = 50;
const CENTRES: u64 = 1024;
const TOPICS: usize = 12;
const CHANGES: u64 = 20;
/// One document in so many passes the filter.
const PARTS: u64 = 100;

/// The system's allocator, counting live bytes and their peak.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// About normally distributed, adding `scale` of the length 1 to each vector.
    fn add_normal(&mut self, scale: f32, values: &mut [f32]) {
        let scale = scale * (3.0 / DIM as f32).sqrt();
        for value in values {
            let bits = self.next();
            let sum: f32 = (0..4).map(|part| (bits >> (16 * part)) as u16 as f32 / 65536.0).sum();
            *value += (sum - 2.0) * scale;
        }
    }
}

/// Tokens about a few of the centres, as on the pages of one report.
fn page(number: u64, tokens: usize) -> Vec<f32> {
    let mut random = Random(number * 7919 + 1);
    let topics: Vec<u64> = (0..TOPICS).map(|_| random.below(CENTRES)).collect();
    let mut values = vec![0.0; tokens * DIM];
    for token in values.chunks_exact_mut(DIM) {
        Random(1 << 40 | topics[random.below(TOPICS as u64) as usize]).add_normal(1.0, token);
        random.add_normal(0.6, token);
    }
    values
}

/// Tokens near those of one page.
fn query(seed: u64, documents: u64, tokens: usize) -> Result<QueryVectors, Box<dyn Error>> {
    let mut random = Random(1 << 41 | seed);
    let page = page(seed * 7919 % documents, tokens);
    let mut values = Vec::with_capacity(QUERY_TOKENS * DIM);
    for _ in 0..QUERY_TOKENS {
        values.extend_from_slice(&page[random.below(tokens as u64) as usize * DIM..][..DIM]);
    }
    values.chunks_exact_mut(DIM).for_each(|token| random.add_normal(0.7, token));
    Ok(QueryVectors::new(MultiVector::try_new(DIM, values, UnitLength::Normalize)?))
}

struct Bench {
    late: LateInteraction,
    index: Index,
    number: Field,
    part: Field,
    field: Field,
    documents: u64,
    tokens: usize,
}

impl Bench {
    fn fill(&self, writer: &mut IndexWriter) -> Result<(), Box<dyn Error>> {
        for number in 0..self.documents {
            let vectors = MultiVector::try_new(DIM, page(number, self.tokens), UnitLength::Normalize)?;
            let mut document = TantivyDocument::new();
            document.add_u64(self.number, number);
            document.add_u64(self.part, number % PARTS);
            self.late.add(&mut document, self.field, &PageVectors::new(vectors))?;
            writer.add_document(document)?;
        }
        writer.commit()?;
        Ok(())
    }

    /// Deletes two documents and commits, again and again: medians of CPU and wall time.
    fn change(&self, writer: &mut IndexWriter) -> Result<(Duration, Duration), Box<dyn Error>> {
        let (mut cpu, mut wall) = (Vec::new(), Vec::new());
        for change in 0..CHANGES {
            let (start, start_cpu) = (Instant::now(), ProcessTime::now());
            for number in [change, self.documents - 1 - change] {
                writer.delete_term(Term::from_field_u64(self.number, number));
            }
            writer.commit()?;
            cpu.push(start_cpu.elapsed());
            wall.push(start.elapsed());
        }
        cpu.sort_unstable();
        wall.sort_unstable();
        println!("  slowest {:.2} ms CPU", milliseconds(cpu[cpu.len() - 1]));
        Ok((cpu[cpu.len() / 2], wall[wall.len() / 2]))
    }

    /// Wall time per search and tokens looked at, at the default effort or exactly.
    fn search(&self, filtered: bool, effort: Effort) -> Result<(Duration, u64), Box<dyn Error>> {
        let searcher = self.late.reader(&self.index)?.searcher();
        let queries: Vec<QueryVectors> =
            (0..QUERIES).map(|seed| query(seed, self.documents, self.tokens)).collect::<Result<_, _>>()?;
        let (mut spent, mut tokens) = (Duration::ZERO, 0);
        // The first round brings the index into memory.
        for round in 0..2 {
            (spent, tokens) = (Duration::ZERO, 0);
            for (seed, vectors) in (round..).zip(&queries) {
                let mut query = self.late.query(self.field, vectors.clone()).k(10).effort(effort);
                if filtered {
                    let term = Term::from_field_u64(self.part, seed % PARTS);
                    query = query.filter(TermQuery::new(term, IndexRecordOption::Basic));
                }
                let start = Instant::now();
                let report = query.report(&searcher)?;
                spent += start.elapsed();
                tokens += report.work.tokens;
                assert_eq!(report.hits.len(), 10);
            }
        }
        Ok((spent / QUERIES as u32, tokens / QUERIES))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo passes --bench on.
    let numbers = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let numbers = numbers.map(|text| text.parse()).collect::<Result<Vec<u32>, _>>()?;
    let number = |at: usize, otherwise: u32| numbers.get(at).copied().unwrap_or(otherwise);
    let (documents, tokens, precision) = (number(0, 10_000), number(1, 60), Precision::from_bits(number(2, 4))?);

    let mut schema = Schema::builder();
    let number = schema.add_u64_field("number", INDEXED);
    let part = schema.add_u64_field("part", INDEXED);
    let field = LateInteractionOptions::new(DIM).with_precision(precision).add_to(&mut schema, "tokens");
    let late = LateInteraction::new();
    let folder = tempfile::tempdir()?;
    let index = late.create(MmapDirectory::open(folder.path())?, schema.build(), IndexSettings::default())?;
    let mut writer: IndexWriter = index.writer_with_num_threads(1, 200_000_000)?;
    let bench = Bench { late, index, number, part, field, documents: u64::from(documents), tokens: tokens as usize };
    let start = Instant::now();
    bench.fill(&mut writer)?;
    println!(
        "{documents} documents x {tokens} tokens, dim {DIM}, {} bits, built in {:.1} s",
        precision.bits(),
        start.elapsed().as_secs_f64()
    );

    let (cpu, wall) = bench.change(&mut writer)?;
    println!("delete 2 and commit  {:8.2} ms CPU, {:.2} ms wall (medians)", milliseconds(cpu), milliseconds(wall));
    writer.wait_merging_threads()?;

    // A new handle: nothing of the writer's is counted.
    let Bench { late, index, .. } = bench;
    drop((late, index));
    let late = LateInteraction::new();
    let index = late.open(MmapDirectory::open(folder.path())?)?;
    let bench = Bench { late, index, number, part, field, documents: u64::from(documents), tokens: tokens as usize };
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for (name, effort) in [("default effort", Effort::default()), ("exact", Effort::Exact)] {
        let search = |filtered| pool.install(|| bench.search(filtered, effort).map_err(|error| error.to_string()));
        let ((all, all_tokens), (few, few_tokens)) = (search(false)?, search(true)?);
        let heap = PEAK.load(Ordering::Relaxed) - before;
        println!(
            "{name:14}       {:8.2} ms ({all_tokens} tokens), filtered to 1 % {:.2} ms ({few_tokens} tokens): {:.2}",
            milliseconds(all),
            milliseconds(few),
            few.as_secs_f64() / all.as_secs_f64()
        );
        let bytes: u64 = std::fs::read_dir(folder.path())?
            .map(|entry| entry?.metadata().map(|data| data.len()))
            .sum::<Result<_, _>>()?;
        let share = 100.0 * heap as f64 / bytes as f64;
        println!("  peak heap {:8.2} MB of {:.1} MB on disk: {share:.1} %", heap as f64 / 1e6, bytes as f64 / 1e6);
    }
    Ok(())
}
