//! Dropout that can be played again.

use candle_core::{Device, Tensor};
use colqwen_index_ingest::colqwen2::derivative::with_derivative;

use crate::Error;
use crate::encode::{Place, Side};
use crate::random::{Purpose, Stream};

/// Drops activations with probability `rate` and scales the others by `1 / (1 - rate)` (Srivastava et al. 2014).
///
/// What is dropped depends on the seed, the step, the layer and the row of the batch alone, so that the second pass of
/// gradient caching drops what the first one dropped, whatever the mini-batches.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    rate: f64,
    seed: u64,
}

impl Dropout {
    /// Dropout of `rate`, from 0 up to, not including, 1.
    ///
    /// # Errors
    /// Another rate.
    pub fn new(rate: f64, seed: u64) -> Result<Self, Error> {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::setting("dropout", "a number from 0 up to, not including, 1", rate));
        }
        Ok(Self { rate, seed })
    }

    /// What is dropped in `layer` from the activations of items that have `lengths` tokens each.
    pub fn mask(&self, lengths: &[usize], layer: u64, side: Side, place: Place) -> Mask {
        Mask { dropout: *self, lengths: lengths.to_vec(), layer, side, place }
    }

    /// `x`, `tokens x width`, of items that have `lengths` tokens each, with some values dropped.
    ///
    /// # Errors
    /// The device fails.
    pub fn apply(&self, x: &Tensor, lengths: &[usize], layer: u64, side: Side, place: Place) -> Result<Tensor, Error> {
        Ok(self.mask(lengths, layer, side, place).apply(x)?)
    }

    fn fill(&self, mask: &mut Vec<f32>, mut stream: Stream, values: usize) {
        // 16 bits decide over a value: rates are met to 1 in 131,072.
        let dropped = (self.rate * 65_536.0).round() as u32;
        let kept = (65_536.0 / f64::from(65_536 - dropped.min(65_535))) as f32;
        let mut bytes = vec![0; values * 2];
        stream.fill(&mut bytes);
        mask.extend(
            bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| if u32::from(u16::from_le_bytes(*pair)) < dropped { 0.0 } else { kept }),
        );
    }
}

/// What one layer drops in one mini-batch.
#[derive(Clone, Debug)]
pub struct Mask {
    dropout: Dropout,
    lengths: Vec<usize>,
    layer: u64,
    side: Side,
    place: Place,
}

impl Mask {
    /// `x`, `tokens x width`, with some values dropped, and no gradient for those.
    ///
    /// # Errors
    /// `x` has other tokens than the items, or the device fails.
    pub fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if self.dropout.rate == 0.0 {
            return Ok(x.clone());
        }
        let width = x.dims().last().copied().unwrap_or_default();
        let mut mask = Vec::with_capacity(x.elem_count());
        for (row, length) in (self.place.first_row..).zip(&self.lengths) {
            let key = [self.place.step, self.layer, self.side as u64, row];
            self.dropout.fill(&mut mask, Stream::new(self.dropout.seed, Purpose::Dropout, &key), length * width);
        }
        let mask = Tensor::from_vec(mask, x.shape(), &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?;
        let kept = (x.detach() * &mask)?;
        with_derivative(x, kept, move |_, slope| slope * &mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_its_share_and_keeps_the_mean() {
        let ones = Tensor::ones((40, 100), candle_core::DType::F32, &Device::Cpu).unwrap();
        let place = Place { step: 3, first_row: 5 };
        let dropout = Dropout::new(0.25, 9).unwrap();
        let all = dropout.apply(&ones, &[10, 30], 0, Side::Page, place).unwrap();
        let values: Vec<f32> = all.flatten_all().unwrap().to_vec1().unwrap();
        let dropped = values.iter().filter(|value| **value == 0.0).count();
        assert!((900..1100).contains(&dropped), "{dropped}");
        assert!(values.iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
        // Row 6 alone drops what it dropped beside row 5.
        let alone = ones.narrow(0, 0, 30).unwrap();
        let alone = dropout.apply(&alone, &[30], 0, Side::Page, Place { step: 3, first_row: 6 }).unwrap();
        assert_eq!(alone.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values[1000..]);
        for (layer, side, step) in [(1, Side::Page, 3), (0, Side::Query, 3), (0, Side::Page, 4)] {
            let other = dropout.apply(&ones, &[10, 30], layer, side, Place { step, first_row: 5 }).unwrap();
            assert_ne!(other.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values);
        }
        assert!(Dropout::new(1.0, 0).is_err() && Dropout::new(f64::NAN, 0).is_err());
    }
}
