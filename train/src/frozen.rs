//! Products of a trained weight with something that does not learn.

use candle_core::{Result, Tensor};
use colqwen_index_ingest::colqwen2::derivative::with_derivative;

/// `x w^T` for `x`, `rows x inputs`, that no gradient is wanted of, and a weight `w`, `outputs x inputs`.
///
/// candle's own product would compute and keep the gradient of `x`, too: as much work again, and memory of the size of all
/// hidden states.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn frozen_times_weight(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let x = x.detach();
    let product = x.matmul(&w.detach().t()?)?.contiguous()?;
    with_derivative(w, product, move |_, slope| slope.t()?.matmul(&x))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn value_and_gradient_are_those_of_the_plain_product() {
        let x = Tensor::new(&[[1.0f32, 2.0, 3.0], [-1.0, 0.5, 2.0]], &Device::Cpu).unwrap();
        let x = Var::from_tensor(&x).unwrap();
        let w = Var::from_tensor(&Tensor::new(&[[0.5f32, -1.0, 2.0]], &Device::Cpu).unwrap()).unwrap();
        let frozen = frozen_times_weight(&x, &w).unwrap();
        let plain = x.matmul(&w.t().unwrap()).unwrap();
        assert_eq!(frozen.to_vec2::<f32>().unwrap(), plain.to_vec2::<f32>().unwrap());
        let gradient = |y: Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let (frozen, plain) = (gradient(frozen), gradient(plain));
        let of_w = |store: &candle_core::backprop::GradStore| store.get(&w).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(of_w(&frozen), of_w(&plain));
        assert!(frozen.get(&x).is_none() && plain.get(&x).is_some());
    }
}
