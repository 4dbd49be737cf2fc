//! Says in words when a training goes wrong, and what to change.

use std::collections::VecDeque;
use std::f64::consts::LN_2;
use std::fmt;

use super::StepRecord;

/// Steps that are looked at together.
const WINDOW: usize = 50;
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
            Self::Stalled { loss, no_learning, queries } => {
                write!(
                    f,
                    "nothing is being learnt: for {WINDOW} steps the loss has been {loss:.4}, and without learning it is \
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
                )
            }
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
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(step.clone());
        if self.last.len() < WINDOW {
            return None;
        }
        let mean = |of: fn(&StepRecord) -> f64| self.last.iter().map(of).sum::<f64>() / WINDOW as f64;
        let (tokens, pages) = (mean(|step| step.token_variance), mean(|step| step.page_variance));
        let (loss, no_learning) = (mean(|step| step.loss), mean(|step| step.no_learning));
        let (accuracy, chance) = (mean(|step| step.accuracy), mean(|step| step.chance));
        let share = mean(|step| step.suspects);
        if tokens < NO_VARIANCE {
            Some(Verdict::TokensCollapsed { variance: tokens })
        } else if pages < NO_VARIANCE {
            Some(Verdict::PagesCollapsed { variance: pages })
        } else if (loss - no_learning).abs() <= AT_NO_LEARNING * no_learning && accuracy < (2.0 * chance).min(0.9) {
            // A healthy run may pass the same loss, but with positives in front.
            Some(Verdict::Stalled { loss, no_learning, queries: mean(|step| step.queries as f64) })
        } else if share > MOSTLY_SUSPECTS {
            Some(Verdict::Filtered { share })
        } else {
            None
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
