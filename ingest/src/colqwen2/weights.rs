//! A weight of the model, held as a tensor or left in the mapped file and widened when it is used.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::elementwise;
use super::ops::has_kernels;
use crate::encoder::EncoderError;
use crate::mapped::MappedFile;

/// Where the parts of the model take their weights from: a checkpoint, or tensors that are being trained.
pub trait WeightSource {
    /// The weight called `name` (in the canonical layout), of the given shape.
    ///
    /// # Errors
    /// There is none, or its shape is another.
    fn weight(&self, name: &str, shape: &[usize]) -> Result<Weight, EncoderError>;

    /// As [`WeightSource::weight`], always as a tensor: for the small ones.
    ///
    /// # Errors
    /// As [`WeightSource::weight`].
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, EncoderError> {
        Ok(self.weight(name, shape)?.tensor()?)
    }

    /// The linear layer called `name`, from `shape[1]` to `shape[0]` values, where the source has a way of its own to
    /// compute it. `None`, which is what most sources say, stands for `x w^T`, and with `bias` plus the bias.
    ///
    /// # Errors
    /// As [`WeightSource::weight`].
    fn linear(&self, name: &str, shape: [usize; 2], bias: bool) -> Result<Option<Arc<dyn LinearMap>>, EncoderError> {
        let _ = (name, shape, bias);
        Ok(None)
    }
}

/// A linear layer computed in a way of its own, such as one that learns a low-rank update beside a frozen weight.
pub trait LinearMap: fmt::Debug + Send + Sync {
    /// `x`: tokens x inputs; returns tokens x outputs.
    ///
    /// # Errors
    /// The device fails.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor>;
}

/// Tensors by canonical name, as training holds them.
impl WeightSource for HashMap<String, Tensor> {
    fn weight(&self, name: &str, shape: &[usize]) -> Result<Weight, EncoderError> {
        let origin = PathBuf::from("the tensors given");
        let tensor = self.get(name).ok_or_else(|| EncoderError::TensorMissing {
            origin: origin.clone(),
            name: name.to_owned(),
            expected: shape.to_owned(),
            hint: "",
        })?;
        if tensor.dims() != shape {
            return Err(EncoderError::TensorShape {
                file: origin,
                name: name.to_owned(),
                expected: shape.to_owned(),
                received: tensor.dims().to_owned(),
            });
        }
        Ok(Weight::Held(tensor.clone()))
    }
}

/// A parameter of the model.
#[derive(Clone, Debug)]
pub enum Weight {
    /// In memory, in the number type of the computation.
    Held(Tensor),
    /// In the checkpoint file; widened to f32 at each use, so that a model larger than memory in f32 can run.
    Mapped(MappedWeight),
}

impl Weight {
    /// The whole weight as a tensor.
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        match self {
            Self::Held(tensor) => Ok(tensor.clone()),
            Self::Mapped(mapped) => mapped.tensor(),
        }
    }

    /// Rows `ids` of a matrix: `ids x columns`.
    pub(crate) fn rows(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        match self {
            Self::Held(tensor) => tensor.index_select(&Tensor::new(ids, tensor.device())?, 0),
            Self::Mapped(mapped) => mapped.rows(ids),
        }
    }
}

/// The number types a checkpoint can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Number {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// The upper 16 bits of a 32-bit floating point number.
    BF16,
}

impl Number {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// A tensor within a mapped file, with the low-rank update that an adapter adds to it.
#[derive(Clone, Debug)]
pub struct MappedWeight {
    pub(crate) file: Arc<MappedFile>,
    pub(crate) range: Range<usize>,
    pub(crate) number: Number,
    pub(crate) shape: Vec<usize>,
    pub(crate) update: Option<LowRank>,
}

/// `scale * b a`, added to a weight: `b` is outputs x rank, `a` rank x inputs, both f32.
#[derive(Clone, Debug)]
pub struct LowRank {
    pub(crate) a: Tensor,
    pub(crate) b: Tensor,
    pub(crate) scale: f64,
}

/// Bytes that one task widens.
const CHUNK: usize = 64 * 1024;

impl MappedWeight {
    /// The weight in f32 on the CPU, with its update.
    pub(crate) fn tensor(&self) -> candle_core::Result<Tensor> {
        let tensor = self.widen(self.range.clone(), &self.shape)?;
        match &self.update {
            // Added in f32: rounded to half precision, much of a small update would be lost.
            Some(LowRank { a, b, scale }) => (b.matmul(a)? * *scale)? + tensor,
            None => Ok(tensor),
        }
    }

    fn rows(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        if self.update.is_some() {
            return self.tensor()?.index_select(&Tensor::new(ids, &Device::Cpu)?, 0);
        }
        let columns: usize = self.shape.iter().skip(1).product();
        let row_bytes = columns * self.number.bytes();
        let mut values = vec![0.0; ids.len() * columns];
        for (row, id) in values.chunks_exact_mut(columns.max(1)).zip(ids) {
            let first = self.range.start + *id as usize * row_bytes;
            if first + row_bytes > self.range.end {
                candle_core::bail!("row {id} of a weight with {:?} rows", self.shape.first());
            }
            widen_into(row, &self.file[first..first + row_bytes], self.number);
        }
        Tensor::from_vec(values, (ids.len(), columns), &Device::Cpu)
    }

    fn widen(&self, range: Range<usize>, shape: &[usize]) -> candle_core::Result<Tensor> {
        let bytes = &self.file[range];
        let mut values = vec![0.0; bytes.len() / self.number.bytes()];
        let numbers = CHUNK / self.number.bytes();
        values.par_chunks_mut(numbers).zip(bytes.par_chunks(CHUNK)).for_each(|(values, bytes)| {
            widen_into(values, bytes, self.number);
        });
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    /// The weight as it will be computed with: on a GPU in `dtype`, without a detour through f32 where there is none.
    pub(crate) fn load(&self, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let stored = match self.number {
            Number::F32 => DType::F32,
            Number::F16 => DType::F16,
            Number::BF16 => DType::BF16,
        };
        if self.update.is_none() && stored == dtype {
            return Tensor::from_raw_buffer(&self.file[self.range.clone()], stored, &self.shape, device);
        }
        self.tensor()?.to_dtype(dtype)?.to_device(device)
    }
}

fn widen_into(values: &mut [f32], bytes: &[u8], number: Number) {
    match number {
        Number::F32 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Number::BF16 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        Number::F16 => {
            let mut block = [half::f16::ZERO; 256];
            for (values, bytes) in values.chunks_mut(256).zip(bytes.chunks(512)) {
                for (half, bytes) in block.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *half = half::f16::from_le_bytes(*bytes);
                }
                block[..values.len()].convert_to_f32_slice(values);
            }
        }
    }
}

/// A linear layer.
#[derive(Clone, Debug)]
pub(crate) enum Linear {
    /// `x w^T + b`.
    Stored { weight: Weight, bias: Option<Tensor> },
    /// As its source wants it.
    Own(Arc<dyn LinearMap>),
}

impl Linear {
    /// `name.weight`, outputs x inputs, and with `bias` also `name.bias`.
    pub(crate) fn load(
        source: &dyn WeightSource,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self, EncoderError> {
        if let Some(own) = source.linear(name, [outputs, inputs], bias)? {
            return Ok(Self::Own(own));
        }
        let weight = source.weight(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = bias.then(|| source.tensor(&format!("{name}.bias"), &[outputs])).transpose()?;
        Ok(Self::Stored { weight, bias })
    }

    pub(crate) fn from_weight(weight: Weight) -> Self {
        Self::Stored { weight, bias: None }
    }

    /// `x`: tokens x inputs; returns tokens x outputs.
    pub(crate) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Own(own) => own.forward(x),
            Self::Stored { weight, bias: None } => x.matmul(&weight.tensor()?.t()?),
            Self::Stored { weight, bias: Some(bias) } => {
                let y = x.matmul(&weight.tensor()?.t()?)?;
                // What has a graph keeps its values for the way back.
                if !has_kernels(&y) || y.track_op() || bias.track_op() {
                    return y.broadcast_add(bias);
                }
                elementwise::add_row(&y, bias)?;
                Ok(y)
            }
        }
    }
}
