//! The whole network on tensors, without images and texts: what parity tests and training use.

use candle_core::{DType, Device, Tensor};

use super::config::Config;
use super::language::LanguageModel;
use super::ops::Ops;
use super::pass::{Part, Pass};
use super::preprocess::Grid;
use super::projection::Projection;
use super::vision::VisionTower;
use super::weights::WeightSource;
use crate::encoder::EncoderError;

/// A batch, packed: the sequences one after the other, without padding.
#[derive(Clone, Debug)]
pub struct ModelInput {
    /// The ids of each sequence.
    pub sequences: Vec<Vec<u32>>,
    /// The patches of all images, patches x patch_dim, or none for texts.
    pub pixel_values: Option<Tensor>,
    /// The grid of each sequence's image; empty for texts.
    pub grids: Vec<Grid>,
}

impl ModelInput {
    /// All sequences of `inputs`, in order, as one batch.
    ///
    /// # Errors
    /// Pixel values that do not go together, such as those of two models.
    pub fn packed<'a>(inputs: impl IntoIterator<Item = &'a Self>) -> Result<Self, EncoderError> {
        let mut all = Self { sequences: Vec::new(), pixel_values: None, grids: Vec::new() };
        let mut pixels = Vec::new();
        for input in inputs {
            all.sequences.extend_from_slice(&input.sequences);
            all.grids.extend_from_slice(&input.grids);
            pixels.extend(&input.pixel_values);
        }
        if !pixels.is_empty() {
            all.pixel_values = Some(Tensor::cat(&pixels, 0)?);
        }
        Ok(all)
    }
}

/// Vision tower, language model and projection.
pub struct Model {
    pub(super) vision: VisionTower,
    pub(super) language: LanguageModel,
    pub(super) projection: Projection,
    pub(super) config: Config,
    pub(super) image_token: u32,
    pub(super) dtype: DType,
    pub(super) device: Device,
}

impl Model {
    /// Takes the weights from `source`, all on `device` and to be computed with in `dtype`. `dim` is the width of the
    /// token vectors, `image_token` the id that stands for one merged patch.
    ///
    /// # Errors
    /// A weight is missing or has another shape than `config` asks for.
    pub fn load(
        source: &dyn WeightSource,
        config: &Config,
        dim: usize,
        image_token: u32,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        Ok(Self {
            vision: VisionTower::load(source, &config.vision)?,
            language: LanguageModel::load(source, &config.text)?,
            projection: Projection::load(source, config.text.hidden_size, dim)?,
            config: config.clone(),
            image_token,
            dtype,
            device: device.clone(),
        })
    }

    /// Where the model computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Values per token vector.
    pub fn dim(&self) -> usize {
        self.projection.dim()
    }

    /// The sizes of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The embeddings of all tokens of all sequences, one after the other: tokens x dim, f32, each of length 1.
    ///
    /// # Errors
    /// The input's parts do not belong together, an id lies outside the embedding table, or the device fails.
    pub fn forward(&self, input: &ModelInput, ops: Ops) -> Result<Tensor, EncoderError> {
        self.pass(input, ops)?.run(|_| true)
    }

    /// The token vectors of hidden states: tokens x dim, f32, each of length 1.
    ///
    /// # Errors
    /// The states are of another width, or the device fails.
    pub fn project(&self, hidden: &Tensor) -> Result<Tensor, EncoderError> {
        Ok(self.projection.forward(hidden)?)
    }

    /// What the projection makes token vectors of: the language model's states after its final norm, of all tokens of all
    /// sequences, tokens x hidden_size.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn hidden(&self, input: &ModelInput, ops: Ops) -> Result<Tensor, EncoderError> {
        self.pass(input, ops)?.run(|part| part != Part::Projection)
    }

    /// Prepares to take `input` through the network part by part.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn pass<'a>(&'a self, input: &'a ModelInput, ops: Ops) -> Result<Pass<'a>, EncoderError> {
        self.check(input)?;
        Pass::new(self, input, ops)
    }

    fn check(&self, input: &ModelInput) -> Result<(), EncoderError> {
        let vocabulary = self.config.text.vocab_size;
        if let Some(id) = input.sequences.iter().flatten().find(|id| **id as usize >= vocabulary) {
            return Err(EncoderError::Input {
                what: "token id (the tokenizer and config.json's vocab_size must belong together)",
                expected: format!("less than {vocabulary}"),
                received: id.to_string(),
            });
        }
        let patches: usize = input.grids.iter().map(Grid::patches).sum();
        let expected = [patches, self.config.vision.patch_dim()];
        match &input.pixel_values {
            Some(pixels) if input.grids.len() != input.sequences.len() || pixels.dims() != expected => {
                Err(EncoderError::Input {
                    what: "pixel values",
                    expected: format!("{expected:?} for {} grids, one per sequence", input.grids.len()),
                    received: format!("{:?} for {} sequences", pixels.dims(), input.sequences.len()),
                })
            }
            None if !input.grids.is_empty() => Err(EncoderError::Input {
                what: "pixel values",
                expected: format!("patches for {} grids", input.grids.len()),
                received: "none".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
