//! Training the projection alone, on hidden states that were computed before.

use std::sync::Arc;

use candle_core::{D, Device, Tensor, Var};
use colqwen_index_ingest::colqwen2::HiddenStates;
use half::slice::HalfFloatSliceExt;

use crate::Error;
use crate::dropout::Dropout;
use crate::encode::{Encode, Parameter, Place, Side};
use crate::frozen::frozen_times_weight;
use crate::maxsim::Packed;
use crate::random::{Purpose, Stream};

/// The name of the weight, `dim x width`.
pub const WEIGHT: &str = "custom_text_proj.weight";
/// The name of the bias, `dim`.
pub const BIAS: &str = "custom_text_proj.bias";

/// The linear projection that makes token vectors of length 1 out of hidden states, under training.
#[derive(Debug)]
pub struct Projection {
    parameters: Vec<Parameter>,
    dropout: Dropout,
    width: usize,
    device: Device,
}

impl Projection {
    /// Goes on from `weight`, `dim x width`, and `bias`, `dim`, both f32, on the device that they are on. `dropout` drops
    /// hidden states.
    ///
    /// # Errors
    /// The shapes do not fit each other.
    pub fn new(weight: &Tensor, bias: &Tensor, dropout: Dropout) -> Result<Self, Error> {
        let (dim, width) = weight.dims2()?;
        if bias.dims() != [dim] {
            return Err(Error::shape("bias of the projection", format!("{dim} values"), format!("{:?}", bias.dims())));
        }
        let parameter = |name: &str, tensor: &Tensor| {
            // A copy, so that training never changes the model that the weights come from.
            Ok::<_, Error>(Parameter { name: name.to_owned(), var: Var::from_tensor(&tensor.copy()?)? })
        };
        let parameters = vec![parameter(WEIGHT, weight)?, parameter(BIAS, bias)?];
        Ok(Self { parameters, dropout, width, device: weight.device().clone() })
    }

    /// A new projection: uniform within `1 / sqrt(width)` on both sides of 0, as PyTorch begins a linear layer, but the same
    /// for the same seed everywhere.
    ///
    /// # Errors
    /// A size is 0.
    pub fn random(dim: usize, width: usize, seed: u64, dropout: Dropout) -> Result<Self, Error> {
        if dim == 0 || width == 0 {
            return Err(Error::shape("projection", "sizes from 1", format!("{dim} x {width}")));
        }
        let bound = 1.0 / (width as f64).sqrt();
        let mut stream = Stream::new(seed, Purpose::Weights, &[0]);
        let mut uniform =
            |count: usize| -> Vec<f32> { (0..count).map(|_| ((2.0 * stream.unit() - 1.0) * bound) as f32).collect() };
        let weight = Tensor::from_vec(uniform(dim * width), (dim, width), &Device::Cpu)?;
        Self::new(&weight, &Tensor::from_vec(uniform(dim), dim, &Device::Cpu)?, dropout)
    }

    /// The weight as it is now, `dim x width`.
    pub fn weight(&self) -> &Tensor {
        self.parameters[0].var.as_tensor()
    }

    /// The bias as it is now, `dim`.
    pub fn bias(&self) -> &Tensor {
        self.parameters[1].var.as_tensor()
    }

    /// The token vectors of pages or queries, with nothing dropped and without a graph.
    ///
    /// # Errors
    /// As [`Encode::encode`].
    pub fn infer(&self, items: &[Arc<HiddenStates>]) -> Result<Packed, Error> {
        let (states, lengths) = self.states(items)?;
        Ok(self.project(&states, &lengths)?.detach())
    }

    fn project(&self, states: &Tensor, lengths: &[usize]) -> Result<Packed, Error> {
        let x = frozen_times_weight(states, self.weight())?.broadcast_add(self.bias())?;
        let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        Packed::new(x.broadcast_div(&length)?, lengths)
    }

    /// All states of the items in f32, `tokens x width`, and the tokens of each.
    fn states(&self, items: &[Arc<HiddenStates>]) -> Result<(Tensor, Vec<usize>), Error> {
        if let Some(item) = items.iter().find(|item| item.width() != self.width) {
            let expected = format!("{} values per token, as the projection takes", self.width);
            return Err(Error::shape("hidden states", expected, item.width()));
        }
        let mut values = vec![0.0; items.iter().map(|item| item.values().len()).sum()];
        let mut rest = values.as_mut_slice();
        for item in items {
            let (own, after) = rest.split_at_mut(item.values().len());
            item.values().convert_to_f32_slice(own);
            rest = after;
        }
        let lengths: Vec<usize> = items.iter().map(|item| item.tokens()).collect();
        let shape = (lengths.iter().sum::<usize>(), self.width);
        Ok((Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(&self.device)?, lengths))
    }
}

impl Encode for Projection {
    type Item = Arc<HiddenStates>;

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn encode(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error> {
        let (states, lengths) = self.states(items)?;
        let states = self.dropout.apply(&states, &lengths, 0, side, place)?;
        self.project(&states, &lengths)
    }
}

#[cfg(test)]
mod tests {
    use colqwen_index_ingest::encoder::Encoder;

    use super::*;
    use crate::tiny::tiny;

    fn none() -> Dropout {
        Dropout::new(0.0, 0).unwrap()
    }

    #[test]
    fn vectors_are_those_of_the_model() {
        let model = tiny();
        let (weight, bias) = model.projection().unwrap();
        let projection = Projection::new(&weight, &bias, none()).unwrap();
        let texts = ["how is the filter cleaned", "x"];
        let hidden: Vec<_> = model.hidden_queries(&texts).unwrap().into_iter().map(Arc::new).collect();
        let found = projection.encode(&hidden, Side::Query, Place { step: 0, first_row: 0 }).unwrap();
        let found = found.values().unwrap();
        let expected: Vec<f32> =
            model.encode_queries(&texts).unwrap().iter().flat_map(|query| query.vectors.values().to_vec()).collect();
        assert_eq!(found.len(), expected.len());
        // What half precision of the hidden states costs.
        assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 2e-3));
    }

    #[test]
    fn a_new_projection_depends_on_its_seed_alone() {
        let values = |seed| {
            let projection = Projection::random(3, 16, seed, none()).unwrap();
            projection.weight().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(values(1), values(1));
        assert_ne!(values(1), values(2));
        assert!(values(1).iter().all(|value| value.abs() <= 0.25) && values(1).iter().any(|value| value.abs() > 0.1));
        assert!(Projection::random(0, 16, 1, none()).is_err());
        let projection = Projection::random(3, 16, 1, none()).unwrap();
        let other = Arc::new(HiddenStates::new(8, vec![half::f16::ONE; 8]).unwrap());
        let error = projection.encode(&[other], Side::Page, Place { step: 0, first_row: 0 }).unwrap_err().to_string();
        assert!(error.contains("16 values"), "{error}");
    }

    #[test]
    fn gradients_are_slopes_of_the_loss() {
        let projection = Projection::random(3, 4, 5, Dropout::new(0.2, 1).unwrap()).unwrap();
        let mut stream = Stream::new(1, Purpose::Choice, &[]);
        let mut item = |tokens: usize| {
            let values = (0..tokens * 4).map(|_| half::f16::from_f64(stream.normal())).collect();
            Arc::new(HiddenStates::new(4, values).unwrap())
        };
        let items = [item(3), item(2)];
        let slopes = Tensor::from_vec((0..15).map(|at| (at % 7) as f32 - 3.0).collect(), (5, 3), &Device::Cpu).unwrap();
        let place = Place { step: 2, first_row: 0 };
        let loss = || {
            let vectors = projection.encode(&items, Side::Page, place).unwrap();
            (vectors.vectors() * &slopes).unwrap().sum_all().unwrap()
        };
        let gradients = loss().backward().unwrap();
        for parameter in projection.parameters() {
            let at = parameter.var.as_tensor().copy().unwrap();
            let given: Vec<f32> =
                gradients.get(parameter.var.as_tensor()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            for (value, given) in given.iter().enumerate() {
                let moved = |by: f32| {
                    let mut values: Vec<f32> = at.flatten_all().unwrap().to_vec1().unwrap();
                    values[value] += by;
                    parameter.var.set(&Tensor::from_vec(values, at.shape(), &Device::Cpu).unwrap()).unwrap();
                    loss().to_scalar::<f32>().unwrap()
                };
                let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
                assert!((slope - given).abs() < 0.02 * (1.0 + given.abs()), "{}: {slope} {given}", parameter.name);
            }
            parameter.var.set(&at).unwrap();
        }
    }
}
