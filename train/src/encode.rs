//! What training asks of a model.

use candle_core::Var;

use crate::Error;
use crate::gradients::Gradients;
use crate::maxsim::Packed;

/// Which half of a pair is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// A query.
    Query = 0,
    /// A page.
    Page = 1,
}

/// Where a mini-batch stands in the training: all that its random numbers may depend on besides the seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The optimiser's step, from 0.
    pub step: u64,
    /// The row of the mini-batch's first item among all queries, or all pages, of the batch.
    pub first_row: u64,
}

/// A weight that is trained.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its value, in f32 whatever the model computes in.
    pub var: Var,
}

/// A model under training: items in, token vectors out, as a differentiable function of its parameters.
pub trait Encode: Sync {
    /// A query or page as the model takes it.
    type Item: Sync;

    /// The weights that are trained, always the same in the same order.
    fn parameters(&self) -> &[Parameter];

    /// The token vectors of `items`, with the graph that leads back to the parameters.
    ///
    /// The same items at the same place give the same vectors, and an item's vectors do not depend on the others of its
    /// mini-batch.
    ///
    /// # Errors
    /// An item that the model cannot take, or the device fails.
    fn encode(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error>;

    /// The token vectors of `items` without a graph. A model that needs less memory or time for these says so here; they
    /// must be those of [`Encode::encode`].
    ///
    /// # Errors
    /// As [`Encode::encode`].
    fn vectors(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error> {
        // Weights are tracked, so each mini-batch makes a graph; detached, it ends with the mini-batch.
        Ok(self.encode(items, side, place)?.detach())
    }

    /// Adds to `gradients` what the parameters owe to `items`, given `slopes`, the derivative of the loss by each of their
    /// token vectors, packed alike. Gives back the token vectors, which it needs anyway, without their graph.
    ///
    /// # Errors
    /// As [`Encode::encode`].
    fn lead(
        &self,
        items: &[Self::Item],
        side: Side,
        place: Place,
        slopes: &Packed,
        gradients: &mut Gradients,
    ) -> Result<Packed, Error> {
        let vectors = self.encode(items, side, place)?;
        // A number whose derivative by each token vector is the one that the whole batch gave it.
        let surrogate = (vectors.vectors() * slopes.vectors())?.sum_all()?;
        gradients.add(self.parameters(), &surrogate.backward()?)?;
        Ok(vectors.detach())
    }
}
