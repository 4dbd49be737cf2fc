//! The true hits of each query, and how many of them a search found.

use std::collections::HashSet;
use std::path::Path;

use colqwen_index::PageHit;
use colqwen_index::field::{Effort, Precision, SearchReport};
use colqwen_index::tantivy::TantivyDocument;
use colqwen_index::tantivy::schema::Value;

use crate::collection::Collection;
use crate::engine::{Engine, Failure, K, Only};

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
        let textbook = textbook(collection);
        if answers.all.first() != Some(&textbook) {
            return Err(format!("exact search found {:?}, the textbook loop {textbook:?}", answers.all.first()).into());
        }
        Ok(answers)
    }
}

/// The hits of the first query by the definition of MaxSim.
fn textbook(collection: &Collection) -> Vec<usize> {
    let dim = collection.shape.dim;
    let query = &collection.queries()[0];
    let dot = |token: &[f32], other: &[f32]| token.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    let best = |token: &[f32], page: &[f32]| page.chunks(dim).map(|other| dot(token, other)).fold(f32::MIN, f32::max);
    let score = |number| {
        let page: Vec<f32> = collection.document(number).iter().map(|value| value.to_f32()).collect();
        query.chunks(dim).map(|token| best(token, &page)).sum::<f32>()
    };
    let mut scores: Vec<(f32, usize)> = (0..collection.shape.documents).map(|number| (score(number), number)).collect();
    scores.sort_by(|one, two| two.0.total_cmp(&one.0).then(one.1.cmp(&two.1)));
    scores.into_iter().take(K).map(|(_, number)| number).collect()
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
