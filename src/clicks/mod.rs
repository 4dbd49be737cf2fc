//! From clicks to a better model: what `colqwen-index train-from-clicks` does.
//!
//! One run goes through these files in this order. `folder` finds what earlier runs left and what is new in the logs.
//! `lessons` makes questions of clicks, with pages that are the same merged (`pages`), and holds some of them out;
//! `rehearsal` adds questions made of the pages' words, against forgetting. Negatives
//! are mined from the live index, `candidate` trains, `compare` lets both models answer the held-out questions, and the gate
//! decides. Only then is anything published; `report` tells what happened, with `thumbnail`s.
//!
//! ```text
//! INDEX/runs/000001/     plan.json, train/ (log, state, plot), report.html, run.jsonl (the record)
//! INDEX/runs/salt        what names of queries are salted with
//! INDEX/negatives/       the questions of each run with their negatives
//! INDEX/models/000001/   the model that a run trained
//! ```

mod candidate;
mod compare;
mod folder;
mod lessons;
mod pages;
mod rehearsal;
mod report;
mod thumbnail;

pub use folder::RunRecord;
pub use report::{GateRow, MovedPage, MovedQuery, Report};

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use colqwen_index_train::clicks::gate::{self, Decision, FixedSet, GateOptions, GateReport};
use colqwen_index_train::clicks::log::Position;
use colqwen_index_train::data::Question;
use colqwen_index_train::watch::{StepRecord, Verdict};
use serde_json::{Value, json};

use self::candidate::Candidate;
use self::compare::{Asked, Fresh, Ranks};
use self::folder::{History, RunFolder};
use self::lessons::Lessons;
use self::pages::Pages;
use self::thumbnail::Thumbnails;
use crate::model::Model;
use crate::{Error, PageIndex};

/// What is trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// The query encoder: all stored vectors stay valid.
    #[default]
    QuerySide,
    /// The last layer, for pages and queries; pages are encoded again.
    Projection,
    /// Low-rank updates, for pages and queries; pages are encoded again.
    Lora,
    /// All weights; pages are encoded again.
    Full,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "query-side" => Ok(Self::QuerySide),
            "projection" => Ok(Self::Projection),
            "lora" => Ok(Self::Lora),
            "full" => Ok(Self::Full),
            other => Err(format!("expected query-side, projection, lora or full, received {other:?}")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuerySide => "query-side",
            Self::Projection => "projection",
            Self::Lora => "lora",
            Self::Full => "full",
        })
    }
}

/// What a click is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weighting {
    /// One vote, at every rank.
    #[default]
    Naive,
    /// As naive, and by the inverse of the probability that its rank is examined: from lists in random order where the logs
    /// have enough, otherwise by the position-based and the cascade model. Each way is trained, and what answers the
    /// questions to validate by best is kept. Refused, with a reason, where ranks do not vary.
    InversePropensity,
}

impl fmt::Display for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Naive => "naive",
            Self::InversePropensity => "inverse-propensity",
        })
    }
}

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct ClickOptions {
    /// The logs: JSON lines or Parquet.
    pub clicks: Vec<PathBuf>,
    /// What is trained.
    pub mode: Mode,
    /// What a click is worth.
    pub weighting: Weighting,
    /// Questions with known pages that clicks never touch; no model is published that answers them worse.
    pub judged: Option<PathBuf>,
    /// The texts of queries that the logs hold as HMACs.
    pub lookup: Option<PathBuf>,
    /// Sessions that must have asked a query before anything is learnt from it.
    pub k_anonymity: usize,
    /// Milliseconds on a page from which a click says that it answers.
    pub dwell_ms: u64,
    /// The largest share of bad lines in a log.
    pub bad_share: f64,
    /// Queries per batch.
    pub batch: usize,
    /// Times that each query is seen, at most.
    pub epochs: u64,
    /// The highest learning rate; a default of the mode otherwise.
    pub rate: Option<f64>,
    /// Bytes for what is kept in memory.
    pub memory: usize,
    /// What all chance depends on.
    pub seed: u64,
    /// Do everything but publish.
    pub dry_run: bool,
    /// Where the report goes besides the run's folder.
    pub report: Option<PathBuf>,
    /// Name queries by their text in the report.
    pub show_queries: bool,
}

impl ClickOptions {
    /// The defaults, for these logs.
    pub fn new(clicks: Vec<PathBuf>) -> Self {
        Self {
            clicks,
            mode: Mode::default(),
            weighting: Weighting::default(),
            judged: None,
            lookup: None,
            k_anonymity: 5,
            dwell_ms: 30_000,
            bad_share: 0.01,
            batch: 512,
            epochs: 8,
            rate: None,
            memory: 2 << 30,
            seed: 0,
            dry_run: false,
            report: None,
            show_queries: false,
        }
    }
}

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

/// Learns from the logs, and publishes the new model into the page index in `folder` if it is better on questions that were held
/// out. The index serves as before until that moment. A run that is killed is gone on with by the next call with the same
/// options and logs; `observe` stops it by breaking, without loss.
///
/// # Errors
/// There is no index or no model, a log cannot be read or has too many bad lines, the disk is full, `observe` stopped it, or
/// anything that training and encoding may fail with. Nothing is published then.
pub fn train_from_clicks(
    folder: &Path,
    options: &ClickOptions,
    mut observe: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let mut index = PageIndex::open(folder)?;
    let history = History::read(folder)?;
    stage(&mut observe, "reading the logs")?;
    let log = lessons::read(options, &history)?;
    let positions: Vec<Position> = log.files.iter().map(|file| file.position.clone()).collect();
    let plan = plan(&index, options, &positions)?;
    let run = RunFolder::begin(folder, &history, &plan)?;
    let salt = folder::salt(folder)?;
    let pages = Pages::of(&index)?;
    let lessons = Lessons::of(&log, &pages, folder, (options, &salt))?;
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
    let data = lessons::with_negatives(&questions, &index, &*serving.encoder, night.run.number())?;
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
    match outcome.decision {
        Decision::Refuse { reason } => {
            candidate.discard()?;
            night.refuse(reason, report)
        }
        Decision::Publish => {
            let reason =
                "better on held-out clicks with confidence, and not worse on questions whose answers are known"
                    .to_owned();
            if options.dry_run {
                candidate.discard()?;
                return night.finish(WOULD_PUBLISH, reason, None, report);
            }
            stage(&mut observe, "publishing")?;
            let published = candidate.publish(&mut index, &mut observe)?;
            night.finish(PUBLISHED, reason, Some(published), report)
        }
    }
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
            Some(next) => Box::new(Fresh { next, encoder }),
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
        let name = |name: &str| match lessons.texts.get(name) {
            Some(text) if options.show_queries => text.clone(),
            _ => name.to_owned(),
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

/// All that the outcome depends on.
fn plan(index: &PageIndex, options: &ClickOptions, positions: &[Position]) -> Result<Value, Error> {
    let hash = |path: &PathBuf| -> Result<String, Error> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read it"))?;
        Ok(blake3::hash(&bytes).to_hex().to_string())
    };
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"), "generation": index.generation(), "model": index.model(), "logs": positions,
        "judged": options.judged.as_ref().map(hash).transpose()?, "lookup": options.lookup.as_ref().map(hash).transpose()?,
        "mode": options.mode.to_string(), "weighting": options.weighting.to_string(),
        "k_anonymity": options.k_anonymity, "dwell_ms": options.dwell_ms,
        "bad_share": options.bad_share, "batch": options.batch, "epochs": options.epochs, "rate": options.rate,
        "seed": options.seed, "dry_run": options.dry_run,
    }))
}

/// A run under way.
struct Night<'o> {
    run: RunFolder,
    plan: Value,
    positions: Vec<Position>,
    generation: u32,
    metrics: Value,
    options: &'o ClickOptions,
}

impl Night<'_> {
    fn refuse(self, reason: String, report: Report) -> Result<Outcome, Error> {
        self.finish(REFUSED, reason, None, report)
    }

    /// Writes report and record.
    fn finish(
        self,
        decision: &str,
        reason: String,
        generation: Option<u32>,
        mut report: Report,
    ) -> Result<Outcome, Error> {
        let serves = generation.unwrap_or(self.generation);
        (report.decision, report.reason) = (decision.to_owned(), reason.clone());
        report.facts = self.facts(serves);
        let html = report.html();
        let path = self.run.join("report.html");
        for path in std::iter::once(&path).chain(&self.options.report) {
            std::fs::write(path, &html).map_err(Error::io(path, "write the report"))?;
        }
        let record = RunRecord {
            number: self.run.number(),
            decision: decision.to_owned(),
            reason,
            generations: [self.generation, serves],
            positions: self.positions,
            plan: self.plan,
            metrics: self.metrics,
        };
        self.run.finish(&record)?;
        Ok(Outcome { record, report: path })
    }

    fn facts(&self, serves: u32) -> Vec<(String, String)> {
        let mut facts = vec![
            ("run".to_owned(), self.run.number().to_string()),
            ("generation that serves".to_owned(), serves.to_string()),
        ];
        for (part, names) in [
            ("plan", ["mode", "seed", "batch", "version"].as_slice()),
            (
                "metrics",
                &["training_queries", "replayed_queries", "validation_queries", "gate_queries", "merged_pages"],
            ),
        ] {
            let values = if part == "plan" { &self.plan } else { &self.metrics };
            let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            facts.extend(names.iter().map(|name| (name.replace('_', " "), plain(&values[*name]))));
        }
        for (name, count) in self.metrics["log"].as_object().into_iter().flatten() {
            facts.push((format!("log: {}", name.replace('_', " ")), count.to_string()));
        }
        for (name, count) in self.metrics["visits"].as_object().into_iter().flatten() {
            if count.is_number() {
                facts.push((format!("visits: {}", name.replace('_', " ")), count.to_string()));
            }
        }
        facts
    }
}
