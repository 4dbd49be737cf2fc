//! Property tests of the kernel against a naive MaxSim in f64, and of all machines against the portable one.
//!
//! On aarch64, from another machine, with and without the dot product extension (`-cpu max`, `-cpu cortex-a53`):
//!
//! ```text
//! export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER="qemu-aarch64 -cpu max"
//! export RUSTFLAGS="-C linker=rust-lld -C linker-flavor=ld.lld -C link-self-contained=yes"
//! cargo test --release -p colqwen-index-field --lib --features blake3/no_neon \
//!     --target aarch64-unknown-linux-musl kernel
//! ```

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

mod integers {
    use proptest::prelude::*;

    use crate::kernel::lanes::raise_best;
    use crate::kernel::levels::{EIGHT_LEVELS, FOUR_LEVELS, TWO_LEVELS, decode_levels, decode_portable, level_width};
    use crate::kernel::{Depth, Grade, Planes, QueryLanes, Rows, Tokens, machines, portable};

    #[derive(Clone, Debug)]
    struct Case {
        dim: usize,
        query: Vec<f32>,
        levels: Vec<u8>,
        scales: Vec<f32>,
        centroids: Vec<u16>,
        table: Vec<f32>,
    }

    fn case() -> impl Strategy<Value = Case> {
        let dim = prop_oneof![1usize..40, Just(96), Just(128), Just(130), Just(320)];
        (dim, 1usize..70, 0usize..23).prop_flat_map(|(dim, query_tokens, tokens)| {
            let lanes = query_tokens.next_multiple_of(8);
            (
                prop::collection::vec(-1.0f32..1.0, dim * query_tokens),
                prop::collection::vec(any::<u8>(), level_width(dim) * tokens),
                prop::collection::vec(0.0f32..0.1, tokens),
                prop::collection::vec(0u16..5, tokens),
                prop::collection::vec(-90.0f32..90.0, 5 * lanes),
            )
                .prop_map(move |(query, levels, scales, centroids, table)| Case {
                    dim,
                    query,
                    levels,
                    scales,
                    centroids,
                    table,
                })
        })
    }

    proptest! {
        #[test]
        fn all_machines_agree_in_every_bit(case in case()) {
            let query = QueryLanes::new(&case.query, case.dim, Grade::Refined);
            for grade in [Grade::Coarse, Grade::Refined] {
                for rows in [None, Some(Rows { table: &case.table, centroids: &case.centroids })] {
                    let tokens = Tokens { levels: &case.levels, scales: &case.scales, rows };
                    let mut expected = vec![-1e30f32; query.lanes()];
                    portable::raise_best(&query, grade, tokens, &mut expected);
                    for version in machines::present() {
                        let mut best = vec![-1e30f32; query.lanes()];
                        (version.raise_best)(&query, grade, tokens, &mut best);
                        prop_assert_eq!(&best[..query.tokens()], &expected[..query.tokens()], "{}", version.name);
                    }
                }
                let mut expected = vec![0.0; case.scales.len() * query.lanes()];
                portable::fill_rows(&query, grade, &case.levels, &case.scales, &mut expected);
                for version in machines::present() {
                    let mut rows = vec![0.0; expected.len()];
                    (version.fill_rows)(&query, grade, &case.levels, &case.scales, &mut rows);
                    prop_assert_eq!(&rows, &expected, "{}", version.name);
                }
            }
            let half_norms: Vec<f32> = case.scales.iter().map(|scale| scale * 7.0).collect();
            let mut expected = vec![0; query.lanes()];
            portable::nearest(&query, &case.levels, &case.scales, &half_norms, &mut expected);
            for version in machines::present() {
                let mut found = vec![0; query.lanes()];
                (version.nearest)(&query, &case.levels, &case.scales, &half_norms, &mut found);
                prop_assert_eq!(&found[..query.tokens()], &expected[..query.tokens()], "{}", version.name);
            }
        }

        #[test]
        fn scores_are_those_of_a_naive_max_sim(case in case()) {
            prop_assume!(!case.scales.is_empty());
            let query = QueryLanes::new(&case.query, case.dim, Grade::Refined);
            let mut best = vec![f32::NEG_INFINITY; query.lanes()];
            let tokens = Tokens { levels: &case.levels, scales: &case.scales, rows: None };
            raise_best(&query, Grade::Refined, tokens, &mut best);
            let dot = |token: &[f32], at: usize| -> f64 {
                let levels = &case.levels[at * level_width(case.dim)..];
                let level = |level: &u8| (f64::from(*level) - 128.0) * f64::from(case.scales[at]);
                token.iter().zip(levels).map(|(value, other)| f64::from(*value) * level(other)).sum()
            };
            let naive: f64 = case
                .query
                .chunks(case.dim)
                .map(|token| (0..case.scales.len()).map(|at| dot(token, at)).fold(f64::NEG_INFINITY, f64::max))
                .sum();
            let tolerance = 2e-3 * case.query.len() as f64;
            prop_assert!((f64::from(query.total(&best)) - naive).abs() < tolerance, "{} {naive}", query.total(&best));
        }

        #[test]
        fn planes_become_the_levels_of_their_codes(
            dim in prop_oneof![1usize..40, Just(96), Just(128), Just(256), Just(320)],
            tokens in 1usize..5,
            seed in any::<u64>(),
        ) {
            let (width, part) = (level_width(dim), level_width(dim) / 4);
            let mut state = seed | 1;
            let mut bytes = |count: usize| -> Vec<u8> {
                let mut next = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1); (state >> 56) as u8 };
                (0..count).map(|_| next()).collect()
            };
            let (first, second, third) = (bytes(tokens * part), bytes(tokens * part), bytes(tokens * 2 * part));
            let planes = Planes { first: &first, second: &second, third: &third };
            for depth in [Depth::Two, Depth::Four, Depth::Eight] {
                let (mut levels, mut portable) = (vec![0; tokens * width], vec![0; tokens * width]);
                decode_levels(depth, planes, width, &mut levels);
                decode_portable(depth, planes, width, &mut portable);
                prop_assert_eq!(&levels, &portable);
                for (at, level) in levels.iter().enumerate() {
                    let (token, value) = (at / width, at % width);
                    let pair = |plane: &[u8]| plane[token * part + value % part] >> (2 * (value / part)) & 3;
                    let step = third[token * 2 * part + value % (2 * part)] >> (4 * (value / (2 * part))) & 15;
                    let code = pair(&first) << 6 | pair(&second) << 4 | step;
                    let expected = match depth {
                        Depth::Two => TWO_LEVELS[usize::from(code >> 6)],
                        Depth::Four => FOUR_LEVELS[usize::from(code >> 4)],
                        Depth::Eight => EIGHT_LEVELS[usize::from(code)],
                    };
                    prop_assert_eq!(*level, expected);
                }
            }
        }
    }
}
