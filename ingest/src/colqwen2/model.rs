//! The whole network on tensors, without images and texts: what parity tests and training use.

use candle_core::{DType, Device, Tensor};

use super::attention::Packing;
use super::config::Config;
use super::language::LanguageModel;
use super::ops::Ops;
use super::preprocess::Grid;
use super::projection::Projection;
use super::tokens::positions;
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

/// Vision tower, language model and projection.
pub struct Model {
    vision: VisionTower,
    language: LanguageModel,
    projection: Projection,
    config: Config,
    image_token: u32,
    dtype: DType,
    device: Device,
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
        self.project(&self.hidden(input, ops)?)
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
        let patches = self.look(input, ops)?;
        self.read(input, patches.as_ref(), ops)
    }

    /// The vision tower's states of all patches before they are merged, patches x embed_dim, in the order of the pixels; none
    /// for texts. What a training may ask of them besides what [`Model::read`] makes of them.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn look(&self, input: &ModelInput, ops: Ops) -> Result<Option<Tensor>, EncoderError> {
        self.check(input)?;
        let Some(pixels) = &input.pixel_values else { return Ok(None) };
        let pixels = pixels.to_dtype(self.dtype)?.to_device(&self.device)?;
        Ok(Some(self.vision.look(&pixels, &input.grids, ops)?))
    }

    /// As [`Model::hidden`], with the patch states that [`Model::look`] gave.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn read(&self, input: &ModelInput, patches: Option<&Tensor>, ops: Ops) -> Result<Tensor, EncoderError> {
        let packing = Packing::new(input.sequences.iter().map(Vec::len).collect());
        let merge = self.config.vision.merge_size;
        let mut all_positions = Vec::with_capacity(packing.total());
        for (at, ids) in input.sequences.iter().enumerate() {
            let grid: Vec<Grid> = input.grids.get(at).map(|grid| grid.merged(merge)).into_iter().collect();
            all_positions.extend(positions(ids, self.image_token, &grid)?);
        }
        Ok(self.language.forward(&self.embed(input, patches, ops)?, &all_positions, &packing, ops)?)
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

    /// Text embeddings, with the vision tower's vectors in the places of the image tokens: tokens x hidden_size.
    fn embed(&self, input: &ModelInput, patches: Option<&Tensor>, ops: Ops) -> Result<Tensor, EncoderError> {
        let ids: Vec<u32> = input.sequences.concat();
        let text = self.language.embed(&ids)?.to_dtype(self.dtype)?;
        let Some(patches) = patches else { return Ok(text) };
        let image = self.vision.merge(patches, ops)?;
        // Pieces in turn, because a scatter would let gradients through to the rows it overwrites.
        let (mut pieces, mut used) = (Vec::new(), 0);
        let mut start = 0;
        for run in ids.chunk_by(|one, two| (*one == self.image_token) == (*two == self.image_token)) {
            if run[0] == self.image_token {
                let left = image.dim(0)? - used;
                if run.len() > left {
                    return Err(EncoderError::Input {
                        what: "image tokens",
                        expected: format!("{} in all", image.dim(0)?),
                        received: format!("{} or more", used + run.len()),
                    });
                }
                pieces.push(image.narrow(0, used, run.len())?);
                used += run.len();
            } else {
                pieces.push(text.narrow(0, start, run.len())?);
            }
            start += run.len();
        }
        Ok(Tensor::cat(&pieces, 0)?)
    }
}
