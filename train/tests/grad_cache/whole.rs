//! What is expected: the scores of a whole batch in one graph of candle's own operations, the loss of those scores, and one
//! backward pass. Nothing of it comes from the run that is checked.

use candle_core::{Device, Tensor};
use colqwen_index_train::encode::Parameter;
use colqwen_index_train::loss::{
    Distillation, Evaluated, Explicit, Kind, Loss, NegativeFilter, Suspects, Teacher as Anchor,
};
use colqwen_index_train::maxsim::{MaxSim, Packed, Similarity};
use colqwen_index_train::random::{Purpose, Stream};
use colqwen_index_train::scores::{Cell, ScoreGrid, Targets};

pub const SIMILARITIES: [Similarity; 2] = [Similarity::Max, Similarity::SmoothMax { tau: 0.1 }];

/// What is asked of the scores.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub loss: Loss,
    /// Whether a teacher's ranking counts, too.
    pub taught: bool,
}

/// Every loss, with mined negatives as pairs and as candidates, with and without either filter, and each beside a teacher.
pub fn cases(temperature: f64, threshold: f64) -> Vec<Case> {
    let filters = [None, Some(Suspects::Ignore), Some(Suspects::Scale(0.5))];
    let mut cases = Vec::new();
    for kind in [Kind::InfoNce, Kind::Pairwise, Kind::Sigmoid] {
        for explicit in [Explicit::Pairs { in_batch_weight: 0.4 }, Explicit::Candidates] {
            for filter in filters {
                let filter = filter.map(|suspects| NegativeFilter { threshold, suspects });
                let loss = Loss { temperature, explicit, filter, ..Loss::new(kind) };
                let taught = filter.is_none().then_some(true);
                cases.extend([false].into_iter().chain(taught).map(|taught| Case { loss, taught }));
            }
        }
    }
    cases
}

/// A ranking of its own for every query.
pub struct Teacher(ScoreGrid);

impl Teacher {
    pub fn of(targets: &Targets) -> Self {
        let mut stream = Stream::new(4, Purpose::Choice, &[]);
        let (queries, pages) = (targets.queries(), targets.pages());
        let values = (0..queries * pages).map(|_| stream.normal() as f32).collect();
        Self(ScoreGrid::new(queries, pages, values).unwrap())
    }

    /// For a case that has one.
    pub fn beside(&self, case: &Case) -> Option<Anchor<'_>> {
        let distillation = Distillation { temperature: 0.3, teacher_temperature: 0.7 };
        case.taught.then_some(Anchor { scores: &self.0, weight: 0.6, distillation })
    }
}

/// The scores of a whole batch, with the graph that made them.
pub struct Whole {
    scores: Tensor,
    grid: ScoreGrid,
}

impl Whole {
    pub fn new(maxsim: &MaxSim, queries: &Packed, pages: &Packed) -> Self {
        let scores = scores(maxsim, queries, pages);
        let values = scores.flatten_all().unwrap().to_vec1().unwrap();
        Self { grid: ScoreGrid::new(queries.items(), pages.items(), values).unwrap(), scores }
    }

    /// A threshold of the filter that some negatives lie above and others below, in the widest gap near the middle, so that
    /// rounding moves none across.
    pub fn threshold(&self, targets: &Targets) -> f64 {
        let mut shares = Vec::new();
        for query in 0..targets.queries() {
            let row = self.grid.row(query);
            let positive = f64::from(row[targets.positive(query)]);
            let negatives = targets.row(query).iter().zip(row).filter(|(cell, _)| **cell == Cell::Negative);
            shares.extend(negatives.map(|(_, score)| f64::from(*score) / positive).filter(|_| positive > 0.0));
        }
        shares.retain(|share| *share > 0.1);
        shares.sort_unstable_by(f64::total_cmp);
        let middle = shares.len() / 4..shares.len() - shares.len() / 4;
        let gaps = shares[middle].windows(2).map(|pair| (pair[1] - pair[0], (pair[1] + pair[0]) / 2.0));
        gaps.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap().1
    }

    /// The loss and the gradient of each parameter.
    pub fn learn(
        &self,
        case: &Case,
        targets: &Targets,
        teacher: &Teacher,
        parameters: &[Parameter],
    ) -> (Evaluated, Vec<Option<Tensor>>) {
        let mut evaluated = case.loss.evaluate(&self.grid, targets).unwrap();
        let mut slopes = evaluated.gradient.values().to_vec();
        if let Some(teacher) = teacher.beside(case) {
            let taught = teacher.evaluate(&self.grid).unwrap();
            evaluated.value += taught.value;
            slopes.iter_mut().zip(taught.gradient.values()).for_each(|(sum, slope)| *sum += slope);
        }
        let slopes = Tensor::from_vec(slopes, self.scores.shape(), &Device::Cpu).unwrap();
        let store = (&self.scores * slopes).unwrap().sum_all().unwrap().backward().unwrap();
        let gradients = parameters.iter().map(|parameter| store.get(parameter.var.as_tensor()).cloned()).collect();
        (evaluated, gradients)
    }
}

/// Every pair by itself.
fn scores(maxsim: &MaxSim, queries: &Packed, pages: &Packed) -> Tensor {
    let split = |packed: &Packed| {
        let mut start = 0;
        let cut = |length: usize| {
            start += length;
            packed.vectors().narrow(0, start - length, length).unwrap()
        };
        packed.lengths().map(cut).collect::<Vec<Tensor>>()
    };
    let pages = split(pages);
    let rows = split(queries).into_iter().map(|query| {
        let score = |page: &Tensor| {
            let similarities = query.matmul(&page.t().unwrap()).unwrap();
            let best = match maxsim.similarity {
                Similarity::Max => {
                    let best = similarities.argmax_keepdim(1).unwrap();
                    similarities.gather(&best, 1).unwrap().squeeze(1).unwrap()
                }
                Similarity::SmoothMax { tau } => {
                    let scaled = (similarities / f64::from(tau)).unwrap();
                    (scaled.log_sum_exp(1).unwrap() * f64::from(tau)).unwrap()
                }
            };
            best.mean_all().unwrap()
        };
        Tensor::stack(&pages.iter().map(score).collect::<Vec<_>>(), 0).unwrap()
    });
    Tensor::stack(&rows.collect::<Vec<_>>(), 0).unwrap()
}
