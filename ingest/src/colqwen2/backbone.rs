//! The model without its projection: what projection training computes once and keeps.

use candle_core::{DType, Device, Tensor};
use colqwen_index_field::{Fingerprint, MultiVector, UnitLength};
use half::f16;
use half::slice::HalfFloatSliceExt;
use image::RgbImage;
use rayon::prelude::*;

use super::ColQwen2;
use super::fingerprint::digest;
use super::model::ModelInput;
use super::weights::{MappedWeight, WeightSource};
use crate::encoder::EncoderError;

/// Tensors with this prefix are the projection's.
pub(super) const PROJECTION: &str = "custom_text_proj.";
/// Tensors with this prefix are the vision tower's and its merger's.
const VISION: &str = "visual.";

/// The states of one page or query after the language model's final norm, `tokens x width` in half precision.
#[derive(Clone, PartialEq, Debug)]
pub struct HiddenStates {
    width: usize,
    values: Vec<f16>,
}

impl HiddenStates {
    /// Wraps `values`, `tokens x width` row by row.
    ///
    /// # Errors
    /// There is no token, or the number of values is not a multiple of `width`.
    pub fn new(width: usize, values: Vec<f16>) -> Result<Self, EncoderError> {
        if width == 0 || values.is_empty() || !values.len().is_multiple_of(width) {
            return Err(EncoderError::Input {
                what: "hidden states",
                expected: format!("rows of {width} values, at least one"),
                received: format!("{} values", values.len()),
            });
        }
        Ok(Self { width, values })
    }

    /// Values per token.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.values.len() / self.width
    }

    /// `tokens x width` values, row by row.
    pub fn values(&self) -> &[f16] {
        &self.values
    }
}

impl ColQwen2 {
    /// The identity of everything that hidden states depend on: all weights but the projection's, in their number types,
    /// and the files beside them. Neither the names nor the sharding of the checkpoint's files are part of it, so that a
    /// checkpoint saved with another projection has the same backbone.
    ///
    /// Reads all weights.
    pub fn backbone_fingerprint(&self) -> Fingerprint {
        self.fingerprint_of("backbone", |name| !name.starts_with(PROJECTION))
    }

    /// The identity of everything that [`ColQwen2::merged_pages`] depends on, as [`ColQwen2::backbone_fingerprint`].
    pub fn vision_fingerprint(&self) -> Fingerprint {
        self.fingerprint_of("vision tower", |name| name.starts_with(VISION))
    }

    fn fingerprint_of(&self, domain: &str, part: impl Fn(&str) -> bool) -> Fingerprint {
        let tensors: Vec<_> = self.checkpoint.tensors().filter(|(name, ..)| part(name)).collect();
        let digests: Vec<Fingerprint> = tensors.par_iter().map(|(_, _, weight)| weight_digest(weight)).collect();
        let weights = tensors.iter().zip(&digests).map(|((name, ..), digest)| (*name, digest.as_bytes().as_slice()));
        let setup = ("setup", self.setup.as_bytes().as_slice());
        Fingerprint::of_parts(std::iter::once(("domain", domain.as_bytes())).chain([setup]).chain(weights))
    }

    /// Values per token of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.model.config().text.hidden_size
    }

    /// The projection as it is: the weight, `dim x hidden_size`, and the bias, `dim`, in f32 on the CPU.
    ///
    /// # Errors
    /// None that a model that was loaded could meet, except a failure of the tensor library.
    pub fn projection(&self) -> Result<(Tensor, Tensor), EncoderError> {
        let (dim, width) = (self.model.dim(), self.hidden_size());
        let place = |tensor: Tensor| tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu);
        let weight = self.checkpoint.tensor("custom_text_proj.weight", &[dim, width])?;
        Ok((place(weight)?, place(self.checkpoint.tensor("custom_text_proj.bias", &[dim])?)?))
    }

    /// The token vectors of `states`, `tokens x dim`, each of length 1.
    pub(super) fn project_states(&self, states: &HiddenStates) -> Result<MultiVector, EncoderError> {
        if states.width() != self.hidden_size() {
            return Err(EncoderError::Input {
                what: "hidden states",
                expected: format!("{} values per token", self.hidden_size()),
                received: states.width().to_string(),
            });
        }
        let shape = (states.tokens(), states.width());
        let device = self.model.device();
        let hidden = Tensor::from_slice(states.values(), shape, &Device::Cpu)?.to_dtype(self.model.dtype)?;
        let vectors = self.model.project(&hidden.to_device(device)?)?.to_dtype(DType::F32)?;
        let values = vectors.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        Ok(MultiVector::try_new(self.model.dim(), values, UnitLength::Require)?)
    }

    /// The hidden states of page images, in order. A batch gives what single pages give.
    ///
    /// # Errors
    /// An image the model cannot take, or a failure of the device.
    pub fn hidden_pages(&self, pages: &[RgbImage]) -> Result<Vec<HiddenStates>, EncoderError> {
        let batch = if self.page_per_core { 1 } else { self.pages_per_batch };
        let hidden = |(at, pages): (usize, &[RgbImage])| match self.preprocessor.tiling() {
            Some(tiling) => {
                let tiled = |(at, page)| {
                    let (states, _) = self.tiled_states(tiling, at, page)?;
                    Ok(half(&states, &[states.dim(0)?])?.remove(0))
                };
                (at * batch..).zip(pages).map(tiled).collect()
            }
            None => self.hidden(&self.page_input_from(at * batch, pages)?),
        };
        let batches: Vec<Vec<HiddenStates>> = if self.page_per_core {
            pages.par_chunks(batch).enumerate().map(hidden).collect::<Result<_, _>>()?
        } else {
            pages.chunks(batch).enumerate().map(hidden).collect::<Result<_, _>>()?
        };
        Ok(batches.into_iter().flatten().collect())
    }

    /// What the vision tower leaves of pages, in order, each with the input that [`ColQwen2::page_input`] made of it: merged
    /// patches x hidden_size in half precision, for [`Image::Merged`](super::model::Image::Merged).
    ///
    /// # Errors
    /// As [`ColQwen2::hidden_pages`].
    pub fn merged_pages(&self, pages: &[ModelInput]) -> Result<Vec<HiddenStates>, EncoderError> {
        let merged = |page: &ModelInput| {
            let states = self.model.merged(page, self.ops)?;
            Ok(half(&states, &[states.dim(0)?])?.remove(0))
        };
        if self.page_per_core { pages.par_iter().map(merged).collect() } else { pages.iter().map(merged).collect() }
    }

    /// The hidden states of query texts, in order. A batch gives what single queries give.
    ///
    /// # Errors
    /// The tokenizer refuses a text, or a failure of the device.
    pub fn hidden_queries(&self, queries: &[&str]) -> Result<Vec<HiddenStates>, EncoderError> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        self.hidden(&self.query_input(queries)?)
    }

    fn hidden(&self, input: &ModelInput) -> Result<Vec<HiddenStates>, EncoderError> {
        let lengths: Vec<usize> = input.sequences.iter().map(Vec::len).collect();
        half(&self.model.hidden(input, self.ops)?, &lengths)
    }
}

/// States of sequences of `lengths` tokens, tokens x width, in half precision.
pub(super) fn half(states: &Tensor, lengths: &[usize]) -> Result<Vec<HiddenStates>, EncoderError> {
    let width = states.dim(1)?;
    let values: Vec<f32> = states.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    let mut rest = values.as_slice();
    let items = lengths.iter().map(|length| {
        let (item, after) = rest.split_at(length * width);
        rest = after;
        let mut halves = vec![f16::ZERO; item.len()];
        halves.convert_from_f32_slice(item);
        HiddenStates::new(width, halves)
    });
    items.collect()
}

fn weight_digest(weight: &MappedWeight) -> Fingerprint {
    let shape: Vec<u8> = weight.shape.iter().flat_map(|side| (*side as u64).to_le_bytes()).collect();
    let bytes = digest(&weight.file[weight.range.clone()]);
    let number = format!("{:?}", weight.number);
    let update = weight.update.as_ref().map(|update| {
        let values = |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).unwrap_or_default();
        let numbers = [values(&update.a), values(&update.b)].concat();
        let bytes: Vec<u8> = numbers.iter().flat_map(|value| value.to_le_bytes()).collect();
        [update.scale.to_le_bytes().to_vec(), blake3::hash(&bytes).as_bytes().to_vec()].concat()
    });
    Fingerprint::of_parts([
        ("number", number.as_bytes()),
        ("shape", shape.as_slice()),
        ("bytes", bytes.as_slice()),
        ("update", update.as_deref().unwrap_or_default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colqwen2::tiny::tiny;
    use crate::encoder::Encoder;

    #[test]
    fn hidden_states_and_projection_make_the_vectors() {
        let model = tiny();
        let texts = ["where is the filter", "東京"];
        let hidden = model.hidden_queries(&texts).unwrap();
        let vectors = model.encode_queries(&texts).unwrap();
        let (weight, bias) = model.projection().unwrap();
        for (hidden, vectors) in hidden.iter().zip(&vectors) {
            assert_eq!((hidden.width(), hidden.tokens()), (model.hidden_size(), vectors.vectors.tokens()));
            let values: Vec<f32> = hidden.values().iter().map(|value| value.to_f32()).collect();
            let x = Tensor::from_vec(values, (hidden.tokens(), hidden.width()), &Device::Cpu).unwrap();
            let y = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
            // The same to rounding from the states as they are kept; against vectors of states that were not, what half precision
            // leaves.
            let projected = model.project_states(hidden).unwrap();
            for ((row, vector), kept) in
                y.to_vec2::<f32>().unwrap().iter().zip(vectors.vectors.iter()).zip(projected.iter())
            {
                let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
                let near = |vector: &[f32], most: f32| {
                    row.iter().zip(vector).all(|(value, expected)| (value / length - expected).abs() < most)
                };
                assert!(near(vector, 2e-3) && near(kept, 1e-5));
            }
        }
        let image = RgbImage::from_pixel(60, 90, image::Rgb([200, 10, 90]));
        let pages = model.hidden_pages(&[image.clone(), image.clone()]).unwrap();
        assert_eq!(pages[0].tokens(), model.encode_pages(&[image]).unwrap()[0].vectors.tokens());
        assert_eq!(pages[0], pages[1]);
        assert!(HiddenStates::new(3, vec![f16::ZERO; 4]).is_err() && HiddenStates::new(3, vec![]).is_err());
    }
}
