//! A run: batch after batch, epoch after epoch, recorded, saved and resumed.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::constant::Constants;
use crate::data::{Batches, Drawn, PageId, TrainingData};
use crate::encode::Encode;
use crate::grad_cache::{Batch, GradCache};
use crate::optimiser::{AdamW, AdamWOptions, Schedule};
use crate::state;
use crate::watch::{StepLog, StepRecord, Verdict, Watch};

/// The name of the state within the folder of a run.
pub const STATE: &str = "training.state";
/// The name of the log within the folder of a run.
pub const LOG: &str = "steps.jsonl";

/// Where the items of a batch come from.
pub trait Source {
    /// What the model takes.
    type Item;

    /// A query by its text.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn query(&self, query: &str) -> Result<Self::Item, Error>;

    /// A page.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn page(&self, page: &PageId) -> Result<Self::Item, Error>;
}

/// How weights move.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct UpdateOptions {
    /// The optimiser.
    pub optimiser: AdamWOptions,
    /// The learning rates; its total is the number of steps of the run.
    pub schedule: Schedule,
    /// The largest norm of a gradient.
    pub clip: f64,
    /// Steps between two saved states.
    pub save_every: u64,
}

/// All that a training is made of.
#[derive(Debug)]
pub struct Run<'a, E: Encode, S: Source<Item = E::Item>> {
    /// The model, whose parameters the training moves.
    pub model: &'a E,
    /// Where queries and pages come from.
    pub source: &'a S,
    /// Which pages answer which queries.
    pub data: &'a TrainingData,
    /// The order.
    pub batches: &'a Batches<'a>,
    /// Scores, loss and mini-batches.
    pub cache: GradCache,
    /// How weights move.
    pub update: UpdateOptions,
    /// Vectors that do not learn; nothing by default.
    pub constants: Constants<'a>,
    /// Everything that the result depends on, in words of the caller's choice: a run is resumed only by one that is
    /// described alike.
    pub described: serde_json::Value,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// All steps are done.
    Complete,
    /// The observer stopped it; the state is saved.
    Stopped,
}

/// A training under way, with log and state in a folder.
#[derive(Debug)]
pub struct Trainer<'a, E: Encode, S: Source<Item = E::Item>> {
    run: Run<'a, E, S>,
    folder: PathBuf,
    optimiser: AdamW,
    step: u64,
    log: StepLog,
    watch: Watch,
    epoch: Option<(u64, Vec<Vec<usize>>)>,
}

impl<'a, E: Encode, S: Source<Item = E::Item>> Run<'a, E, S> {
    /// Begins with the model's weights as they are. A log and a state that are in `folder` already are replaced.
    ///
    /// # Errors
    /// A setting lies outside of its range, or the folder cannot be written to.
    pub fn start(self, folder: &Path) -> Result<Trainer<'a, E, S>, Error> {
        let optimiser = AdamW::new(self.model.parameters(), self.update.optimiser)?;
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let trainer = self.at(folder, optimiser, 0)?;
        // So that a run which is killed at once can be resumed, and never goes on with another run's state.
        trainer.save()?;
        Ok(trainer)
    }

    /// Goes on where the run in `folder` saved its state last.
    ///
    /// # Errors
    /// There is no such state, it is damaged, or it belongs to a run that is described otherwise.
    pub fn resume(self, folder: &Path) -> Result<Trainer<'a, E, S>, Error> {
        let path = folder.join(STATE);
        let (progress, optimiser) = state::load(&path, self.model.parameters(), self.update.optimiser)?;
        let described = self.describe()?;
        if progress.run != described {
            let parse = |text: &str| serde_json::from_str(text).map_err(Error::json(&path));
            let difference = difference(&parse(&progress.run)?, &parse(&described)?);
            let problem = format!("it belongs to a run with other settings or data: {difference}");
            return Err(Error::state(&path, problem));
        }
        self.at(folder, optimiser, progress.step)
    }

    fn at(self, folder: &Path, optimiser: AdamW, step: u64) -> Result<Trainer<'a, E, S>, Error> {
        self.update.schedule.check()?;
        if self.update.clip.is_nan() || self.update.clip <= 0.0 || self.update.save_every == 0 {
            let received = format!("{} and {}", self.update.clip, self.update.save_every);
            return Err(Error::setting("clipping and steps between saved states", "numbers above 0", received));
        }
        let log = StepLog::resume(&folder.join(LOG), step)?;
        let mut watch = Watch::default();
        for step in log.steps() {
            // Said already by the run before.
            let _ = watch.observe(step);
        }
        Ok(Trainer { run: self, folder: folder.to_owned(), optimiser, step, log, watch, epoch: None })
    }

    fn describe(&self) -> Result<String, Error> {
        let update = serde_json::to_value(self.update).map_err(Error::json(Path::new(STATE)))?;
        Ok(serde_json::json!({ "update": update, "described": self.described }).to_string())
    }
}

impl<E: Encode, S: Source<Item = E::Item>> Trainer<'_, E, S> {
    /// Runs to the end, or until `observe`, which sees every step, says stop. The state is saved on the way, and at the end.
    /// With the last step `observe` gets the verdict on the whole run where that was too short for an earlier one.
    ///
    /// # Errors
    /// A query or page is missing, a loss or gradient is not a number, the disk is full or the device fails. What was saved
    /// before stays.
    pub fn run(
        &mut self,
        mut observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
    ) -> Result<Ending, Error> {
        let UpdateOptions { schedule, save_every, .. } = self.run.update;
        let last = self.last_recorded()?;
        while self.step < schedule.total {
            let concludes = last == Some(self.step);
            let record = self.one_step()?;
            self.step += 1;
            let flow = match record {
                // A batch in which all queries want the same page.
                None => ControlFlow::Continue(()),
                Some(record) => {
                    let verdict = if concludes { self.watch.conclude(&record) } else { self.watch.observe(&record) };
                    let flow = observe(&record, verdict.as_ref());
                    self.log.append(record)?;
                    flow
                }
            };
            if flow.is_break() || self.step.is_multiple_of(save_every) || self.step == schedule.total {
                self.save()?;
            }
            if flow.is_break() && self.step < schedule.total {
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Complete)
    }

    /// The next step.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// All steps that are recorded, those before a resumption included.
    pub fn steps(&self) -> &[StepRecord] {
        self.log.steps()
    }

    fn one_step(&mut self) -> Result<Option<StepRecord>, Error> {
        let epoch = self.step / self.run.batches.per_epoch() as u64;
        let drawn = match self.draw(self.step) {
            Err(Error::NoNegatives { .. }) => return Ok(None),
            drawn => drawn?,
        };
        let texts: Vec<&str> = drawn.queries.iter().map(|row| self.run.data.questions[*row].query.as_str()).collect();
        let (mut drawn, still) = self.run.constants.beside(self.run.batches, drawn, self.step)?;
        if self.run.cache.loss.by_weight {
            let weight = |row: &usize| self.run.data.questions[*row].weight();
            drawn.targets = drawn.targets.with_weights(drawn.queries.iter().map(weight).collect())?;
        }
        let source = self.run.source;
        let queries: Vec<E::Item> = texts.iter().map(|text| source.query(text)).collect::<Result<_, _>>()?;
        let learning = if self.run.constants.pages.is_some() { &[] } else { drawn.pages.as_slice() };
        let pages: Vec<E::Item> = learning.iter().map(|page| source.page(page)).collect::<Result<_, _>>()?;
        let teacher = self.run.constants.teacher_scores(self.run.cache.maxsim, &texts, learning, still.as_ref())?;
        let batch = Batch {
            queries: &queries,
            pages: &pages,
            constant_pages: still.as_ref(),
            teacher: self.run.constants.teacher(teacher.as_ref()),
            targets: &drawn.targets,
        };
        let mut learnt = self.run.cache.learn(self.run.model, batch, self.step)?;
        let norm = learnt.gradients.clip(self.run.update.clip)?;
        let rate = self.run.update.schedule.rate(self.step);
        self.optimiser.step(self.run.model.parameters(), &learnt.gradients, rate)?;
        Ok(Some(StepRecord::of((self.step, epoch), &learnt, &drawn.targets, norm, rate)?))
    }

    /// The last step that will be recorded: one whose batch has negatives.
    fn last_recorded(&mut self) -> Result<Option<u64>, Error> {
        for step in (self.step..self.run.update.schedule.total).rev() {
            match self.draw(step) {
                Err(Error::NoNegatives { .. }) => {}
                drawn => return drawn.map(|_| Some(step)),
            }
        }
        Ok(None)
    }

    fn draw(&mut self, step: u64) -> Result<Drawn, Error> {
        let batches = self.run.batches;
        let epoch = step / batches.per_epoch() as u64;
        let order = match &mut self.epoch {
            Some((of, order)) if *of == epoch => order,
            stale => &mut stale.insert((epoch, batches.epoch(epoch))).1,
        };
        let queries = order[(step % batches.per_epoch() as u64) as usize].clone();
        batches.draw(epoch, queries)
    }

    fn save(&self) -> Result<(), Error> {
        let described = self.run.describe()?;
        state::save(&self.folder.join(STATE), self.step, &described, self.run.model.parameters(), &self.optimiser)
    }
}

/// The first setting in which two descriptions differ.
fn difference(before: &serde_json::Value, now: &serde_json::Value) -> String {
    use serde_json::Value::Object;
    if let (Object(one), Object(other)) = (before, now) {
        let names = one.keys().chain(other.keys());
        let differs = |name: &&String| one.get(*name) != other.get(*name);
        if let Some(name) = names.into_iter().find(differs) {
            let none = serde_json::Value::Null;
            let [before, now] = [one, other].map(|of| of.get(name).unwrap_or(&none));
            return format!("{name}: {}", difference(before, now));
        }
    }
    format!("it has {before}, this run {now}")
}
