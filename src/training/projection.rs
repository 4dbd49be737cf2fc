//! Training of the projection: from queries and pages to a checkpoint.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::{BatchOptions, Batches, TrainingData};
use colqwen_index_train::dropout::Dropout;
use colqwen_index_train::grad_cache::GradCache;
use colqwen_index_train::loss::Loss;
use colqwen_index_train::maxsim::MaxSim;
use colqwen_index_train::optimiser::{AdamWOptions, Decay, Schedule};
use colqwen_index_train::projection::Projection;
use colqwen_index_train::trainer::{Ending, Run, UpdateOptions};
use colqwen_index_train::watch::{StepRecord, Verdict, plot};
use serde_json::json;

use super::{CacheReport, Preparation, hidden_source};
use crate::Error;

/// How the projection is trained. The defaults learn: InfoNCE over a large batch.
#[derive(Clone, Debug)]
pub struct ProjectionOptions {
    /// What is asked of the scores.
    pub loss: Loss,
    /// Queries per batch, and negatives mined for each of them.
    pub batch: usize,
    /// Mined negatives per query.
    pub negatives: usize,
    /// Pages or queries that are in memory with a graph at once.
    pub mini_batch: usize,
    /// Times that every query is seen.
    pub epochs: u64,
    /// The highest learning rate.
    pub rate: f64,
    /// How it falls.
    pub decay: Decay,
    /// What order, dropout and a new projection depend on.
    pub seed: u64,
    /// Share of hidden values that are dropped.
    pub dropout: f64,
    /// Begin with a new projection, drawn from the seed, instead of the model's own.
    pub new_projection: bool,
    /// Bytes of hidden states that are held in memory; those of one batch are in any case.
    pub memory: usize,
    /// Steps between two saved states.
    pub save_every: u64,
    /// Go on with the run that is in the folder.
    pub resume: bool,
}

impl ProjectionOptions {
    /// Share of the steps in which the learning rate rises.
    const WARMUP: f64 = 0.05;

    fn schedule(&self, per_epoch: usize) -> Schedule {
        let total = self.epochs * per_epoch as u64;
        Schedule { peak: self.rate, warmup: (total as f64 * Self::WARMUP) as u64, total, decay: self.decay }
    }
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct ProjectionOutcome {
    /// How it ended.
    pub ending: Ending,
    /// What was computed before the first step.
    pub caches: CacheReport,
    /// All steps, those of earlier runs included.
    pub steps: Vec<StepRecord>,
    /// The trained checkpoint, once the run is complete.
    pub model: Option<PathBuf>,
}

/// Trains the projection of `model` on `data`, whose pages are in the files under `paths`, and writes everything to `out`:
/// hidden states under `hidden/`, the log, the state, a plot, and at the end the checkpoint as `model/`.
///
/// # Errors
/// A page is not found, a setting lies outside of its range, `out` holds a trained model already, there is nothing to resume,
/// or the disk is full.
pub fn train_projection(
    model: &ColQwen2,
    data: &TrainingData,
    paths: &[PathBuf],
    out: &Path,
    options: &ProjectionOptions,
    progress: impl FnMut(Preparation<'_>),
    observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<ProjectionOutcome, Error> {
    let saved = out.join("model");
    if saved.exists() {
        let exists = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it holds a trained model already");
        return Err(Error::io(&saved, "train into this folder")(exists));
    }
    let batching =
        BatchOptions { size: options.batch, negatives: options.negatives, share_negatives: false, seed: options.seed };
    let batches = Batches::new(data, batching)?;
    let schedule = options.schedule(batches.per_epoch());
    schedule.check()?;
    let (source, caches) = hidden_source(&out.join("hidden"), model, data, paths, options.memory, progress)?;
    let batches = batches.with_copies(source.copies()?);

    let projection = beginning(model, options)?;
    let described = json!({
        "data": data.fingerprint(),
        "backbone": model.backbone_fingerprint(),
        "begins with": if options.new_projection { json!("a new projection") } else { json!(model_fingerprint(model)) },
        "loss": format!("{:?}", options.loss),
        "batches": format!("{batching:?}"),
        "dropout": options.dropout,
    });
    let update =
        UpdateOptions { optimiser: AdamWOptions::default(), schedule, clip: 1.0, save_every: options.save_every };
    let cache = GradCache { maxsim: MaxSim::default(), loss: options.loss, mini_batch: options.mini_batch };
    let run = Run { model: &projection, source: &source, data, batches: &batches, cache, update, described };
    let mut trainer = if options.resume { run.resume(out)? } else { run.start(out)? };
    let ending = trainer.run(observe)?;
    let steps = trainer.steps().to_vec();
    if !steps.is_empty() {
        let path = out.join("plot.svg");
        std::fs::write(&path, plot("loss", &steps)?).map_err(Error::io(&path, "write the plot"))?;
    }
    let model = match ending {
        Ending::Stopped => None,
        Ending::Complete => {
            model.save_with_projection(&saved, projection.weight(), projection.bias())?;
            Some(saved)
        }
    };
    Ok(ProjectionOutcome { ending, caches, steps, model })
}

fn beginning(model: &ColQwen2, options: &ProjectionOptions) -> Result<Projection, Error> {
    let dropout = Dropout::new(options.dropout, options.seed)?;
    let (weight, bias) = model.projection()?;
    let projection = if options.new_projection {
        let (dim, width) = weight.dims2().map_err(TrainError::from)?;
        Projection::random(dim, width, options.seed, dropout)
    } else {
        Projection::new(&weight, &bias, dropout)
    };
    Ok(projection?)
}

fn model_fingerprint(model: &ColQwen2) -> String {
    use colqwen_index_ingest::encoder::Encoder;
    model.page_fingerprint().to_string()
}
