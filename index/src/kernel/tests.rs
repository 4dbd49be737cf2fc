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
    use crate::kernel::levels::{EIGHT_LEVELS, FOUR_LEVELS, TWO_LEVELS, decode_portable, decoders, level_width};
    use crate::kernel::machines::{self, Version};
    use crate::kernel::{Depth, Grade, Planes, QueryLanes, Rows, Tokens};

    #[derive(Clone, Debug)]
    struct Case {
        dim: usize,
        query: Vec<f32>,
        levels: Vec<u8>,
        scales: Vec<f32>,
        centroids: Vec<u16>,
        /// `CENTROIDS x MOST_LANES`.
        table: Vec<f32>,
    }

    const CENTROIDS: usize = 5;
    const MOST_QUERY_TOKENS: usize = 70;
    const MOST_LANES: usize = 80;

    impl Case {
        /// The table for queries of so many lanes.
        fn table(&self, lanes: usize) -> Vec<f32> {
            self.table.chunks_exact(MOST_LANES).flat_map(|row| row[..lanes].iter().copied()).collect()
        }
    }

    /// What is said of the query's tokens, for each page token.
    fn without_padding(query: &QueryLanes, rows: &[f32]) -> Vec<f32> {
        rows.chunks_exact(query.lanes()).flat_map(|row| row[..query.tokens()].iter().copied()).collect()
    }

    fn case() -> impl Strategy<Value = Case> {
        let dim = prop_oneof![1usize..40, Just(96), Just(128), Just(130), Just(320)];
        (dim, 1..=MOST_QUERY_TOKENS, 0usize..71).prop_flat_map(|(dim, query_tokens, tokens)| {
            (
                prop::collection::vec(-1.0f32..1.0, dim * query_tokens),
                prop::collection::vec(any::<u8>(), level_width(dim) * tokens),
                prop::collection::vec(0.0f32..0.1, tokens),
                prop::collection::vec(0..CENTROIDS as u16, tokens),
                prop::collection::vec(-90.0f32..90.0, CENTROIDS * MOST_LANES),
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

    /// Levels of zero give a score of zero, whatever the query.
    #[test]
    fn large_sums_and_values_that_are_no_numbers_cancel_out() {
        for (dim, value) in [(8, f32::NAN), (140_000, 1.0)] {
            let mut token = vec![1.0; dim];
            token[3] = value;
            for version in machines::present() {
                let query = QueryLanes::laid_out(&token, dim, Grade::Refined, version.layout);
                let (levels, mut rows) = (vec![128; level_width(dim)], vec![1.0; query.lanes()]);
                (version.fill_rows)(&query, Grade::Refined, &levels, &[1.0], &mut rows);
                assert_eq!(rows[0], 0.0, "{}: dim {dim}", version.name);
            }
        }
    }

    proptest! {
        #[test]
        fn all_machines_agree_in_every_bit(case in case()) {
            let half_norms: Vec<f32> = case.scales.iter().map(|scale| scale * 7.0).collect();
            let results = |version: &Version| {
                let query = QueryLanes::laid_out(&case.query, case.dim, Grade::Refined, version.layout);
                let table = case.table(query.lanes());
                let mut scores = Vec::new();
                for grade in [Grade::Coarse, Grade::Refined] {
                    for rows in [None, Some(Rows { table: &table, centroids: &case.centroids })] {
                        let tokens = Tokens { levels: &case.levels, scales: &case.scales, rows };
                        let mut best = vec![-1e30f32; query.lanes()];
                        (version.raise_best)(&query, grade, tokens, &mut best);
                        scores.push(without_padding(&query, &best));
                    }
                    let mut rows = vec![0.0; case.scales.len() * query.lanes()];
                    (version.fill_rows)(&query, grade, &case.levels, &case.scales, &mut rows);
                    scores.push(without_padding(&query, &rows));
                }
                let mut found = vec![0; query.lanes()];
                (version.nearest)(&query, &case.levels, &case.scales, &half_norms, &mut found);
                found.truncate(query.tokens());
                (scores, found)
            };
            let versions = machines::present();
            let expected = results(versions.last().unwrap());
            for version in &versions {
                prop_assert_eq!(results(version), expected.clone(), "{}", version.name);
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
            tokens in 1usize..40,
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
                let mut portable = vec![0; tokens * width];
                decode_portable(depth, planes, width, &mut portable);
                for (name, decode) in decoders() {
                    let mut levels = vec![0; tokens * width];
                    decode(depth, planes, width, &mut levels);
                    prop_assert_eq!(&levels, &portable, "{}", name);
                }
                for (at, level) in portable.iter().enumerate() {
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
