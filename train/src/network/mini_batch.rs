//! The model as one mini-batch sees it: tensors by name, and layers that know which rows they compute.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use colqwen_index_ingest::colqwen2::model::{Model, ModelInput};
use colqwen_index_ingest::colqwen2::pass::Part;
use colqwen_index_ingest::colqwen2::preprocess::Grid;
use colqwen_index_ingest::colqwen2::weights::{LinearMap, Weight, WeightSource};
use colqwen_index_ingest::encoder::EncoderError;

use super::linear::{FrozenLinear, LowRankLinear};
use super::{LORA_A, LORA_B, Network, Trained};
use crate::Error;
use crate::dropout::Dropout;
use crate::encode::{Place, Side};

/// Items that go through the network together.
pub(super) struct MiniBatch<'a> {
    network: &'a Network,
    side: Side,
    place: Place,
    dropout: Dropout,
    pub(super) input: ModelInput,
    /// Token vectors of each item.
    pub(super) vectors: Vec<usize>,
    /// Tokens of each item: more, where pages are looked at in tiles.
    tokens: Vec<usize>,
    /// Patches of each page.
    patches: Vec<usize>,
}

impl<'a> MiniBatch<'a> {
    pub(super) fn new(
        network: &'a Network,
        items: &[Arc<ModelInput>],
        side: Side,
        place: Place,
    ) -> Result<Self, Error> {
        if let Some(item) = items.iter().find(|item| item.kept.is_none() && item.sequences.len() != 1) {
            return Err(Error::shape("item of a mini-batch", "the input of one page or query", item.sequences.len()));
        }
        let input = ModelInput::packed(items.iter().map(Arc::as_ref))?;
        let vectors = items.iter().map(|item| item.vectors()).collect();
        let tokens = items.iter().map(|item| item.tokens()).collect();
        let patches = items.iter().map(|item| item.grids.iter().map(Grid::patches).sum()).collect();
        Ok(Self { network, side, place, dropout: network.dropout, input, vectors, tokens, patches })
    }

    /// Nothing is dropped, as when the trained model is used.
    pub(super) fn whole(network: &'a Network, items: &[Arc<ModelInput>]) -> Result<Self, Error> {
        let batch = Self::new(network, items, Side::Page, Place { step: 0, first_row: 0 })?;
        Ok(Self { dropout: Dropout::new(0.0, 0)?, ..batch })
    }

    /// The model with a graph that leads to the parameters.
    pub(super) fn learning(&self) -> Result<Model, Error> {
        self.model(|var| var.as_tensor().clone())
    }

    /// The same values without a graph.
    pub(super) fn still(&self) -> Result<Model, Error> {
        self.model(|var| var.as_detached_tensor())
    }

    fn model(&self, tensor_of: impl Fn(&candle_core::Var) -> Tensor) -> Result<Model, Error> {
        let network = self.network;
        let mut tensors = network.frozen.clone();
        for parameter in &network.parameters {
            // The f32 master, rounded for the computation where that is narrower.
            tensors.insert(parameter.name.clone(), tensor_of(&parameter.var).to_dtype(network.dtype)?);
        }
        let weights = Weights { batch: self, tensors };
        let Network { config, dim, image_token, dtype, device, .. } = network;
        Ok(Model::load(&weights, config, *dim, *image_token, *dtype, device)?)
    }

    /// Rows of each item in the layer `module`.
    fn rows(&self, module: &str) -> Vec<usize> {
        let merged = self.network.config.vision.merge_size.pow(2);
        if module.starts_with("visual.merger.") {
            self.patches.iter().map(|patches| patches / merged).collect()
        } else if module.starts_with("visual.") {
            self.patches.clone()
        } else if Part::of(&format!("{module}.weight")) == Some(Part::Projection) {
            self.vectors.clone()
        } else {
            self.tokens.clone()
        }
    }
}

struct Weights<'a> {
    batch: &'a MiniBatch<'a>,
    tensors: HashMap<String, Tensor>,
}

impl WeightSource for Weights<'_> {
    fn weight(&self, name: &str, shape: &[usize]) -> Result<Weight, EncoderError> {
        self.tensors.weight(name, shape)
    }

    fn linear(&self, name: &str, shape: [usize; 2], bias: bool) -> Result<Option<Arc<dyn LinearMap>>, EncoderError> {
        let network = self.batch.network;
        let (weight, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        if network.places.contains_key(&weight) {
            return Ok(None);
        }
        let bias = bias.then(|| self.tensor(&bias_name, &shape[..1])).transpose()?;
        let frozen = FrozenLinear { weight: self.tensor(&weight, &shape)?, bias };
        let (Trained::Lora(lora), Some(layer)) = (&network.trained, network.updated.get(name)) else {
            return Ok(Some(Arc::new(frozen)));
        };
        let dropout = self.batch.dropout.mask(&self.batch.rows(name), *layer, self.batch.side, self.batch.place);
        Ok(Some(Arc::new(LowRankLinear {
            frozen,
            a: self.tensor(&format!("{name}{LORA_A}"), &[lora.rank, shape[1]])?,
            b: self.tensor(&format!("{name}{LORA_B}"), &[shape[0], lora.rank])?,
            scale: lora.scale(),
            dropout,
        })))
    }
}
