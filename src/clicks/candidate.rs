//! The new model: trained, tried, then published or thrown away.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_ingest::two_parts::TwoParts;
use colqwen_index_train::data::{Question, TrainingData};
use colqwen_index_train::early_stop::{LOOKS, Look};
use colqwen_index_train::loss::{Kind, Loss};
use colqwen_index_train::network::{Lora, Trained};
use colqwen_index_train::optimiser::Decay;
use colqwen_index_train::trainer::{Ending, STATE};
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde::Serialize;

use super::folder::{RunFolder, model_folder};
use super::lessons::{NAIVE, Way, on_unseen};
use super::{ClickOptions, Event, Mode};
use crate::model::{Model, load_colqwen2};
use crate::page_index::{BuildOptions, KeepGenerations, NextGeneration};
use crate::training::{
    Learning, OnError, Pages, Preparation, ProjectionOptions, Reprojection, TrainOptions, TrainOutcome, train_network,
    train_projection, train_query_side,
};
use crate::{Error, PageIndex};

/// The model, within the folder of its training.
pub(super) const TRAINED: &str = "model";
/// Where a training is kept, within the run; others than the naive one add how they weigh clicks.
pub(super) const TRAINED_IN: &str = "train";
/// Steps between two saved states.
const SAVE_EVERY: u64 = 20;
/// What staying near the ranking of the model that serves counts beside the loss.
const ANCHOR: f64 = 0.1;
/// Further stored pages that each batch meets where queries alone learn.
const STORED_NEGATIVES: usize = 32;
/// Skipped or mined pages that each query meets per batch.
const NEGATIVES: usize = 2;

/// The model that an index records, loaded.
pub(super) fn serving(index: &PageIndex) -> Result<Model, Error> {
    let Some(recorded) = index.model() else {
        return Err(Error::NoModel { index: index.folder().to_owned(), origin: index.origin()? });
    };
    let model = Model::load(&recorded.name, "cpu")?;
    index.check_model(model.encoder.serves_pages_of())?;
    Ok(model)
}

/// The half of a model that `half` takes of one with two parts; the whole of any other.
fn half(name: &str, half: impl FnOnce(TwoParts) -> ColQwen2) -> Result<ColQwen2, Error> {
    if TwoParts::is_folder(Path::new(name)) {
        return Ok(half(TwoParts::load(Path::new(name), &LoadOptions::default())?));
    }
    load_colqwen2(name, "cpu")
}

/// A way to weigh clicks, and how well a model answered that was trained by it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Weighed {
    /// `naive`, or where the propensities come from.
    name: &'static str,
    /// What the questions to validate by said, if there were any.
    looks: Vec<Look>,
}

impl Weighed {
    fn best(&self) -> f64 {
        on_unseen(&self.looks)
    }
}

/// Where the training that weighs clicks in this way is kept, within the run.
fn trained_in(way: &str) -> String {
    if way == NAIVE { TRAINED_IN.to_owned() } else { format!("{TRAINED_IN}-{way}") }
}

fn looks(out: &Path) -> Vec<Look> {
    let text = fs::read(out.join(LOOKS));
    text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// A trained model that is not published.
pub(super) struct Candidate {
    /// The model.
    pub model: Model,
    /// The ways that clicks were weighed, in order of trial, and which of them it was trained by.
    pub weighed: Vec<Weighed>,
    best: usize,
    /// Where it is kept.
    folder: PathBuf,
    /// The pages that it encoded anew, if it encodes pages otherwise than the model that serves.
    pub next: Option<NextGeneration>,
}

impl Candidate {
    /// Trains from the model that serves, in each of the ways, and keeps what the questions to validate by say is best; goes on
    /// where a run that was killed stopped.
    pub fn train(
        index: &PageIndex,
        serving: &Model,
        ways: &[Way],
        validation: &[Vec<Question>],
        (run, options): (&RunFolder, &ClickOptions),
        observe: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let folder = model_folder(index.folder(), run.number());
        let models = folder.parent().unwrap_or(&folder);
        fs::create_dir_all(models).map_err(Error::io(models, "create it"))?;
        // By its whole name, as `current` will find it.
        let models = models.canonicalize().map_err(Error::io(models, "find it"))?;
        let folder = models.join(folder.file_name().unwrap_or_default());
        let mut weighed = Vec::with_capacity(ways.len());
        for Way { name, data } in ways {
            let out = run.join(&trained_in(name));
            if !folder.exists() && !out.join(TRAINED).exists() {
                train(index, serving, data, validation, (&out, options), observe)?;
            }
            weighed.push(Weighed { name, looks: looks(&out) });
        }
        let mut best = 0;
        for at in 1..weighed.len() {
            if weighed[at].best() > weighed[best].best() {
                best = at;
            }
        }
        if !folder.exists() {
            let trained = run.join(&trained_in(weighed[best].name)).join(TRAINED);
            if options.mode == Mode::QuerySide {
                let page = half(&serving.name, |parts| parts.page)?;
                // The parts hold a copy of what was trained.
                TwoParts::write(&page, &trained, &folder)?;
            } else {
                fs::rename(&trained, &folder).map_err(Error::io(&trained, "move it to the models"))?;
            }
        }
        for Weighed { name, .. } in &weighed {
            let trained = run.join(&trained_in(name)).join(TRAINED);
            if trained.exists() {
                fs::remove_dir_all(&trained).map_err(Error::io(&trained, "remove what is not needed any more"))?;
            }
        }
        let model = Model::load(&folder.display().to_string(), "cpu")?;
        let mut candidate = Self { model, weighed, best, folder, next: None };
        if options.mode != Mode::QuerySide {
            candidate.next = Some(candidate.encode(index, observe)?);
        }
        Ok(candidate)
    }

    /// Encodes all pages anew, beside the generation that serves.
    fn encode(
        &self,
        index: &PageIndex,
        observe: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<NextGeneration, Error> {
        super::stage(observe, "encoding pages anew")?;
        let build = BuildOptions::default();
        let stop = build.stop.clone();
        let mut next = index.next_generation(self.model.recorded(), build)?;
        let mut pages = Reprojection::new(index, &self.model)?;
        next.encode(index, &mut pages, &mut |done, total| {
            if observe(Event::Pages(done, total)).is_break() {
                stop.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        })?;
        next.build(index)?;
        Ok(next)
    }

    /// Where it was trained, within the run.
    pub fn trained_in(&self) -> String {
        trained_in(self.weighed[self.best].name)
    }

    /// What the questions to validate by said.
    pub fn looks(&self) -> &[Look] {
        &self.weighed[self.best].looks
    }

    /// Makes it the model of the index; the number of the generation that serves then.
    ///
    /// # Errors
    /// Another generation came into use than the one that it was compared with, or the disk fails.
    pub fn publish(
        self,
        index: &mut PageIndex,
        compared: u32,
        observe: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<u32, Error> {
        index.reload()?;
        if index.generation() != compared {
            let (path, current) = (index.folder().to_owned(), index.generation());
            return Err(Error::NotCompared { path, current, compared });
        }
        let keep = KeepGenerations::default();
        let published = match self.next {
            None => index.publish_model(self.model.recorded(), keep)?,
            Some(next) => {
                let mut pages = Reprojection::new(index, &self.model)?;
                next.publish(index, &mut pages, keep, &mut |done, total| {
                    // Past the gate nothing stops it but a kill, after which it goes on.
                    let _ = observe(Event::Pages(done, total));
                })?
            }
        };
        Ok(published.generation)
    }

    /// Throws it away.
    pub fn discard(self) -> Result<(), Error> {
        if let Some(next) = self.next {
            next.discard()?;
        }
        fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder, "remove the refused model"))
    }
}

/// Trains by the mode, into [`TRAINED`] within `out`.
fn train(
    index: &PageIndex,
    serving: &Model,
    data: &TrainingData,
    validation: &[Vec<Question>],
    (out, options): (&Path, &ClickOptions),
    observe: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let query = half(&serving.name, |parts| parts.query)?;
    let settings = settings(options, data, out);
    let observe = std::cell::RefCell::new(observe);
    let (mut done, mut planned) = (0, 0);
    let progress = |event: Preparation<'_>| match event {
        Preparation::Planned { pages } => {
            planned = pages as u64;
            ControlFlow::Continue(())
        }
        Preparation::Page { .. } => {
            done += 1;
            (observe.borrow_mut())(Event::Pages(done, planned))
        }
        Preparation::Steps { .. } => ControlFlow::Continue(()),
    };
    let step = |step: &StepRecord, verdict: Option<&Verdict>| (observe.borrow_mut())(Event::Step(step, verdict));
    let TrainOutcome { ending, model, .. } = match options.mode {
        Mode::QuerySide => {
            let lora = Lora { dropout: 0.0, ..Lora::default() };
            train_query_side(&query, data, index, out, &settings, lora, validation, step)?
        }
        Mode::Projection => {
            let projection = ProjectionOptions::default();
            train_projection(&query, data, Pages::Index(index), out, &settings, projection, validation, progress, step)?
        }
        Mode::Lora | Mode::Full => {
            let trained = match options.mode {
                Mode::Lora => Trained::Lora(Lora::default()),
                _ => Trained::Full { vision: false },
            };
            let (name, pages) = (serving.name.as_str(), Pages::Index(index));
            train_network(&query, name, data, pages, out, &settings, trained, validation, progress, step)?
        }
    };
    match (ending, model) {
        (Ending::Complete, Some(_)) => Ok(()),
        _ => Err(Error::Interrupted),
    }
}

fn settings(options: &ClickOptions, data: &TrainingData, out: &Path) -> TrainOptions {
    let usable = data.questions.iter().filter(|question| !question.positives.is_empty()).count();
    TrainOptions {
        loss: Loss { by_weight: true, ..Loss::new(Kind::InfoNce) },
        batch: options.batch.min(usable.max(2)),
        negatives: NEGATIVES,
        mini_batch: None,
        epochs: options.epochs,
        rate: options.rate.unwrap_or(match options.mode {
            Mode::QuerySide | Mode::Projection => 1e-3,
            Mode::Lora => 2e-4,
            Mode::Full => 2e-5,
        }),
        decay: Decay::Linear,
        seed: options.seed,
        memory: options.memory,
        save_every: SAVE_EVERY,
        on_error: OnError::Fail,
        learning: if options.mode == Mode::QuerySide { Learning::Queries } else { Learning::Both },
        distil: ANCHOR,
        constant_negatives: if options.mode == Mode::QuerySide { STORED_NEGATIVES } else { 0 },
        resume: out.join(STATE).exists(),
        ..TrainOptions::default()
    }
}
