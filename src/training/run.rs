//! What all trainings share: settings, the run itself, log and plot.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::constant::Constants;
use colqwen_index_train::data::{BatchOptions, Batches, TrainingData};
use colqwen_index_train::early_stop::Look;
use colqwen_index_train::encode::Encode;
use colqwen_index_train::grad_cache::GradCache;
use colqwen_index_train::loss::Loss;
use colqwen_index_train::maxsim::MaxSim;
use colqwen_index_train::optimiser::{AdamWOptions, Decay, Schedule};
use colqwen_index_train::trainer::{Ending, Run, Source, UpdateOptions};
use colqwen_index_train::watch::{StepRecord, Verdict, plot};
use serde_json::{Value, json};

use super::CacheReport;
use crate::Error;

/// How a model is trained. The defaults of the command line learn: InfoNCE over a large batch.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// What is asked of the scores.
    pub loss: Loss,
    /// Queries per batch, and negatives mined for each of them.
    pub batch: usize,
    /// Mined negatives per query.
    pub negatives: usize,
    /// Pages or queries that are in memory with a graph at once; as many as fit into `memory` if it is not said.
    pub mini_batch: Option<usize>,
    /// Times that every query is seen.
    pub epochs: u64,
    /// The highest learning rate.
    pub rate: f64,
    /// How it falls.
    pub decay: Decay,
    /// What order, dropout and new weights depend on.
    pub seed: u64,
    /// Bytes that may be used for what is kept in memory.
    pub memory: usize,
    /// Steps between two saved states.
    pub save_every: u64,
    /// What the divergence from the ranking of the beginning counts beside the loss, where queries alone learn; 0 for nothing.
    pub anchor: f64,
    /// Go on with the run that is in the folder.
    pub resume: bool,
}

impl TrainOptions {
    /// Share of the steps in which the learning rate rises.
    const WARMUP: f64 = 0.05;

    fn schedule(&self, per_epoch: usize) -> Schedule {
        let total = self.epochs * per_epoch as u64;
        Schedule { peak: self.rate, warmup: (total as f64 * Self::WARMUP) as u64, total, decay: self.decay }
    }

    fn batching(&self) -> BatchOptions {
        BatchOptions { size: self.batch, negatives: self.negatives, share_negatives: false, seed: self.seed }
    }

    /// Refuses settings and data that no run could be made with, before anything is computed.
    pub(super) fn batches<'d>(&self, data: &'d TrainingData) -> Result<Batches<'d>, Error> {
        let batches = Batches::new(data, self.batching())?;
        self.schedule(batches.per_epoch()).check()?;
        Ok(batches)
    }
}

/// What a training did.
#[derive(Clone, Debug)]
pub struct TrainOutcome {
    /// How it ended.
    pub ending: Ending,
    /// What was computed before the first step, where hidden states are kept.
    pub caches: CacheReport,
    /// All steps, those of earlier runs included.
    pub steps: Vec<StepRecord>,
    /// What the questions to validate by said, where there were some.
    pub looks: Vec<Look>,
    /// The trained checkpoint, once the run is complete.
    pub model: Option<PathBuf>,
}

/// Where the checkpoint of a training into `out` goes; refused if it is there already.
pub(super) fn new_model(out: &Path) -> Result<PathBuf, Error> {
    let saved = out.join("model");
    if saved.exists() {
        let exists = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it holds a trained model already");
        return Err(Error::io(&saved, "train into this folder")(exists));
    }
    Ok(saved)
}

/// Trains `learner`, which is made of `model`, to the end or until `observe` stops it. `begins` says what else the result
/// depends on: a run is resumed only by one that says the same.
#[expect(clippy::too_many_arguments, reason = "the parts of a run, each of another kind")]
pub(super) fn run<E: Encode, S: Source<Item = E::Item>>(
    model: &ColQwen2,
    learner: &E,
    source: &S,
    (data, batches): (&TrainingData, &Batches<'_>),
    constants: Constants<'_>,
    out: &Path,
    options: &TrainOptions,
    mini_batch: usize,
    begins: &Value,
    observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<(Ending, Vec<StepRecord>), Error> {
    let described = json!({
        "data": data.fingerprint(),
        "model": model.page_fingerprint().to_string(),
        "begins with": begins,
        "loss": format!("{:?}", options.loss),
        "batches": format!("{:?}", options.batching()),
    });
    let schedule = options.schedule(batches.per_epoch());
    let update =
        UpdateOptions { optimiser: AdamWOptions::default(), schedule, clip: 1.0, save_every: options.save_every };
    let cache = GradCache { maxsim: MaxSim::default(), loss: options.loss, mini_batch };
    let run = Run { model: learner, source, data, batches, cache, update, constants, described };
    let mut trainer = if options.resume { run.resume(out)? } else { run.start(out)? };
    let ending = trainer.run(observe)?;
    let steps = trainer.steps().to_vec();
    if !steps.is_empty() {
        let path = out.join("plot.svg");
        std::fs::write(&path, plot("loss", &steps)?).map_err(Error::io(&path, "write the plot"))?;
    }
    Ok((ending, steps))
}
