use candle_core::Tensor;
use proptest::prelude::*;

use super::*;

const SIMILARITIES: [Similarity; 2] = [Similarity::Max, Similarity::SmoothMax { tau: 0.2 }];

fn packed(values: &[f32], lengths: &[usize], dim: usize) -> Packed {
    let tokens: usize = lengths.iter().sum();
    Packed::new(Tensor::from_slice(&values[..tokens * dim], (tokens, dim), &Device::Cpu).unwrap(), lengths).unwrap()
}

/// One score in f64, straight from the formula.
fn naive(maxsim: &MaxSim, query: &[f64], page: &[f64], dim: usize) -> f64 {
    let dot = |one: &[f64], two: &[f64]| one.iter().zip(two).map(|(one, two)| one * two).sum::<f64>();
    let best = |token: &[f64]| {
        let similarities = page.chunks(dim).map(|other| dot(token, other));
        match maxsim.similarity {
            Similarity::Max => similarities.fold(f64::NEG_INFINITY, f64::max),
            Similarity::SmoothMax { tau } => {
                let tau = f64::from(tau);
                tau * similarities.map(|value| (value / tau).exp()).sum::<f64>().ln()
            }
        }
    };
    let sum: f64 = query.chunks(dim).map(best).sum();
    if maxsim.per_token { sum / (query.len() / dim) as f64 } else { sum }
}

/// The sum of all scores, each times its slope.
fn weighted(maxsim: &MaxSim, q: &[f64], ql: &[usize], p: &[f64], pl: &[usize], dim: usize, slopes: &[f32]) -> f64 {
    let items = |values: &[f64], lengths: &[usize]| {
        let mut rest = values.to_vec();
        let cut = |length: &usize| rest.drain(..length * dim).collect::<Vec<f64>>();
        lengths.iter().map(cut).collect::<Vec<_>>()
    };
    let pages = items(p, pl);
    let scores = items(q, ql)
        .into_iter()
        .flat_map(|query| pages.iter().map(move |page| naive(maxsim, &query, page, dim)).collect::<Vec<_>>());
    scores.zip(slopes).map(|(score, slope)| score * f64::from(*slope)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Scores against the formula and gradients against its differences in f64, whatever the blocks.
    #[test]
    fn scores_and_gradients_follow_the_formula(
        ql in prop::collection::vec(1..5usize, 1..4),
        pl in prop::collection::vec(1..6usize, 1..4),
        values in prop::collection::vec(-1.0f32..1.0, 120),
        slopes in prop::collection::vec(-1.0f32..1.0, 9),
        block in 1..40usize, smooth in 0..2usize, per_token: bool,
    ) {
        let dim = 3;
        let maxsim = MaxSim { similarity: SIMILARITIES[smooth], per_token, block };
        let (qv, pv) = values.split_at(60);
        let (queries, pages) = (packed(qv, &ql, dim), packed(pv, &pl, dim));
        let scored = maxsim.score(&queries, &pages).unwrap();
        let wide = |values: &[f32], lengths: &[usize]| -> Vec<f64> {
            values[..lengths.iter().sum::<usize>() * dim].iter().map(|value| f64::from(*value)).collect()
        };
        let (q, p) = (wide(qv, &ql), wide(pv, &pl));
        let slopes = &slopes[..ql.len() * pl.len()];
        let total: f64 = scored.scores.values().iter().zip(slopes).map(|(score, slope)| f64::from(score * slope)).sum();
        prop_assert!((total - weighted(&maxsim, &q, &ql, &p, &pl, dim, slopes)).abs() < 1e-4);

        let gradient = ScoreGrid::new(ql.len(), pl.len(), slopes.to_vec()).unwrap();
        let found = maxsim.backward(&queries, &pages, &scored, &gradient).unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (of_queries, of_pages) = (flat(&found.queries), flat(&found.pages));
        // So small that the maximum changes between the two sides in hardly any case.
        let step = 1e-6;
        for (at, given) in of_queries.iter().chain(&of_pages).enumerate() {
            let moved = |by: f64| {
                let (mut q, mut p) = (q.clone(), p.clone());
                *if at < q.len() { &mut q[at] } else { &mut p[at - of_queries.len()] } += by;
                weighted(&maxsim, &q, &ql, &p, &pl, dim, slopes)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            prop_assert!((slope - f64::from(*given)).abs() < 1e-3, "value {at}: slope {slope}, gradient {given}");
        }
    }
}

#[test]
fn of_equal_page_tokens_only_the_first_learns() {
    let (queries, pages) = (packed(&[1.0, 0.0], &[1], 2), packed(&[0.5, 0.5, 0.5, 0.5], &[2], 2));
    let maxsim = MaxSim::default();
    let scored = maxsim.score(&queries, &pages).unwrap();
    let slope = ScoreGrid::new(1, 1, vec![1.0]).unwrap();
    let found = maxsim.backward(&queries, &pages, &scored, &slope).unwrap();
    assert_eq!(found.pages.to_vec2::<f32>().unwrap(), [[1.0, 0.0], [0.0, 0.0]]);
}

#[test]
fn any_block_gives_the_same_grid() {
    let values: Vec<f32> = (0..480).map(|at| ((at * 37 % 101) as f32 / 50.0 - 1.0) * 0.7).collect();
    let (queries, pages) = (packed(&values, &[3, 1, 7, 2], 4), packed(&values[100..], &[5, 20, 1, 9, 2], 4));
    let whole = MaxSim::default().score(&queries, &pages).unwrap();
    for block in [0, 1, 17, 60, 100, 400] {
        let cut = MaxSim { block, ..MaxSim::default() }.score(&queries, &pages).unwrap();
        for (one, other) in whole.scores.values().iter().zip(cut.scores.values()) {
            assert!((one - other).abs() < 1e-6);
        }
        assert_eq!(whole.best, cut.best);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let tensor = |rows, columns| Tensor::zeros((rows, columns), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(Packed::new(tensor(3, 2), &[1, 1]).unwrap_err().to_string().contains("2 tokens"));
    assert!(Packed::new(tensor(1, 2), &[1, 0]).unwrap_err().to_string().contains("item 1"));
    assert!(Packed::new(tensor(1, 2).to_dtype(candle_core::DType::F16).unwrap(), &[1]).is_err());
    assert!(Packed::new(tensor(0, 2), &[]).is_err() && Packed::new(tensor(1, 0), &[1]).is_err());
    assert!(Packed::cat(&[]).is_err() && Packed::from_multi_vectors(&[]).is_err());
    let (two, three) = (Packed::new(tensor(1, 2), &[1]).unwrap(), Packed::new(tensor(1, 3), &[1]).unwrap());
    let maxsim = MaxSim::default();
    assert!(maxsim.score(&two, &three).unwrap_err().to_string().contains("2, as the queries"));
    let tau = MaxSim { similarity: Similarity::SmoothMax { tau: 0.0 }, ..maxsim };
    assert!(tau.score(&two, &two).unwrap_err().to_string().contains("tau"));
    let scored = maxsim.score(&two, &two).unwrap();
    assert!(maxsim.backward(&two, &two, &scored, &ScoreGrid::zeros(2, 1)).unwrap_err().to_string().contains("1 x 1"));
}
