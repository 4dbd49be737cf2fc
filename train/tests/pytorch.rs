//! Losses and gradients, from token vectors to the loss and back, against PyTorch and colpali-engine. The fixture is
//! made by `tests/oracle/make_losses.py`.

use candle_core::{Device, Tensor};
use colqwen_index_train::loss::{Distillation, Evaluated, Explicit, Kind, Loss, NegativeFilter, Suspects};
use colqwen_index_train::maxsim::{MaxSim, Packed, Similarity};
use colqwen_index_train::scores::{Cell, ScoreGrid, Targets};
use serde_json::Value;

/// How far a value may lie from PyTorch's, relative to the largest of its kind: ours are computed from f32 vectors.
const TOLERANCE: f64 = 2e-5;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Queries or pages of a case, with the gradient that is expected for them.
struct Side {
    lengths: Vec<usize>,
    values: Vec<f32>,
    gradient: Vec<f64>,
}

impl Side {
    fn read(value: &Value) -> Self {
        Self {
            lengths: numbers(&value["lengths"]).iter().map(|length| *length as usize).collect(),
            values: numbers(&value["values"]).iter().map(|value| *value as f32).collect(),
            gradient: numbers(&value["gradient"]),
        }
    }

    fn join(mut self, other: Self) -> Self {
        self.lengths.extend(other.lengths);
        self.values.extend(other.values);
        self.gradient.extend(other.gradient);
        self
    }

    fn packed(&self, dim: usize) -> Packed {
        let shape = (self.values.len() / dim, dim);
        Packed::new(Tensor::from_slice(&self.values, shape, &Device::Cpu).unwrap(), &self.lengths).unwrap()
    }

    fn check(&self, name: &str, found: &Tensor) {
        let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
        let scale = self.gradient.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        assert_eq!(found.len(), self.gradient.len());
        for (at, (found, expected)) in found.iter().zip(&self.gradient).enumerate() {
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference <= TOLERANCE * scale, "{name}: value {at}: expected {expected}, received {found}");
        }
    }
}

fn evaluate(case: &Value, scores: &ScoreGrid, mined: usize) -> Evaluated {
    let settings = &case["settings"];
    let number = |name: &str| settings[name].as_f64();
    let temperature = number("temperature").unwrap();
    let kind = match settings["kind"].as_str().unwrap() {
        "info_nce" => Kind::InfoNce,
        "pairwise" => Kind::Pairwise,
        "sigmoid" => Kind::Sigmoid,
        "distillation" => {
            let rows = settings["teacher"].as_array().unwrap().iter();
            let row = |row: &Value| numbers(row).iter().map(|score| *score as f32).enumerate().collect();
            let teacher: Vec<Vec<(usize, f32)>> = rows.map(row).collect();
            let loss = Distillation { temperature, teacher_temperature: number("teacher_temperature").unwrap() };
            return loss.evaluate(scores, &teacher).unwrap();
        }
        other => panic!("unknown loss {other:?}"),
    };
    // What only some cases have.
    let set = |name: &str| settings[name].as_bool().unwrap_or(false);
    let explicit = if set("candidates") {
        Explicit::Candidates
    } else {
        Explicit::Pairs { in_batch_weight: number("in_batch_weight").unwrap_or(0.5) }
    };
    let filter = match (set("filtered"), set("ignored")) {
        (true, _) => Some(NegativeFilter { threshold: 0.95, suspects: Suspects::Scale(0.5) }),
        (_, true) => Some(NegativeFilter::default()),
        _ => None,
    };
    let loss = Loss { temperature, explicit, filter, ..Loss::new(kind) };
    // The queries' own pages, then each query's mined negatives.
    let queries = scores.queries();
    let cell = |query: usize, page: usize| match page {
        page if page == query => Cell::Positive,
        page if page < queries => Cell::Negative,
        page if (page - queries) / mined == query => Cell::Explicit,
        _ => Cell::Ignored,
    };
    let cells = (0..queries).flat_map(|query| (0..scores.pages()).map(move |page| cell(query, page))).collect();
    loss.evaluate(scores, &Targets::new(scores.pages(), cells).unwrap()).unwrap()
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let fixture: Value = serde_json::from_str(include_str!("oracle/losses.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 38);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let dim = case["dim"].as_u64().unwrap() as usize;
        let queries = Side::read(&case["queries"]);
        let negatives: Vec<Side> = case["negatives"].as_array().unwrap().iter().map(Side::read).collect();
        let mined = negatives.first().map_or(1, |own| own.lengths.len());
        let pages = negatives.into_iter().fold(Side::read(&case["pages"]), Side::join);
        let smooth = case["settings"]["smooth_max"].as_bool().unwrap();
        let maxsim = MaxSim {
            similarity: if smooth { Similarity::SmoothMax { tau: 0.1 } } else { Similarity::Max },
            per_token: case["settings"]["divided"].as_bool().unwrap(),
            block: 40,
        };
        let (query_vectors, page_vectors) = (queries.packed(dim), pages.packed(dim));
        let scored = maxsim.score(&query_vectors, &page_vectors).unwrap();
        let evaluated = evaluate(case, &scored.scores, mined);
        let expected = case["loss"].as_f64().unwrap();
        assert!(
            (evaluated.value - expected).abs() <= TOLERANCE * expected,
            "{name}: {} != {expected}",
            evaluated.value
        );
        if let Some(suspects) = case["suspects"].as_u64() {
            assert_eq!(evaluated.suspects as u64, suspects, "{name}");
        }
        let found = maxsim.backward(&query_vectors, &page_vectors, &scored, &evaluated.gradient).unwrap();
        queries.check(&format!("{name}, queries"), &found.queries);
        pages.check(&format!("{name}, pages"), &found.pages);
    }
}
