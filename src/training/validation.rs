//! Questions that a training does not learn from: they say which of its states is the best, and when nothing more is gained.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use colqwen_index_train::Error as TrainError;
use colqwen_index_train::data::{PageId, Question, TrainingData};
use colqwen_index_train::early_stop::{EarlyStop, Look};
use colqwen_index_train::encode::Encode;
use colqwen_index_train::maxsim::{MaxSim, Packed};
use colqwen_index_train::metrics::Judged;
use colqwen_index_train::trainer::{Ending, Source};
use colqwen_index_train::watch::{StepRecord, Verdict};

use super::run::Training;
use super::{LostPages, best_first};
use crate::Error;

/// Hits by which the state of a training is judged.
pub(super) const DEPTH: usize = 10;
/// Queries, and pages, that are encoded together.
const QUERIES_AT_ONCE: usize = 64;
const PAGES_AT_ONCE: usize = 4;

/// As [`Training::run`]; after each epoch the questions of `sets`, by the rankings that `rank` gives them, say how good the
/// parameters are. The run is complete when they say for some epochs that nothing was gained, and then the learner has the
/// parameters that were best, those to begin with included. Each set has the same weight; without questions nothing is asked.
pub(super) fn run<E: Encode, S: Source<Item = E::Item>>(
    training: Training<'_, E, S>,
    sets: &[Vec<&Question>],
    rank: impl Fn(&[&Question]) -> Result<Vec<Vec<PageId>>, Error>,
    mut observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<(Ending, Vec<StepRecord>), Error> {
    if sets.iter().all(Vec::is_empty) {
        return training.run(observe);
    }
    let Training { learner, out, options, batches, .. } = training;
    std::fs::create_dir_all(out).map_err(Error::io(out, "create it"))?;
    let mut early = EarlyStop::open(learner.parameters(), out, options.resume)?;
    let look = |epoch: u64, early: &mut EarlyStop<'_>| -> Result<ControlFlow<()>, Error> {
        if early.knows(epoch) {
            return Ok(ControlFlow::Continue(()));
        }
        let sets = sets.iter().map(|set| mean_ndcg(set, &rank)).collect::<Result<Vec<_>, Error>>()?;
        let asked: Vec<f64> = sets.iter().copied().flatten().collect();
        Ok(early.look(Look { epoch, ndcg: asked.iter().sum::<f64>() / asked.len() as f64, sets })?)
    };
    if !options.resume {
        let _ = look(0, &mut early)?;
    }
    let per_epoch = batches.per_epoch() as u64;
    let (mut failed, mut enough) = (None, false);
    let watched = |step: &StepRecord, verdict: Option<&Verdict>| {
        if observe(step, verdict).is_break() {
            return ControlFlow::Break(());
        }
        // The parameters are those after this step.
        if (step.step + 1).is_multiple_of(per_epoch) {
            match look((step.step + 1) / per_epoch, &mut early) {
                Ok(flow) => enough = flow.is_break(),
                Err(error) => failed = Some(error),
            }
        }
        if enough || failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (ending, steps) = training.run(watched)?;
    if let Some(error) = failed {
        return Err(error);
    }
    let ending = if enough { Ending::Complete } else { ending };
    if ending == Ending::Complete && !early.looks().is_empty() {
        early.restore()?;
    }
    Ok((ending, steps))
}

/// The mean nDCG@10 of questions; none of no questions.
fn mean_ndcg(
    set: &[&Question],
    rank: impl Fn(&[&Question]) -> Result<Vec<Vec<PageId>>, Error>,
) -> Result<Option<f64>, Error> {
    if set.is_empty() {
        return Ok(None);
    }
    let mut sum = 0.0;
    for (question, ranking) in set.iter().zip(rank(set)?) {
        sum += Judged::new(&ranking, question.positives.iter().map(|positive| &positive.page))?.ndcg(DEPTH);
    }
    Ok(Some(sum / set.len() as f64))
}

/// The questions of `sets` that have a positive, without those whose pages are lost.
pub(super) fn usable<'q>(sets: &'q [Vec<Question>], lost: &LostPages) -> Vec<Vec<&'q Question>> {
    let found = |question: &&Question| {
        let mut pages = question.positives.iter().map(|positive| &positive.page).peekable();
        pages.peek().is_some() && pages.all(|page| !lost.pages().contains_key(page))
    };
    sets.iter().map(|set| set.iter().filter(found).collect()).collect()
}

/// `data` with the questions of `sets`: what has to be found and prepared for both.
pub(super) fn with_questions<'d>(data: &'d TrainingData, sets: &[Vec<Question>]) -> Cow<'d, TrainingData> {
    if sets.is_empty() {
        return Cow::Borrowed(data);
    }
    let mut all = data.clone();
    all.questions.extend(sets.iter().flatten().cloned());
    Cow::Owned(all)
}

/// Ranks the pages that data name, answers and hard negatives, for questions: exactly, by what `infer` makes of them now.
pub(super) struct Ranked<'v, S, F> {
    source: &'v S,
    infer: F,
    pages: Vec<PageId>,
}

impl<'v, S: Source, F: Fn(&[S::Item]) -> Result<Packed, TrainError>> Ranked<'v, S, F> {
    /// Among the pages of `data` that are not lost.
    pub fn new(source: &'v S, infer: F, data: &TrainingData, lost: &LostPages) -> Self {
        let pages: BTreeSet<&PageId> =
            data.pages().into_iter().filter(|page| !lost.pages().contains_key(*page)).collect();
        Self { source, infer, pages: pages.into_iter().cloned().collect() }
    }

    /// The best pages for each question.
    pub fn rank(&self, questions: &[&Question]) -> Result<Vec<Vec<PageId>>, Error> {
        let encoded = |questions: &[&Question]| {
            let items = questions.iter().map(|question| self.source.query(&question.query));
            (self.infer)(&items.collect::<Result<Vec<_>, _>>()?)
        };
        let queries = questions.chunks(QUERIES_AT_ONCE).map(encoded).collect::<Result<Vec<_>, _>>()?;
        let queries = Packed::cat(&queries)?;
        let maxsim = MaxSim { per_token: false, ..MaxSim::default() };
        let mut scored: Vec<Vec<(f32, &PageId)>> = vec![Vec::with_capacity(self.pages.len()); questions.len()];
        for pages in self.pages.chunks(PAGES_AT_ONCE) {
            let items = pages.iter().map(|page| self.source.page(page)).collect::<Result<Vec<_>, _>>()?;
            let scores = maxsim.score(&queries, &(self.infer)(&items)?)?.scores;
            for (query, scored) in scored.iter_mut().enumerate() {
                scored.extend(scores.row(query).iter().copied().zip(pages));
            }
        }
        Ok(scored.into_iter().map(|scored| best_first(scored).take(DEPTH).cloned().collect()).collect())
    }
}
