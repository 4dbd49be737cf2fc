//! From clicks to a better model: what `colqwen-index train-from-clicks` does.
//!
//! One run goes through these files in this order. `options` says what is asked for, `lock` keeps a second run waiting, and
//! `history` and `folder` find what earlier runs left. `lessons` reads what is new in the logs,
//! makes questions of clicks, with pages that are the same merged (`pages`), and holds some of them out;
//! `rehearsal` adds questions made of the pages' words, against forgetting. Negatives
//! are mined from the live index, `candidate` trains, `compare` lets both models answer the held-out questions, and the gate
//! decides. Only then is anything published; `night` ends the run with its record and its `report`, with `thumbnail`s, and
//! `sweep` removes what nobody needs any more.
//!
//! ```text
//! INDEX/runs/000001/     plan.json, train/ (log, plot; state and best weights until the run is complete), report.html,
//!                        run.jsonl (the record; publishing.jsonl until the new model serves)
//! INDEX/runs/lock        locked while a run is under way
//! INDEX/runs/salt        what names of queries are salted with
//! INDEX/negatives/       the questions of each run with their negatives
//! INDEX/models/000001/   the model that a run trained
//! ```

mod candidate;
mod compare;
mod folder;
mod history;
mod lessons;
mod lock;
mod night;
mod options;
mod pages;
mod rehearsal;
mod report;
mod sweep;
mod thumbnail;

pub use folder::RunRecord;
pub use options::{ClickOptions, Mode, Weighting};
pub use report::{GateRow, MovedPage, MovedQuery, Report};

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use colqwen_index_train::clicks::gate::{self, Decision, FixedSet, GateOptions, GateReport};
use colqwen_index_train::clicks::log::Position;
use colqwen_index_train::data::Question;
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::{Value, json};

use self::candidate::Candidate;
use self::compare::{Asked, Fresh, Ranks};
use self::folder::RunFolder;
use self::history::History;
use self::lessons::Lessons;
use self::lock::Lock;
use self::night::Night;
use self::pages::Pages;
use self::sweep::sweep;
use self::thumbnail::Thumbnails;
use crate::model::Model;
use crate::{Error, PageIndex};

/// What happens during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The next part of the work begins.
    Stage(&'a str),
    /// A step of the training.
    Step(&'a StepRecord, Option<&'a Verdict>),
    /// So many of so many pages are encoded.
    Pages(u64, u64),
}

/// How a run ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The record, as it was written.
    pub record: RunRecord,
    /// The report.
    pub report: PathBuf,
}

impl Outcome {
    /// Whether the gate let the new model through.
    pub fn passed(&self) -> bool {
        self.record.decision != REFUSED
    }

    /// The object that `--json` ends with.
    pub fn json(&self) -> Value {
        let RunRecord { decision, reason, metrics, generations, number, .. } = &self.record;
        json!({"decision": decision, "reason": reason, "metrics": metrics, "generation": generations[1], "run": number,
            "report": self.report})
    }
}

/// Questions of the pages' own words that are rehearsed for each question of clicks, and at most for each page.
const REHEARSED: usize = 12;
const PER_PAGE: usize = 8;
/// Further ones that tell when to stop.
const VALIDATED: usize = 100;
/// Further ones by which the gate sees whether the model still reads.
const JUDGED: usize = 200;
const PUBLISHED: &str = "published";
const WOULD_PUBLISH: &str = "would publish";
const REFUSED: &str = "refused";
/// Why a model is published.
const BETTER: &str = "better on held-out clicks with confidence, and not worse on questions whose answers are known";

/// Learns from the logs, and publishes the new model into the page index in `folder` if it is better on questions that were held
/// out. The index serves as before until that moment. A run that is killed is gone on with by the next call with the same
/// options, though the logs have grown; `observe` stops it by breaking, without loss.
///
/// # Errors
/// There is no index or no model, another run is under way, a log cannot be read or has too many bad lines, the disk is full,
/// `observe` stopped it, or anything that training and encoding may fail with. Nothing is published then; only a report that
/// cannot be written where it is wanted, although it could be when the run began, is told after all is done.
pub fn train_from_clicks(
    folder: &Path,
    options: &ClickOptions,
    mut observe: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let mut index = PageIndex::open(folder)?;
    let _lock = Lock::take(folder)?;
    night::check_report(options)?;
    let mut history = History::read(folder)?;
    let completed = history.complete_published(&index)?;
    stage(&mut observe, "reading the logs")?;
    let learnt = history.learnt(&index)?;
    let last = learnt.first().map(|run| run.number);
    let known: Vec<Position> = learnt.iter().flat_map(|run| run.positions.iter().cloned()).collect();
    let pages = Pages::of(&index)?;
    let read = |until: &[Position]| -> Result<_, Error> {
        let log = lessons::read(options, &known, until)?;
        let positions: Vec<Position> = log.files.iter().map(|file| file.position.clone()).collect();
        let plan = night::plan(&index, options, &positions, (&pages, last))?;
        Ok((log, positions, plan))
    };
    // Logs that have grown since a run was killed do not make it another run.
    let resumed = history.interrupted_at().map(|until| read(&until)).transpose()?;
    let resumed = resumed.filter(|(_, _, plan)| history.interrupted(plan).is_some());
    let (log, positions, plan) = resumed.map_or_else(|| read(&[]), Ok)?;
    if let Some((record, report)) = completed.filter(|_| log.files.iter().all(|file| file.records == 0)) {
        return Ok(Outcome { record, report });
    }
    let run = RunFolder::begin(folder, &history, &plan)?;
    sweep(&index, Some(run.number()))?;
    let salt = folder::salt(folder)?;
    let lessons = Lessons::of(&log, &pages, (folder, last), (options, &salt))?;
    let mut night =
        Night { run, plan, positions, generation: index.generation(), metrics: lessons.counts.clone(), options };
    if let Some(reason) = &lessons.refused {
        return night.refuse(reason.clone(), Report::default());
    }
    if lessons.new < 2 {
        return night
            .refuse(format!("{} queries can be learnt from, at least 2 are needed", lessons.new), Report::default());
    }
    let serving = candidate::serving(&index)?;
    stage(&mut observe, "mining negatives")?;
    let rehearsed = (lessons.new * REHEARSED).min(pages.count() * PER_PAGE);
    let mut rehearsal = rehearsal::questions(&index, &pages, rehearsed + VALIDATED + JUDGED, options.seed)?;
    // Where the pages have few words, none of the three takes all of them.
    let third = rehearsal.len() / 3;
    let mut last = |most: usize| rehearsal.split_off(rehearsal.len() - most.min(third));
    let words = last(JUDGED);
    let validation = Lessons::validation(&lessons, last(VALIDATED));
    night.metrics["rehearsed_queries"] = rehearsal.len().into();
    let questions: Vec<_> = lessons.training.iter().cloned().chain(rehearsal).collect();
    let mined = (night.run.number(), &lessons.clicked);
    let data = lessons::with_negatives(&questions, &index, &*serving.encoder, mined)?;
    stage(&mut observe, "training")?;
    let ways = lessons.ways(data);
    let candidate = Candidate::train(&index, &serving, &ways, &validation, (&night.run, options), &mut observe)?;
    stage(&mut observe, "comparing with the model that serves")?;
    let judged = Judged {
        index: &index,
        serving: &serving,
        candidate: &candidate,
        pages: &pages,
        lessons: &lessons,
        words: &words,
    };
    let (outcome, mut report) = judged.compare(history.trials(), options)?;
    night.metrics["gate"] = serde_json::to_value(&outcome).unwrap_or_default();
    night.metrics["validation"] = serde_json::to_value(candidate.looks()).unwrap_or_default();
    night.metrics["weighting"] = serde_json::to_value(&candidate.weighed).unwrap_or_default();
    report.curves = std::fs::read_to_string(night.run.join(&candidate.trained_in()).join("plot.svg")).ok();
    let outcome = match outcome.decision {
        Decision::Refuse { reason } => {
            candidate.discard()?;
            night.refuse(reason, report)
        }
        Decision::Publish if options.dry_run => {
            candidate.discard()?;
            night.finish(WOULD_PUBLISH, BETTER.to_owned(), None, report)
        }
        Decision::Publish => {
            stage(&mut observe, "publishing")?;
            night.intend(BETTER, &report)?;
            let published = candidate.publish(&mut index, night.generation, &mut observe)?;
            night.finish(PUBLISHED, BETTER.to_owned(), Some(published), report)
        }
    }?;
    // What cannot be removed now the next run removes.
    let _ = sweep(&index, None);
    Ok(outcome)
}

/// Both models before the gate.
struct Judged<'a> {
    index: &'a PageIndex,
    serving: &'a Model,
    candidate: &'a Candidate,
    pages: &'a Pages,
    lessons: &'a Lessons,
    /// Questions made of the pages' own words that nothing was learnt from.
    words: &'a [Question],
}

impl Judged<'_> {
    /// Lets both answer the held-out questions; what the gate says, and the report's tables.
    fn compare(&self, trial: u64, options: &ClickOptions) -> Result<(GateReport, Report), Error> {
        let Self { index, candidate, pages, lessons, .. } = self;
        let encoder = &*candidate.model.encoder;
        let old = Asked { index, encoder: &*self.serving.encoder };
        let new: Box<dyn Ranks> = match &candidate.next {
            None => Box::new(Asked { index, encoder }),
            Some(next) => Box::new(Fresh::of(index, next, encoder)?),
        };
        let by_clicks = compare::by_clicks(&lessons.gate, [&old, &*new], pages)?;
        let judged = options.judged.as_ref().map(|path| lessons::read_questions(path)).transpose()?;
        let judged = judged.map_or_else(Vec::new, |judged| judged.questions);
        let judged: Vec<_> = judged.into_iter().filter(|one| !one.positives.is_empty()).collect();
        let by_judges = compare::by_judges(&judged, [&old, &*new], pages)?;
        let by_words = compare::by_judges(self.words, [&old, &*new], pages)?;
        let fixed = [
            FixedSet { name: "judged questions", queries: &by_judges },
            FixedSet { name: "questions of the pages' own words", queries: &by_words },
        ];
        let gate = GateOptions { seed: options.seed, ..GateOptions::default() };
        let outcome = gate::decide(&by_clicks, &fixed, trial, &gate)?;
        let mut report = Report::default();
        report.gate.extend(outcome.clicks.iter().flat_map(|clicks| compare::rows("held-out clicks", clicks)));
        report.gate.extend(outcome.fixed.iter().flat_map(|(name, fixed)| compare::rows(name, fixed)));
        let name = |name: &str| match lessons.asked.get(name) {
            Some((text, sessions)) if options.show_queries => format!("{text} ({sessions} sessions)"),
            Some((_, sessions)) => format!("{name} ({sessions} sessions)"),
            None => name.to_owned(),
        };
        [report.improved, report.harmed] = compare::moved(&by_clicks, name, &mut Thumbnails::of(index));
        Ok((outcome, report))
    }
}

/// Says what comes next; an observer that had enough stops the run.
fn stage(observe: &mut impl FnMut(Event<'_>) -> ControlFlow<()>, name: &str) -> Result<(), Error> {
    match observe(Event::Stage(name)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}
