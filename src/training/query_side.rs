//! Training of queries alone against the pages that an index holds, until held-out questions gain nothing more.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use colqwen_index_field::{MultiVector, Origin, QueryVectors, UnitLength};
use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::{PageId, Question, TrainingData};
use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};
use colqwen_index_train::trainer::Ending;
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::json;
use tantivy::Searcher;

use super::copies::copies;
use super::run::Training;
use super::source::PageSource;
use super::validation::{self, DEPTH};
use super::vectors::{FirstVectors, StoredPages};
use super::{CacheReport, LostPages, Pages, TrainOptions, TrainOutcome, run};
use crate::page_index::{Hit, SearchRequest};
use crate::{Error, PageIndex};

/// Queries that go through the model together: they are short.
const MINI_BATCH: usize = 64;

/// Trains low-rank updates of `model` by which its queries find the pages that `data` names among those of `index`, whose
/// vectors stay as they are, and writes everything to `out`: the log, the state, a plot, and at the end `model/`, the checkpoint
/// with what was learnt merged. Where there are questions to validate by, the state that answers them best is kept, the
/// model's own included, and the training ends when they gain nothing more; each set of them has the same weight. `options`
/// have to say that queries alone learn.
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
    observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<TrainOutcome, Error> {
    let saved = run::new_model(out)?;
    options.batches(data)?;
    let stored = StoredPages::new(index, model)?;
    let mut lost = LostPages::new(options.on_error);
    stored.check(&data.pages(), &mut lost)?;
    let left = lost.removed_from(data);
    let batches = options.batches(&left)?.with_copies(copies(HashMap::new(), Pages::Index(index))?);
    let network =
        Network::new(model, Trained::Lora(lora), NetworkOptions { seed: options.seed, ..NetworkOptions::default() })?;
    let source = PageSource::new(model, 0);
    let first = FirstVectors::new(model, &source);
    let ids = stored.ids();
    let constants = options.constants(Some(&stored), &ids, &first);
    let sets = validation::usable(validation, &LostPages::default());
    let asked = Asked { model, network: &network, index, searcher: index.searcher() };
    let begins = json!({"query side": network.trained().to_string(), "seed": options.seed});
    let mini_batch = options.mini_batch.unwrap_or(MINI_BATCH);
    let training = Training {
        model,
        learner: &network,
        source: &source,
        data: &left,
        batches: &batches,
        out,
        options,
        mini_batch,
        constants,
        begins,
    };
    let (ending, steps) = validation::run(training, &sets, |questions| asked.rank(questions), observe)?;
    let trained = match ending {
        Ending::Stopped => None,
        Ending::Complete => {
            network.save_for_queries(model, &saved)?;
            Some(saved)
        }
    };
    let left_out = data.usable() - left.usable();
    Ok(TrainOutcome { ending, caches: CacheReport::default(), steps, model: trained, lost, left_out })
}

/// The index, asked by the network as it is now.
struct Asked<'v> {
    model: &'v ColQwen2,
    network: &'v Network,
    index: &'v PageIndex,
    searcher: Searcher,
}

impl Asked<'_> {
    fn rank(&self, questions: &[&Question]) -> Result<Vec<Vec<PageId>>, Error> {
        let vectors =
            questions.iter().map(|question| self.vectors(&question.query)).collect::<Result<Vec<_>, Error>>()?;
        let request = |vectors| SearchRequest { vectors: Some(vectors), k: DEPTH, ..SearchRequest::default() };
        let requests: Vec<SearchRequest<'_>> = vectors.into_iter().map(request).collect();
        let answers = self.index.report_batch(&self.searcher, &requests)?;
        let ranking = |hits: Vec<Hit>| hits.into_iter().map(|hit| PageId::new(hit.doc_id, hit.page)).collect();
        Ok(answers.into_iter().map(|answer| ranking(answer.hits)).collect())
    }

    fn vectors(&self, query: &str) -> Result<QueryVectors, Error> {
        let packed = self.network.infer(&[Arc::new(self.model.query_input(&[query])?)])?;
        let values = packed.vectors().flatten_all().and_then(|values| values.to_vec1::<f32>());
        let values = values.map_err(TrainError::from)?;
        let vectors = MultiVector::try_new(packed.dim(), values, UnitLength::Normalize)?;
        Ok(QueryVectors::new(vectors).with_origin(Origin::Model(self.model.serves_pages_of())))
    }
}
