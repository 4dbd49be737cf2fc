//! Gradient checkpointing (Chen, Xu, Zhang & Guestrin, "Training deep nets with sublinear memory cost", 2016): the way
//! forward keeps what enters each part of the network and no graph; the way back computes one part again at a time.
//!
//! Each part has a graph of its own that ends before the next begins, so nothing of a part outlives it but the gradients.

use candle_core::{Tensor, Var};
use colqwen_index_ingest::colqwen2::ops::Ops;
use colqwen_index_ingest::colqwen2::pass::Part;

use super::Network;
use super::mini_batch::MiniBatch;
use crate::Error;
use crate::encode::Encode;
use crate::gradients::Gradients;

/// Adds the gradients of `network`'s parameters, given `slopes`, the derivative of the loss by each token vector; the token
/// vectors.
pub(super) fn lead(
    network: &Network,
    batch: &MiniBatch<'_>,
    slopes: &Tensor,
    gradients: &mut Gradients,
) -> Result<Tensor, Error> {
    let mut kept = entries(network, batch)?;
    let model = batch.learning()?;
    let pass = model.pass(&batch.input, Ops::Differentiable)?;
    let (mut slopes, mut vectors) = (slopes.clone(), None);
    while let Some((part, state)) = kept.pop() {
        let entry = Var::from_tensor(&state)?;
        let left = pass.step(part, entry.as_tensor())?;
        // A number whose derivative by each value that leaves the part is the one that the parts after it gave.
        vectors.get_or_insert_with(|| left.detach());
        let surrogate = (left * slopes)?.sum_all()?;
        let store = surrogate.backward()?;
        gradients.add(network.parameters(), &store)?;
        match store.get(entry.as_tensor()) {
            // Detached, or it would keep the graph that made it.
            Some(of_entry) => slopes = of_entry.detach(),
            // Texts have no parts before their embedding.
            None => break,
        }
    }
    // The last part is always there, as nothing comes after it.
    vectors.map_or_else(|| Ok(batch.still()?.forward(&batch.input, Ops::Fused)?), Ok)
}

/// What enters each part from the first that learns on.
fn entries(network: &Network, batch: &MiniBatch<'_>) -> Result<Vec<(Part, Tensor)>, Error> {
    let model = batch.still()?;
    let pass = model.pass(&batch.input, Ops::Fused)?;
    let mut state = pass.start()?;
    let mut kept = Vec::new();
    for part in pass.parts() {
        if part >= network.first {
            kept.push((part, state.clone()));
        }
        // What leaves the projection is known from the first pass.
        if part != Part::Projection {
            state = pass.step(part, &state)?;
        }
    }
    Ok(kept)
}
