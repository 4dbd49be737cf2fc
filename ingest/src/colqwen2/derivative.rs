//! Operations whose derivative is written out: faster than the graph of their parts, and without gradients of what does
//! not learn, which candle computes and keeps for every tensor that an operation touches.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail,
};

/// The gradients of two arguments, where they are wanted.
pub type Slopes2 = (Option<Tensor>, Option<Tensor>);
/// The gradients of three arguments, where they are wanted.
pub type Slopes3 = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// `result`, which was computed of `x`, as a node of the graph. `derivative` makes the gradient of `x` from `x` and the
/// gradient of the result.
///
/// # Errors
/// `x` and the result lie on different devices.
pub fn with_derivative<D>(x: &Tensor, result: Tensor, derivative: D) -> Result<Tensor>
where
    D: Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    if !x.track_op() {
        return Ok(result);
    }
    x.apply_op1(Known::new(result, derivative))
}

/// As [`with_derivative`], of two arguments.
///
/// # Errors
/// As [`with_derivative`].
pub fn with_derivative2<D>(x: &Tensor, y: &Tensor, result: Tensor, derivative: D) -> Result<Tensor>
where
    D: Fn(&Tensor, &Tensor, &Tensor) -> Result<Slopes2> + Send + Sync + 'static,
{
    if !(x.track_op() || y.track_op()) {
        return Ok(result);
    }
    x.apply_op2(y, Known::new(result, derivative))
}

/// As [`with_derivative`], of three arguments; `derivative` is given the result, too, before the gradient.
///
/// # Errors
/// As [`with_derivative`].
pub fn with_derivative3<D>(x: &Tensor, y: &Tensor, z: &Tensor, result: Tensor, derivative: D) -> Result<Tensor>
where
    D: Fn([&Tensor; 3], &Tensor, &Tensor) -> Result<Slopes3> + Send + Sync + 'static,
{
    if !(x.track_op() || y.track_op() || z.track_op()) {
        return Ok(result);
    }
    x.apply_op3(y, z, Known::new(result, derivative))
}

/// An operation whose result is known before it is made.
struct Known<D> {
    /// Taken out when it becomes a node of the graph, or it would be held twice.
    result: Mutex<Option<Tensor>>,
    derivative: D,
}

impl<D> Known<D> {
    fn new(result: Tensor, derivative: D) -> Self {
        Self { result: Mutex::new(Some(result.detach())), derivative }
    }

    fn take(&self) -> Result<Tensor> {
        let taken = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            // A part of a larger storage would be taken for the whole.
            Some(result) if !result.is_contiguous() || result.layout().start_offset() != 0 => result.force_contiguous(),
            Some(result) => Ok(result),
            None => bail!("an operation with a known result was run twice"),
        }
    }

    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        let result = self.take()?;
        let (storage, layout) = result.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => Ok((storage.try_clone(layout)?, result.shape().clone())),
            _ => bail!("an operation on the CPU: expected its result whole and on the CPU, too"),
        }
    }

    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        let result = self.take()?;
        let (storage, layout) = result.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, result.shape().clone())),
            _ => bail!("an operation on a GPU: expected its result whole and on the GPU, too"),
        }
    }
}

const NAME: &str = "derivative written out";

impl<D: Fn(&Tensor, &Tensor) -> Result<Tensor>> CustomOp1 for Known<D> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, slope: &Tensor) -> Result<Option<Tensor>> {
        (self.derivative)(&x.detach(), slope).map(Some)
    }
}

impl<D: Fn(&Tensor, &Tensor, &Tensor) -> Result<Slopes2>> CustomOp2 for Known<D> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, _: &Tensor, slope: &Tensor) -> Result<Slopes2> {
        let (of_x, of_y) = (self.derivative)(&x.detach(), &y.detach(), slope)?;
        Ok((of_x.filter(|_| x.track_op()), of_y.filter(|_| y.track_op())))
    }
}

impl<D: Fn([&Tensor; 3], &Tensor, &Tensor) -> Result<Slopes3>> CustomOp3 for Known<D> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, z: &Tensor, result: &Tensor, slope: &Tensor) -> Result<Slopes3> {
        let (one, two, three) = (x.detach(), y.detach(), z.detach());
        let (of_x, of_y, of_z) = (self.derivative)([&one, &two, &three], &result.detach(), slope)?;
        Ok((of_x.filter(|_| x.track_op()), of_y.filter(|_| y.track_op()), of_z.filter(|_| z.track_op())))
    }
}
