//! Training of queries alone against the pages that an index holds, until held-out questions gain nothing more.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use colqwen_index_field::{MultiVector, Origin, QueryVectors, UnitLength};
use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::{PageId, Question, TrainingData};
use colqwen_index_train::early_stop::{EarlyStop, Look};
use colqwen_index_train::encode::Encode;
use colqwen_index_train::metrics::Judged;
use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};
use colqwen_index_train::trainer::Ending;
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::json;
use tantivy::Searcher;

use super::source::PageSource;
use super::vectors::{FirstVectors, StoredPages};
use super::{CacheReport, LostPages, TrainOptions, TrainOutcome, run};
use crate::page_index::SearchRequest;
use crate::{Error, PageIndex};

/// Queries that go through the model together: they are short.
const MINI_BATCH: usize = 64;
/// Hits by which the state of a training is judged.
const DEPTH: usize = 10;

/// Trains low-rank updates of `model` by which its queries find the pages that `data` names among those of `index`, whose
/// vectors stay as they are, and writes everything to `out`: the log, the state, a plot, and at the end `model/`, the checkpoint
/// with what was learnt merged. Where there are questions to validate by, the state that answers them best is kept, the
/// model's own included, and the training ends when they gain nothing more; each set of them has the same weight. `options` have to say that queries alone learn.
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
    validation: &[Vec<Question>],
    mut observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<TrainOutcome, Error> {
    let saved = run::new_model(out)?;
    options.batches(data)?;
    let stored = StoredPages::new(index, model)?;
    let mut lost = LostPages::new(options.on_error);
    stored.check(&data.pages(), &mut lost)?;
    let left = lost.removed_from(data);
    let batches = options.batches(&left)?;
    let network =
        Network::new(model, Trained::Lora(lora), NetworkOptions { seed: options.seed, ..NetworkOptions::default() })?;
    let source = PageSource::new(model, 0);
    let first = FirstVectors::new(model, &source);
    let ids = stored.ids();
    let constants = options.constants(Some(&stored), &ids, &first)?;
    std::fs::create_dir_all(out).map_err(Error::io(out, "create it"))?;
    let mut early = EarlyStop::open(network.parameters(), out, options.resume)?;
    let validation = Validation::new(model, &network, index, validation)?;
    let look = |epoch: u64, early: &mut EarlyStop<'_>| -> Result<ControlFlow<()>, Error> {
        if validation.sets.is_empty() || early.knows(epoch) {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(early.look(Look { epoch, ndcg: validation.ndcg()? })?)
    };
    if !options.resume {
        let _ = look(0, &mut early)?;
    }
    let per_epoch = batches.per_epoch() as u64;
    let (mut failed, mut enough) = (None, false);
    let watched = |step: &StepRecord, verdict: Option<&Verdict>| {
        if observe(step, verdict).is_break() {
            return ControlFlow::Break(());
        }
        // The parameters are those after this step.
        if (step.step + 1).is_multiple_of(per_epoch) {
            match look((step.step + 1) / per_epoch, &mut early) {
                Ok(flow) => enough = flow.is_break(),
                Err(error) => failed = Some(error),
            }
        }
        if enough || failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let begins = json!({"query side": network.trained().to_string(), "seed": options.seed});
    let mini_batch = options.mini_batch.unwrap_or(MINI_BATCH);
    let (ending, steps) =
        run::run(model, &network, &source, (&left, &batches), out, options, mini_batch, constants, &begins, watched)?;
    if let Some(error) = failed {
        return Err(error);
    }
    let ending = if enough { Ending::Complete } else { ending };
    let trained = match ending {
        Ending::Stopped => None,
        Ending::Complete => {
            if !early.looks().is_empty() {
                early.restore()?;
            }
            network.save_for_queries(model, &saved)?;
            Some(saved)
        }
    };
    let left_out = data.usable() - left.usable();
    Ok(TrainOutcome { ending, caches: CacheReport::default(), steps, model: trained, lost, left_out })
}

/// Questions that are asked of the index as the network is now.
struct Validation<'v> {
    model: &'v ColQwen2,
    network: &'v Network,
    index: &'v PageIndex,
    searcher: Searcher,
    sets: Vec<Vec<(&'v Question, Arc<ModelInput>)>>,
}

impl<'v> Validation<'v> {
    fn new(
        model: &'v ColQwen2,
        network: &'v Network,
        index: &'v PageIndex,
        sets: &'v [Vec<Question>],
    ) -> Result<Self, Error> {
        let input = |question: &'v Question| Ok((question, Arc::new(model.query_input(&[question.query.as_str()])?)));
        let sets = sets.iter().filter(|set| !set.is_empty());
        let sets = sets.map(|set| set.iter().map(input).collect::<Result<Vec<_>, Error>>());
        Ok(Self { model, network, index, searcher: index.searcher(), sets: sets.collect::<Result<_, Error>>()? })
    }

    /// The mean over the sets of the mean over their questions.
    fn ndcg(&self) -> Result<f64, Error> {
        let means = self.sets.iter().map(|set| self.mean(set));
        Ok(means.sum::<Result<f64, Error>>()? / self.sets.len().max(1) as f64)
    }

    fn mean(&self, set: &[(&Question, Arc<ModelInput>)]) -> Result<f64, Error> {
        let vectors = set.iter().map(|(_, input)| self.vectors(input)).collect::<Result<Vec<_>, Error>>()?;
        let request = |vectors| SearchRequest { vectors: Some(vectors), k: DEPTH, ..SearchRequest::default() };
        let requests: Vec<SearchRequest<'_>> = vectors.into_iter().map(request).collect();
        let answers = self.index.report_batch(&self.searcher, &requests)?;
        let mut sum = 0.0;
        for ((question, _), answer) in set.iter().zip(answers) {
            let ranking: Vec<PageId> = answer.hits.into_iter().map(|hit| PageId::new(hit.doc_id, hit.page)).collect();
            sum += Judged::new(&ranking, question.positives.iter().map(|positive| &positive.page))?.ndcg(DEPTH);
        }
        Ok(sum / set.len() as f64)
    }

    fn vectors(&self, input: &Arc<ModelInput>) -> Result<QueryVectors, Error> {
        let packed = self.network.infer(std::slice::from_ref(input))?;
        let values = packed.vectors().flatten_all().and_then(|values| values.to_vec1::<f32>());
        let values = values.map_err(TrainError::from)?;
        let vectors = MultiVector::try_new(packed.dim(), values, UnitLength::Normalize)?;
        Ok(QueryVectors::new(vectors).with_origin(Origin::Model(self.model.serves_pages_of())))
    }
}
