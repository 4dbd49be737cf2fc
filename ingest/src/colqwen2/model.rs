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

/// The images of a batch, all in one tensor.
#[derive(Clone, Debug)]
pub enum Image {
    /// As the vision tower takes them: patches x patch_dim.
    Pixels(Tensor),
    /// As it leaves them, so that it need not be run: merged patches x hidden_size, from [`Model::merged`].
    Merged(Tensor),
}

impl Image {
    /// The tensor.
    pub fn tensor(&self) -> &Tensor {
        match self {
            Self::Pixels(tensor) | Self::Merged(tensor) => tensor,
        }
    }
}

/// A batch, packed: the sequences one after the other, without padding.
#[derive(Clone, Debug)]
pub struct ModelInput {
    /// The ids of each sequence.
    pub sequences: Vec<Vec<u32>>,
    /// All images, or none for texts.
    pub image: Option<Image>,
    /// The grid of each sequence's image, in patches; empty for texts.
    pub grids: Vec<Grid>,
    /// Which tokens of all sequences become token vectors, in this order, if not all of them do: those of a page that is
    /// looked at in tiles.
    pub kept: Option<Vec<u32>>,
}

impl ModelInput {
    /// Texts.
    pub fn texts(sequences: Vec<Vec<u32>>) -> Self {
        Self { sequences, image: None, grids: Vec::new(), kept: None }
    }

    /// Images in prompts: a grid for each sequence, and the patches of all, patches x patch_dim.
    pub fn images(sequences: Vec<Vec<u32>>, pixels: Tensor, grids: Vec<Grid>) -> Self {
        Self { sequences, image: Some(Image::Pixels(pixels)), grids, kept: None }
    }

    /// Tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }

    /// Token vectors that the model makes of it.
    pub fn vectors(&self) -> usize {
        self.kept.as_ref().map_or_else(|| self.tokens(), Vec::len)
    }

    /// All sequences of `inputs`, in order, as one batch.
    ///
    /// # Errors
    /// Pixel values that do not go together, such as those of two models.
    pub fn packed<'a>(inputs: impl IntoIterator<Item = &'a Self>) -> Result<Self, EncoderError> {
        let mut all = Self::texts(Vec::new());
        let (mut pixels, mut merged, mut kept, mut tokens) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for input in inputs {
            all.sequences.extend_from_slice(&input.sequences);
            all.grids.extend_from_slice(&input.grids);
            match &input.image {
                Some(Image::Pixels(tensor)) => pixels.push(tensor),
                Some(Image::Merged(tensor)) => merged.push(tensor),
                None => {}
            }
            match &input.kept {
                Some(rows) => kept.extend(rows.iter().map(|row| tokens + row)),
                None => kept.extend(tokens..tokens + input.tokens() as u32),
            }
            tokens += input.tokens() as u32;
        }
        all.image = match (pixels.is_empty(), merged.is_empty()) {
            (true, true) => None,
            (false, true) => Some(Image::Pixels(Tensor::cat(&pixels, 0)?)),
            (true, false) => Some(Image::Merged(Tensor::cat(&merged, 0)?)),
            (false, false) => {
                return Err(EncoderError::Input {
                    what: "images of a batch",
                    expected: "all as pixels or all as merged patches".to_owned(),
                    received: "both".to_owned(),
                });
            }
        };
        let whole = kept.len() == tokens as usize && kept.is_sorted();
        all.kept = (!whole).then_some(kept);
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

    /// The embeddings of all tokens of all sequences (of those that are kept, if the input says so), one after the other:
    /// tokens x dim, f32, each of length 1.
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

    /// What the vision tower leaves of the pixels of `input`, the vectors that take the places of its image tokens: merged
    /// patches x hidden_size.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn merged(&self, input: &ModelInput, ops: Ops) -> Result<Tensor, EncoderError> {
        self.pass(input, ops)?.run(|part| part <= Part::Merger)
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
        let tokens = input.tokens();
        if let Some(row) = input.kept.iter().flatten().find(|row| **row as usize >= tokens) {
            return Err(EncoderError::Input {
                what: "token that is kept",
                expected: format!("one of the {tokens} of the sequences"),
                received: row.to_string(),
            });
        }
        let patches: usize = input.grids.iter().map(Grid::patches).sum();
        let merge = self.config.vision.merge_size.pow(2);
        let expected = match &input.image {
            Some(Image::Merged(_)) => [patches / merge, self.config.text.hidden_size],
            _ => [patches, self.config.vision.patch_dim()],
        };
        match input.image.as_ref().map(Image::tensor) {
            Some(image) if input.grids.len() != input.sequences.len() || image.dims() != expected => {
                Err(EncoderError::Input {
                    what: "pixel values or merged patches",
                    expected: format!("{expected:?} for {} grids, one per sequence", input.grids.len()),
                    received: format!("{:?} for {} sequences", image.dims(), input.sequences.len()),
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
