//! Questions that a training does not learn from: they say which of its states is the best, and when nothing more is gained.

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

use super::LostPages;
use super::run::Training;
use crate::Error;

/// Hits by which the state of a training is judged.
pub(super) const DEPTH: usize = 10;
/// Queries, and pages, that are encoded together.
const QUERIES_AT_ONCE: usize = 64;
const PAGES_AT_ONCE: usize = 4;

/// nDCG@10 of the parameters as they are.
pub(super) type Validate<'v> = dyn Fn() -> Result<f64, Error> + 'v;

/// The token vectors of pages or queries as the model under training gives them now.
pub(super) type Infer<'v, I> = dyn Fn(&[I]) -> Result<Packed, TrainError> + 'v;

/// As [`Training::run`]; after each epoch `validate` says how good the parameters are. The run is complete when it says for
/// some epochs that nothing was gained, and then the learner has the parameters that were best, those to begin with included.
pub(super) fn run<E: Encode, S: Source<Item = E::Item>>(
    training: Training<'_, E, S>,
    validate: Option<&Validate<'_>>,
    mut observe: impl FnMut(&StepRecord, Option<&Verdict>) -> ControlFlow<()>,
) -> Result<(Ending, Vec<StepRecord>), Error> {
    let Some(validate) = validate else { return training.run(observe) };
    let Training { learner, out, options, batches, .. } = training;
    std::fs::create_dir_all(out).map_err(Error::io(out, "create it"))?;
    let mut early = EarlyStop::open(learner.parameters(), out, options.resume)?;
    let look = |epoch: u64, early: &mut EarlyStop<'_>| -> Result<ControlFlow<()>, Error> {
        if early.knows(epoch) {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(early.look(Look { epoch, ndcg: validate()? })?)
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

/// The mean over the sets of the mean nDCG@10 of their questions, by the ranking that `rank` gives for each; sets without questions
/// say nothing.
pub(super) fn mean_ndcg(
    sets: &[Vec<&Question>],
    mut rank: impl FnMut(&[&Question]) -> Result<Vec<Vec<PageId>>, Error>,
) -> Result<f64, Error> {
    let mut means = 0.0;
    for set in sets {
        let mut sum = 0.0;
        for (question, ranking) in set.iter().zip(rank(set)?) {
            sum += Judged::new(&ranking, question.positives.iter().map(|positive| &positive.page))?.ndcg(DEPTH);
        }
        means += sum / set.len() as f64;
    }
    Ok(means / sets.len().max(1) as f64)
}

/// The questions of `sets` that have a positive, without those whose pages are lost.
pub(super) fn usable<'q>(sets: &'q [Vec<Question>], lost: &LostPages) -> Vec<Vec<&'q Question>> {
    let found = |question: &&Question| {
        let mut pages = question.positives.iter().map(|positive| &positive.page).peekable();
        pages.peek().is_some() && pages.all(|page| !lost.pages().contains_key(page))
    };
    let sets = sets.iter().map(|set| set.iter().filter(found).collect::<Vec<_>>());
    sets.filter(|set| !set.is_empty()).collect()
}

/// `data` with the questions of `sets`: what has to be found and prepared for both.
pub(super) fn with_questions(data: &TrainingData, sets: &[Vec<Question>]) -> TrainingData {
    let mut all = data.clone();
    all.questions.extend(sets.iter().flatten().cloned());
    all
}

/// Ranks the pages that data name, answers and hard negatives, for questions: exactly, by what `infer` makes of them now.
pub(super) struct Ranked<'v, S: Source> {
    pub source: &'v S,
    pub infer: &'v Infer<'v, S::Item>,
    pub pages: Vec<PageId>,
}

impl<'v, S: Source> Ranked<'v, S> {
    /// Among the pages of `data` that are not lost.
    pub fn new(source: &'v S, infer: &'v Infer<'v, S::Item>, data: &TrainingData, lost: &LostPages) -> Self {
        let pages: BTreeSet<&PageId> =
            data.pages().into_iter().filter(|page| !lost.pages().contains_key(*page)).collect();
        Self { source, infer, pages: pages.into_iter().cloned().collect() }
    }

    /// The best pages for each question.
    pub fn rank(&self, questions: &[&Question]) -> Result<Vec<Vec<PageId>>, Error> {
        let mut queries = Vec::new();
        for questions in questions.chunks(QUERIES_AT_ONCE) {
            let items =
                questions.iter().map(|question| self.source.query(&question.query)).collect::<Result<Vec<_>, _>>()?;
            queries.push((self.infer)(&items)?);
        }
        let maxsim = MaxSim { per_token: false, ..MaxSim::default() };
        let mut scored: Vec<Vec<(f32, &PageId)>> = vec![Vec::with_capacity(self.pages.len()); questions.len()];
        for pages in self.pages.chunks(PAGES_AT_ONCE) {
            let items = pages.iter().map(|page| self.source.page(page)).collect::<Result<Vec<_>, _>>()?;
            let vectors = (self.infer)(&items)?;
            let mut first = 0;
            for queries in &queries {
                let scores = maxsim.score(queries, &vectors)?.scores;
                let count = scores.queries();
                for (row, scored) in scored[first..first + count].iter_mut().enumerate() {
                    scored.extend(scores.row(row).iter().copied().zip(pages));
                }
                first += count;
            }
        }
        // Of equal pages the first by its id, so that the outcome depends on nothing else.
        let best = |mut scored: Vec<(f32, &PageId)>| {
            scored.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(other.1)));
            scored.into_iter().take(DEPTH).map(|(_, page)| page.clone()).collect()
        };
        Ok(scored.into_iter().map(best).collect())
    }
}
