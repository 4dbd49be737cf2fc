//! The stages of the training: what each looks at, what it learns from, and for how long.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use colqwen_index_train::optimiser::{AdamW, AdamWOptions};
use colqwen_index_train::random::{Purpose, Stream};
use serde_json::json;

use crate::crop::{CELL, Crop, Prepared, Query, Size, ask, draw};
use crate::memory::Memory;
use crate::network::Network;
use crate::pieces::Pieces;
use crate::render;
use crate::step::{Batch, Outcome, Weights};

/// Each begins with the weights of the one before and a fresh optimiser.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Stage {
    /// Letters in patches, small crops.
    Reading,
    /// Words in cells.
    Words,
    /// Words and queries on larger crops.
    Lines,
    /// Larger still.
    Blocks,
    /// As large as the tiles that pages are encoded in.
    Tiles,
}

/// What a stage consists of.
struct Plan {
    size: Size,
    crops: usize,
    queries: usize,
    longest: usize,
    rate: f64,
    steps: u64,
    weights: Weights,
    /// From which share of the steps on queries are told apart by MaxSim.
    maxsim_from: f64,
}

impl Stage {
    fn plan(self) -> Plan {
        let weights = |reading, localised, maxsim| Weights { reading, localised, maxsim, temperature: 0.03 };
        let size = |rows, columns| Size { rows, columns };
        match self {
            Self::Reading => Plan {
                size: size(2, 6),
                crops: 32,
                queries: 0,
                longest: 1,
                rate: 1.5e-3,
                steps: 1200,
                weights: weights(1.0, 0.0, 0.0),
                maxsim_from: 1.0,
            },
            Self::Words => Plan {
                size: size(2, 6),
                crops: 48,
                queries: 2,
                longest: 3,
                rate: 1e-3,
                steps: 2500,
                weights: weights(0.5, 1.0, 0.0),
                maxsim_from: 1.0,
            },
            Self::Lines => Plan {
                size: size(3, 8),
                crops: 48,
                queries: 3,
                longest: 4,
                rate: 8e-4,
                steps: 2500,
                weights: weights(0.3, 1.0, 0.5),
                maxsim_from: 0.6,
            },
            Self::Blocks => Plan {
                size: size(4, 16),
                crops: 16,
                queries: 8,
                longest: 4,
                rate: 6e-4,
                steps: 2800,
                weights: weights(0.2, 1.0, 0.5),
                maxsim_from: 0.0,
            },
            Self::Tiles => Plan {
                size: size(6, 16),
                crops: 11,
                queries: 12,
                longest: 4,
                rate: 3e-4,
                steps: 11_000,
                weights: weights(0.2, 1.0, 0.5),
                maxsim_from: 0.0,
            },
        }
    }
}

impl Size {
    /// Cells of a page that a tile of this size stands for.
    fn kept(self) -> usize {
        (self.rows - self.rows / 2) * (self.columns - SHARED_COLUMNS)
    }
}

impl Stage {
    /// The processor's option for pages in tiles somewhat taller than this stage's crops, which share half of their rows, what a
    /// line needs, and most of a word.
    pub fn tiles(self) -> serde_json::Value {
        let Size { rows, columns } = self.plan().size;
        let rows = rows + TALLER;
        json!({"rows": rows, "columns": columns, "shared_rows": rows / 2, "shared_columns": SHARED_COLUMNS})
    }
}

/// Rows that tiles have more than crops. With crops of 6 rows, pages set in words of the training were found with nDCG@5 .846 by tiles
/// of 6 rows, .855 by 8 in the same time, .431 by 10, more than the model knows (`small_checkpoint evaluate`); tiles of 7 that share 4
/// gave .849 and took a seventh longer.
const TALLER: usize = 2;
/// Columns that two tiles share: most of a word. More gained nothing.
const SHARED_COLUMNS: usize = 3;
/// Steps of the rise of the learning rate, and the share of all steps over which it falls at the end.
const WARMUP: u64 = 100;
const FALL: f64 = 0.3;
const CLIP: f64 = 1.0;
/// Steps after which it is said how long all of them will take.
const TIMED: u64 = 5;
/// Steps between two lines of the log, and between two looks at held-out pages with saved weights.
const LOG_EVERY: u64 = 20;
const JUDGE_EVERY: u64 = 200;
/// Held-out batches that are looked at, and those before whose cells they are told apart from as well.
const JUDGED: usize = 8;
const JUDGED_AMONG: usize = 16;

/// A stage to be trained.
pub struct Run {
    pub stage: Stage,
    pub steps: Option<u64>,
    pub rate: Option<f64>,
    pub threads: usize,
    pub seed: u64,
}

impl Run {
    /// Trains `network` on the first pages, judges it on the second, and writes its weights to `out`.
    pub fn train(&self, network: &Network, pieces: &Pieces, pages: [&[Prepared]; 2], out: &Path) -> Result<()> {
        let mut plan = self.stage.plan();
        plan.steps = self.steps.unwrap_or(plan.steps);
        plan.rate = self.rate.unwrap_or(plan.rate);
        let mut optimiser = AdamW::new(&network.parameters, AdamWOptions { beta2: 0.98, ..AdamWOptions::default() })?;
        let prompt: Vec<u32> = prompt(pieces);
        let gflop = Network::operations(plan.size) / 1e9;
        let tiles = render::PAGE_PIXELS / (CELL * CELL) as f64 / plan.size.kept() as f64;
        println!(
            "{} crops of {} x {} cells a step, {gflop:.2} GFLOP each forward; a page in such tiles {:.0} GFLOP; {} steps",
            plan.crops,
            plan.size.rows,
            plan.size.columns,
            gflop * tiles,
            plan.steps,
        );
        println!("{}", line("held out", 0, &self.judge(&plan, network, pages[1], &prompt)?, &[]));
        let began = Instant::now();
        for step in 0..plan.steps {
            let share = step as f64 / plan.steps as f64;
            let mut weights = plan.weights;
            if share < plan.maxsim_from {
                weights.maxsim = 0.0;
            }
            let (outcome, mut gradients) = self.one_batch(&plan, (0, step), pages[0], &prompt, |batch| {
                batch.learn(network, &weights, self.threads, true, None)
            })?;
            let norm = gradients.clip(CLIP)?;
            let rise = ((step + 1) as f64 / WARMUP as f64).min(1.0);
            let fall = ((1.0 - share) / FALL).min(1.0);
            optimiser.step(&network.parameters, &gradients, plan.rate * rise * fall)?;
            if step + 1 == TIMED {
                let hourly = 3600.0 * TIMED as f64 / began.elapsed().as_secs_f64();
                println!("{hourly:.0} steps an hour, {:.1} hours in all", plan.steps as f64 / hourly);
            }
            if (step + 1).is_multiple_of(LOG_EVERY) {
                let seconds = began.elapsed().as_secs_f64();
                let hourly = 3600.0 * (step + 1) as f64 / seconds;
                println!("{}", line("train", step + 1, &outcome, &[("norm", norm), ("steps_per_hour", hourly)]));
            }
            if (step + 1).is_multiple_of(JUDGE_EVERY) || step + 1 == plan.steps {
                println!("{}", line("held out", step + 1, &self.judge(&plan, network, pages[1], &prompt)?, &[]));
                network.save(out)?;
            }
        }
        Ok(())
    }

    /// What is made of held-out `pages`.
    fn judge(&self, plan: &Plan, network: &Network, pages: &[Prepared], prompt: &[u32]) -> Result<Outcome> {
        let weights = Weights { maxsim: plan.weights.localised, ..plan.weights };
        let mut memory = Memory::new(JUDGED_AMONG);
        let mut mean = Outcome::default();
        for round in 0..JUDGED_AMONG + JUDGED {
            let (outcome, _) = self.one_batch(plan, (1, round as u64), pages, prompt, |batch| {
                batch.learn(network, &weights, self.threads, false, Some(&mut memory))
            })?;
            if round >= JUDGED_AMONG {
                mean.add(&outcome, 1.0 / JUDGED as f64);
            }
        }
        Ok(mean)
    }

    /// Draws batch `key` and hands it to `work`.
    fn one_batch<O>(
        &self,
        plan: &Plan,
        key: (u64, u64),
        pages: &[Prepared],
        prompt: &[u32],
        work: impl FnOnce(&Batch<'_>) -> Result<O>,
    ) -> Result<O> {
        let stream =
            |row: usize| Stream::new(self.seed, Purpose::Choice, &[self.stage as u64, key.0, key.1, row as u64]);
        let mut streams: Vec<Stream> = (0..plan.crops).map(stream).collect();
        let crops: Vec<Crop> = streams.iter_mut().map(|stream| draw(pages, plan.size, stream)).collect();
        let queries: Vec<Query> = (streams.iter_mut().enumerate())
            .flat_map(|(at, stream)| ask(pages, &crops, at, plan.queries, plan.longest, stream))
            .collect();
        work(&Batch { pages, crops: &crops, queries: &queries, size: plan.size, prompt })
    }
}

/// What the page prompt has before the image.
fn prompt(pieces: &Pieces) -> Vec<u32> {
    let special = |name: &str| pieces.id(name).unwrap_or_default();
    let user = pieces.cut("user");
    [vec![special("<|im_start|>")], user, vec![special("<|vision_start|>")]].concat()
}

fn line(what: &str, step: u64, outcome: &Outcome, more: &[(&str, f64)]) -> serde_json::Value {
    let round = |value: f64| (value * 1e4).round() / 1e4;
    let mut line = json!({
        "what": what, "step": step, "reading": round(outcome.reading), "f1": round(outcome.f1),
        "localised": round(outcome.localised), "cell_accuracy": round(outcome.cell_accuracy),
        "maxsim": round(outcome.maxsim), "page_accuracy": round(outcome.page_accuracy)});
    for (name, value) in more {
        line[name] = json!(round(*value));
    }
    line
}
