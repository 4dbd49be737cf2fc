//! One training of the comparison: a loss, a batch, and a budget of CPU time.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use colqwen_index_train::encode::Encode;
use colqwen_index_train::grad_cache::GradCache;
use colqwen_index_train::optimiser::{AdamW, AdamWOptions};
use colqwen_index_train::watch::{StepRecord, Verdict, Watch};
use cpu_time::ProcessTime;
use serde::{Deserialize, Serialize};

use crate::held_out::HeldOut;
use crate::setup::{Loss, Setup};

/// Pages that are computed together: the gradient does not depend on it.
const MINI_BATCH: usize = 32;
/// Steps over which the learning rate rises, and the share of the budget over which it falls at the end.
const RISE: f64 = 10.0;
const FALL: f64 = 0.3;
const CLIP: f64 = 1.0;
/// Looks at the held-out pages after the first one, evenly over the budget. They do not count towards it.
const LOOKS: u32 = 8;

/// A line of the log.
#[derive(Serialize, Deserialize)]
pub struct Line {
    pub loss: Loss,
    pub batch: usize,
    /// CPU time of the training so far.
    pub cpu_seconds: f64,
    pub event: Event,
}

/// What a line tells.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step.
    Step(StepRecord),
    /// nDCG@5 on held-out pages after so many steps.
    HeldOut { steps: u64, ndcg_5: f64 },
    /// At the end: the interval of 95 %, and nDCG@5 of shuffled pages and of pages of unseen words.
    Controls { interval: [f64; 2], shuffled: f64, unseen: f64 },
    /// The watch sees another fault than a step before; an empty kind where it sees none any more.
    Verdict { steps: u64, kind: String, words: String },
}

/// A training to be run.
pub struct Cell {
    pub loss: Loss,
    pub batch: usize,
    pub seconds: f64,
    /// The highest learning rate.
    pub rate: f64,
    pub seed: u64,
}

impl Cell {
    /// Trains, and writes what happens to `out` line by line.
    pub fn train(&self, out: &mut impl Write) -> Result<()> {
        let setup = Setup::new(self.seed)?;
        let (held_out, unseen) = (HeldOut::new(&setup, false)?, HeldOut::new(&setup, true)?);
        let parameters = setup.network.parameters();
        let cache = GradCache { maxsim: self.loss.maxsim(), loss: self.loss.rule(), mini_batch: MINI_BATCH };
        let mut optimiser = AdamW::new(parameters, AdamWOptions { beta2: 0.98, ..AdamWOptions::default() })?;
        let (mut watch, mut said) = (Watch::default(), String::new());
        let (mut step, mut looks, mut used) = (0, 0, Duration::ZERO);
        let mut tell = |used: Duration, event| -> Result<()> {
            let line = Line { loss: self.loss, batch: self.batch, cpu_seconds: used.as_secs_f64(), event };
            Ok(writeln!(out, "{}", serde_json::to_string(&line)?)?)
        };
        loop {
            let share = used.as_secs_f64() / self.seconds;
            let last = share >= 1.0;
            if last || share * f64::from(LOOKS) >= f64::from(looks) {
                let ranked = held_out.rank(&setup)?;
                tell(used, Event::HeldOut { steps: step, ndcg_5: ranked.ndcg() })?;
                looks += 1;
                if last {
                    let (interval, shuffled) = (ranked.interval()?, ranked.shuffled_ndcg());
                    return tell(used, Event::Controls { interval, shuffled, unseen: unseen.rank(&setup)?.ndcg() });
                }
            }
            let began = ProcessTime::now();
            let inputs = setup.batch(self.batch, &[step])?;
            let mut learnt = cache.learn(&setup.network, inputs.batch(), step)?;
            let norm = learnt.gradients.clip(CLIP)?;
            let rate = self.rate * ((step + 1) as f64 / RISE).min(1.0) * ((1.0 - share) / FALL).min(1.0);
            optimiser.step(parameters, &learnt.gradients, rate)?;
            let record = StepRecord::of((step, 0), &learnt, &inputs.targets, norm, rate)?;
            used += began.elapsed();
            step += 1;
            let verdict = watch.observe(&record);
            tell(used, Event::Step(record))?;
            let kind = verdict.as_ref().map_or("", kind);
            if kind != said {
                let words =
                    verdict.map_or_else(|| "no fault is seen any more".to_owned(), |verdict| verdict.to_string());
                tell(used, Event::Verdict { steps: step, kind: kind.to_owned(), words })?;
                said = kind.to_owned();
            }
        }
    }
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::TokensCollapsed { .. } => "tokens collapsed",
        Verdict::PagesCollapsed { .. } => "pages collapsed",
        Verdict::Stalled { .. } => "nothing is being learnt",
        Verdict::TooShort { .. } => "too short",
        Verdict::Filtered { .. } => "filtered",
    }
}
