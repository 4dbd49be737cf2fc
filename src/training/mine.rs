//! Pages that an index ranks high for a query they do not answer: what a model has most to learn from.

use std::collections::HashSet;

use colqwen_index_field::{Effort, QueryVectors};
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::data::{MinedFrom, NegativePage, PageId, Question, TrainingData};

use super::judge::encode;
use crate::page_index::{Hit, SearchRequest};
use crate::{Error, PageIndex};

/// How negatives are mined.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MineOptions {
    /// Hits that are looked at per query.
    pub depth: usize,
    /// Hits that score above this share of the query's best positive are left out: they are often answers that nobody
    /// labelled. 0.95 is what NV-Retriever (Moreira et al. 2024) found best.
    pub threshold: f64,
    /// How much work goes into each search.
    pub effort: Effort,
}

impl Default for MineOptions {
    fn default() -> Self {
        Self { depth: 100, threshold: 0.95, effort: Effort::default() }
    }
}

/// What was mined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MineReport {
    /// Negatives written.
    pub mined: usize,
    /// Hits that scored about as high as a positive.
    pub suspects: usize,
    /// Queries that have positives of which the index holds none: nothing is mined for them.
    pub without_positive: usize,
}

/// Replaces the negatives of all questions by pages mined from an index, best first, which say `index` as their origin.
///
/// # Errors
/// The encoder is not of the index's model, or a search fails.
pub fn mine(
    index: &PageIndex,
    encoder: &dyn Encoder,
    data: &TrainingData,
    options: MineOptions,
) -> Result<(TrainingData, MineReport), Error> {
    index.check_model(encoder.serves_pages_of())?;
    let mut mined = data.clone();
    let mut report = MineReport::default();
    let vectors = encode(encoder, &data.questions.iter().collect::<Vec<_>>())?;
    for (question, vectors) in mined.questions.iter_mut().zip(vectors) {
        question.negatives = of_question(index, question, vectors, options, &mut report)?;
        report.mined += question.negatives.len();
    }
    mined.mined_from =
        Some(MinedFrom { generation: index.generation().to_string(), page_fingerprint: index.origin()?.fingerprint() });
    Ok((mined, report))
}

fn of_question(
    index: &PageIndex,
    question: &Question,
    vectors: QueryVectors,
    options: MineOptions,
    report: &mut MineReport,
) -> Result<Vec<NegativePage>, Error> {
    let searcher = index.searcher();
    let positives: HashSet<&PageId> = question.positives.iter().map(|positive| &positive.page).collect();
    let search = |k: usize, filter: Option<&str>| {
        let request = SearchRequest {
            vectors: Some(vectors.clone()),
            k,
            filter,
            effort: options.effort,
            ..SearchRequest::default()
        };
        index.search(&searcher, &request)
    };
    let hits = search(options.depth, None)?;
    let page_of = |hit: &Hit| PageId::new(hit.doc_id.as_str(), hit.page);
    let mut limit = f64::INFINITY;
    if !positives.is_empty() {
        let best = match hits.iter().find(|hit| positives.contains(&page_of(hit))) {
            Some(hit) => Some(hit.score),
            // It lies deeper than the hits.
            None => best_of(&positives, &search)?,
        };
        let Some(best) = best else {
            report.without_positive += 1;
            return Ok(Vec::new());
        };
        limit = options.threshold * f64::from(best);
    }
    let others = hits.iter().filter(|hit| !positives.contains(&page_of(hit)));
    let (kept, suspects): (Vec<&Hit>, Vec<&Hit>) = others.partition(|hit| f64::from(hit.score) <= limit);
    report.suspects += suspects.len();
    let negative =
        |hit: &&Hit| NegativePage { page: page_of(hit), score: Some(hit.score), origin: Some("index".to_owned()) };
    Ok(kept.iter().map(negative).collect())
}

/// The score of the best of some pages.
fn best_of(
    pages: &HashSet<&PageId>,
    search: &impl Fn(usize, Option<&str>) -> Result<Vec<Hit>, Error>,
) -> Result<Option<f32>, Error> {
    let clause = |page: &&PageId| {
        let doc_id = page.doc_id.replace('\\', "\\\\").replace('"', "\\\"");
        format!("(doc_id:\"{doc_id}\" AND page:{})", page.page)
    };
    let filter = pages.iter().map(clause).collect::<Vec<_>>().join(" OR ");
    Ok(search(1, Some(&filter))?.first().map(|hit| hit.score))
}
