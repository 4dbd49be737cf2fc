//! Gradient caching against one backward pass through the whole batch, written with candle's own operations.

mod network;
mod whole;

use candle_core::{D, Device, Tensor, Var};
use colqwen_index_train::Error;
use colqwen_index_train::dropout::Dropout;
use colqwen_index_train::encode::{Encode, Parameter, Place, Side};
use colqwen_index_train::grad_cache::{Batch, GradCache, Learnt};
use colqwen_index_train::gradients::Gradients;
use colqwen_index_train::loss::{Evaluated, Kind, Loss};
use colqwen_index_train::maxsim::{MaxSim, Packed};
use colqwen_index_train::random::{Purpose, Stream};
use colqwen_index_train::scores::{Cell, Targets};

use self::whole::{Case, SIMILARITIES, Teacher, Whole, cases};

const INPUTS: usize = 6;
const HIDDEN: usize = 10;
const DIM: usize = 5;

/// Two layers with dropout between them, and `depth` operations that change nothing after them.
struct Toy {
    parameters: Vec<Parameter>,
    dropout: Dropout,
    depth: usize,
}

fn random(stream: &mut Stream, rows: usize, columns: usize) -> Tensor {
    let values: Vec<f32> = (0..rows * columns).map(|_| stream.normal() as f32).collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
}

impl Toy {
    fn new(rate: f64) -> Self {
        let mut stream = Stream::new(1, Purpose::Weights, &[]);
        let mut parameter = |name: &str, rows, columns| Parameter {
            name: name.to_owned(),
            var: Var::from_tensor(&random(&mut stream, rows, columns)).unwrap(),
        };
        let parameters = vec![
            parameter("first", HIDDEN, INPUTS),
            parameter("second", DIM, HIDDEN),
            parameter("bias", 1, DIM),
            parameter("unused", 2, 2),
        ];
        Self { parameters, dropout: Dropout::new(rate, 4).unwrap(), depth: 0 }
    }
}

impl Encode for Toy {
    /// Tokens x inputs.
    type Item = Tensor;

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn encode(&self, items: &[Tensor], side: Side, place: Place) -> Result<Packed, Error> {
        let lengths: Vec<usize> = items.iter().map(|item| item.dims()[0]).collect();
        let [first, second, bias] = [0, 1, 2].map(|at| self.parameters[at].var.as_tensor());
        let x = Tensor::cat(items, 0)?.matmul(&first.t()?)?.gelu()?;
        let x = self.dropout.apply(&x, &lengths, 0, side, place)?.matmul(&second.t()?)?.broadcast_add(bias)?;
        let mut x = x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)?;
        for _ in 0..self.depth {
            x = (x + 0.0)?;
        }
        Packed::new(x, &lengths)
    }
}

fn items(count: usize, tokens: impl Fn(usize) -> usize, key: u64) -> Vec<Tensor> {
    let mut stream = Stream::new(2, Purpose::Choice, &[key]);
    (0..count).map(|item| random(&mut stream, tokens(item), INPUTS)).collect()
}

/// Seven queries, their pages, three mined negatives and two constant pages; some cells ignored.
fn targets() -> Targets {
    let cell = |query: usize, page: usize| match page {
        _ if page == query => Cell::Positive,
        7..10 if (page - 7) * 2 == query => Cell::Explicit,
        7..10 => Cell::Ignored,
        _ if (query + page) % 5 == 1 => Cell::Ignored,
        _ => Cell::Negative,
    };
    Targets::new(12, (0..7).flat_map(|query| (0..12).map(move |page| cell(query, page))).collect()).unwrap()
}

fn largest(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// The largest relative difference of a parameter's gradient.
fn difference(found: &Gradients, expected: &[Option<Tensor>]) -> f32 {
    assert_eq!(found.iter().len(), expected.len());
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |worst: f32, (found, expected)| match (found, expected) {
        (Some(found), Some(expected)) => {
            let error = largest(&(found - expected).unwrap()) / largest(expected);
            // The larger of a number and NaN would be the number.
            if error.is_nan() { f32::INFINITY } else { worst.max(error) }
        }
        (None, None) => worst,
        _ => f32::INFINITY,
    })
}

/// As [`difference`], of all that was learnt.
fn compare(case: &Case, learnt: &Learnt, (evaluated, gradients): (Evaluated, Vec<Option<Tensor>>)) -> f32 {
    assert!((learnt.evaluated.value - evaluated.value).abs() < 1e-5 * evaluated.value.max(1.0), "{case:?}");
    assert_eq!(learnt.evaluated.suspects, evaluated.suspects, "{case:?}");
    // A filter that takes nothing would be no filter.
    assert_eq!(evaluated.suspects > 0, case.loss.filter.is_some(), "{case:?}");
    difference(&learnt.gradients, &gradients)
}

#[test]
fn gradients_are_those_of_the_whole_batch() {
    let queries = items(7, |item| 1 + item % 3, 0);
    let pages = items(10, |item| 2 + item % 4, 1);
    let constant = Packed::new(random(&mut Stream::new(3, Purpose::Choice, &[]), 7, DIM), &[3, 4]).unwrap();
    let (targets, place) = (targets(), Place { step: 5, first_row: 0 });
    let teacher = Teacher::of(&targets);
    for (rate, mini_batch) in [(0.0, 3), (0.3, 1), (0.3, 4), (0.3, 100)] {
        let model = Toy::new(rate);
        let of_queries = model.encode(&queries, Side::Query, place).unwrap();
        let of_pages = model.encode(&pages, Side::Page, place).unwrap();
        let all_pages = Packed::cat(&[of_pages, constant.clone()]).unwrap();
        for similarity in SIMILARITIES {
            let maxsim = MaxSim { similarity, block: 50, ..MaxSim::default() };
            let whole = Whole::new(&maxsim, &of_queries, &all_pages);
            for case in cases(0.2, whole.threshold(&targets)) {
                let batch = Batch {
                    queries: &queries,
                    pages: &pages,
                    constant_pages: Some(&constant),
                    teacher: teacher.beside(&case),
                    targets: &targets,
                };
                let learnt = GradCache { maxsim, loss: case.loss, mini_batch }.learn(&model, batch, 5).unwrap();
                let expected = whole.learn(&case, &targets, &teacher, model.parameters());
                assert!(expected.1[0].is_some() && expected.1[3].is_none());
                let error = compare(&case, &learnt, expected);
                assert!(error < 1e-5, "{case:?}, {similarity:?}, dropout {rate}, {mini_batch} at once: {error}");
            }
        }
    }
}

#[test]
fn plain_accumulation_is_something_else() {
    let (queries, pages) = (items(6, |_| 2, 0), items(6, |_| 3, 1));
    let model = Toy::new(0.0);
    let cache = GradCache {
        maxsim: MaxSim::default(),
        loss: Loss { temperature: 0.2, ..Loss::new(Kind::InfoNce) },
        mini_batch: 2,
    };
    let learn = |rows: std::ops::Range<usize>| {
        let targets = Targets::diagonal(rows.len()).unwrap();
        let batch = Batch {
            queries: &queries[rows.clone()],
            pages: &pages[rows],
            constant_pages: None,
            teacher: None,
            targets: &targets,
        };
        cache.learn(&model, batch, 0).unwrap()
    };
    let whole = learn(0..6);
    let parts: Vec<_> = [0..2, 2..4, 4..6].map(learn).into_iter().collect();
    let of_first = |learnt: &Learnt| learnt.gradients.iter().next().unwrap().unwrap().clone();
    let sum = parts.iter().map(of_first).reduce(|sum, part| (sum + part).unwrap()).unwrap();
    let difference = largest(&(of_first(&whole) - (sum / 3.0).unwrap()).unwrap()) / largest(&of_first(&whole));
    assert!(difference > 0.1, "{difference}");
    assert!(whole.evaluated.no_learning > parts[0].evaluated.no_learning);
}

#[test]
fn deep_graphs_do_not_end_the_program() {
    let (queries, pages) = (items(2, |_| 1, 0), items(2, |_| 1, 1));
    let model = Toy { depth: 30_000, ..Toy::new(0.0) };
    let targets = Targets::diagonal(2).unwrap();
    let cache = GradCache { maxsim: MaxSim::default(), loss: Loss::new(Kind::InfoNce), mini_batch: 1 };
    let batch = Batch { queries: &queries, pages: &pages, constant_pages: None, teacher: None, targets: &targets };
    assert!(cache.learn(&model, batch, 0).is_ok());
    assert!(
        GradCache { mini_batch: 0, ..cache }.learn(&model, batch, 0).unwrap_err().to_string().contains("mini-batch")
    );
}
