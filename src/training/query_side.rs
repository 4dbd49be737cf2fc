//! Training of queries alone, against the pages that an index holds.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use colqwen_index_field::{MultiVector, Origin, QueryVectors, UnitLength};
use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::constant::{Anchor, Constants, FixedPages, FixedVectors};
use colqwen_index_train::data::{PageId, Question, TrainingData};
use colqwen_index_train::early_stop::{EarlyStop, Look};
use colqwen_index_train::encode::Encode;
use colqwen_index_train::loss::Distillation;
use colqwen_index_train::maxsim::Packed;
use colqwen_index_train::metrics::Judged;
use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};
use colqwen_index_train::trainer::{Ending, Source};
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::json;
use tantivy::{DocAddress, Searcher};

use super::{CacheReport, TrainOptions, TrainOutcome, run};
use crate::page_index::SearchRequest;
use crate::{Error, PageIndex};

/// Queries that go through the model together: they are short.
const MINI_BATCH: usize = 64;
/// Hits by which the state of a training is judged.
const DEPTH: usize = 10;

/// Trains low-rank updates of `model` by which its queries find the pages that `data` names among those of `index`, whose
/// vectors stay as they are, and writes everything to `out`: the log, the state, a plot, and at the end `model/`, the checkpoint
/// with what was learnt merged. Where there are questions to validate by, the
/// state that answers them best is kept, the model's own included, and the training ends when they gain nothing more.
///
/// # Errors
/// The index holds pages of another model or lacks a page, a setting lies outside of its range, `out` holds a trained model
/// already, there is nothing to resume, or the disk is full.
#[expect(clippy::too_many_arguments, reason = "what a training takes, each of another kind")]
pub fn train_query_side(
    model: &ColQwen2,
    data: &TrainingData,
    index: &PageIndex,
    out: &Path,
    options: &TrainOptions,
    lora: Lora,
    validation: &[Question],
    mut observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<TrainOutcome, Error> {
    index.check_model(model.serves_pages_of())?;
    let saved = run::new_model(out)?;
    let batches = options.batches(data)?;
    let source = StoredPages::new(model, index, data, options.memory)?;
    let network =
        Network::new(model, Trained::Lora(lora), NetworkOptions { seed: options.seed, ..NetworkOptions::default() })?;
    let constants = Constants { pages: Some(&source), teacher: anchor(options, &source), ..Constants::default() };
    let mini_batch = options.mini_batch.unwrap_or(MINI_BATCH);
    let begins = json!({"query side": network.trained().to_string(), "seed": options.seed, "anchor": options.anchor});
    std::fs::create_dir_all(out).map_err(Error::io(out, "create it"))?;
    let mut early = EarlyStop::open(network.parameters(), out, options.resume)?;
    let validation = Validation::new(&source, &network, validation)?;
    let mut failed = None;
    let mut early_end = false;
    let look = |epoch: u64, early: &mut EarlyStop<'_>| -> Result<ControlFlow<()>, Error> {
        if validation.questions.is_empty() || early.knows(epoch) {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(early.look(Look { epoch, ndcg: validation.ndcg()? })?)
    };
    if !options.resume {
        let _ = look(0, &mut early)?;
    }
    let per_epoch = batches.per_epoch() as u64;
    let watched = |step: &StepRecord, verdict: Option<&Verdict>| {
        if observe(step, verdict).is_break() {
            return ControlFlow::Break(());
        }
        // The parameters are those after this step.
        let flow = match (step.step + 1).is_multiple_of(per_epoch) {
            true => look((step.step + 1) / per_epoch, &mut early),
            false => Ok(ControlFlow::Continue(())),
        };
        flow.map(|flow| early_end = flow.is_break()).unwrap_or_else(|error| failed = Some(error));
        if early_end || failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (ending, steps) =
        run::run(model, &network, &source, (data, &batches), constants, out, options, mini_batch, &begins, watched)?;
    if let Some(error) = failed {
        return Err(error);
    }
    let ending = if early_end { Ending::Complete } else { ending };
    let looks = early.looks().to_vec();
    if ending == Ending::Complete && !looks.is_empty() {
        early.restore()?;
    }
    let model = match ending {
        Ending::Stopped => None,
        Ending::Complete => {
            network.save_for_queries(model, &saved)?;
            Some(saved)
        }
    };
    Ok(TrainOutcome { ending, caches: CacheReport::default(), steps, looks, model })
}

/// Questions that are asked of the index as the network is now.
struct Validation<'v> {
    source: &'v StoredPages<'v>,
    network: &'v Network,
    questions: &'v [Question],
    inputs: Vec<Arc<ModelInput>>,
}

impl<'v> Validation<'v> {
    fn new(source: &'v StoredPages<'v>, network: &'v Network, questions: &'v [Question]) -> Result<Self, Error> {
        let input = |question: &Question| Ok(Arc::new(source.model.query_input(&[question.query.as_str()])?));
        let inputs = questions.iter().map(input).collect::<Result<_, Error>>()?;
        Ok(Self { source, network, questions, inputs })
    }

    fn ndcg(&self) -> Result<f64, Error> {
        let StoredPages { index, searcher, model, .. } = self.source;
        let mut sum = 0.0;
        for (question, input) in self.questions.iter().zip(&self.inputs) {
            let packed = self.network.infer(std::slice::from_ref(input))?;
            let values = packed.vectors().flatten_all().and_then(|values| values.to_vec1::<f32>());
            let vectors = MultiVector::try_new(packed.dim(), values.map_err(TrainError::from)?, UnitLength::Normalize)?;
            let vectors = QueryVectors::new(vectors).with_origin(Origin::Model(model.serves_pages_of()));
            let request = SearchRequest { vectors: Some(vectors), k: DEPTH, ..SearchRequest::default() };
            let hits = index.search(searcher, &request)?;
            let ranking: Vec<PageId> = hits.into_iter().map(|hit| PageId::new(hit.doc_id, hit.page)).collect();
            sum += Judged::new(&ranking, question.positives.iter().map(|positive| &positive.page))?.ndcg(DEPTH);
        }
        Ok(sum / self.questions.len().max(1) as f64)
    }
}

/// Queries of the data, and pages as the index holds them.
struct StoredPages<'i> {
    model: &'i ColQwen2,
    index: &'i PageIndex,
    searcher: Searcher,
    places: HashMap<PageId, DocAddress>,
    /// Pages that were read already, as far as there is room.
    read: RefCell<HashMap<PageId, Arc<Packed>>>,
    room: Cell<usize>,
}

impl<'i> StoredPages<'i> {
    fn new(model: &'i ColQwen2, index: &'i PageIndex, data: &TrainingData, room: usize) -> Result<Self, Error> {
        let searcher = index.searcher();
        let mut places = HashMap::new();
        for page in index.texts(&searcher) {
            let page = page?;
            places.insert(PageId::new(page.doc_id, page.page), page.address);
        }
        if let Some(page) = data.pages().into_iter().find(|page| !places.contains_key(*page)) {
            let problem = format!("the index {:?} does not hold it", index.folder());
            return Err(Error::PageMissing { page: page.clone(), problem });
        }
        Ok(Self { model, index, searcher, places, read: RefCell::default(), room: Cell::new(room) })
    }

    fn vectors(&self, page: &PageId) -> Result<Packed, Error> {
        let missing = || Error::PageMissing { page: page.clone(), problem: "the data do not name it".to_owned() };
        let address = self.places.get(page).ok_or_else(missing)?;
        let stored = self.index.page_vectors(&self.searcher, *address)?.ok_or_else(missing)?;
        Ok(Packed::from_multi_vectors(&[&stored.vectors])?)
    }

    fn packed(&self, page: &PageId) -> Result<Arc<Packed>, TrainError> {
        if let Some(packed) = self.read.borrow().get(page) {
            return Ok(Arc::clone(packed));
        }
        let packed = Arc::new(
            self.vectors(page).map_err(|error| TrainError::Source { what: page.to_string(), source: error.into() })?,
        );
        let bytes = packed.tokens() * packed.dim() * 4;
        if let Some(left) = self.room.get().checked_sub(bytes) {
            self.room.set(left);
            self.read.borrow_mut().insert(page.clone(), Arc::clone(&packed));
        }
        Ok(packed)
    }
}

/// The ranking of the beginning, to be kept where `options` want it.
fn anchor<'s>(options: &TrainOptions, source: &'s StoredPages<'_>) -> Option<Anchor<'s>> {
    let temperature = options.loss.temperature;
    let distillation = Distillation { temperature, teacher_temperature: temperature };
    (options.anchor > 0.0).then_some(Anchor { weight: options.anchor, distillation, vectors: source })
}

impl Source for StoredPages<'_> {
    type Item = Arc<ModelInput>;

    fn query(&self, query: &str) -> Result<Self::Item, TrainError> {
        Ok(Arc::new(self.model.query_input(&[query])?))
    }

    fn page(&self, page: &PageId) -> Result<Self::Item, TrainError> {
        Err(TrainError::Source {
            what: page.to_string(),
            source: "pages are not encoded where queries alone learn".into(),
        })
    }
}

impl FixedPages for StoredPages<'_> {
    fn pages(&self, pages: &[PageId]) -> Result<Packed, TrainError> {
        let packed = pages.iter().map(|page| self.packed(page)).collect::<Result<Vec<_>, _>>()?;
        Packed::cat(&packed.iter().map(|page| (**page).clone()).collect::<Vec<_>>())
    }
}

impl FixedVectors for StoredPages<'_> {
    fn queries(&self, queries: &[&str]) -> Result<Packed, TrainError> {
        let encoded = self.model.encode_queries(queries)?;
        Packed::from_multi_vectors(&encoded.iter().map(|query| &query.vectors).collect::<Vec<_>>())
    }
}
