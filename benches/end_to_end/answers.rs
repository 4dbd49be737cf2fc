//! The true hits of each query, and how many of them a search found.

use std::collections::HashSet;
use std::path::Path;

use colqwen_index::PageHit;
use colqwen_index::field::{Effort, Precision, SearchReport};
use colqwen_index::tantivy::TantivyDocument;
use colqwen_index::tantivy::schema::Value;

use crate::collection::Collection;
use crate::engine::{Engine, Failure, K, Only};

/// What rounding and f16 may change in a score.
const ROUNDING: f32 = 1e-3;

/// The numbers of the best documents of each query, best first.
#[derive(Clone)]
pub struct Answers {
    pub all: Vec<Vec<usize>>,
    pub bucket: Vec<Vec<usize>>,
}

impl Answers {
    /// By exact search of f16 vectors; the first query is checked against the textbook loop.
    pub fn exact(collection: &Collection, folder: &Path) -> Result<Self, Failure> {
        let (engine, _) = Engine::build(collection, Precision::F16, None, folder)?;
        let search = |only| {
            let reports = (0..engine.queries()).map(|query| engine.search(query, Effort::Exact, only));
            numbers(&engine, &reports.collect::<Result<Vec<_>, _>>()?)
        };
        let answers = Self { all: search(Only::All)?, bucket: search(Only::Bucket)? };
        drop(engine);
        std::fs::remove_dir_all(folder)?;
        check(collection, &answers.all[0])?;
        Ok(answers)
    }
}

/// Compares the hits of the first query with the definition of MaxSim.
fn check(collection: &Collection, hits: &[usize]) -> Result<(), Failure> {
    let scores = textbook(collection);
    let mut best = scores.clone();
    best.sort_by(|one, two| two.total_cmp(one));
    // Scores that differ by rounding only may change places.
    let equal = |(hit, best): (&usize, &f32)| (scores[*hit] - best).abs() <= ROUNDING * best.abs();
    if hits.len() == K.min(best.len()) && hits.iter().zip(&best).all(equal) {
        return Ok(());
    }
    let of_hits: Vec<f32> = hits.iter().map(|hit| scores[*hit]).collect();
    Err(format!("the hits of exact search score {of_hits:?}, the best are {:?}", &best[..K.min(best.len())]).into())
}

/// The score of each document with the first query by the definition of MaxSim.
fn textbook(collection: &Collection) -> Vec<f32> {
    let dim = collection.shape.dim;
    let query = &collection.queries()[0];
    let dot = |token: &[f32], other: &[f32]| token.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    let best = |token: &[f32], page: &[f32]| page.chunks(dim).map(|other| dot(token, other)).fold(f32::MIN, f32::max);
    let score = |number| {
        let page: Vec<f32> = collection.document(number).iter().map(|value| value.to_f32()).collect();
        query.chunks(dim).map(|token| best(token, &page)).sum::<f32>()
    };
    (0..collection.shape.documents).map(score).collect()
}

/// The numbers of the documents that each search found.
pub fn numbers(engine: &Engine, reports: &[SearchReport]) -> Result<Vec<Vec<usize>>, Failure> {
    let searcher = engine.reader.searcher();
    let number = searcher.schema().get_field("number")?;
    let read = |hit: &PageHit| -> Result<usize, Failure> {
        let document: TantivyDocument = searcher.doc(hit.address)?;
        let value = document.get_first(number).and_then(|value| value.as_u64()).ok_or("a document has no number")?;
        Ok(value as usize)
    };
    reports.iter().map(|report| report.hits.iter().map(read).collect()).collect()
}

/// The share of the true hits that were found.
pub fn recall(found: &[Vec<usize>], truth: &[Vec<usize>]) -> f64 {
    let wanted: usize = truth.iter().map(Vec::len).sum();
    let hits = |(found, truth): (&Vec<usize>, &Vec<usize>)| {
        let truth: HashSet<_> = truth.iter().collect();
        found.iter().filter(|number| truth.contains(number)).count()
    };
    found.iter().zip(truth).map(hits).sum::<usize>() as f64 / wanted.max(1) as f64
}

/// The mean of a figure of all searches.
pub fn mean(reports: &[SearchReport], figure: impl Fn(&SearchReport) -> f64) -> f64 {
    reports.iter().map(figure).sum::<f64>() / reports.len().max(1) as f64
}
