//! From logs to what a model learns from, and what it is judged by.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::Error as TrainError;
use colqwen_index_train::clicks::evidence::{Evidence, EvidenceOptions, HeldOut, SKIPPED, Verdict, Weighting as Votes};
use colqwen_index_train::clicks::log::{self, Log, Position, ReadOptions};
use colqwen_index_train::clicks::propensity::{Propensities, Unknowable};
use colqwen_index_train::clicks::query::{Lookup, Salt};
use colqwen_index_train::clicks::replay;
use colqwen_index_train::clicks::split::{Part, Split, SplitOptions};
use colqwen_index_train::clicks::visits::{Outcome, Visit, VisitOptions, Visits};
use colqwen_index_train::data::{self, NegativePage, PageId, PositivePage, Question, TrainingData};
use colqwen_index_train::early_stop::Look;
use serde_json::{Value, json};

use super::folder::negatives_file;
use super::pages::Pages;
use super::rehearsal;
use super::{ClickOptions, Weighting};
use crate::training::{MineOptions, mine};
use crate::{Error, PageIndex};

/// Negatives per query, skipped pages first.
const NEGATIVES: usize = 30;
/// Questions that taught and are asked again to tell when to stop, at most.
const TAUGHT: usize = 200;
/// Questions of earlier runs that are learnt from again, for each new one.
const REPLAYED: f64 = 0.5;
/// The name of the way in which a click is one vote at every rank.
pub(super) const NAIVE: &str = "naive";

/// Pages that were clicked, by the name of the question.
pub(super) type Clicked = HashMap<String, HashSet<PageId>>;

/// What a night's logs teach.
pub struct Lessons {
    /// Questions to learn from, replayed ones last; without mined negatives yet.
    pub training: Vec<Question>,
    /// How many of them are of these logs.
    pub new: usize,
    /// Other ways to weigh their positives.
    reweighed: Vec<Reweighed>,
    /// Questions that tell when to stop.
    pub validation: Vec<Question>,
    /// Questions that decide, with what clicks say of their pages.
    pub gate: Vec<Judgement>,
    /// The pages that anybody clicked for a question, by its name: no hard negatives of it, whatever the clicks were worth.
    pub clicked: Clicked,
    /// What was counted, for record and report.
    pub counts: Value,
    /// Why nothing can be learnt from them, if so.
    pub refused: Option<String>,
    /// The text of each question by its name, and how many sessions asked it.
    pub asked: BTreeMap<String, (String, usize)>,
}

/// The positives of the new questions, by name, as they weigh where a click counts by its rank.
struct Reweighed {
    source: &'static str,
    positives: HashMap<String, Vec<PositivePage>>,
}

/// Training data, and how the clicks behind them are weighed.
pub struct Way {
    /// `naive`, or where the propensities come from.
    pub name: &'static str,
    /// The questions.
    pub data: TrainingData,
}

/// A held-out question.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Its salted name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// How much each page answers it, by clicks that are discounted for position: see [`HeldOut`].
    pub gains: Vec<(PageId, f64)>,
    /// Pages that do not answer it.
    pub others: Vec<PageId>,
    /// What it counts: more if it is asked more often, but not so much that the chance of a few queries decides; and for the
    /// queries like it whose answers nobody looked down to.
    pub weight: f64,
}

/// Reads what is new in the logs: beyond `known`, and of files that are known up to `until` no further.
pub(super) fn read(options: &ClickOptions, known: &[Position], until: &[Position]) -> Result<Log, Error> {
    let read = ReadOptions { bad_share: options.bad_share };
    Ok(log::read_until(&options.clicks, known, until, &read)?)
}

impl Lessons {
    /// What `log` teaches about `pages`; questions of the run of `index` that was published last are replayed.
    pub(super) fn of(
        log: &Log,
        pages: &Pages,
        (index, last): (&Path, Option<u32>),
        (options, salt): (&ClickOptions, &Salt),
    ) -> Result<Self, Error> {
        let lookup = options.lookup.as_ref().map_or_else(|| Ok(Lookup::default()), |path| Lookup::read(path))?;
        let cleaning = VisitOptions {
            dwell: Duration::from_millis(options.dwell_ms),
            k_anonymity: options.k_anonymity,
            ..VisitOptions::default()
        };
        let visits = Visits::of(log, &lookup, |page| pages.canonical(page), &cleaning)?;
        let split = Split::of(&visits, &SplitOptions { seed: options.seed, ..SplitOptions::default() })?;
        let evidence = |wanted: &dyn Fn(Option<Part>, bool) -> bool| {
            Evidence::of(&visits, |visit| wanted(split.part(visit), split.repeated(visit)), &EvidenceOptions::default())
        };
        let taught = evidence(&|part, _| part == Some(Part::Training))?;
        let validated = evidence(&|part, _| part == Some(Part::Validation))?;
        let judged = evidence(&|part, repeated| part == Some(Part::Gate) || repeated)?;
        let refused = match taught.verdict() {
            Verdict::Refused { reason } => Some(reason.clone()),
            _ => None,
        };
        let examples = taught.examples(&visits, salt, Votes::Naive);
        let mut training = examples.questions;
        let (propensities, refusal) = match options.weighting {
            Weighting::Naive => (Vec::new(), None),
            Weighting::InversePropensity => propensities(&visits),
        };
        let reweighed = |propensities: &Propensities| {
            let questions = taught.examples(&visits, salt, Votes::InversePropensity(propensities)).questions;
            let positives = questions.into_iter().map(|question| (question.query_id, question.positives)).collect();
            Reweighed { source: propensities.source, positives }
        };
        let reweighed: Vec<Reweighed> = propensities.iter().map(reweighed).collect();
        let validation: Vec<Question> = validated
            .examples(&visits, salt, Votes::Naive)
            .questions
            .into_iter()
            .filter(|question| !question.positives.is_empty())
            .collect();
        let queries = visits.queries();
        let judgement = |HeldOut { query, gains, others, stands_for }: HeldOut| {
            let query = &queries[query];
            let name = salt.name(&query.normalised);
            let weight = (1.0 + (query.sessions.max(1) as f64).ln()) * stands_for;
            Judgement { name, text: query.text.clone(), gains, others, weight }
        };
        let gate: Vec<Judgement> = judged.held_out(&visits).into_iter().map(judgement).collect();
        let asked = queries.iter().map(|query| (salt.name(&query.normalised), (query.text.clone(), query.sessions)));
        let asked = asked.collect();
        let new = training.len();
        let held_out: HashSet<String> = validation
            .iter()
            .map(|question| question.query_id.clone())
            .chain(gate.iter().map(|judgement| judgement.name.clone()))
            .chain(training.iter().map(|question| question.query_id.clone()))
            .collect();
        let earlier = last.map_or_else(|| Ok(Vec::new()), |run| earlier_questions(index, run, pages))?;
        let replayed = replay::sample(&earlier, (new as f64 * REPLAYED) as usize, &held_out, options.seed);
        let counts = json!({
            "log": log.counts, "files": log.files, "visits": visits.counts(), "merged_pages": pages.merged(),
            "suspects": taught.suspects(), "training_queries": new, "replayed_queries": replayed.len(),
            "validation_queries": validation.len(), "gate_queries": gate.len(), "queries": examples.counts,
            "propensities": propensities, "no_propensities": refusal,
        });
        training.extend(replayed);
        Ok(Self { training, new, reweighed, validation, gate, clicked: clicked(&visits, salt), counts, refused, asked })
    }
}

fn clicked(visits: &Visits, salt: &Salt) -> Clicked {
    let mut clicked = Clicked::new();
    let by_query = |visit: &Visit| salt.name(&visits.queries()[visit.query].normalised);
    for visit in visits.visits() {
        let pages = visit.pages.iter().filter(|shown| matches!(shown.outcome, Outcome::Positive | Outcome::Unclear));
        let pages = pages.map(|shown| visits.pages()[shown.page].clone());
        clicked.entry(by_query(visit)).or_default().extend(pages);
    }
    clicked
}

/// By whatever the logs allow; or why they allow nothing.
fn propensities(visits: &Visits) -> (Vec<Propensities>, Option<Unknowable>) {
    if let Ok(randomised) = Propensities::randomised(visits) {
        return (vec![randomised], None);
    }
    match Propensities::position_based(visits) {
        Err(reason) => (Vec::new(), Some(reason)),
        Ok(position_based) => {
            let cascade = Propensities::cascade(visits).ok();
            (std::iter::once(position_based).chain(cascade).collect(), None)
        }
    }
}

impl Lessons {
    /// `data`, which was made of the questions to learn from, in each way that clicks are weighed.
    pub(super) fn ways(&self, data: TrainingData) -> Vec<Way> {
        let way = |way: &Reweighed| {
            let mut data = data.clone();
            for question in &mut data.questions {
                if let Some(positives) = way.positives.get(&question.query_id) {
                    question.positives.clone_from(positives);
                }
            }
            Way { name: way.source, data }
        };
        let others: Vec<Way> = self.reweighed.iter().map(way).collect();
        std::iter::once(Way { name: NAIVE, data }).chain(others).collect()
    }

    /// The questions that tell when to stop, half of the weight on those that taught, as repeated queries are much of what is
    /// asked, and half on those that did not: held-out queries and `rehearsal`.
    pub(super) fn validation(&self, rehearsal: Vec<Question>) -> [Vec<Question>; 2] {
        let mut unseen = self.validation.clone();
        unseen.extend(rehearsal);
        let taught = self.training.iter().take(self.new).filter(|question| !question.positives.is_empty());
        [taught.take(TAUGHT).cloned().collect(), unseen]
    }
}

/// How well the state that a training kept answers the second part of [`Lessons::validation`]. Ways to weigh clicks are compared by
/// it: on the questions that taught, a way looks as good as it believes in what it was told.
pub(super) fn on_unseen(looks: &[Look]) -> f64 {
    let kept = Look::best(looks).and_then(|look| look.sets.get(1).copied().flatten());
    kept.unwrap_or(f64::NEG_INFINITY)
}

/// Gives questions negatives from the live index that nobody clicked, after those that users skipped, and keeps them all in the index: the run of
/// this number, and runs to come that replay them, read them there.
pub(super) fn with_negatives(
    questions: &[Question],
    index: &PageIndex,
    encoder: &dyn Encoder,
    (run, clicked): (u32, &Clicked),
) -> Result<TrainingData, Error> {
    let path = negatives_file(index.folder(), run);
    if path.exists() {
        return read_questions(&path);
    }
    let wanted = TrainingData { questions: questions.to_vec(), mined_from: None };
    let (mut mined, _) = mine(index, encoder, &wanted, MineOptions::default())?;
    for (question, skipped) in mined.questions.iter_mut().zip(questions) {
        let own = clicked.get(&question.query_id);
        question.negatives.retain(|mined| own.is_none_or(|clicked| !clicked.contains(&mined.page)));
        let mut seen = HashSet::new();
        let all: Vec<NegativePage> = skipped.negatives.iter().cloned().chain(question.negatives.drain(..)).collect();
        question.negatives = all.into_iter().filter(|negative| seen.insert(negative.page.clone())).collect();
        question.negatives.truncate(NEGATIVES);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create it"))?;
    }
    data::write(&path, &mined).map_err(TrainError::from)?;
    Ok(mined)
}

/// Questions of a Parquet file in the trainer's schema.
pub(super) fn read_questions(path: &Path) -> Result<TrainingData, Error> {
    Ok(data::read(path).map_err(TrainError::from)?)
}

/// The questions that a run learnt from clicks, as far as their pages are still there, with what users skipped: what was mined
/// then is mined anew.
fn earlier_questions(index: &Path, run: u32, pages: &Pages) -> Result<Vec<Question>, Error> {
    let path = negatives_file(index, run);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut questions = read_questions(&path)?.questions;
    questions.retain_mut(|question| {
        question.positives.retain(|positive| pages.holds(&positive.page));
        question
            .negatives
            .retain(|negative| negative.origin.as_deref() == Some(SKIPPED) && pages.holds(&negative.page));
        !question.query_id.starts_with(rehearsal::GROUP) && !question.positives.is_empty()
    });
    Ok(questions)
}
