//! The weights of the small model under training, and the model that they make.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use colqwen_index_ingest::colqwen2::Config;
use colqwen_index_ingest::colqwen2::model::Model;
use colqwen_index_train::encode::Parameter;
use colqwen_index_train::random::{Purpose, Stream};
use serde_json::{Value, json};

use crate::crop::{CLASSES, PATCH, Size};
use crate::pieces::Pieces;

const VISION: usize = 96;
const VISION_DEPTH: usize = 3;
const VISION_HEADS: usize = 4;
const WIDTH: usize = 192;
const INNER: usize = 512;
const LAYERS: usize = 2;
const HEADS: usize = 6;
pub const DIM: usize = 128;
/// Rotary frequencies that fit pages of some dozens of cells, not sequences of thousands of tokens.
const THETA: f64 = 100.0;

const EMBEDDING: &str = "language_model.embed_tokens.weight";
/// What each piece has of its own, pieces x width, and what it shares with those of the same letters, features x width. Their
/// sum is the embedding table: a piece that was hardly ever seen begins near those it resembles.
const OWN: &str = "pieces.own";
const SHARED: &str = "pieces.shared";
const READING_WEIGHT: &str = "reading.weight";
const READING_BIAS: &str = "reading.bias";
const PATCHES: &str = "visual.patch_embed.proj.weight";

/// `config.json` of the model.
pub fn config_json(pieces: &Pieces) -> Value {
    json!({
        "architectures": ["ColQwen2"], "model_type": "qwen2_vl", "image_token_id": pieces.id("<|image_pad|>"),
        "text_config": {
            "vocab_size": pieces.len(), "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "rms_norm_eps": 1e-6, "hidden_act": "silu",
            "rope_parameters": {"rope_theta": THETA, "rope_type": "default", "mrope_section": [0, 8, 8]},
            "tie_word_embeddings": true},
        "vision_config": {"depth": VISION_DEPTH, "embed_dim": VISION, "hidden_size": WIDTH, "num_heads": VISION_HEADS,
            "mlp_ratio": 4, "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 1,
            "hidden_act": "quick_gelu", "rope_parameters": {"rope_theta": THETA}}})
}

/// Weights by name, all trained, and what of the model they do not say.
pub struct Network {
    pub parameters: Vec<Parameter>,
    pub config: Config,
    composition: Vec<f32>,
    image: u32,
}

/// A model over the pieces that one batch needs.
pub struct Bound {
    pub model: Model,
    /// The place of each piece in the batch's own embedding table.
    places: HashMap<u32, u32>,
    pub image: u32,
    weights: HashMap<String, Tensor>,
}

impl Bound {
    /// Pieces as the bound model counts them.
    pub fn translate(&self, ids: &[u32]) -> Vec<u32> {
        ids.iter().map(|id| self.places[id]).collect()
    }

    /// The reading layer's answers, patches x classes.
    pub fn read(&self, patches: &Tensor) -> candle_core::Result<Tensor> {
        patches.matmul(&self.weights[READING_WEIGHT].t()?)?.broadcast_add(&self.weights[READING_BIAS])
    }
}

impl Network {
    /// Random weights.
    pub fn new(pieces: &Pieces, seed: u64) -> Result<Self> {
        let shapes = shapes(pieces.len());
        let parameters = shapes.into_iter().enumerate().map(|(at, (name, shape))| {
            let mut stream = Stream::new(seed, Purpose::Weights, &[at as u64]);
            let count: usize = shape.iter().product();
            let inputs: usize = shape.iter().skip(1).product();
            let bound = 1.0 / (inputs as f64).sqrt();
            let values: Vec<f32> = match name.as_str() {
                OWN => (0..count).map(|_| 0.02 * stream.normal() as f32).collect(),
                SHARED => (0..count).map(|_| 0.35 * stream.normal() as f32).collect(),
                _ if shape.len() == 1 && name.ends_with(".weight") => vec![1.0; count],
                _ if shape.len() == 1 => vec![0.0; count],
                _ => (0..count).map(|_| (bound * (2.0 * stream.unit() - 1.0)) as f32).collect(),
            };
            Ok(Parameter { name, var: Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)? })
        });
        Self::of(pieces, parameters.collect::<Result<_>>()?)
    }

    fn of(pieces: &Pieces, parameters: Vec<Parameter>) -> Result<Self> {
        let config = Config::from_value(Path::new("config.json"), &config_json(pieces))?;
        let image = pieces.id("<|image_pad|>").context("the vocabulary has no image token")?;
        Ok(Self { parameters, config, composition: pieces.composition(), image })
    }

    /// How many numbers are trained.
    pub fn weights(&self) -> usize {
        self.parameters.iter().map(|one| one.var.elem_count()).sum()
    }

    /// Floating-point operations of one crop, forward.
    pub fn operations(size: Size) -> f64 {
        let (cells, patches) = (size.cells() as f64, 4.0 * size.cells() as f64);
        let [vision, width, inner, dim] = [VISION, WIDTH, INNER, DIM].map(|size| size as f64);
        let linear = |inputs: f64, outputs: f64| inputs * outputs;
        let block = patches * (12.0 * linear(vision, vision) + 2.0 * patches * vision);
        let merger = cells * (linear(4.0 * vision, 4.0 * vision) + linear(4.0 * vision, width));
        let layer = cells * (4.0 * linear(width, width) + 3.0 * linear(width, inner) + 2.0 * cells * width);
        let ends = patches * linear((3 * PATCH * PATCH) as f64, vision) + cells * linear(width, dim);
        2.0 * (VISION_DEPTH as f64 * block + merger + LAYERS as f64 * layer + ends)
    }

    /// The weights that [`Network::save`] wrote, or those of a finished checkpoint: its embedding table is then what each piece
    /// has of its own, and its reading layer begins anew.
    pub fn load(pieces: &Pieces, path: &Path) -> Result<Self> {
        let mut tensors =
            candle_core::safetensors::load(path, &Device::Cpu).with_context(|| format!("{}", path.display()))?;
        if let Some(table) = tensors.remove(EMBEDDING) {
            tensors.insert(OWN.to_owned(), table);
            for (name, shape) in shapes(pieces.len()) {
                if [SHARED, READING_WEIGHT, READING_BIAS].contains(&name.as_str()) {
                    tensors.insert(name, Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
                }
            }
        }
        let parameters = shapes(pieces.len()).into_iter().map(|(name, shape)| {
            let tensor = tensors.get(&name).with_context(|| format!("{} has no {name}", path.display()))?;
            anyhow::ensure!(
                tensor.dims() == shape,
                "{}: {name} is {:?}, expected {shape:?}",
                path.display(),
                tensor.dims()
            );
            Ok(Parameter { name, var: Var::from_tensor(&tensor.to_dtype(DType::F32)?)? })
        });
        Self::of(pieces, parameters.collect::<Result<_>>()?)
    }

    /// All weights in half precision.
    pub fn save(&self, path: &Path) -> Result<()> {
        let half = |parameter: &Parameter| Ok((parameter.name.clone(), parameter.var.to_dtype(DType::F16)?));
        let tensors: HashMap<String, Tensor> = self.parameters.iter().map(half).collect::<Result<_>>()?;
        let part = path.with_extension("part");
        candle_core::safetensors::save(&tensors, &part)?;
        Ok(std::fs::rename(part, path)?)
    }

    /// The model with an embedding table of the pieces that `ids` name.
    pub fn bind(&self, ids: impl Iterator<Item = u32>) -> Result<Bound> {
        let mut used: Vec<u32> = ids.chain([self.image]).collect();
        used.sort_unstable();
        used.dedup();
        let places: HashMap<u32, u32> = used.iter().enumerate().map(|(place, id)| (*id, place as u32)).collect();
        let width = Pieces::features();
        let rows: Vec<f32> =
            used.iter().flat_map(|id| &self.composition[*id as usize * width..][..width]).copied().collect();
        let rows = Tensor::from_vec(rows, (used.len(), width), &Device::Cpu)?;
        let mut weights: HashMap<String, Tensor> =
            self.parameters.iter().map(|one| (one.name.clone(), one.var.as_tensor().clone())).collect();
        let ids = Tensor::from_slice(&used, used.len(), &Device::Cpu)?;
        let table = (weights[OWN].index_select(&ids, 0)? + rows.matmul(&weights[SHARED])?)?;
        weights.insert(EMBEDDING.to_owned(), table);
        let mut config = self.config.clone();
        config.text.vocab_size = used.len();
        let image = places[&self.image];
        let model = Model::load(&weights, &config, DIM, image, DType::F32, &Device::Cpu)?;
        Ok(Bound { model, places, image, weights })
    }

    /// The tensors of the finished checkpoint in f16.
    pub fn checkpoint(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        let find = |name: &str| {
            let one = self.parameters.iter().find(|one| one.name == name);
            one.map(|one| one.var.as_tensor().clone()).with_context(|| format!("there is no {name}"))
        };
        let pieces = self.config.text.vocab_size;
        let rows = Tensor::from_slice(&self.composition, (pieces, Pieces::features()), &Device::Cpu)?;
        tensors.insert(EMBEDDING.to_owned(), (find(OWN)? + rows.matmul(&find(SHARED)?)?)?.to_dtype(DType::F16)?);
        for one in &self.parameters {
            if [OWN, SHARED, READING_WEIGHT, READING_BIAS].contains(&one.name.as_str()) {
                continue;
            }
            tensors.insert(one.name.clone(), one.var.to_dtype(DType::F16)?);
        }
        Ok(tensors)
    }
}

fn shapes(pieces: usize) -> Vec<(String, Vec<usize>)> {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
    let linear = |add: &mut dyn FnMut(String, &[usize]), name: &str, outputs: usize, inputs: usize, bias: bool| {
        add(format!("{name}.weight"), &[outputs, inputs]);
        if bias {
            add(format!("{name}.bias"), &[outputs]);
        }
    };
    add(PATCHES.to_owned(), &[VISION, 3, 1, 14, 14]);
    for at in 0..VISION_DEPTH {
        let block = format!("visual.blocks.{at}");
        for norm in ["norm1", "norm2"] {
            add(format!("{block}.{norm}.weight"), &[VISION]);
            add(format!("{block}.{norm}.bias"), &[VISION]);
        }
        linear(&mut add, &format!("{block}.attn.qkv"), 3 * VISION, VISION, true);
        linear(&mut add, &format!("{block}.attn.proj"), VISION, VISION, true);
        linear(&mut add, &format!("{block}.mlp.fc1"), 4 * VISION, VISION, true);
        linear(&mut add, &format!("{block}.mlp.fc2"), VISION, 4 * VISION, true);
    }
    add("visual.merger.ln_q.weight".to_owned(), &[VISION]);
    add("visual.merger.ln_q.bias".to_owned(), &[VISION]);
    linear(&mut add, "visual.merger.mlp.0", 4 * VISION, 4 * VISION, true);
    linear(&mut add, "visual.merger.mlp.2", WIDTH, 4 * VISION, true);
    add(OWN.to_owned(), &[pieces, WIDTH]);
    add(SHARED.to_owned(), &[Pieces::features(), WIDTH]);
    for at in 0..LAYERS {
        let layer = format!("language_model.layers.{at}");
        add(format!("{layer}.input_layernorm.weight"), &[WIDTH]);
        add(format!("{layer}.post_attention_layernorm.weight"), &[WIDTH]);
        for name in ["q_proj", "k_proj", "v_proj"] {
            linear(&mut add, &format!("{layer}.self_attn.{name}"), WIDTH, WIDTH, true);
        }
        linear(&mut add, &format!("{layer}.self_attn.o_proj"), WIDTH, WIDTH, false);
        linear(&mut add, &format!("{layer}.mlp.gate_proj"), INNER, WIDTH, false);
        linear(&mut add, &format!("{layer}.mlp.up_proj"), INNER, WIDTH, false);
        linear(&mut add, &format!("{layer}.mlp.down_proj"), WIDTH, INNER, false);
    }
    add("language_model.norm.weight".to_owned(), &[WIDTH]);
    linear(&mut add, "custom_text_proj", DIM, WIDTH, true);
    linear(&mut add, "reading", CLASSES, VISION, true);
    shapes
}
