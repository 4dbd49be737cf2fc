//! When threads pay: hits rescored on one thread and on all, and many queries one by one and as a batch, in the same run.
//!
//! ```text
//! cargo bench --bench parallel
//! ```
//! Chose `SPREAD_FROM` and `HALF_COST` in `index/src/query/scan.rs`: from where on all threads are faster than one. Below both
//! columns show the same code; set `SPREAD_FROM` to 0 to see what threads would cost there. Wall time, the best of many rounds in
//! turns, so that other work on the machine counts little.

use std::error::Error;
use std::time::Instant;

use colqwen_index::field::{Effort, Precision, SearchReport};
use colqwen_index::tantivy::directory::RamDirectory;
use colqwen_index::tantivy::index::IndexSettings;
use colqwen_index::tantivy::schema::{Field, Schema};
use colqwen_index::tantivy::{DocAddress, Searcher, TantivyDocument};
use colqwen_index::{
    LateInteraction, LateInteractionOptions, LateInteractionQuery, MultiVector, PageVectors, QueryVectors, UnitLength,
};

const PAGES: u32 = 2000;
const PAGE_TOKENS: usize = 300;
const QUERY_TOKENS: usize = 20;
const DIM: usize = 128;
/// Centres that the tokens of a page lie about, so that codebooks have something to learn.
const CENTRES: u64 = 512;
/// Rounds for one hit, fewer for more.
const RESCORING_ROUNDS: u32 = 20_000;
const QUERIES: u64 = 16;

/// Unit vectors that are the same in every run (SplitMix64), each near one of the centres.
fn vectors(seed: u64, tokens: usize) -> MultiVector {
    let noise = |seed: u64| {
        let mut state = seed.wrapping_mul(0xD134_2543_DE82_EF95);
        std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed ^ (mixed >> 31)) as f32 / u64::MAX as f32 - 0.5
        })
    };
    let token = |token: u64| {
        let centre = (seed.wrapping_mul(31) + token % 12 * 7919) % CENTRES;
        noise(centre).zip(noise(seed * 65_536 + token + CENTRES)).map(|(one, two)| one + 0.7 * two).take(DIM)
    };
    let values = (0..tokens as u64).flat_map(token).collect();
    MultiVector::try_new(DIM, values, UnitLength::Normalize).expect("random vectors have a length")
}

fn query(seed: u64) -> QueryVectors {
    QueryVectors::new(vectors(1_000_000 + seed, QUERY_TOKENS))
}

struct Shelf {
    late: LateInteraction,
    field: Field,
    searcher: Searcher,
    one_thread: rayon::ThreadPool,
}

impl Shelf {
    fn of(pages: &[MultiVector], precision: Precision) -> Result<Self, Box<dyn Error>> {
        let mut schema = Schema::builder();
        let field = LateInteractionOptions::new(DIM).with_precision(precision).add_to(&mut schema, "tokens");
        let late = LateInteraction::new();
        let index = late.create(RamDirectory::create(), schema.build(), IndexSettings::default())?;
        let mut writer = index.writer_with_num_threads(1, 1_000_000_000)?;
        for page in pages {
            let mut document = TantivyDocument::new();
            late.add(&mut document, field, &PageVectors::new(page.clone()))?;
            writer.add_document(document)?;
        }
        writer.commit()?;
        let searcher = late.reader(&index)?.searcher();
        assert_eq!(searcher.segment_readers().len(), 1);
        Ok(Self { late, field, searcher, one_thread: rayon::ThreadPoolBuilder::new().num_threads(1).build()? })
    }

    /// Rescores `count` pages that lie far apart; microseconds on one thread and on all.
    fn rescore(&self, count: u32) -> Result<(f64, f64), Box<dyn Error>> {
        let hits: Vec<(f32, DocAddress)> =
            (0..count).map(|hit| (0.0, DocAddress::new(0, hit * (PAGES / count)))).collect();
        let rescorer = self.late.rescorer(self.field, query(1));
        let rescore = || rescorer.rescore(&self.searcher, hits.iter().copied()).map(|hits| hits.len());
        assert_eq!(rescore()?, count as usize);
        let (mut one, mut all) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..(RESCORING_ROUNDS / count).clamp(20, 500) {
            one = one.min(self.one_thread.install(|| microseconds(rescore))?);
            all = all.min(microseconds(rescore)?);
        }
        Ok((one, all))
    }

    /// Milliseconds per query, one by one and as a batch.
    fn batch(&self, effort: Effort, rounds: u32) -> Result<(f64, f64), Box<dyn Error>> {
        let query = |seed| self.late.query(self.field, query(seed)).effort(effort);
        let queries: Vec<LateInteractionQuery> = (0..QUERIES).map(query).collect();
        let one_by_one =
            || queries.iter().map(|query| query.report(&self.searcher)).collect::<Result<Vec<SearchReport>, _>>();
        let batch = || LateInteractionQuery::report_batch(&queries, &self.searcher);
        assert_eq!(one_by_one()?, batch()?);
        let (mut alone, mut together) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..rounds {
            alone = alone.min(microseconds(one_by_one)?);
            together = together.min(microseconds(batch)?);
        }
        let per_query = |microseconds: f64| microseconds / 1e3 / QUERIES as f64;
        Ok((per_query(alone), per_query(together)))
    }
}

fn microseconds<T, E>(work: impl Fn() -> Result<T, E>) -> Result<f64, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{} threads, {PAGES} pages x {PAGE_TOKENS} tokens, {QUERY_TOKENS} query tokens, dim {DIM}",
        rayon::current_num_threads()
    );
    let pages: Vec<MultiVector> = (0..PAGES).map(|page| vectors(u64::from(page), PAGE_TOKENS)).collect();
    for precision in [Precision::F16, Precision::Bits8] {
        let shelf = Shelf::of(&pages, precision)?;
        println!("{precision:?}: rescored hits, multiply-adds, us on one thread, us on all, ratio");
        for count in [1, 2, 5, 10, 20, 40, 80, 160, 320, 640] {
            let (one, all) = shelf.rescore(count)?;
            let log = f64::from(count * (PAGE_TOKENS * QUERY_TOKENS * DIM) as u32).log2();
            println!("{count:8}  2^{log:4.1}  {one:9.1}  {all:9.1}  {:5.2}", all / one);
        }
        if precision == Precision::F16 {
            continue;
        }
        for (name, effort, rounds) in [("default", Effort::default(), 40), ("exact", Effort::Exact, 5)] {
            let (alone, together) = shelf.batch(effort, rounds)?;
            println!(
                "{name:8}  {QUERIES} queries: {alone:7.3} ms each one by one, {together:7.3} as a batch, {:5.2}",
                together / alone
            );
        }
    }
    Ok(())
}
