//! What all trainings share: settings, the run itself, log and plot.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::constant::{Anchor, ConstantNegatives, Constants, FixedPages, FixedVectors};
use colqwen_index_train::data::{BatchOptions, Batches, PageId, TrainingData};
use colqwen_index_train::encode::Encode;
use colqwen_index_train::grad_cache::GradCache;
use colqwen_index_train::loss::{Distillation, Loss};
use colqwen_index_train::maxsim::{MaxSim, Similarity};
use colqwen_index_train::optimiser::{AdamWOptions, Decay, Schedule};
use colqwen_index_train::trainer::{Ending, Run, Source, UpdateOptions};
use colqwen_index_train::watch::{StepRecord, Verdict, plot};
use serde_json::{Value, json};

use super::vectors::StoredPages;
use super::{CacheReport, LostPages, OnError, Pages};
use crate::Error;

/// Whose vectors learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Learning {
    /// Those of queries and pages.
    #[default]
    Both,
    /// Those of queries. Pages stay as the index stores them or, from files, as the model to begin with encodes them; the trained
    /// model says that its queries are for these pages, and searches any index of them.
    Queries,
}

/// How a model is trained. The defaults of the command line learn: InfoNCE over a large batch.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// What is asked of the scores.
    pub loss: Loss,
    /// How the scores that it sees are made of the similarities of tokens. Searches, and questions that validate, take the maximum.
    pub similarity: Similarity,
    /// Queries per batch, and negatives mined for each of them.
    pub batch: usize,
    /// Mined negatives per query.
    pub negatives: usize,
    /// Whether those mined for one query are in-batch negatives of the others, or nothing to them.
    pub share_negatives: bool,
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
    /// Go on with the run that is in the folder.
    pub resume: bool,
    /// What happens with pages that cannot be found or rendered.
    pub on_error: OnError,
    /// Whose vectors learn.
    pub learning: Learning,
    /// What the divergence from the ranking of the model to begin with counts beside the loss, in every batch; 0 for nothing.
    pub distil: f64,
    /// How many stored pages of the index join each batch as negatives that do not learn.
    pub constant_negatives: usize,
}

impl Default for TrainOptions {
    /// What the command line trains a projection with.
    fn default() -> Self {
        Self {
            loss: Loss::new(colqwen_index_train::loss::Kind::InfoNce),
            similarity: Similarity::Max,
            batch: 512,
            negatives: 1,
            share_negatives: false,
            mini_batch: None,
            epochs: 5,
            rate: 1e-3,
            decay: Decay::Linear,
            seed: 0,
            memory: 2 << 30,
            save_every: 50,
            resume: false,
            on_error: OnError::Fail,
            learning: Learning::Both,
            distil: 0.0,
            constant_negatives: 0,
        }
    }
}

impl TrainOptions {
    /// Share of the steps in which the learning rate rises.
    const WARMUP: f64 = 0.05;

    /// Refuses settings that no run could be made with, whatever the data. Trainings do so before they compute anything.
    ///
    /// # Errors
    /// A setting lies outside of its range.
    pub fn check(&self) -> Result<(), Error> {
        self.loss.check()?;
        self.similarity.check()?;
        if !(self.distil.is_finite() && self.distil >= 0.0) {
            return Err(refused("weight of the distillation", "a number from 0", self.distil));
        }
        if self.epochs == 0 {
            return Err(refused("epochs", "a number from 1", 0));
        }
        if self.mini_batch == Some(0) {
            return Err(refused("mini-batch", "a number from 1", 0));
        }
        Ok(())
    }

    fn schedule(&self, per_epoch: usize) -> Result<Schedule, Error> {
        let total = self.epochs.checked_mul(per_epoch as u64);
        let total = total.ok_or_else(|| refused("epochs", "less than 2^64 steps in all", self.epochs))?;
        let warmup = (total as f64 * Self::WARMUP) as u64;
        let schedule = Schedule { peak: self.rate, warmup, total, decay: self.decay };
        schedule.check()?;
        Ok(schedule)
    }

    fn batching(&self) -> BatchOptions {
        let Self { negatives, share_negatives, seed, .. } = *self;
        BatchOptions { size: self.batch, negatives, share_negatives, seed }
    }

    /// Steps of the whole run.
    pub(super) fn total(&self, batches: &Batches<'_>) -> Result<u64, Error> {
        Ok(self.schedule(batches.per_epoch())?.total)
    }

    /// The stored pages of the index, where they are wanted: as pages that do not learn, or as negatives.
    pub(super) fn stored<'a>(&self, model: &ColQwen2, pages: Pages<'a>) -> Result<Option<StoredPages<'a>>, Error> {
        match pages {
            Pages::Index(index) if self.learning == Learning::Queries || self.constant_negatives > 0 => {
                Ok(Some(StoredPages::new(index, model)?))
            }
            Pages::Files(_) if self.constant_negatives > 0 => {
                Err(refused("stored pages as negatives", "an index as the place of the pages", "files"))
            }
            _ => Ok(None),
        }
    }

    /// What does not learn: `ids` are those of the stored pages, `first` is the model to begin with.
    pub(super) fn constants<'a>(
        &self,
        stored: Option<&'a StoredPages<'a>>,
        ids: &'a [PageId],
        first: &'a dyn FixedVectors,
    ) -> Constants<'a> {
        let of_index = stored.map(|stored| stored as &dyn FixedPages);
        let negatives = of_index.filter(|_| self.constant_negatives > 0);
        // Scores are divided by the length of queries, so both sides take the temperature of the loss.
        let distillation =
            Distillation { temperature: self.loss.temperature, teacher_temperature: self.loss.temperature };
        Constants {
            pages: (self.learning == Learning::Queries).then(|| of_index.unwrap_or(first)),
            negatives: negatives.map(|vectors| ConstantNegatives {
                among: ids,
                vectors,
                per_step: self.constant_negatives,
            }),
            teacher: (self.distil > 0.0).then_some(Anchor { weight: self.distil, distillation, vectors: first }),
        }
    }

    /// Refuses settings and data that no run could be made with, before anything is computed.
    pub(super) fn batches<'d>(&self, data: &'d TrainingData) -> Result<Batches<'d>, Error> {
        self.check()?;
        let batches = Batches::new(data, self.batching())?;
        self.schedule(batches.per_epoch())?;
        Ok(batches)
    }
}

fn refused(name: &'static str, expected: &'static str, received: impl ToString) -> Error {
    TrainError::Setting { name, expected, received: received.to_string() }.into()
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
    /// The trained checkpoint, once the run is complete.
    pub model: Option<PathBuf>,
    /// Pages that could not be found or rendered.
    pub lost: LostPages,
    /// Queries that took no part because all their positive pages were lost.
    pub left_out: usize,
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

/// A training that is about to begin, or to go on.
pub(super) struct Training<'a, E, S> {
    /// What it began with.
    pub model: &'a ColQwen2,
    /// What learns: made of `model`.
    pub learner: &'a E,
    pub source: &'a S,
    pub data: &'a TrainingData,
    pub batches: &'a Batches<'a>,
    pub out: &'a Path,
    pub options: &'a TrainOptions,
    pub mini_batch: usize,
    pub constants: Constants<'a>,
    /// What else the result depends on: a run is resumed only by one that says the same.
    pub begins: Value,
}

impl<E: Encode, S: Source<Item = E::Item>> Training<'_, E, S> {
    /// Trains to the end, or until `observe` stops it.
    pub fn run(
        self,
        observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
    ) -> Result<(Ending, Vec<StepRecord>), Error> {
        let Self { model, learner, source, data, batches, out, options, mini_batch, constants, begins } = self;
        let mut described = json!({
            "data": data.fingerprint(),
            "model": model.page_fingerprint().to_string(),
            "begins with": begins,
            "loss": format!("{:?}", options.loss),
            "batches": format!("{:?}", options.batching()),
            "learning": format!("{:?}", options.learning),
            "distil": options.distil,
            "constant negatives": options.constant_negatives,
        });
        // Runs of before there was a choice say nothing of it.
        if options.similarity != Similarity::Max {
            described["similarity"] = json!(format!("{:?}", options.similarity));
        }
        let schedule = options.schedule(batches.per_epoch())?;
        let update =
            UpdateOptions { optimiser: AdamWOptions::default(), schedule, clip: 1.0, save_every: options.save_every };
        let maxsim = MaxSim { similarity: options.similarity, ..MaxSim::default() };
        let cache = GradCache { maxsim, loss: options.loss, mini_batch };
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
}
