//! How well a model ranks pages for queries whose pages are known.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::PathBuf;

use colqwen_index_field::{Effort, MultiVector, QueryVectors};
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_ingest::page::Document;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::{PageId, Question};
use colqwen_index_train::maxsim::{MaxSim, Packed};
use colqwen_index_train::metrics::{Judged, Metrics};

use super::{LostPages, Preparation, Reprojection};
use crate::indexing::find_files;
use crate::model::Model;
use crate::page_index::{EncodePages, PageSource, PageToEncode, SearchRequest};
use crate::{Error, PageIndex};

/// Queries that are encoded together.
const QUERIES_AT_ONCE: usize = 32;
/// Hits of an index that are ranked.
const RANKED: usize = 1000;

/// Ranks all pages of the files under `paths` for each question, best first: exactly, by MaxSim of freshly encoded pages,
/// of which only scores are kept.
///
/// # Errors
/// A file or page cannot be read, a positive page is in none of them, or the model refuses a page, where `lost` takes none; or
/// `progress` breaks the work off.
pub fn rank_pages(
    encoder: &dyn Encoder,
    questions: &[&Question],
    paths: &[PathBuf],
    lost: &mut LostPages,
    mut progress: impl FnMut(Preparation<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<PageId>>, Error> {
    let files = find_files(paths)?;
    let mut documents: Vec<(&String, Document)> = Vec::with_capacity(files.len());
    for (doc_id, path) in &files {
        match Document::open(path) {
            Ok(document) => documents.push((doc_id, document)),
            Err(error) => lost.lose(&PageId::new(doc_id.as_str(), 1), error)?,
        }
    }
    let pages: usize = documents.iter().map(|(_, document)| document.page_count() as usize).sum();
    // Whoever breaks off is heard at the first page.
    let _ = progress(Preparation::Planned { pages });
    let counts: HashMap<&str, u32> =
        documents.iter().map(|(doc_id, document)| (doc_id.as_str(), document.page_count())).collect();
    check_positives(questions, &format!("it is not among the {pages} pages under {paths:?}"), lost, &mut |page| {
        Ok(counts.get(page.doc_id.as_str()).is_some_and(|count| page.page <= *count))
    })?;
    let queries = packed(encode(encoder, questions)?.iter().map(|query| &query.vectors))?;
    let (budget, maxsim) = (encoder.page_budget(), MaxSim::default());
    let mut scored: Vec<Vec<(f32, PageId)>> = vec![Vec::with_capacity(pages); questions.len()];
    for (doc_id, document) in &documents {
        let mut reader = document.reader();
        let numbers: Vec<u32> = (1..=document.page_count()).collect();
        for numbers in numbers.chunks(encoder.pages_at_once()) {
            let (mut images, mut read) = (Vec::with_capacity(numbers.len()), Vec::with_capacity(numbers.len()));
            for number in numbers {
                match reader.page(*number, &budget) {
                    Ok(page) => {
                        images.push(page.image);
                        read.push(*number);
                    }
                    Err(error) => lost.lose(&PageId::new(doc_id.as_str(), *number), error)?,
                }
            }
            if images.is_empty() {
                continue;
            }
            let numbers = read;
            let vectors = encoder.encode_pages(&images)?;
            let found = maxsim.score(&queries, &packed(vectors.iter().map(|page| &page.vectors))?)?;
            for (query, scored) in scored.iter_mut().enumerate() {
                let pages = numbers.iter().map(|number| PageId::new(doc_id.as_str(), *number));
                scored.extend(found.scores.row(query).iter().copied().zip(pages));
            }
            if numbers.iter().any(|_| progress(Preparation::Page { doc_id }).is_break()) {
                return Err(Error::Interrupted);
            }
        }
    }
    Ok(scored.into_iter().map(|scored| best_first(scored).collect()).collect())
}

/// Pages by their scores, best first; of equal ones the first by its id, so that the outcome depends on nothing else.
pub(crate) fn best_first<P: Ord>(mut scored: Vec<(f32, P)>) -> impl Iterator<Item = P> {
    scored.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    scored.into_iter().map(|(_, page)| page)
}

/// Ranks the pages of an index for each question, best first: the first 1000, exactly, by MaxSim of the stored vectors.
///
/// # Errors
/// The encoder is not of the index's model, a positive page is not in the index and `lost` takes none, or a search fails.
pub fn rank_index(
    index: &PageIndex,
    encoder: &dyn Encoder,
    questions: &[&Question],
    lost: &mut LostPages,
) -> Result<Vec<Vec<PageId>>, Error> {
    index.check_model(encoder.serves_pages_of())?;
    let mut known: HashMap<String, Vec<u32>> = HashMap::new();
    let mut holds = |page: &PageId| -> Result<bool, Error> {
        if !known.contains_key(&page.doc_id) {
            let pages = index.pages_of(&page.doc_id)?.into_iter().map(|(number, _)| number).collect();
            known.insert(page.doc_id.clone(), pages);
        }
        Ok(known[&page.doc_id].contains(&page.page))
    };
    check_positives(questions, &format!("the index {:?} does not hold it", index.folder()), lost, &mut holds)?;
    let searcher = index.searcher();
    let rank = |vectors: QueryVectors| {
        let request =
            SearchRequest { vectors: Some(vectors), k: RANKED, effort: Effort::Exact, ..SearchRequest::default() };
        let hits = index.search(&searcher, &request)?;
        Ok(hits.into_iter().map(|hit| PageId::new(hit.doc_id, hit.page)).collect())
    };
    encode(encoder, questions)?.into_iter().map(rank).collect()
}

/// Ranks all pages of an index for each question, best first, as `model` encodes them: exactly, by MaxSim of pages that are
/// rendered again from the files they came from, and pooled as they were, of which only scores are kept. Where the model has the
/// backbone that left hidden states beside the index, these are projected instead. It is for models that did not make the index;
/// one whose queries are for other pages than it makes is judged as by [`rank_index`].
///
/// # Errors
/// A positive page is not in the index, a file is gone or has changed, or the model refuses a page, where `lost` takes none; or
/// `progress` breaks the work off.
pub fn rank_sources(
    index: &PageIndex,
    model: &Model,
    questions: &[&Question],
    lost: &mut LostPages,
    mut progress: impl FnMut(Preparation<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<PageId>>, Error> {
    let encoder = &*model.encoder;
    if encoder.serves_pages_of() != encoder.page_fingerprint() {
        return rank_index(index, encoder, questions, lost);
    }
    let places = index.places(&index.searcher())?;
    let mut holds = |page: &PageId| Ok(places.contains_key(&(page.doc_id.clone(), page.page)));
    check_positives(questions, &format!("the index {:?} does not hold it", index.folder()), lost, &mut holds)?;
    // Whoever breaks off is heard at the first page.
    let _ = progress(Preparation::Planned { pages: places.len() });
    let queries = packed(encode(encoder, questions)?.iter().map(|query| &query.vectors))?;
    let (mut pages, maxsim) = (Reprojection::new(index, model)?, MaxSim::default());
    let mut scored: Vec<Vec<(f32, PageId)>> = vec![Vec::with_capacity(places.len()); questions.len()];
    for wanted in pages_to_encode(index, places.into_keys())?.chunks(pages.at_once()) {
        let (mut vectors, mut numbers) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for (page, encoded) in wanted.iter().zip(pages.encode(wanted)?) {
            let page = PageId::new(page.doc_id.as_str(), page.page);
            match encoded {
                Ok(encoded) => {
                    vectors.push(encoded.vectors);
                    numbers.push(page);
                }
                Err(problem) => lost.lose(&page, problem)?,
            }
        }
        if !vectors.is_empty() {
            let found = maxsim.score(&queries, &packed(vectors.iter())?)?;
            for (query, scored) in scored.iter_mut().enumerate() {
                scored.extend(found.scores.row(query).iter().copied().zip(numbers.iter().cloned()));
            }
        }
        if wanted.iter().any(|page| progress(Preparation::Page { doc_id: &page.doc_id }).is_break()) {
            return Err(Error::Interrupted);
        }
    }
    Ok(scored.into_iter().map(|scored| best_first(scored).collect()).collect())
}

/// What an index says of the origin of pages, which come by document.
fn pages_to_encode(index: &PageIndex, pages: impl Iterator<Item = (String, u32)>) -> Result<Vec<PageToEncode>, Error> {
    let mut of_document: Option<(String, BTreeMap<u32, PageSource>)> = None;
    let mut wanted = Vec::new();
    for (doc_id, page) in pages {
        if of_document.as_ref().is_none_or(|(known, _)| *known != doc_id) {
            of_document = Some((doc_id.clone(), index.sources_of(&doc_id)?));
        }
        let of_page = of_document.as_mut().and_then(|(_, sources)| sources.remove(&page));
        let (source, content_hash) = of_page.unwrap_or_default();
        wanted.push(PageToEncode { doc_id, page, source, content_hash });
    }
    Ok(wanted)
}

/// A positive page that is not among those that are ranked would only look like a bad model.
fn check_positives(
    questions: &[&Question],
    problem: &str,
    lost: &mut LostPages,
    holds: &mut impl FnMut(&PageId) -> Result<bool, Error>,
) -> Result<(), Error> {
    for positive in questions.iter().flat_map(|question| &question.positives) {
        if !holds(&positive.page)? {
            lost.lose(&positive.page, problem)?;
        }
    }
    Ok(())
}

/// Judges rankings, one per question, by the positives of the questions. Questions without positives are left out.
///
/// # Errors
/// No question has a positive.
pub fn judge(questions: &[&Question], rankings: &[Vec<PageId>], seed: u64) -> Result<Metrics, Error> {
    let known = questions.iter().zip(rankings).filter(|(question, _)| !question.positives.is_empty());
    let judged =
        known.map(|(question, ranking)| Judged::new(ranking, question.positives.iter().map(|positive| &positive.page)));
    Ok(Metrics::of(&judged.collect::<Result<Vec<_>, _>>()?, seed)?)
}

/// The vectors of all questions, in order.
pub(super) fn encode(encoder: &dyn Encoder, questions: &[&Question]) -> Result<Vec<QueryVectors>, Error> {
    let mut vectors = Vec::with_capacity(questions.len());
    for questions in questions.chunks(QUERIES_AT_ONCE) {
        let texts: Vec<&str> = questions.iter().map(|question| question.query.as_str()).collect();
        vectors.extend(encoder.encode_queries(&texts)?);
    }
    Ok(vectors)
}

fn packed<'a>(items: impl Iterator<Item = &'a MultiVector>) -> Result<Packed, TrainError> {
    let items: Vec<&MultiVector> = items.collect();
    Packed::from_multi_vectors(&items)
}
