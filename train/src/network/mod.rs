//! The whole ColQwen2 under training, computed by the code that encodes pages.
//!
//! [`Trained`] says which weights learn. For every mini-batch the model is put together anew from tensors by name
//! (`mini_batch`): that costs nothing beside computing, and lets each layer know what to drop for which row. The first
//! pass of gradient caching keeps no graph; the second goes back part by part (`checkpoints`). `saving` writes adapters and
//! merged checkpoints, `memory` tells how many pages fit.
//!
//! ```
//! use std::sync::Arc;
//!
//! use colqwen_index_ingest::colqwen2::ColQwen2;
//! use colqwen_index_train::encode::{Encode, Place, Side};
//! use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = ColQwen2::builtin()?;
//! let network = Network::new(&model, Trained::Lora(Lora::default()), NetworkOptions::default())?;
//! // What `GradCache` and `Trainer` take as queries; pages come from `page_input`.
//! let query = Arc::new(model.query_input(&["how is the filter cleaned"])?);
//! let vectors = network.vectors(&[query], Side::Query, Place { step: 0, first_row: 0 })?;
//! assert_eq!(vectors.dim(), 128);
//! let folder = std::env::temp_dir().join(format!("adapter-{}", std::process::id()));
//! network.save_adapter(&model, "the/base", &folder)?;
//! assert!(folder.join("adapter_model.safetensors").exists());
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```

mod checkpoints;
mod linear;
mod memory;
mod mini_batch;
mod saving;
mod trained;

pub use memory::Footprint;
pub use trained::{Lora, LoraInit, Trained};

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::ops::Ops;
use colqwen_index_ingest::colqwen2::pass::Part;
use colqwen_index_ingest::colqwen2::{ColQwen2, Config};

use crate::Error;
use crate::dropout::Dropout;
use crate::encode::{Encode, Parameter, Place, Side};
use crate::gradients::Gradients;
use crate::maxsim::Packed;
use crate::random::{Purpose, Stream};

use self::mini_batch::MiniBatch;

/// The name of an update's first matrix after that of its layer.
const LORA_A: &str = ".lora_A.weight";
/// The name of its second matrix.
const LORA_B: &str = ".lora_B.weight";

/// How a network is trained, besides what learns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetworkOptions {
    /// Seed of new weights and of dropout.
    pub seed: u64,
    /// Whether the second pass keeps only what enters each layer, and computes what is inside again: about a third more
    /// work, and memory of one layer instead of all.
    pub checkpointing: bool,
    /// What is computed in; the weights that learn are f32 in any case. By default f32 on the CPU, which gains nothing from
    /// less, and bf16 on a GPU.
    pub number: Option<DType>,
}

impl Default for NetworkOptions {
    /// Seed 0, with checkpointing.
    fn default() -> Self {
        Self { seed: 0, checkpointing: true, number: None }
    }
}

/// A ColQwen2 some of whose weights learn. Frozen weights are held in the number type of the computation (f32 on the CPU,
/// bf16 on a GPU), those that learn in f32.
#[derive(Debug)]
pub struct Network {
    config: Config,
    dim: usize,
    image_token: u32,
    dtype: DType,
    device: Device,
    frozen: HashMap<String, Tensor>,
    parameters: Vec<Parameter>,
    /// Where each parameter stands in `parameters`.
    places: HashMap<String, usize>,
    trained: Trained,
    /// The layers with an update, and the number by which each tells its dropout from the others'.
    updated: HashMap<String, u64>,
    dropout: Dropout,
    checkpointing: bool,
    /// Nothing before this part learns.
    first: Part,
}

impl Network {
    /// Goes on from the weights of `model`, on its device. The model itself stays as it is; for one of full size, load it
    /// with `WeightMemory::Mapped`, or its weights are in memory twice.
    ///
    /// # Errors
    /// A setting of `trained` lies outside of its range, an adapter is to be trained beside one that the model has, or the
    /// device is full.
    pub fn new(model: &ColQwen2, trained: Trained, options: NetworkOptions) -> Result<Self, Error> {
        let device = model.model().device().clone();
        let dtype = options.number.unwrap_or(if device.is_cpu() { DType::F32 } else { DType::BF16 });
        if ![DType::F32, DType::BF16].contains(&dtype) {
            return Err(Error::setting("number type of the computation", "f32 or bf16", dtype.as_str()));
        }
        let shapes: Vec<(&str, Vec<usize>)> = model.weights().filter(|(name, _)| Part::of(name).is_some()).collect();
        let modules = linear_layers(&shapes);
        let mut network = Self {
            config: model.model().config().clone(),
            dim: model.model().dim(),
            image_token: model.image_token_id(),
            dtype,
            device,
            frozen: HashMap::new(),
            parameters: Vec::new(),
            places: HashMap::new(),
            updated: HashMap::new(),
            dropout: Dropout::new(0.0, options.seed)?,
            checkpointing: options.checkpointing,
            first: Part::Projection,
            trained: trained.clone(),
        };
        for (name, _) in &shapes {
            let weight = model.weight(name)?;
            if learns_whole(&trained, name) {
                network.learn((*name).to_owned(), &weight)?;
            } else {
                network.frozen.insert((*name).to_owned(), weight.to_dtype(dtype)?.to_device(&network.device)?);
            }
        }
        if let Trained::Lora(lora) = &trained {
            if model.has_adapter() {
                let expected = "a checkpoint without one (save this one merged, and train from there)";
                return Err(Error::setting("low-rank updates of a model with an adapter", expected, "an adapter"));
            }
            lora.check(&modules)?;
            network.dropout = Dropout::new(lora.dropout, options.seed)?;
            for (module, shape) in modules.iter().filter(|(module, _)| lora.targets(module)) {
                network.update(module, *shape, lora, options.seed)?;
            }
        }
        let parts = network.parameters.iter().filter_map(|parameter| Part::of(&parameter.name));
        network.first = parts.min().unwrap_or(Part::Projection);
        Ok(network)
    }

    /// Lets a weight learn, from `value` on.
    fn learn(&mut self, name: String, value: &Tensor) -> Result<(), Error> {
        let value = value.to_dtype(DType::F32)?.to_device(&self.device)?;
        self.places.insert(name.clone(), self.parameters.len());
        // A copy, so that training never changes the tensor it comes from.
        self.parameters.push(Parameter { name, var: Var::from_tensor(&value.copy()?)? });
        Ok(())
    }

    /// Gives a linear layer of `outputs x inputs` an update.
    fn update(&mut self, module: &str, shape: [usize; 2], lora: &Lora, seed: u64) -> Result<(), Error> {
        let ([outputs, inputs], rank) = (shape, lora.rank);
        let number = self.updated.len() as u64;
        let mut stream = Stream::new(seed, Purpose::Weights, &[1, number]);
        let bound = 1.0 / (inputs as f64).sqrt();
        let mut draw = || match lora.init {
            LoraInit::KaimingUniform => (2.0 * stream.unit() - 1.0) * bound,
            LoraInit::Gaussian => stream.normal() / rank as f64,
        };
        let a: Vec<f32> = (0..rank * inputs).map(|_| draw() as f32).collect();
        self.learn(format!("{module}{LORA_A}"), &Tensor::from_vec(a, (rank, inputs), &Device::Cpu)?)?;
        self.learn(format!("{module}{LORA_B}"), &Tensor::zeros((outputs, rank), DType::F32, &Device::Cpu)?)?;
        self.updated.insert(module.to_owned(), number);
        Ok(())
    }

    /// The token vectors of pages or queries as the trained model gives them, with nothing dropped.
    ///
    /// # Errors
    /// As [`Encode::encode`].
    pub fn infer(&self, items: &[Arc<ModelInput>]) -> Result<Packed, Error> {
        let batch = MiniBatch::whole(self, items)?;
        Packed::new(batch.still()?.forward(&batch.input, Ops::Fused)?, &batch.vectors)
    }

    /// What learns.
    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// Whether the vision tower or its merger learns. Where neither does, pages may come as
    /// [`Image::Merged`](colqwen_index_ingest::colqwen2::model::Image::Merged), computed once.
    pub fn vision_learns(&self) -> bool {
        self.first <= Part::Merger
    }

    /// The sizes of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The value of a parameter as it is now, f32.
    fn parameter(&self, name: &str) -> Option<&Var> {
        self.places.get(name).map(|at| &self.parameters[*at].var)
    }
}

/// The linear layers of the checkpoint that updates can be given to, with their shapes, outputs x inputs.
fn linear_layers<'a>(shapes: &[(&'a str, Vec<usize>)]) -> Vec<(&'a str, [usize; 2])> {
    let of = |(name, shape): &(&'a str, Vec<usize>)| {
        let shape = <[usize; 2]>::try_from(shape.as_slice()).ok()?;
        // The embedding table is a matrix, too, but no linear layer.
        let module = name.strip_suffix(".weight").filter(|module| !module.ends_with("embed_tokens"))?;
        Some((module, shape))
    };
    shapes.iter().filter_map(of).collect()
}

fn learns_whole(trained: &Trained, name: &str) -> bool {
    match trained {
        Trained::Projection => Part::of(name) == Some(Part::Projection),
        Trained::Lora(_) => false,
        Trained::Full { vision } => *vision || !name.starts_with("visual."),
    }
}

impl Encode for Network {
    /// The input of one page, which may be several sequences if it is looked at in tiles, or of one query.
    type Item = Arc<ModelInput>;

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn encode(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error> {
        let batch = MiniBatch::new(self, items, side, place)?;
        let vectors = batch.learning()?.forward(&batch.input, Ops::Differentiable)?;
        Packed::new(vectors, &batch.vectors)
    }

    fn vectors(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error> {
        let batch = MiniBatch::new(self, items, side, place)?;
        let vectors = batch.still()?.forward(&batch.input, Ops::Fused)?;
        Packed::new(vectors, &batch.vectors)
    }

    fn lead(
        &self,
        items: &[Self::Item],
        side: Side,
        place: Place,
        slopes: &Packed,
        gradients: &mut Gradients,
    ) -> Result<Packed, Error> {
        let batch = MiniBatch::new(self, items, side, place)?;
        if self.checkpointing {
            let vectors = checkpoints::lead(self, &batch, slopes.vectors(), gradients)?;
            return Packed::new(vectors, &batch.vectors);
        }
        let vectors = batch.learning()?.forward(&batch.input, Ops::Differentiable)?;
        let surrogate = (&vectors * slopes.vectors())?.sum_all()?;
        gradients.add(&self.parameters, &surrogate.backward()?)?;
        Packed::new(vectors.detach(), &batch.vectors)
    }
}

#[cfg(test)]
mod tests;
