//! The language model: causal, grouped-query, with rotary positions in time, height and width (M-RoPE).

use candle_core::{DType, Device, Result, Tensor};

use super::attention::Packing;
use super::config::TextConfig;
use super::ops::Ops;
use super::weights::{Linear, Weight, WeightSource};
use crate::encoder::EncoderError;

struct Layer {
    input_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    post_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Layer {
    fn load(source: &dyn WeightSource, at: usize, config: &TextConfig) -> std::result::Result<Self, EncoderError> {
        let name = |leaf: &str| format!("language_model.layers.{at}.{leaf}");
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let kv_width = config.num_kv_heads * config.head_dim();
        let linear = |leaf: &str, inputs, outputs, bias| Linear::load(source, &name(leaf), inputs, outputs, bias);
        Ok(Self {
            input_norm: source.tensor(&name("input_layernorm.weight"), &[width])?,
            q: linear("self_attn.q_proj", width, width, true)?,
            k: linear("self_attn.k_proj", width, kv_width, true)?,
            v: linear("self_attn.v_proj", width, kv_width, true)?,
            o: linear("self_attn.o_proj", width, width, false)?,
            post_norm: source.tensor(&name("post_attention_layernorm.weight"), &[width])?,
            gate: linear("mlp.gate_proj", width, inner, false)?,
            up: linear("mlp.up_proj", width, inner, false)?,
            down: linear("mlp.down_proj", inner, width, false)?,
        })
    }

    /// `x`: tokens x hidden_size.
    fn forward(
        &self,
        x: &Tensor,
        rope: &(Tensor, Tensor),
        packing: &Packing,
        config: &TextConfig,
        ops: Ops,
    ) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let normed = ops.rms_norm(x, &self.input_norm, config.rms_norm_eps)?;
        let split = |x: Tensor, heads: usize| x.reshape((tokens, heads, config.head_dim()));
        let q = ops.rope(&split(self.q.forward(&normed)?, config.num_heads)?, &rope.0, &rope.1)?;
        let k = ops.rope(&split(self.k.forward(&normed)?, config.num_kv_heads)?, &rope.0, &rope.1)?;
        let v = split(self.v.forward(&normed)?, config.num_kv_heads)?;
        let attended = ops.attention(&q, &k, &v, packing, true)?.reshape((tokens, config.hidden_size))?;
        let x = (x + self.o.forward(&attended)?)?;
        let normed = ops.rms_norm(&x, &self.post_norm, config.rms_norm_eps)?;
        let inner = ops.swiglu(self.gate.forward(&normed)?, &self.up.forward(&normed)?)?;
        x + self.down.forward(&inner)?
    }
}

/// The language model without a head.
pub(crate) struct LanguageModel {
    embed: Weight,
    layers: Vec<Layer>,
    norm: Tensor,
    config: TextConfig,
}

impl LanguageModel {
    pub(crate) fn load(source: &dyn WeightSource, config: &TextConfig) -> std::result::Result<Self, EncoderError> {
        let width = config.hidden_size;
        Ok(Self {
            embed: source.weight("language_model.embed_tokens.weight", &[config.vocab_size, width])?,
            layers: (0..config.num_layers)
                .map(|at| Layer::load(source, at, config))
                .collect::<std::result::Result<_, _>>()?,
            norm: source.tensor("language_model.norm.weight", &[width])?,
            config: config.clone(),
        })
    }

    /// The embedding table's rows of `ids`: ids x hidden_size.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.embed.rows(ids)
    }

    pub(crate) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Layer `at` of tokens x hidden_size, the same shape.
    pub(crate) fn layer(
        &self,
        at: usize,
        x: &Tensor,
        rope: &(Tensor, Tensor),
        packing: &Packing,
        ops: Ops,
    ) -> Result<Tensor> {
        let Some(layer) = self.layers.get(at) else { candle_core::bail!("layer {at} of {}", self.layers.len()) };
        layer.forward(x, rope, packing, &self.config, ops)
    }

    /// The final norm of tokens x hidden_size.
    pub(crate) fn norm(&self, x: &Tensor, ops: Ops) -> Result<Tensor> {
        ops.rms_norm(x, &self.norm, self.config.rms_norm_eps)
    }

    /// Cosine and sine per token, each tokens x head_dim/2: the first section of frequencies follows time, the second
    /// height, the third width. `positions`: time, height and width per token.
    pub(crate) fn rope(&self, positions: &[[u32; 3]], dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
        let half = self.config.head_dim() / 2;
        let theta = self.config.rope_theta as f32;
        let frequency = |i: usize| 1.0 / theta.powf((2 * i) as f32 / (2 * half) as f32);
        let sections = self.config.mrope_section;
        let axis = |i: usize| match i {
            i if i < sections[0] => 0,
            i if i < sections[0] + sections[1] => 1,
            _ => 2,
        };
        let table: Vec<(usize, f32)> = (0..half).map(|i| (axis(i), frequency(i))).collect();
        let angles: Vec<f32> = positions
            .iter()
            .flat_map(|position| table.iter().map(|(axis, frequency)| position[*axis] as f32 * frequency))
            .collect();
        let angles = Tensor::from_vec(angles, (positions.len(), half), &Device::Cpu)?;
        let place = |x: Tensor| x.to_dtype(dtype)?.to_device(device);
        Ok((place(angles.cos()?)?, place(angles.sin()?)?))
    }
}
