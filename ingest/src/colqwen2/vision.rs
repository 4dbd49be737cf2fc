//! The vision tower: patches in, one vector per merged patch out.

use candle_core::{DType, Device, Result, Tensor};

use super::attention::Packing;
use super::config::VisionConfig;
use super::ops::Ops;
use super::preprocess::Grid;
use super::weights::{Linear, Weight, WeightSource};
use crate::encoder::EncoderError;

const LAYER_NORM_EPS: f64 = 1e-6;

#[derive(Clone, Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    fn load(source: &dyn WeightSource, name: &str, width: usize) -> std::result::Result<Self, EncoderError> {
        let weight = source.tensor(&format!("{name}.weight"), &[width])?;
        Ok(Self { weight, bias: source.tensor(&format!("{name}.bias"), &[width])? })
    }

    fn forward(&self, x: &Tensor, ops: Ops) -> Result<Tensor> {
        ops.layer_norm(x, &self.weight, &self.bias, LAYER_NORM_EPS)
    }
}

struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

impl Block {
    fn load(source: &dyn WeightSource, at: usize, config: &VisionConfig) -> std::result::Result<Self, EncoderError> {
        let name = |leaf: &str| format!("visual.blocks.{at}.{leaf}");
        let (width, mlp) = (config.embed_dim, config.mlp_dim);
        Ok(Self {
            norm1: LayerNorm::load(source, &name("norm1"), width)?,
            qkv: Linear::load(source, &name("attn.qkv"), width, 3 * width, true)?,
            proj: Linear::load(source, &name("attn.proj"), width, width, true)?,
            norm2: LayerNorm::load(source, &name("norm2"), width)?,
            fc1: Linear::load(source, &name("mlp.fc1"), width, mlp, true)?,
            fc2: Linear::load(source, &name("mlp.fc2"), mlp, width, true)?,
            heads: config.num_heads,
        })
    }

    /// `x`: patches x width.
    fn forward(&self, x: &Tensor, rope: &(Tensor, Tensor), packing: &Packing, ops: Ops) -> Result<Tensor> {
        let (patches, width) = x.dims2()?;
        let qkv = self.qkv.forward(&self.norm1.forward(x, ops)?)?;
        let part = |at: usize| qkv.narrow(1, at * width, width)?.reshape((patches, self.heads, width / self.heads));
        let (q, k) = (ops.rope(&part(0)?, &rope.0, &rope.1)?, ops.rope(&part(1)?, &rope.0, &rope.1)?);
        let attended = ops.attention(&q, &k, &part(2)?, packing, false)?.reshape((patches, width))?;
        let x = (x + self.proj.forward(&attended)?)?;
        let inner = ops.quick_gelu(self.fc1.forward(&self.norm2.forward(&x, ops)?)?)?;
        x + self.fc2.forward(&inner)?
    }
}

/// The tower with its merger.
pub(crate) struct VisionTower {
    patch_embed: Linear,
    blocks: Vec<Block>,
    merger_norm: LayerNorm,
    merger_in: Linear,
    merger_out: Linear,
    config: VisionConfig,
}

impl VisionTower {
    pub(crate) fn load(source: &dyn WeightSource, config: &VisionConfig) -> std::result::Result<Self, EncoderError> {
        // The convolution's stride is its kernel: a matrix product over flattened patches.
        let side = config.patch_size;
        let shape = [config.embed_dim, config.channels, config.temporal_patch_size, side, side];
        let patch_embed = source.weight("visual.patch_embed.proj.weight", &shape)?;
        let flat = (config.embed_dim, config.patch_dim());
        let patch_embed = match patch_embed {
            Weight::Held(tensor) => Weight::Held(tensor.reshape(flat)?),
            Weight::Mapped(mapped) => Weight::Held(mapped.tensor()?.reshape(flat)?),
        };
        let merged = config.embed_dim * config.merge_size * config.merge_size;
        Ok(Self {
            patch_embed: Linear::from_weight(patch_embed),
            blocks: (0..config.depth)
                .map(|at| Block::load(source, at, config))
                .collect::<std::result::Result<_, _>>()?,
            merger_norm: LayerNorm::load(source, "visual.merger.ln_q", config.embed_dim)?,
            merger_in: Linear::load(source, "visual.merger.mlp.0", merged, merged, true)?,
            merger_out: Linear::load(source, "visual.merger.mlp.2", merged, config.output_dim, true)?,
            config: config.clone(),
        })
    }

    /// `patches`: the patches of all images x [`VisionConfig::patch_dim`], in the order of [`super::preprocess`]. Returns
    /// patches x width.
    pub(crate) fn embed(&self, patches: &Tensor) -> Result<Tensor> {
        self.patch_embed.forward(patches)
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Block `at` of patches x width, the same shape.
    pub(crate) fn block(
        &self,
        at: usize,
        x: &Tensor,
        rope: &(Tensor, Tensor),
        packing: &Packing,
        ops: Ops,
    ) -> Result<Tensor> {
        let Some(block) = self.blocks.get(at) else { candle_core::bail!("block {at} of {}", self.blocks.len()) };
        block.forward(x, rope, packing, ops)
    }

    /// From patches x width to merged patches x [`VisionConfig::output_dim`].
    pub(crate) fn merge(&self, x: &Tensor, ops: Ops) -> Result<Tensor> {
        let x = self.merger_norm.forward(x, ops)?;
        let merged = self.config.merge_size * self.config.merge_size;
        let x = x.reshape((x.dim(0)? / merged, x.dim(1)? * merged))?;
        self.merger_out.forward(&self.merger_in.forward(&x)?.gelu_erf()?)
    }

    /// Cosine and sine per patch, each patches x head_dim/2: the first half of the angles follows the row, the second
    /// the column.
    pub(crate) fn rope(&self, grids: &[Grid], dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
        let half = self.config.head_dim() / 2;
        let frequencies: Vec<f32> =
            (0..half / 2).map(|i| 1.0 / (self.config.rope_theta as f32).powf((2 * i) as f32 / half as f32)).collect();
        let angles: Vec<f32> = grids
            .iter()
            .flat_map(|grid| grid.positions(self.config.merge_size))
            .flat_map(|(row, column)| {
                let angle = |position: usize| frequencies.iter().map(move |frequency| position as f32 * frequency);
                angle(row).chain(angle(column)).collect::<Vec<_>>()
            })
            .collect();
        let angles = Tensor::from_vec(angles, (grids.iter().map(Grid::patches).sum::<usize>(), half), &Device::Cpu)?;
        let place = |x: Tensor| x.to_dtype(dtype)?.to_device(device);
        Ok((place(angles.cos()?)?, place(angles.sin()?)?))
    }
}
