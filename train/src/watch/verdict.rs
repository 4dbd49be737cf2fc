//! Says in words when a training goes wrong, and what to change.

use std::collections::VecDeque;
use std::f64::consts::LN_2;
use std::fmt;

use super::StepRecord;

/// Steps that are looked at together.
const WINDOW: usize = 50;
/// With fewer steps a loss that stays where it is says that the run was short, not that it could not learn.
const ENOUGH: usize = 10;
/// How near, relatively, the mean loss must be to its value without learning.
const AT_NO_LEARNING: f64 = 0.02;
/// Below this, vectors of length 1 are all but equal.
const NO_VARIANCE: f64 = 1e-3;
/// From this share on, the filter leaves too little to learn from.
const MOSTLY_SUSPECTS: f64 = 0.5;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// All tokens of all pages have become the same.
    TokensCollapsed {
        /// Mean variance of the tokens.
        variance: f64,
    },
    /// Pages differ within themselves but not from each other.
    PagesCollapsed {
        /// Mean variance of the pages' means.
        variance: f64,
    },
    /// The loss stays where it is without learning.
    Stalled {
        /// Mean loss.
        loss: f64,
        /// Its value without learning.
        no_learning: f64,
        /// Mean number of queries in a batch.
        queries: f64,
        /// Steps that were looked at.
        steps: usize,
    },
    /// The run is over, its loss is no better than without learning, and its steps were too few to tell why.
    TooShort {
        /// Mean loss.
        loss: f64,
        /// Its value without learning.
        no_learning: f64,
        /// Mean number of queries in a batch.
        queries: f64,
        /// Steps of the run.
        steps: usize,
    },
    /// The filter takes most negatives for unlabelled positives.
    Filtered {
        /// The share it takes.
        share: f64,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokensCollapsed { variance } => write!(
                f,
                "the embeddings have collapsed: all page tokens are the same (variance {variance:.1e}). Begin again from \
                 earlier weights with a lower learning rate or a longer warm-up, and a larger batch with InfoNCE"
            ),
            Self::PagesCollapsed { variance } => write!(
                f,
                "the embeddings have collapsed: all pages are the same (variance of their means {variance:.1e}). Begin again \
                 from earlier weights with a lower learning rate or a longer warm-up, and a larger batch with InfoNCE"
            ),
            Self::Stalled { loss, no_learning, queries, steps } => {
                write!(
                    f,
                    "nothing is being learnt: for {steps} steps the loss has been {loss:.4}, and without learning it is \
                     {no_learning:.4}"
                )?;
                if (no_learning - LN_2).abs() < 1e-9 && *queries > 2.5 {
                    write!(f, " (ln 2: positive and hardest negative score the same). Use InfoNCE")?;
                } else {
                    write!(f, ". Use InfoNCE at temperature 0.02")?;
                }
                write!(
                    f,
                    " with 128 or more queries per batch (now {queries:.0}): gradient caching needs no more memory for them. \
                     If that is so already, change the learning rate"
                )?;
                if *steps < WINDOW {
                    write!(f, ". Or the run was too short: more epochs, or fewer queries per batch, make more steps")?;
                }
                Ok(())
            }
            Self::TooShort { loss, no_learning, queries, steps } => write!(
                f,
                "the run is over after {steps} steps, and its loss is no better than without learning: {loss:.4} for \
                 {no_learning:.4}. More epochs, or fewer queries per batch (now {queries:.0}), make more steps; a loss that \
                 rises from step to step wants a lower learning rate instead"
            ),
            Self::Filtered { share } => write!(
                f,
                "the filter takes {:.0} % of the in-batch negatives for unlabelled positives, so that the loss is low without \
                 learning. Switch the filter on only when the model ranks well already",
                share * 100.0
            ),
        }
    }
}

/// Looks at the last 50 steps.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    last: VecDeque<StepRecord>,
}

impl Watch {
    /// Takes a step into account and says what is wrong, once the window is full.
    pub fn observe(&mut self, step: &StepRecord) -> Option<Verdict> {
        self.remember(step);
        if self.last.len() == WINDOW { self.judge(0, None) } else { None }
    }

    /// Takes the last step of a run into account and says what is wrong. Of a run that never filled the window the second
    /// half counts: what the first steps show is the model that it began with.
    pub fn conclude(&mut self, step: &StepRecord) -> Option<Verdict> {
        self.remember(step);
        let steps = self.last.len();
        if steps == WINDOW { self.judge(0, None) } else { self.judge(steps / 2, Some(steps)) }
    }

    fn remember(&mut self, step: &StepRecord) {
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(step.clone());
    }

    /// Judges the steps from the `first` on; `whole` is the length of a short run that is over.
    fn judge(&self, first: usize, whole: Option<usize>) -> Option<Verdict> {
        let steps = self.last.len() - first;
        let mean = |of: fn(&StepRecord) -> f64| self.last.iter().skip(first).map(of).sum::<f64>() / steps as f64;
        let (tokens, pages) = (mean(|step| step.token_variance), mean(|step| step.page_variance));
        let (loss, no_learning) = (mean(|step| step.loss), mean(|step| step.no_learning));
        let (accuracy, chance) = (mean(|step| step.accuracy), mean(|step| step.chance));
        let (share, queries) = (mean(|step| step.suspects), mean(|step| step.queries as f64));
        // A healthy run may pass the loss that it has without learning, but with positives in front.
        let behind = accuracy < (2.0 * chance).min(0.9);
        let at_no_learning = (loss - no_learning).abs() <= AT_NO_LEARNING * no_learning;
        let enough = whole.is_none_or(|steps| steps >= ENOUGH);
        // Untrained scores are far apart at a low temperature: a loss above that value, and by luck some positives in front.
        let mostly_behind = accuracy < (2.0 * chance).clamp(0.5, 0.9);
        match whole {
            _ if tokens < NO_VARIANCE => Some(Verdict::TokensCollapsed { variance: tokens }),
            _ if pages < NO_VARIANCE => Some(Verdict::PagesCollapsed { variance: pages }),
            // Before the loss, which is where it is without learning when nothing is left to learn from.
            _ if share > MOSTLY_SUSPECTS => Some(Verdict::Filtered { share }),
            _ if behind && at_no_learning && enough => Some(Verdict::Stalled { loss, no_learning, queries, steps }),
            Some(steps) if mostly_behind && loss >= (1.0 - AT_NO_LEARNING) * no_learning => {
                Some(Verdict::TooShort { loss, no_learning, queries, steps })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> StepRecord {
        StepRecord {
            step: 0,
            epoch: 0,
            queries: 32,
            pages: 32,
            loss: 0.5,
            no_learning: LN_2,
            margin: 0.1,
            accuracy: 0.9,
            chance: 1.0 / 32.0,
            token_variance: 0.6,
            page_variance: 0.1,
            gradient_norm: 1.0,
            learning_rate: 1e-3,
            suspects: 0.0,
        }
    }

    fn verdict(step: StepRecord) -> Option<Verdict> {
        let mut watch = Watch::default();
        assert!((0..WINDOW - 1).all(|_| watch.observe(&step).is_none()));
        watch.observe(&step)
    }

    #[test]
    fn each_failure_is_named_and_a_healthy_run_is_not() {
        assert_eq!(verdict(step()), None);
        let stalled = StepRecord { loss: 0.694, accuracy: 0.04, ..step() };
        let words = verdict(stalled.clone()).unwrap().to_string();
        assert!(words.contains("0.6931") && words.contains("ln 2") && words.contains("now 32"), "{words}");
        // The same loss with positives in front is learning.
        assert_eq!(verdict(StepRecord { loss: 0.694, accuracy: 0.8, ..step() }), None);
        let info_nce = verdict(StepRecord { no_learning: 32f64.ln(), loss: 3.46, accuracy: 0.03, ..step() }).unwrap();
        assert!(info_nce.to_string().contains("3.4657") && !info_nce.to_string().contains("ln 2"));
        let words = |step| verdict(step).unwrap().to_string();
        assert!(words(StepRecord { token_variance: 1e-5, ..stalled.clone() }).contains("all page tokens are the same"));
        assert!(words(StepRecord { page_variance: 1e-5, ..stalled }).contains("all pages are the same"));
        assert!(words(StepRecord { suspects: 0.8, loss: 0.0, ..step() }).contains("80 %"));
        // Nothing is left of the loss when all negatives are suspects.
        let nothing = StepRecord { suspects: 1.0, loss: 0.0, no_learning: 0.0, accuracy: 0.0, ..step() };
        assert!(words(nothing).contains("100 %"));
    }

    /// The verdict at the end of a run of these steps.
    fn at_the_end(steps: &[StepRecord]) -> Option<Verdict> {
        let mut watch = Watch::default();
        let (last, before) = steps.split_last().unwrap();
        assert!(before.iter().all(|step| watch.observe(step).is_none()), "judged before its end");
        watch.conclude(last)
    }

    #[test]
    fn a_short_run_is_judged_at_its_end() {
        let healthy = step();
        let stalled = StepRecord { loss: 0.694, accuracy: 0.04, ..step() };
        let info_nce = StepRecord { no_learning: 32f64.ln(), loss: 3.46, ..stalled.clone() };
        for steps in [1, 9, ENOUGH, WINDOW - 1] {
            assert_eq!(at_the_end(&vec![healthy.clone(); steps]), None, "{steps}");
            let collapsed = StepRecord { page_variance: 1e-5, ..stalled.clone() };
            let words = at_the_end(&vec![collapsed; steps]).unwrap().to_string();
            assert!(words.contains("all pages are the same") && words.contains("lower learning rate"), "{words}");
        }
        for (step, value) in [(&stalled, "0.6931"), (&info_nce, "3.4657")] {
            for steps in [1, ENOUGH - 1] {
                let verdict = at_the_end(&vec![step.clone(); steps]).unwrap();
                assert!(matches!(verdict, Verdict::TooShort { steps: whole, .. } if whole == steps), "{verdict:?}");
                let words = verdict.to_string();
                assert!(
                    words.contains(value) && words.contains("More epochs") && words.contains("(now 32)"),
                    "{words}"
                );
            }
            for steps in [ENOUGH, WINDOW - 1] {
                let verdict = at_the_end(&vec![step.clone(); steps]).unwrap();
                let words = verdict.to_string();
                assert!(matches!(verdict, Verdict::Stalled { .. }), "{steps}: {verdict:?}");
                assert!(
                    words.contains(value) && words.contains("128 or more") && words.contains("more epochs"),
                    "{words}"
                );
            }
        }
        // With a full window the end is judged as any other step is.
        let words = at_the_end(&vec![stalled; WINDOW]).unwrap().to_string();
        assert!(words.contains("for 50 steps") && !words.contains("epochs"), "{words}");
    }

    #[test]
    fn the_second_half_of_a_short_run_counts() {
        let (healthy, stalled) = (step(), StepRecord { loss: LN_2, accuracy: 0.0, ..step() });
        let run = |first: &StepRecord, then: &StepRecord| [vec![first.clone(); 10], vec![then.clone(); 10]].concat();
        assert_eq!(at_the_end(&run(&stalled, &healthy)), None);
        assert!(matches!(at_the_end(&run(&healthy, &stalled)), Some(Verdict::Stalled { steps: 10, .. })));
        // On its way down, but not there yet: neither stalled nor learnt.
        let above = StepRecord { loss: 1.5 * LN_2, accuracy: 0.1, ..stalled };
        assert!(matches!(at_the_end(&run(&above, &above)), Some(Verdict::TooShort { steps: 20, .. })));
        let in_front = StepRecord { accuracy: 0.8, ..above.clone() };
        assert_eq!(at_the_end(&run(&above, &in_front)), None);
    }

    #[test]
    fn old_steps_are_forgotten() {
        let mut watch = Watch::default();
        let stalled = StepRecord { loss: LN_2, accuracy: 0.0, ..step() };
        let words: Vec<_> = (0..WINDOW).map(|_| watch.observe(&stalled)).collect();
        assert!(words[WINDOW - 2].is_none() && words[WINDOW - 1].is_some());
        let words: Vec<_> = (0..WINDOW).map(|_| watch.observe(&step())).collect();
        assert!(words[0].is_some() && words[WINDOW - 1].is_none());
    }
}
