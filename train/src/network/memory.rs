//! How much memory a step needs, and how many pages may therefore go through the network at once.
//!
//! Counted are the large things, in values of the computation's number type (4 bytes in f32, 2 in bf16) per token or patch:
//!
//! - kept between the passes with checkpointing: what enters each part from the first that learns on;
//! - inside one part, while it is computed again: about [`LAYER_WIDE`] times the hidden size and [`MLP_WIDE`] times
//!   the width of the MLP per token, alike per patch in the vision tower. These count the tensors of the part's graph and
//!   of their gradients; attention needs no square of the tokens.
//!
//! Without checkpointing all parts from the first that learns on are inside at once.

use colqwen_index_ingest::colqwen2::Config;
use colqwen_index_ingest::colqwen2::pass::Part;

use super::{Lora, Network, Trained};
use crate::Error;
use crate::encode::Encode;

/// Tensors as wide as the hidden size that a layer of either tower holds at its peak: states, norms, queries, keys, values,
/// attention, their gradients and what these are made of. Measured, as is the next, by `train/tests/memory.rs`.
const LAYER_WIDE: usize = 33;
/// Tensors as wide as the MLP: its activations, what their derivatives are made of, and their gradients.
const MLP_WIDE: usize = 13;

/// The memory of a network under training, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footprint {
    /// Weights, and of those that learn also their gradients and the two moments of the optimiser.
    pub fixed: u64,
    /// What each page of a mini-batch adds.
    pub per_page: u64,
}

impl Footprint {
    /// The largest mini-batch for which `budget` bytes are enough, beside the token vectors of `batch` pages, `dim` values
    /// of `tokens` each.
    ///
    /// # Errors
    /// Not even one page fits.
    pub fn mini_batch(&self, budget: u64, batch: usize, tokens: usize, dim: usize) -> Result<usize, Error> {
        // Vectors and their gradients, f32, and once more while they are put together.
        let vectors = (batch * tokens * dim * 4 * 3) as u64;
        let needed = self.fixed + vectors;
        let pages = budget.saturating_sub(needed) / self.per_page.max(1);
        if pages == 0 {
            let received = format!("{budget}, with {needed} in use and {} more per page", self.per_page);
            return Err(Error::setting("memory in bytes", "enough for one page at a time", received));
        }
        Ok(usize::try_from(pages).unwrap_or(usize::MAX).min(batch.max(1)))
    }
}

impl Network {
    /// What training needs for pages of `patches` patches and `tokens` tokens.
    pub fn footprint(&self, patches: usize, tokens: usize) -> Footprint {
        let number = self.dtype.size_in_bytes();
        let frozen: usize = self.frozen.values().map(|tensor| tensor.elem_count() * number).sum();
        let learning: usize = self.parameters().iter().map(|parameter| parameter.var.elem_count()).sum();
        // Master, gradient and two moments in f32, and the master rounded for the computation.
        let narrow = if number == 4 { 0 } else { number };
        let fixed = frozen + learning * (4 * 4 + narrow);

        let shape = Shape { config: &self.config, patches, tokens };
        let learns = |part: &Part| *part >= self.first;
        let parts = shape.parts();
        let kept: usize = parts.iter().filter(|part| learns(part)).map(|part| shape.entry(*part)).sum();
        let inside = parts.iter().filter(|part| learns(part)).map(|part| shape.inside(*part, &self.trained));
        let inside = if self.checkpointing { inside.max().unwrap_or(0) } else { inside.sum() };
        // What goes forward without a graph needs no more than a part that learns, but may be larger than any of these.
        let still = parts.iter().map(|part| shape.inside(*part, &Trained::Projection) / 3).max().unwrap_or(0);
        let kept = if self.checkpointing { kept } else { 0 };
        let pixels = patches * self.config.vision.patch_dim();
        Footprint { fixed: fixed as u64, per_page: ((pixels + kept + inside.max(still)) * number) as u64 }
    }
}

/// Sizes of one page's states.
struct Shape<'a> {
    config: &'a Config,
    patches: usize,
    tokens: usize,
}

impl Shape<'_> {
    fn parts(&self) -> Vec<Part> {
        let blocks = (0..self.config.vision.depth).map(Part::Block);
        let layers = (0..self.config.text.num_layers).map(Part::Layer);
        let ends = [Part::Norm, Part::Projection];
        [Part::PatchEmbedding]
            .into_iter()
            .chain(blocks)
            .chain([Part::Merger, Part::Embedding])
            .chain(layers)
            .chain(ends)
            .collect()
    }

    /// Values that enter a part.
    fn entry(&self, part: Part) -> usize {
        let (vision, text) = (&self.config.vision, &self.config.text);
        match part {
            // Counted with the pixels.
            Part::PatchEmbedding => 0,
            Part::Block(_) | Part::Merger => self.patches * vision.embed_dim,
            Part::Embedding => self.patches / vision.merge_size.pow(2) * text.hidden_size,
            Part::Layer(_) | Part::Norm | Part::Projection => self.tokens * text.hidden_size,
        }
    }

    /// Values that a part holds while it goes there and back.
    fn inside(&self, part: Part, trained: &Trained) -> usize {
        let (vision, text) = (&self.config.vision, &self.config.text);
        // Updates keep what dropout left of their inputs, its mask, and a gradient.
        let dropped = match trained {
            Trained::Lora(Lora { dropout, .. }) if *dropout > 0.0 => 3,
            _ => 0,
        };
        let layer = |rows: usize, width: usize, mlp: usize| {
            rows * ((LAYER_WIDE + 5 * dropped) * width + (MLP_WIDE + dropped) * mlp)
        };
        match part {
            Part::PatchEmbedding => self.patches * (vision.patch_dim() + 2 * vision.embed_dim),
            Part::Block(_) => layer(self.patches, vision.embed_dim, vision.mlp_dim),
            Part::Merger => self.patches * vision.embed_dim * 8,
            Part::Layer(_) => layer(self.tokens, text.hidden_size, text.intermediate_size),
            Part::Embedding | Part::Norm | Part::Projection => self.tokens * text.hidden_size * 6,
        }
    }
}
