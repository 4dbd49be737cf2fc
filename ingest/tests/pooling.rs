//! Token pooling against colpali-engine's `HierarchicalTokenPooler` (fixture: `tests/oracle/make_pooling.py`), and what
//! must hold for any page.

use std::path::Path;
use std::time::Instant;

use colqwen_index_field::{Fingerprint, MultiVector, Origin, PageLayout, PageVectors, UnitLength};
use colqwen_index_ingest::pooling::{MAX_POOLED_TOKENS, PoolFactor, PoolingError, pool, pool_page};
use proptest::prelude::*;
use serde_json::Value;

fn factor(factor: u16) -> PoolFactor {
    PoolFactor::new(factor).unwrap()
}

fn normalised(dim: usize, values: Vec<f32>) -> MultiVector {
    MultiVector::try_new(dim, values, UnitLength::Normalize).unwrap()
}

/// Vectors without any pattern, and so without ties.
fn generic(tokens: usize, dim: usize, seed: u64) -> MultiVector {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    normalised(dim, (0..tokens * dim).map(|_| next()).collect())
}

#[test]
fn pooled_as_colpali_engine_does() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures/pooling.json");
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let floats = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };
    let mut compared = 0;
    for page in fixture["pages"].as_array().unwrap() {
        let dim = page["dim"].as_u64().unwrap() as usize;
        let vectors = MultiVector::try_new(dim, floats(&page["values"]), UnitLength::Require).unwrap();
        for expected in page["pooled"].as_array().unwrap() {
            let by = factor(expected["factor"].as_u64().unwrap() as u16);
            let pooled = pool(&vectors, by).unwrap();
            let members: Vec<Vec<u16>> = serde_json::from_value(expected["members"].clone()).unwrap();
            assert_eq!(pooled.members, members, "{} tokens by {by}", vectors.tokens());
            for (token, vector) in expected["vectors"].as_object().unwrap() {
                let ours = pooled.vectors.token(token.parse().unwrap());
                let theirs = floats(vector);
                assert_eq!(ours.len(), theirs.len());
                assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?} {theirs:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 20);
}

#[test]
fn alike_tokens_are_merged_even_below_the_wanted_number() {
    let mut values = [0.6, 0.8, 0.0].repeat(7);
    values.extend([0.0, 0.0, 1.0]);
    let vectors = MultiVector::try_new(3, values, UnitLength::Require).unwrap();
    let pooled = pool(&vectors, factor(2)).unwrap();
    assert_eq!(pooled.members, [vec![0, 1, 2, 3, 4, 5, 6], vec![7]]);
    assert_eq!(pooled.vectors.token(1), [0.0, 0.0, 1.0]);
}

#[test]
fn vectors_that_cancel_out_leave_the_first() {
    let vectors = MultiVector::try_new(2, vec![0.6, 0.8, -0.6, -0.8], UnitLength::Require).unwrap();
    assert_eq!(pool(&vectors, factor(2)).unwrap().vectors.values(), [0.6, 0.8]);
}

#[test]
fn one_token_stays_and_too_many_are_refused() {
    let one = generic(1, 4, 1);
    assert_eq!(pool(&one, factor(9)).unwrap().vectors, one);
    let many = generic(MAX_POOLED_TOKENS + 1, 1, 1);
    let error = pool(&many, factor(2)).unwrap_err();
    assert!(matches!(error, PoolingError::TooManyTokens { .. }));
    assert!(error.to_string().contains("at most 8192 tokens, received 8193"), "{error}");
    assert_eq!(pool(&many, PoolFactor::NONE).unwrap().vectors, many, "nothing is computed for factor 1");
}

#[test]
fn a_vector_without_direction_is_an_error() {
    let vectors = MultiVector::try_new(2, vec![0.0; 8], UnitLength::Any).unwrap();
    assert!(matches!(pool(&vectors, factor(2)).unwrap_err(), PoolingError::Vectors(_)));
}

#[test]
fn pooled_pages_keep_their_model_and_name_their_patches() {
    // Prompt tokens 0 and 7, patches 1 to 6 of which the first three and the last three are alike.
    let values = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.6, 0.8, 0.0], [-1.0, 0.0, 0.0]];
    let tokens = [0, 1, 1, 1, 4, 4, 4, 0].map(|at: usize| values[at]).concat();
    let layout = PageLayout { width: 84, height: 56, grid_rows: 2, grid_cols: 3, first_patch: 1, token_patches: None };
    let origin = Origin::Model(Fingerprint::from_bytes([3; 32]));
    let vectors = MultiVector::try_new(3, tokens, UnitLength::Require).unwrap();
    let page = PageVectors::new(vectors).with_origin(origin).with_layout(layout.clone()).unwrap();
    assert_eq!(pool_page(page.clone(), PoolFactor::NONE).unwrap(), page);
    let pooled = pool_page(page.clone(), factor(2)).unwrap();
    assert_eq!((pooled.origin, pooled.vectors.tokens()), (origin, 3));
    let patches = Some(vec![vec![], vec![0, 1, 2], vec![3, 4, 5]]);
    assert_eq!(pooled.layout, Some(PageLayout { first_patch: 0, token_patches: patches, ..layout }));
    // Pooled again, its tokens stand for the patches of all that went into them.
    let again = pool_page(pooled, factor(3)).unwrap();
    assert_eq!(again.layout.unwrap().token_patches, Some(vec![vec![0, 1, 2, 3, 4, 5]]));
    let without = PageVectors { layout: None, ..page };
    assert_eq!(pool_page(without, factor(2)).unwrap().layout, None);
}

#[test]
fn a_page_of_700_tokens_takes_little_time() {
    let page = generic(700, 128, 5);
    let times = (0..5).map(|_| {
        let start = Instant::now();
        assert_eq!(pool(&page, factor(3)).unwrap().vectors.tokens(), 233);
        start.elapsed().as_secs_f64()
    });
    let best = times.fold(f64::INFINITY, f64::min);
    println!("700 x 128 pooled by 3 in {:.1} ms", best * 1e3);
    assert!(best < 0.5, "{best} s");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn of_any_page(tokens in 1usize..60, dim in 1usize..20, by in 1u16..12, seed in any::<u64>()) {
        let vectors = generic(tokens, dim, seed);
        let pooled = pool(&vectors, factor(by)).unwrap();
        let count = pooled.vectors.tokens();
        prop_assert!(count >= 1 && count <= (tokens / usize::from(by)).max(1));
        prop_assert_eq!(count, pooled.members.len());
        for vector in pooled.vectors.iter() {
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            prop_assert!((length - 1.0).abs() < 1e-5, "{}", length);
        }
        // Every token stands in one cluster; clusters are ordered by their first tokens.
        let mut all = pooled.members.concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..tokens as u16).collect::<Vec<_>>());
        prop_assert!(pooled.members.iter().all(|members| members.is_sorted()));
        prop_assert!(pooled.members.is_sorted_by_key(|members| members[0]));
        if by == 1 {
            prop_assert_eq!(pooled.vectors, vectors);
        }
    }

    #[test]
    fn in_any_order(tokens in 2usize..50, dim in 8usize..20, by in 2u16..6, seed in any::<u64>(), turn in 1usize..50) {
        let vectors = generic(tokens, dim, seed);
        // Backwards and turned: token `order[at]` comes to stand at `at`.
        let order: Vec<usize> = (0..tokens).rev().map(|at| (at + turn) % tokens).collect();
        let values = order.iter().flat_map(|at| vectors.token(*at).to_vec()).collect();
        let moved = MultiVector::try_new(dim, values, UnitLength::Require).unwrap();
        let mut expected = pool(&vectors, factor(by)).unwrap().members;
        let mut received: Vec<Vec<u16>> = pool(&moved, factor(by)).unwrap().members;
        for members in &mut received {
            members.iter_mut().for_each(|at| *at = order[usize::from(*at)] as u16);
            members.sort_unstable();
        }
        received.sort();
        expected.sort();
        prop_assert_eq!(received, expected);
    }
}
