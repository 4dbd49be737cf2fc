//! Training of the whole network, or of low-rank updates of it: pages go through it at every step.

use std::ops::ControlFlow;
use std::path::Path;

use colqwen_index_ingest::builtin;
use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::data::{Question, TrainingData};
use colqwen_index_train::network::{Network, NetworkOptions, Trained};
use colqwen_index_train::trainer::Ending;
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::json;

use super::copies::copies;
use super::run::Training;
use super::source::PageSource;
use super::validation::{self, Ranked};
use super::vectors::{FirstVectors, StoredPages};
use super::vision::VisionWriter;
use super::{CacheReport, Learning, LostPages, Pages, Preparation, TrainOptions, TrainOutcome, run};
use crate::Error;

/// Queries that have a graph at once where queries alone learn.
const QUERIES_AT_ONCE: usize = 64;

/// Trains what `trained` names of `model` on `data`, whose pages `pages` has, and writes everything to `out`:
/// the log, the state, a plot, what the vision tower leaves of pages where it does not learn (`hidden/vision.parquet`), and at the
/// end `model/`, a whole checkpoint with what was learnt merged, and for low-rank updates of both sides also `adapter/`, as peft
/// reads it and [`Model::load`](crate::model::Model::load) does. Every page is rendered once before the first step: to find those
/// that cannot be, and those that look alike. Questions to validate by are used as [`train_projection`](super::train_projection) uses them. `base` is the name by which
/// `model` was loaded: a folder, which the adapter names by its absolute path, a hub id, or `builtin`, of which the adapter gets a
/// copy.
///
/// # Errors
/// A page is not found and none may be lost, the index holds pages of another model where its vectors are wanted, a setting lies outside of its range, not one page fits into the
/// memory given, `out` holds a trained model already, there is nothing to resume, or the disk is full.
#[expect(clippy::too_many_arguments, reason = "what a training takes, each of another kind")]
pub fn train_network(
    model: &ColQwen2,
    base: &str,
    data: &TrainingData,
    pages: Pages<'_>,
    out: &Path,
    options: &TrainOptions,
    trained: Trained,
    validation: &[Vec<Question>],
    mut progress: impl FnMut(Preparation<'_>) -> ControlFlow<()>,
    observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<TrainOutcome, Error> {
    let saved = run::new_model(out)?;
    options.batches(data)?;
    let mut lost = LostPages::new(options.on_error);
    let stored = options.stored(model, pages)?;
    let network = Network::new(model, trained, NetworkOptions { seed: options.seed, ..NetworkOptions::default() })?;
    // Before any page is rendered, so that too little memory costs nothing.
    let mini_batch = match options.mini_batch {
        Some(given) => given,
        // Only queries have a graph, and they are short.
        None if stored.is_some() && options.learning == Learning::Queries => QUERIES_AT_ONCE,
        None => {
            let page = model.largest_page();
            let footprint = network.footprint(page.patches, page.tokens);
            let pages = data.pages().len().min(options.batch.saturating_mul(options.negatives.saturating_add(1)));
            footprint.mini_batch((options.memory - options.memory / 4) as u64, pages, page.vectors, model.dim())?
        }
    };
    let mut source = PageSource::new(model, options.memory / 4);
    let stored_alone = stored.as_ref().filter(|_| options.learning == Learning::Queries);
    // Pages that do not learn have no inputs here.
    let validation = if stored_alone.is_some() { &[] } else { validation };
    let all = validation::with_questions(data, validation);
    let caches = match stored_alone {
        Some(stored) => {
            stored.check(&data.pages(), &mut lost)?;
            CacheReport::default()
        }
        None => {
            let vision = (!network.vision_learns())
                .then(|| VisionWriter::new(&out.join("hidden"), model, options.memory / 4))
                .transpose()?;
            source.find(pages, &all, vision, &mut lost, &mut progress)?
        }
    };
    let source = source;
    let left = lost.removed_from(data);
    let batches = options.batches(&left)?.with_copies(copies(source.copies(), pages)?);
    // Whoever breaks off is heard at the first step.
    let _ = progress(Preparation::Steps { total: options.total(&batches)? });
    let first = FirstVectors::new(model, &source);
    let ids = stored.as_ref().map(StoredPages::ids).unwrap_or_default();
    let constants = options.constants(stored.as_ref(), &ids, &first);
    let begins = json!({"network": network.trained().to_string(), "seed": options.seed});
    let ranked = Ranked::new(&source, |items: &[_]| network.infer(items), &all, &lost);
    let sets = validation::usable(validation, &lost);
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
    let (ending, steps) = validation::run(training, &sets, |questions| ranked.rank(questions), observe)?;
    let left_out = data.usable() - left.usable();
    let model = match ending {
        Ending::Stopped => None,
        Ending::Complete if options.learning == Learning::Queries => {
            network.save_for_queries(model, &saved)?;
            Some(saved)
        }
        Ending::Complete => {
            let adapter = out.join("adapter");
            if matches!(network.trained(), Trained::Lora(_)) && !adapter.exists() {
                save_adapter(&network, model, base, &adapter)?;
            }
            network.save_merged(model, &saved)?;
            Some(saved)
        }
    };
    Ok(TrainOutcome { ending, caches, steps, model, lost, left_out })
}

/// Writes what was learnt of the model called `base` so that it is found by it from anywhere.
fn save_adapter(network: &Network, model: &ColQwen2, base: &str, adapter: &Path) -> Result<(), Error> {
    if base == builtin::NAME {
        // Nothing but this program knows it, and another version may have another one of this name.
        return Ok(network.save_adapter_and_base(model, adapter)?);
    }
    let folder = Path::new(base).canonicalize().map(|folder| folder.display().to_string());
    Ok(network.save_adapter(model, &folder.unwrap_or_else(|_| base.to_owned()), adapter)?)
}
