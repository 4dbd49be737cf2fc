//! Exact MaxSim of f16 vectors through the index against the textbook loop, on the same pages in the same run.
//!
//! ```text
//! cargo bench --no-default-features --bench exact_search
//! ```
//! Prints CPU milliseconds per query on one thread, GFLOP/s, and the ratio to the loop.

mod collection;
mod machine;

use std::error::Error;

use collection::{Collection, Shape};
use colqwen_index::tantivy::TantivyDocument;
use colqwen_index::tantivy::directory::RamDirectory;
use colqwen_index::tantivy::index::IndexSettings;
use colqwen_index::tantivy::schema::Schema;
use colqwen_index::{LateInteraction, LateInteractionOptions, MultiVector, PageVectors, QueryVectors, UnitLength};
use cpu_time::ProcessTime;
use machine::Setting;

fn textbook(query: &MultiVector, page: &MultiVector) -> f32 {
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    query.iter().map(|token| page.iter().map(|other| dot(token, other)).fold(f32::MIN, f32::max)).sum()
}

fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    println!("{}", Setting::now());
    let collection = Collection::new(Shape { centres: 0, queries: 20, ..Shape::new("noise", 500, 700) });
    println!("{}", collection.shape);
    let dim = collection.shape.dim;
    let vectors = |values: Vec<f32>| MultiVector::try_new(dim, values, UnitLength::Normalize);
    let page = |number| vectors(collection.document(number).iter().map(|value| value.to_f32()).collect());
    let pages = (0..collection.shape.documents).map(page).collect::<Result<Vec<_>, _>>()?;
    let queries = collection.queries().into_iter().map(vectors).collect::<Result<Vec<_>, _>>()?;

    let mut schema = Schema::builder();
    let field = LateInteractionOptions::new(dim).add_to(&mut schema, "tokens");
    let late = LateInteraction::new();
    let index = late.create(RamDirectory::create(), schema.build(), IndexSettings::default())?;
    let mut writer = index.writer_with_num_threads(1, 50_000_000)?;
    for page in &pages {
        let mut document = TantivyDocument::new();
        late.add(&mut document, field, &PageVectors::new(page.clone()))?;
        writer.add_document(document)?;
    }
    writer.commit()?;
    let searcher = late.reader(&index)?.searcher();

    let start = ProcessTime::now();
    for query in &queries {
        let hits = late.query(field, QueryVectors::new(query.clone())).k(10).search(&searcher)?;
        assert_eq!(hits.len(), 10);
    }
    let ours = start.elapsed().as_secs_f64() / queries.len() as f64;

    let start = ProcessTime::now();
    let best = pages.iter().map(|page| textbook(&queries[0], page)).fold(f32::MIN, f32::max);
    let by_loop = start.elapsed().as_secs_f64();

    let tokens: usize = pages.iter().map(MultiVector::tokens).sum();
    let flops = (2 * tokens * queries[0].tokens() * dim) as f64;
    println!("exact search   {:8.2} ms/query  {:6.1} GFLOP/s", ours * 1e3, flops / ours / 1e9);
    println!(
        "textbook loop  {:8.2} ms/query  {:6.1} GFLOP/s, best score {best:.3}",
        by_loop * 1e3,
        flops / by_loop / 1e9
    );
    println!("{:.1} times faster", by_loop / ours);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build()?.install(run)
}
