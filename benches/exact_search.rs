//! Exact MaxSim through the index against the textbook loop, on the same pages in the same run.
//!
//! ```text
//! cargo bench --bench exact_search
//! ```
//! Prints milliseconds per query on one thread, GFLOP/s, and the ratio to the loop.

use std::time::Instant;

use colqwen_index::tantivy::TantivyDocument;
use colqwen_index::tantivy::directory::RamDirectory;
use colqwen_index::tantivy::index::IndexSettings;
use colqwen_index::tantivy::schema::Schema;
use colqwen_index::{LateInteraction, LateInteractionOptions, MultiVector, PageVectors, QueryVectors, UnitLength};

const PAGES: usize = 500;
const PAGE_TOKENS: usize = 700;
const QUERY_TOKENS: usize = 20;
const DIM: usize = 128;
const QUERIES: u64 = 20;

/// Unit vectors that are the same in every run (SplitMix64).
fn vectors(seed: u64, tokens: usize) -> MultiVector {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) as f32 / u64::MAX as f32 - 0.5
    };
    let values = (0..tokens * DIM).map(|_| next()).collect();
    MultiVector::try_new(DIM, values, UnitLength::Normalize).expect("random vectors have a length")
}

fn textbook(query: &MultiVector, page: &MultiVector) -> f32 {
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    query.iter().map(|token| page.iter().map(|other| dot(token, other)).fold(f32::MIN, f32::max)).sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut schema = Schema::builder();
    let field = LateInteractionOptions::new(DIM).add_to(&mut schema, "tokens");
    let late = LateInteraction::new();
    let index = late.create(RamDirectory::create(), schema.build(), IndexSettings::default())?;
    let mut writer = index.writer_with_num_threads(1, 50_000_000)?;
    let pages: Vec<MultiVector> = (0..PAGES).map(|page| vectors(page as u64, PAGE_TOKENS)).collect();
    for page in &pages {
        let mut document = TantivyDocument::new();
        late.add(&mut document, field, &PageVectors::new(page.clone()))?;
        writer.add_document(document)?;
    }
    writer.commit()?;
    let searcher = late.reader(&index)?.searcher();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;

    let start = Instant::now();
    for seed in 0..QUERIES {
        let query = QueryVectors::new(vectors(1_000_000 + seed, QUERY_TOKENS));
        let hits = pool.install(|| late.query(field, query).k(10).search(&searcher))?;
        assert_eq!(hits.len(), 10);
    }
    let ours = start.elapsed().as_secs_f64() / QUERIES as f64;

    let query = vectors(1_000_000, QUERY_TOKENS);
    let start = Instant::now();
    let best = pages.iter().map(|page| textbook(&query, page)).fold(f32::MIN, f32::max);
    let loop_seconds = start.elapsed().as_secs_f64();

    let flops = (2 * PAGES * PAGE_TOKENS * QUERY_TOKENS * DIM) as f64;
    println!("{PAGES} pages x {PAGE_TOKENS} tokens, {QUERY_TOKENS} query tokens, dim {DIM}, best score {best:.3}");
    println!("exact search   {:8.2} ms/query  {:6.1} GFLOP/s", ours * 1e3, flops / ours / 1e9);
    println!("textbook loop  {:8.2} ms/query  {:6.1} GFLOP/s", loop_seconds * 1e3, flops / loop_seconds / 1e9);
    println!("{:.1} times faster", loop_seconds / ours);
    Ok(())
}
