//! One step: crops and queries through the model on several threads, the losses over all of them together, and back.

use std::thread;

use anyhow::{Result, anyhow};
use candle_core::{DType, Device, Tensor};
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::ops::Ops;
use colqwen_index_ingest::colqwen2::pass::{Part, Pass};
use colqwen_index_ingest::colqwen2::preprocess::Grid;
use colqwen_index_train::gradients::Gradients;
use colqwen_index_train::localised::Localised;
use colqwen_index_train::loss::{Kind, Loss};
use colqwen_index_train::maxsim::{MaxSim, Packed};
use colqwen_index_train::reading::Reading;
use colqwen_index_train::scores::{Cell, Targets};

use crate::crop::{CLASSES, Crop, PATCH, Prepared, Query, Size};
use crate::memory::{Memory, Prefixes};
use crate::network::Network;

/// How much a "yes" of the reading warm-up counts.
const YES: f32 = 4.0;
/// candle's backward pass recurses over the graph.
const STACK: usize = 1 << 28;

/// How much each loss counts.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    pub reading: f64,
    pub localised: f64,
    pub maxsim: f64,
    /// What similarities are divided by.
    pub temperature: f64,
}

/// What a step says of the model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub reading: f64,
    pub f1: f64,
    pub localised: f64,
    pub cell_accuracy: f64,
    pub maxsim: f64,
    pub page_accuracy: f64,
}

impl Outcome {
    /// Adds `share` of another batch's.
    pub fn add(&mut self, other: &Self, share: f64) {
        let pairs = [
            (&mut self.reading, other.reading),
            (&mut self.f1, other.f1),
            (&mut self.localised, other.localised),
            (&mut self.cell_accuracy, other.cell_accuracy),
            (&mut self.maxsim, other.maxsim),
            (&mut self.page_accuracy, other.page_accuracy),
        ];
        pairs.into_iter().for_each(|(sum, value)| *sum += share * value);
    }
}

/// The graph of one thread's share.
struct Share {
    logits: Option<Tensor>,
    reading: Option<Reading>,
    cells: Option<Tensor>,
    tokens: Option<Tensor>,
    lengths: Vec<usize>,
}

/// Crops and queries of a batch.
pub struct Batch<'a> {
    pub pages: &'a [Prepared],
    pub crops: &'a [Crop],
    pub queries: &'a [Query],
    pub size: Size,
    /// What stands before the image in the page prompt.
    pub prompt: &'a [u32],
}

impl Batch<'_> {
    fn pieces(&self, query: &Query) -> Vec<u32> {
        let runs = &self.pages[self.crops[query.crop].page].runs;
        query.runs.iter().flat_map(|run| runs[*run].pieces.iter().copied()).collect()
    }

    fn share(&self, network: &Network, crops: &[Crop], queries: &[Query], weights: &Weights) -> Result<Share> {
        let wants_cells = weights.localised > 0.0 || weights.maxsim > 0.0;
        let asked: Vec<Vec<u32>> = queries.iter().map(|query| self.pieces(query)).collect();
        let bound = network.bind(asked.iter().flatten().chain(self.prompt).copied())?;
        let grid = Grid { rows: 2 * self.size.rows, columns: 2 * self.size.columns };
        let pixels: Vec<f32> = crops.iter().flat_map(|crop| crop.pixels.iter().copied()).collect();
        let prompt = bound.translate(self.prompt);
        let page: Vec<u32> = [prompt.clone(), vec![bound.image; self.size.cells()]].concat();
        let pixels = Tensor::from_vec(pixels, (crops.len() * grid.patches(), 3 * PATCH * PATCH), &Device::Cpu)?;
        let input = ModelInput::images(vec![page; crops.len()], pixels, vec![grid; crops.len()]);
        let ops = Ops::Differentiable;
        let pass = bound.model.pass(&input, ops)?;
        let patches = states(&pass, pass.start()?, |part| part < Part::Merger)?;
        let mut share = Share { logits: None, reading: None, cells: None, tokens: None, lengths: Vec::new() };
        if weights.reading > 0.0 {
            let logits = bound.read(&patches)?;
            let letters: Vec<bool> = crops.iter().flat_map(|crop| crop.letters.iter().copied()).collect();
            anyhow::ensure!(letters.len() == crops.len() * grid.patches() * CLASSES, "letters of all patches");
            share.reading = Some(Reading::evaluate(&logits, &letters, YES)?);
            share.logits = Some(logits);
        }
        if wants_cells {
            let hidden = states(&pass, patches, |part| (Part::Merger..Part::Projection).contains(&part))?;
            let (tokens, cells) = (prompt.len() + self.size.cells(), self.size.cells());
            let hidden = hidden.reshape((crops.len(), tokens, hidden.dim(1)?))?.narrow(1, prompt.len(), cells)?;
            let hidden = hidden.contiguous()?.reshape((crops.len() * cells, hidden.dim(2)?))?;
            share.cells = Some(bound.model.project(&hidden)?);
        }
        if wants_cells && !queries.is_empty() {
            share.lengths = asked.iter().map(Vec::len).collect();
            // Queries of one length stand together, so that attention takes them at once.
            let mut order: Vec<usize> = (0..asked.len()).collect();
            order.sort_by_key(|query| share.lengths[*query]);
            let sequences = order.iter().map(|query| bound.translate(&asked[*query])).collect();
            let input = ModelInput::texts(sequences);
            let pass = bound.model.pass(&input, ops)?;
            let hidden = states(&pass, pass.start()?, |part| part < Part::Projection)?;
            let mut starts = vec![0; asked.len()];
            order.iter().fold(0, |at, query| {
                starts[*query] = at;
                at + share.lengths[*query]
            });
            let row = |query: usize| (0..share.lengths[query]).map(move |at| (query, at));
            let rows: Vec<u32> =
                (0..asked.len()).flat_map(row).map(|(query, at)| (starts[query] + at) as u32).collect();
            let rows = Tensor::from_slice(&rows, rows.len(), &Device::Cpu)?;
            share.tokens = Some(bound.model.project(&hidden.index_select(&rows, 0)?)?);
        }
        Ok(share)
    }

    /// The cells of all crops that show a run beginning with the same pieces.
    fn prefixes(&self) -> Prefixes<'_> {
        let mut prefixes = Prefixes::new();
        let cells = self.size.cells() as u32;
        for (at, crop) in (0u32..).zip(self.crops) {
            for (run, shown) in &crop.shown {
                let pieces = &self.pages[crop.page].runs[*run].pieces;
                for length in 1..=pieces.len() {
                    prefixes.entry(&pieces[..length]).or_default().extend(shown.iter().map(|cell| at * cells + cell));
                }
            }
        }
        prefixes
    }

    /// For each query token the pieces of its run up to itself.
    fn asked(&self) -> Vec<&[u32]> {
        let runs = |query: &Query| query.runs.iter().map(|run| (self.crops[query.crop].page, *run)).collect::<Vec<_>>();
        let pieces = |(page, run): (usize, usize)| {
            let pieces = &self.pages[page].runs[run].pieces;
            (1..=pieces.len()).map(move |length| &pieces[..length])
        };
        self.queries.iter().flat_map(runs).flat_map(pieces).collect()
    }

    /// Crops that show all that a query asks for are no negatives of it.
    fn targets(&self) -> Result<Targets> {
        let text = |crop: &Crop, run: usize| self.pages[crop.page].runs[run].text.as_str();
        let holds = |crop: &Crop, wanted: &str| crop.shown.iter().any(|(run, _)| text(crop, *run).contains(wanted));
        let mut cells = Vec::with_capacity(self.queries.len() * self.crops.len());
        for query in self.queries {
            let asked: Vec<&str> = query.runs.iter().map(|run| text(&self.crops[query.crop], *run)).collect();
            cells.extend(self.crops.iter().enumerate().map(|(at, crop)| match at {
                at if at == query.crop => Cell::Positive,
                _ if asked.iter().all(|wanted| holds(crop, wanted)) => Cell::Ignored,
                _ => Cell::Negative,
            }));
        }
        Ok(Targets::new(self.crops.len(), cells)?)
    }

    /// The losses of this batch and, where asked for, their gradient, with `threads` threads. `memory` has more cells, and
    /// keeps these.
    pub fn learn(
        &self,
        network: &Network,
        weights: &Weights,
        threads: usize,
        learns: bool,
        memory: Option<&mut Memory>,
    ) -> Result<(Outcome, Gradients)> {
        let each = self.crops.len().div_ceil(threads.max(1));
        let parts: Vec<(&[Crop], &[Query])> = self
            .crops
            .chunks(each)
            .enumerate()
            .map(|(part, crops)| {
                let first = self.queries.partition_point(|query| query.crop < part * each);
                let end = self.queries.partition_point(|query| query.crop < (part + 1) * each);
                (crops, &self.queries[first..end])
            })
            .collect();
        let shares = side_by_side(&parts, |(crops, queries)| self.share(network, crops, queries, weights))?;
        let mut outcome = Outcome::default();
        let count = shares.len() as f64;
        for reading in shares.iter().filter_map(|share| share.reading.as_ref()) {
            outcome.reading += reading.loss / count;
            outcome.f1 += reading.f1 / count;
        }
        let cat = |of: fn(&Share) -> Option<&Tensor>| -> Result<Option<Tensor>> {
            let parts: Vec<Tensor> = shares.iter().filter_map(of).map(Tensor::detach).collect();
            Ok(if parts.is_empty() { None } else { Some(Tensor::cat(&parts, 0)?) })
        };
        let (cells, tokens) = (cat(|share| share.cells.as_ref())?, cat(|share| share.tokens.as_ref())?);
        let mut slopes: Option<(Tensor, Tensor)> = None;
        if let (Some(cells), Some(tokens)) = (&cells, &tokens) {
            let (mut of_tokens, mut of_cells) = (tokens.zeros_like()?, cells.zeros_like()?);
            if weights.localised > 0.0 {
                let mut uncertain: Vec<bool> =
                    self.crops.iter().flat_map(|crop| crop.uncertain.iter().copied()).collect();
                let (prefixes, asked) = (self.prefixes(), self.asked());
                let mut shown: Vec<Vec<u32>> =
                    asked.iter().map(|pieces| prefixes.get(pieces).cloned().unwrap_or_default()).collect();
                let mut all = cells.clone();
                if let Some(memory) = memory {
                    all = memory.join(cells, &asked, &mut shown)?;
                    memory.keep(cells, &uncertain, &prefixes)?;
                    uncertain.resize(all.dim(0)?, false);
                }
                let found = Localised::evaluate(tokens, &all, &shown, &uncertain, weights.temperature as f32)?;
                (outcome.localised, outcome.cell_accuracy) = (found.loss, found.accuracy);
                of_tokens = (of_tokens + (found.tokens * weights.localised)?)?;
                of_cells = (of_cells + (found.cells.narrow(0, 0, cells.dim(0)?)? * weights.localised)?)?;
            }
            if weights.maxsim > 0.0 {
                let lengths: Vec<usize> = shares.iter().flat_map(|share| share.lengths.iter().copied()).collect();
                let queries = Packed::new(tokens.clone(), &lengths)?;
                let pages = Packed::new(cells.clone(), &vec![self.size.cells(); self.crops.len()])?;
                let maxsim = MaxSim::default();
                let scored = maxsim.score(&queries, &pages)?;
                let loss = Loss { temperature: weights.temperature, ..Loss::new(Kind::InfoNce) };
                let evaluated = loss.evaluate(&scored.scores, &self.targets()?)?;
                outcome.maxsim = evaluated.value;
                let right = self.queries.iter().enumerate().filter(|(at, query)| {
                    let row = scored.scores.row(*at);
                    row.iter().enumerate().all(|(page, score)| page == query.crop || *score < row[query.crop])
                });
                outcome.page_accuracy = right.count() as f64 / self.queries.len() as f64;
                let gradient = maxsim.backward(&queries, &pages, &scored, &evaluated.gradient)?;
                of_tokens = (of_tokens + (gradient.queries * weights.maxsim)?)?;
                of_cells = (of_cells + (gradient.pages * weights.maxsim)?)?;
            }
            slopes = Some((of_tokens, of_cells));
        }
        let mut gradients = Gradients::none(network.parameters.len());
        if !learns {
            return Ok((outcome, gradients));
        }
        // What each thread has to lead back: its part of the gradient of all token vectors.
        let (mut token, mut cell) = (0, 0);
        let mut work = Vec::new();
        for share in shares {
            let (tokens, cells) = (rows(&share.tokens)?, rows(&share.cells)?);
            let part = match &slopes {
                Some((of_tokens, of_cells)) => {
                    Some((of_tokens.narrow(0, token, tokens)?, of_cells.narrow(0, cell, cells)?))
                }
                None => None,
            };
            (token, cell) = (token + tokens, cell + cells);
            work.push((share, part));
        }
        let stores = side_by_side(&work, |(share, part)| {
            let mut surrogate = Tensor::zeros((), DType::F32, &Device::Cpu)?;
            if let (Some(logits), Some(reading)) = (&share.logits, &share.reading) {
                let led = ((logits * &reading.logits)?.sum_all()? * (weights.reading / count))?;
                surrogate = (surrogate + led)?;
            }
            if let Some((of_tokens, of_cells)) = part {
                if let Some(tokens) = &share.tokens {
                    surrogate = (surrogate + (tokens * of_tokens)?.sum_all()?)?;
                }
                if let Some(cells) = &share.cells {
                    surrogate = (surrogate + (cells * of_cells)?.sum_all()?)?;
                }
            }
            Ok(surrogate.backward()?)
        })?;
        for store in &stores {
            gradients.add(&network.parameters, store)?;
        }
        Ok((outcome, gradients))
    }
}

/// What the wanted parts of the network make of `x`, in their order.
fn states(pass: &Pass<'_>, x: Tensor, wanted: impl Fn(Part) -> bool) -> Result<Tensor> {
    let mut parts = pass.parts().into_iter().filter(|part| wanted(*part));
    Ok(parts.try_fold(x, |x, part| pass.step(part, &x))?)
}

fn rows(tensor: &Option<Tensor>) -> Result<usize> {
    Ok(match tensor {
        Some(tensor) => tensor.dim(0)?,
        None => 0,
    })
}

/// One thread for each item, in order.
fn side_by_side<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> Result<O> + Sync) -> Result<Vec<O>> {
    let work = &work;
    thread::scope(|scope| {
        let start = |item| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || work(item));
        let threads: Vec<_> = items.iter().map(start).collect::<std::io::Result<_>>()?;
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread stopped"))?).collect()
    })
}
