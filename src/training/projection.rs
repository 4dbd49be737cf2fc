//! Training of the projection: from queries and pages to a checkpoint.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::constant::Beginning;
use colqwen_index_train::data::{Question, TrainingData};
use colqwen_index_train::dropout::Dropout;
use colqwen_index_train::projection::{BIAS, Projection, WEIGHT};
use colqwen_index_train::trainer::Ending;
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::json;

use super::copies::copies;
use super::run::Training;
use super::validation::{self, Ranked};
use super::vectors::StoredPages;
use super::{Learning, LostPages, Pages, Preparation, TrainOptions, TrainOutcome, hidden_source, run};
use crate::Error;

/// Mini-batches of hidden states: their graphs are small.
const MINI_BATCH: usize = 8;

/// What concerns the projection alone.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ProjectionOptions {
    /// Share of hidden values that are dropped.
    pub dropout: f64,
    /// Begin with a new projection, drawn from the seed, instead of the model's own.
    pub new_projection: bool,
}

/// Trains the projection of `model` on `data`, whose pages `pages` has, and writes everything to `out`:
/// hidden states under `hidden/`, the log, the state, a plot, and at the end the checkpoint as `model/`. Where there are questions to
/// validate by, each set of them with the same weight, they rank the pages that `data` name after each epoch; the state that
/// answers them best is kept, the model's own included, and the training ends when they gain nothing more.
///
/// # Errors
/// A page is not found and none may be lost, the index holds pages of another model where its vectors are wanted, a setting lies outside of its range, `out` holds a trained model already, there is nothing to resume,
/// or the disk is full.
#[expect(clippy::too_many_arguments, reason = "what a training takes, each of another kind")]
pub fn train_projection(
    model: &ColQwen2,
    data: &TrainingData,
    pages: Pages<'_>,
    out: &Path,
    options: &TrainOptions,
    projection: ProjectionOptions,
    validation: &[Vec<Question>],
    mut progress: impl FnMut(Preparation<'_>) -> ControlFlow<()>,
    observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<TrainOutcome, Error> {
    let saved = run::new_model(out)?;
    options.batches(data)?;
    // Before anything is computed, as all settings.
    Dropout::new(projection.dropout, options.seed)?;
    let mut lost = LostPages::new(options.on_error);
    let stored = options.stored(model, pages)?;
    if projection.new_projection && stored.is_some() {
        let (name, expected) = ("projection to begin with", "the model's own, where stored vectors of pages take part");
        return Err(TrainError::Setting { name, expected, received: "a new one".to_owned() }.into());
    }
    let wanted = match &stored {
        Some(stored) if options.learning == Learning::Queries => {
            stored.check(&data.pages(), &mut lost)?;
            None
        }
        _ => Some(pages),
    };
    // Pages that do not learn have no states here.
    let validation = if wanted.is_some() { validation } else { &[] };
    let all = validation::with_questions(data, validation);
    let (source, caches) =
        hidden_source(&out.join("hidden"), model, &all, wanted, options.memory, &mut lost, &mut progress)?;
    let left = lost.removed_from(data);
    let batches = options.batches(&left)?.with_copies(copies(source.copies()?, pages)?);
    // Whoever breaks off is heard at the first step.
    let _ = progress(Preparation::Steps { total: options.total(&batches)? });
    let learner = beginning(model, options.seed, projection)?;
    let still = beginning(model, options.seed, ProjectionOptions { dropout: 0.0, ..projection })?;
    let first = Beginning { model: still, source: &source };
    let ids = stored.as_ref().map(StoredPages::ids).unwrap_or_default();
    let constants = options.constants(stored.as_ref(), &ids, &first);
    let begins = json!({"projection": {"new": projection.new_projection, "dropout": projection.dropout}});
    let mini_batch = options.mini_batch.unwrap_or(MINI_BATCH);
    let ranked = Ranked::new(&source, |states: &[_]| learner.infer(states), &all, &lost);
    let sets = validation::usable(validation, &lost);
    let training = Training {
        model,
        learner: &learner,
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
        Ending::Complete => {
            if options.learning == Learning::Queries {
                let [weight, bias] = [learner.weight(), learner.bias()].map(Clone::clone);
                let learnt = HashMap::from([(WEIGHT.to_owned(), weight), (BIAS.to_owned(), bias)]);
                model.save_for_queries(&saved, &learnt)?;
            } else {
                model.save_with_projection(&saved, learner.weight(), learner.bias())?;
            }
            Some(saved)
        }
    };
    Ok(TrainOutcome { ending, caches, steps, model, lost, left_out })
}

fn beginning(model: &ColQwen2, seed: u64, options: ProjectionOptions) -> Result<Projection, Error> {
    let dropout = Dropout::new(options.dropout, seed)?;
    let (weight, bias) = model.projection()?;
    let projection = if options.new_projection {
        let (dim, width) = weight.dims2().map_err(TrainError::from)?;
        Projection::random(dim, width, seed, dropout)
    } else {
        Projection::new(&weight, &bias, dropout)
    };
    Ok(projection?)
}
