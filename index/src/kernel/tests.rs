//! Property tests of the kernel against a naive MaxSim in f64.

use half::f16;
use proptest::prelude::*;

use super::MaxSim;
use super::maxsim::score_page_by;

fn naive(query: &[f32], dim: usize, page: &[f16]) -> f64 {
    let dot = |one: &[f32], two: &[f16]| -> f64 { one.iter().zip(two).map(|(a, b)| f64::from(*a) * b.to_f64()).sum() };
    let best = |token: &[f32]| page.chunks(dim).map(|other| dot(token, other)).fold(f64::NEG_INFINITY, f64::max);
    query.chunks(dim).map(best).sum()
}

fn case() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f16>)> {
    (1usize..70, 1usize..12, 1usize..40).prop_flat_map(|(dim, query_tokens, page_tokens)| {
        let query = prop::collection::vec(-1.0f32..1.0, dim * query_tokens);
        let page = prop::collection::vec((-1.0f32..1.0).prop_map(f16::from_f32), dim * page_tokens);
        (Just(dim), query, page)
    })
}

proptest! {
    #[test]
    fn maxsim_equals_the_naive_one((dim, query, page) in case(), misaligned in any::<bool>()) {
        let mut bytes = vec![0u8; usize::from(misaligned)];
        bytes.extend(page.iter().flat_map(|value| value.to_le_bytes()));
        let score = MaxSim::new(&query, dim).score(&bytes[usize::from(misaligned)..]);
        let expected = naive(&query, dim, &page);
        prop_assert!((f64::from(score) - expected).abs() < 1e-4, "{score} for {expected}");
    }

    #[test]
    fn the_portable_version_agrees((dim, query, page) in case()) {
        let mut best = vec![f32::NEG_INFINITY; query.len() / dim];
        score_page_by::<false>(&query, dim, &page, &mut vec![0.0; 16 * dim], &mut best);
        let expected = naive(&query, dim, &page);
        prop_assert!((f64::from(best.iter().sum::<f32>()) - expected).abs() < 1e-4);
    }
}
