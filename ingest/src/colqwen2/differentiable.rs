//! The model's operations for training: computed by the fused ones, so that a pass with a graph gives what a pass without
//! one gives, with their derivatives written out.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::sigmoid;

use super::derivative::{with_derivative, with_derivative2};
use super::ops::Ops;

/// What the derivatives of norms are computed in: sums over a row need more than bf16's eight bits.
const WIDE: DType = DType::F32;

/// [`Ops::rms_norm`]. With `r = 1 / sqrt(mean(x^2) + eps)` and `s` the slope times the weight, the gradient of `x` is
/// `r s - r^3 x mean(s x)`, that of the weight the sum of `slope r x` over all rows.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let result = Ops::Fused.rms_norm(&x.detach(), &weight.detach(), eps)?;
    let learns = weight.track_op();
    with_derivative2(x, weight, result, move |x, weight, slope| {
        let (dtype, x, slope) = (x.dtype(), x.to_dtype(WIDE)?, slope.to_dtype(WIDE)?);
        let root = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
        let normed = x.broadcast_div(&root)?;
        let of_weight = learns.then(|| sum_of_rows(&(&slope * &normed)?, weight)).transpose()?;
        let slope = slope.broadcast_mul(&weight.to_dtype(WIDE)?)?;
        let along = (&slope * &normed)?.mean_keepdim(D::Minus1)?;
        let of_x = (slope - normed.broadcast_mul(&along)?)?.broadcast_div(&root)?;
        Ok((Some(of_x.to_dtype(dtype)?), of_weight))
    })
}

/// [`Ops::layer_norm`]. With `n` the normed `x` before weight and bias, `r` what it was divided by, and `s` the slope times
/// the weight, the gradient of `x` is `(s - mean(s) - n mean(s n)) / r`.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    if weight.track_op() || bias.track_op() {
        // Norms of a tower that learns: too few to be worth an operation of three arguments.
        let normed = layer_norm(x, &weight.ones_like()?.detach(), &bias.zeros_like()?.detach(), eps)?;
        return normed.broadcast_mul(weight)?.broadcast_add(bias);
    }
    let result = Ops::Fused.layer_norm(&x.detach(), weight, bias, eps)?;
    let weight = weight.clone();
    with_derivative(x, result, move |x, slope| {
        let (dtype, x, slope) = (x.dtype(), x.to_dtype(WIDE)?, slope.to_dtype(WIDE)?);
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let root = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
        let normed = centred.broadcast_div(&root)?;
        let slope = slope.broadcast_mul(&weight.to_dtype(WIDE)?)?;
        let along = (&slope * &normed)?.mean_keepdim(D::Minus1)?;
        let slope = slope.broadcast_sub(&slope.mean_keepdim(D::Minus1)?)?;
        (slope - normed.broadcast_mul(&along)?)?.broadcast_div(&root)?.to_dtype(dtype)
    })
}

/// [`Ops::rope`]: a rotation, whose derivative is the rotation back.
pub(crate) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let result = Ops::Fused.rope(&x.detach(), cos, sin)?;
    let (cos, back) = (cos.clone(), sin.neg()?);
    with_derivative(x, result, move |_, slope| Ops::Fused.rope(slope, &cos, &back))
}

/// [`Ops::quick_gelu`]. With `s = sigmoid(1.702 x)` the slope is `s + 1.702 x s (1 - s)`.
pub(crate) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    let result = Ops::Fused.quick_gelu(x.detach().force_contiguous()?)?;
    with_derivative(x, result, |x, slope| {
        let scaled = (x * 1.702)?;
        let share = sigmoid(&scaled)?;
        slope * gated_slope(&scaled, &share)?
    })
}

/// [`Ops::swiglu`]. With `s = sigmoid(gate)` the slopes are `up (s + gate s (1 - s))` and `gate s`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let result = Ops::Fused.swiglu(gate.detach().force_contiguous()?, &up.detach())?;
    with_derivative2(gate, up, result, |gate, up, slope| {
        let share = sigmoid(gate)?;
        let of_up = (slope * (gate * &share)?)?;
        let of_gate = ((slope * up)? * gated_slope(gate, &share)?)?;
        Ok((Some(of_gate), Some(of_up)))
    })
}

/// The slope of `x sigmoid(x)` where `share` is `sigmoid(x)`: `share + x share (1 - share)`.
fn gated_slope(x: &Tensor, share: &Tensor) -> Result<Tensor> {
    share * ((x * share.affine(-1.0, 1.0)?)? + 1.0)?
}

/// All rows of `x`, whatever its leading dimensions, added up in the shape and number type of `like`.
fn sum_of_rows(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    x.reshape(((), like.elem_count()))?.sum(0)?.reshape(like.shape())?.to_dtype(like.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn values(rows: usize, columns: usize, seed: usize) -> Var {
        let value = |at: usize| ((at * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
        let values: Vec<f32> = (0..rows * columns).map(value).collect();
        Var::from_tensor(&Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()).unwrap()
    }

    /// Compares the derivative by every value of every argument with the slope of the function between two neighbours.
    fn check(arguments: &[&Var], function: impl Fn() -> Result<Tensor>) {
        let slopes = function().unwrap();
        let slopes =
            values(slopes.dims()[0], slopes.elem_count() / slopes.dims()[0], 5).reshape(slopes.shape()).unwrap();
        let slopes = slopes.detach();
        let loss = || {
            let product = (function().unwrap() * &slopes).unwrap().flatten_all().unwrap();
            product.to_vec1::<f32>().unwrap().iter().map(|value| f64::from(*value)).sum::<f64>()
        };
        let store = (function().unwrap() * &slopes).unwrap().sum_all().unwrap().backward().unwrap();
        for argument in arguments {
            let start = argument.as_tensor().copy().unwrap();
            let given: Vec<f32> = store.get(argument.as_tensor()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            for (at, given) in given.iter().enumerate() {
                let moved = |by: f32| {
                    let mut values: Vec<f32> = start.flatten_all().unwrap().to_vec1().unwrap();
                    values[at] += by;
                    argument.set(&Tensor::from_vec(values, start.shape(), &Device::Cpu).unwrap()).unwrap();
                    loss()
                };
                let slope = (moved(4e-3) - moved(-4e-3)) / 8e-3;
                argument.set(&start).unwrap();
                assert!((slope - f64::from(*given)).abs() < 2e-3 * (1.0 + slope.abs()), "{at}: {slope} {given}");
            }
        }
    }

    #[test]
    fn derivatives_are_slopes() {
        let (x, y) = (values(3, 8, 1), values(3, 8, 2));
        let row = |seed| Var::from_tensor(&values(1, 8, seed).flatten_all().unwrap().detach()).unwrap();
        let (weight, bias) = (row(3), row(4));
        check(&[&x, &weight], || rms_norm(&x, &weight, 1e-6));
        check(&[&x, &weight, &bias], || layer_norm(&x, &weight, &bias, 1e-6));
        let (frozen_weight, frozen_bias) = (weight.detach(), bias.detach());
        check(&[&x], || rms_norm(&x, &frozen_weight, 1e-6));
        check(&[&x], || layer_norm(&x, &frozen_weight, &frozen_bias, 1e-6));
        check(&[&x], || quick_gelu(&x));
        check(&[&x, &y], || swiglu(&x, &y));
        let angles = values(3, 2, 6).detach();
        let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
        check(&[&x], || rope(&x.reshape((3, 2, 4))?, &cos, &sin));
    }

    #[test]
    fn values_are_those_without_a_graph() {
        let (x, weight) = (values(3, 8, 1), values(1, 8, 2).flatten_all().unwrap().detach());
        let same = |one: Tensor, two: Tensor| assert_eq!(one.to_vec2::<f32>().unwrap(), two.to_vec2::<f32>().unwrap());
        let (tracked, plain) = (x.as_tensor(), x.detach());
        // What is computed in place needs memory of its own.
        let fresh = |x: &Tensor| x.detach().copy().unwrap();
        same(rms_norm(tracked, &weight, 1e-6).unwrap(), Ops::Fused.rms_norm(&plain, &weight, 1e-6).unwrap());
        same(quick_gelu(tracked).unwrap(), Ops::Fused.quick_gelu(fresh(&plain)).unwrap());
        same(swiglu(tracked, tracked).unwrap(), Ops::Fused.swiglu(fresh(&plain), &plain).unwrap());
        // The second half of a larger tensor, as a derivative is given it.
        let half = x.narrow(0, 1, 2).unwrap();
        same(quick_gelu(&half).unwrap(), Ops::Fused.quick_gelu(fresh(&half)).unwrap());
    }
}
