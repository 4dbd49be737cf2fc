//! Training of the projection: from queries and pages to a checkpoint.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::constant::Constants;
use colqwen_index_train::data::TrainingData;
use colqwen_index_train::dropout::Dropout;
use colqwen_index_train::projection::Projection;
use colqwen_index_train::trainer::Ending;
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::json;

use super::{Preparation, TrainOptions, TrainOutcome, hidden_source, run};
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

/// Trains the projection of `model` on `data`, whose pages are in the files under `paths`, and writes everything to `out`:
/// hidden states under `hidden/`, the log, the state, a plot, and at the end the checkpoint as `model/`.
///
/// # Errors
/// A page is not found, a setting lies outside of its range, `out` holds a trained model already, there is nothing to resume,
/// or the disk is full.
#[expect(clippy::too_many_arguments, reason = "what a training takes, each of another kind")]
pub fn train_projection(
    model: &ColQwen2,
    data: &TrainingData,
    paths: &[PathBuf],
    out: &Path,
    options: &TrainOptions,
    projection: ProjectionOptions,
    progress: impl FnMut(Preparation<'_>),
    observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<TrainOutcome, Error> {
    let saved = run::new_model(out)?;
    let batches = options.batches(data)?;
    let (source, caches) = hidden_source(&out.join("hidden"), model, data, paths, options.memory, progress)?;
    let batches = batches.with_copies(source.copies()?);
    let learner = beginning(model, options.seed, projection)?;
    let begins = json!({"projection": {"new": projection.new_projection, "dropout": projection.dropout}});
    let mini_batch = options.mini_batch.unwrap_or(MINI_BATCH);
    let (ending, steps) = run::run(
        model,
        &learner,
        &source,
        (data, &batches),
        Constants::default(),
        out,
        options,
        mini_batch,
        &begins,
        observe,
    )?;
    let model = match ending {
        Ending::Stopped => None,
        Ending::Complete => {
            model.save_with_projection(&saved, learner.weight(), learner.bias())?;
            Some(saved)
        }
    };
    Ok(TrainOutcome { ending, caches, steps, looks: Vec::new(), model })
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
