//! The gate: is the new model better than the old one, beyond chance, and safe?
//!
//! It publishes when all of this holds:
//!
//! 1. *Better on held-out clicks.* The mean difference in nDCG@10, gains and weights being those of
//!    [`super::evidence::HeldOut`], discounted for position, has a one-sided p-value of at most `alpha_n`. Pages that clicks
//!    say nothing about are passed over in both rankings (condensed lists, Sakai, SIGIR 2007), so that a page which nobody
//!    was shown yet is no fault. Queries
//!    are resampled in pairs (paired bootstrap, Efron & Tibshirani 1993, chapter 16), which gives the interval and the
//!    standard error; the p-value is the normal tail beyond difference / standard error, since those needed after many
//!    trials are smaller than any number of resamplings can show. It is never below `2^-k` for `k` queries that differ,
//!    which is the most that a sign test could say.
//! 2. *Corrected for nightly trials.* Trial `n` since the last publication may use `alpha_n = alpha * 6 / (pi^2 n^2)`. These
//!    sum to `alpha`, so that nights of noise, however many, publish once with probability `alpha` at most, and publishing
//!    starts anew (alpha spending that is paid back on discovery: LORD, Javanmard & Montanari, Annals of Statistics 2018).
//! 3. *Not worse on any fixed set*, of questions whose answers are known whatever is clicked: the one-sided 95 % bound of the
//!    difference in nDCG@10 lies above `-margin` (non-inferiority). Pages that nobody was shown count there.
//! 4. *No takeover.* No page enters the first ten of more than a share of all queries without gain for them, and much oftener
//!    than others do. Whatever was learnt, no page may be good for everything.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::chance::{binomial_at_least, normal_above};
use super::graded::Graded;
use crate::Error;
use crate::data::PageId;
use crate::random::{Purpose, Stream};

/// Resamplings behind intervals and standard errors.
const RESAMPLINGS: usize = 2000;
/// The pages of a result list.
const TOP: usize = 10;
/// The probability below which a page enters more lists than chance explains.
const TAKEOVER_LEVEL: f64 = 1e-4;
/// The one-sided 95 % point of the normal distribution.
const Z_95: f64 = 1.645;

/// One query, ranked by both models.
#[derive(Clone, PartialEq, Debug)]
pub struct Compared {
    /// Its name, for the report.
    pub query: String,
    /// Pages that answer it, with how much they do, above 0.
    pub gains: Vec<(PageId, f64)>,
    /// Pages that are known not to answer it, where not all pages without a gain are: the others are passed over in both
    /// rankings, as nobody knows whether they answer.
    pub others: Option<Vec<PageId>>,
    /// The old model's ranking, best first.
    pub old: Vec<PageId>,
    /// The new model's ranking, best first.
    pub new: Vec<PageId>,
    /// Its share of the traffic, above 0.
    pub weight: f64,
}

impl Compared {
    /// nDCG@10 under the old model and under the new one.
    pub fn ndcg_10(&self) -> [f64; 2] {
        [&self.old, &self.new].map(|ranking| self.judge(ranking).ndcg(TOP))
    }

    /// A ranking of it against what is known.
    fn judge(&self, ranking: &[PageId]) -> Graded {
        let Some(others) = &self.others else { return Graded::new(ranking, &self.gains) };
        let known: HashSet<&PageId> = self.gains.iter().map(|(page, _)| page).chain(others).collect();
        let condensed: Vec<PageId> = ranking.iter().filter(|page| known.contains(page)).cloned().collect();
        Graded::new(&condensed, &self.gains)
    }
}

/// Questions whose answers are known, whatever is clicked.
#[derive(Clone, Copy, Debug)]
pub struct FixedSet<'a> {
    /// What they are, for the report.
    pub name: &'a str,
    /// Both models on them.
    pub queries: &'a [Compared],
}

/// When to publish.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct GateOptions {
    /// The probability with which nights of noise may publish. The default lets fifty independent logs of noise publish 0.3
    /// times on average.
    pub alpha: f64,
    /// nDCG@10 that a fixed set may lose, with 95 % confidence. 0.02 is about the change that users of a list of ten
    /// do not notice.
    pub margin: f64,
    /// Queries of held-out clicks without which nothing is decided.
    pub queries: usize,
    /// The share of queries whose first ten one page may newly enter without gain.
    pub takeover: f64,
    /// Of the resampling.
    pub seed: u64,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { alpha: 0.01, margin: 0.02, queries: 20, takeover: 0.1, seed: 0 }
    }
}

/// What the gate says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The new model serves from now on.
    Publish,
    /// The old model stays.
    Refuse {
        /// Why, in words.
        reason: String,
    },
}

/// A metric under both models: means over queries, weighted by traffic.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Paired {
    /// The old model's.
    pub old: f64,
    /// The new model's.
    pub new: f64,
    /// New less old.
    pub difference: f64,
    /// Lower end of the interval that holds the difference in 95 of 100 resamplings.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Standard error of the difference.
    pub error: f64,
    /// One-sided: the probability of such a difference, or a larger one, if the new model is no better.
    pub p: f64,
}

/// Both models on a set of queries.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// Queries.
    pub queries: usize,
    /// Queries of equal weight that would say as much: the effective sample size `(sum w)^2 / sum w^2` (Kish 1965).
    pub effective: f64,
    /// nDCG of the first 5 pages.
    pub ndcg_5: Paired,
    /// nDCG of the first 10 pages.
    pub ndcg_10: Paired,
    /// Mean reciprocal rank.
    pub mrr: Paired,
    /// Recall of the first page.
    pub recall_1: Paired,
    /// Recall of the first 5 pages.
    pub recall_5: Paired,
    /// Recall of the first 10 pages.
    pub recall_10: Paired,
}

/// A page that enters many lists.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Takeover {
    /// The page.
    pub page: String,
    /// Queries whose first ten it newly enters without gain.
    pub queries: usize,
}

/// The decision and what it rests on.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct GateReport {
    /// The decision.
    pub decision: Decision,
    /// The level that the clicks had to reach.
    pub alpha: f64,
    /// The trial since the last publication, from 1.
    pub trial: u64,
    /// On held-out clicks; none where there are no queries.
    pub clicks: Option<Comparison>,
    /// On the fixed sets, by their names.
    pub fixed: Vec<(String, Comparison)>,
    /// The page that enters the most lists without gain, if any does.
    pub takeover: Option<Takeover>,
}

/// Decides. `trial` counts the runs that came to the gate since the last publication, from 1, this one included.
///
/// # Errors
/// An option lies outside of its range, a gain or a weight is not above 0, or a query has no gain.
pub fn decide(
    clicks: &[Compared],
    fixed: &[FixedSet<'_>],
    trial: u64,
    options: &GateOptions,
) -> Result<GateReport, Error> {
    check(options, trial)?;
    let all = || clicks.iter().chain(fixed.iter().flat_map(|set| set.queries));
    all().try_for_each(check_query)?;
    let compare = |set: &[Compared]| (!set.is_empty()).then(|| compare(set, options.seed));
    let mut report = GateReport {
        decision: Decision::Publish,
        alpha: alpha(options.alpha, trial),
        trial,
        clicks: compare(clicks),
        fixed: fixed.iter().filter_map(|set| Some((set.name.to_owned(), compare(set.queries)?))).collect(),
        takeover: most_entered(all()),
    };
    if let Some(reason) = objection(&report, all(), options) {
        report.decision = Decision::Refuse { reason };
    }
    Ok(report)
}

/// The level of trial `n`: what all trials together may spend, times `6 / (pi^2 n^2)`.
fn alpha(all: f64, trial: u64) -> f64 {
    all * 6.0 / (std::f64::consts::PI * trial as f64).powi(2)
}

fn check(options: &GateOptions, trial: u64) -> Result<(), Error> {
    let within = |name, value: f64, expected| match value > 0.0 && value < 1.0 {
        true => Ok(()),
        false => Err(Error::setting(name, expected, value)),
    };
    within("alpha", options.alpha, "above 0 and below 1")?;
    within("margin", options.margin, "above 0 and below 1")?;
    within("takeover", options.takeover, "above 0 and below 1")?;
    if trial == 0 { Err(Error::setting("trial", "a number from 1", trial)) } else { Ok(()) }
}

fn check_query(query: &Compared) -> Result<(), Error> {
    let positive = |value: f64| value > 0.0 && value.is_finite();
    if !positive(query.weight) {
        return Err(Error::setting("weight of a query", "a number above 0", query.weight));
    }
    if query.gains.is_empty() {
        return Err(Error::shape("pages with a gain", "at least one", format!("none for query {}", query.query)));
    }
    match query.gains.iter().find(|(_, gain)| !positive(*gain)) {
        Some((_, gain)) => Err(Error::setting("gain of a page", "a number above 0", gain)),
        None => Ok(()),
    }
}

/// Why not to publish.
fn objection<'a>(
    report: &GateReport,
    all: impl Iterator<Item = &'a Compared> + Clone,
    options: &GateOptions,
) -> Option<String> {
    let queries = report.clicks.as_ref().map_or(0, |clicks| clicks.queries);
    let Some(clicks) = report.clicks.as_ref().filter(|_| queries >= options.queries) else {
        let expected = options.queries;
        return Some(format!(
            "clicks judge {queries} held-out queries, expected at least {expected} to decide anything"
        ));
    };
    if let Some(takeover) = report.takeover.as_ref().filter(|takeover| is_takeover(takeover, all.clone(), options)) {
        return Some(format!(
            "{} newly enters the first ten of {} of {} queries without any click or judgement for it",
            takeover.page,
            takeover.queries,
            all.count()
        ));
    }
    for (name, fixed) in &report.fixed {
        let low = fixed.ndcg_10.difference - Z_95 * fixed.ndcg_10.error;
        if low < -options.margin {
            return Some(format!(
                "worse on {name}: nDCG@10 changes by {:+.4}, with 95 % confidence by {low:+.4} or more, expected at least {:+.4}",
                fixed.ndcg_10.difference, -options.margin
            ));
        }
    }
    let gained = &clicks.ndcg_10;
    (gained.difference <= 0.0 || gained.p > report.alpha).then(|| {
        format!(
            "not surely better on held-out clicks: nDCG@10 changes by {:+.4} on {} queries that weigh like {:.0}, p {:.2e}, expected at most {:.2e} in trial {}",
            gained.difference, clicks.queries, clicks.effective, gained.p, report.alpha, report.trial
        )
    })
}

fn compare(set: &[Compared], seed: u64) -> Comparison {
    let judge = |ranking: fn(&Compared) -> &Vec<PageId>| -> Vec<Graded> {
        set.iter().map(|query| query.judge(ranking(query))).collect()
    };
    let (old, new) = (judge(|query| &query.old), judge(|query| &query.new));
    let weights: Vec<f64> = set.iter().map(|query| query.weight).collect();
    let metric = |of: &dyn Fn(&Graded) -> f64| {
        let of = |rankings: &[Graded]| rankings.iter().map(of).collect::<Vec<f64>>();
        paired(&of(&old), &of(&new), &weights, seed)
    };
    Comparison {
        queries: set.len(),
        effective: weights.iter().sum::<f64>().powi(2) / weights.iter().map(|weight| weight * weight).sum::<f64>(),
        ndcg_5: metric(&|one| one.ndcg(5)),
        ndcg_10: metric(&|one| one.ndcg(10)),
        mrr: metric(&Graded::reciprocal_rank),
        recall_1: metric(&|one| one.recall(1)),
        recall_5: metric(&|one| one.recall(5)),
        recall_10: metric(&|one| one.recall(10)),
    }
}

fn paired(old: &[f64], new: &[f64], weights: &[f64], seed: u64) -> Paired {
    let count = weights.len();
    let mean = |values: &[f64]| {
        let sum: f64 = values.iter().zip(weights).map(|(value, weight)| value * weight).sum();
        sum / weights.iter().sum::<f64>()
    };
    let differences: Vec<f64> = new.iter().zip(old).map(|(new, old)| new - old).collect();
    let resampled = |round: usize| {
        let mut stream = Stream::new(seed, Purpose::Bootstrap, &[round as u64]);
        let (mut sum, mut all) = (0.0, 0.0);
        for _ in 0..count {
            let at = stream.below(count);
            sum += differences[at] * weights[at];
            all += weights[at];
        }
        sum / all
    };
    let mut means: Vec<f64> = (0..RESAMPLINGS).map(resampled).collect();
    means.sort_unstable_by(f64::total_cmp);
    let centre = means.iter().sum::<f64>() / RESAMPLINGS as f64;
    let variance = means.iter().map(|mean| (mean - centre).powi(2)).sum::<f64>() / (RESAMPLINGS - 1) as f64;
    // Resampling `count` queries spreads as if there were one more.
    let error = (variance * count as f64 / (count.max(2) - 1) as f64).sqrt();
    let difference = mean(&differences);
    let changed = differences.iter().filter(|difference| **difference != 0.0).count();
    Paired {
        old: mean(old),
        new: mean(new),
        difference,
        low: means[RESAMPLINGS * 25 / 1000],
        high: means[RESAMPLINGS * 975 / 1000],
        error,
        p: p_value(difference, error, changed),
    }
}

fn p_value(difference: f64, error: f64, changed: usize) -> f64 {
    if difference <= 0.0 {
        return if error > 0.0 { normal_above(difference / error) } else { 1.0 };
    }
    let tail = if error > 0.0 { normal_above(difference / error) } else { 0.0 };
    tail.max(0.5f64.powi(changed.min(1000) as i32))
}

/// How many lists each page newly enters without gain, and how many pages there are.
fn entered<'a>(all: impl Iterator<Item = &'a Compared>) -> (BTreeMap<&'a PageId, usize>, usize) {
    let (mut entered, mut pages) = (BTreeMap::new(), HashSet::new());
    for query in all {
        let old: HashSet<&PageId> = query.old.iter().take(TOP).collect();
        pages.extend(query.old.iter().chain(&query.new));
        for page in query.new.iter().take(TOP).filter(|page| !old.contains(page)) {
            if query.gains.iter().all(|(gaining, _)| gaining != page) {
                *entered.entry(page).or_default() += 1;
            }
        }
    }
    (entered, pages.len())
}

fn most_entered<'a>(all: impl Iterator<Item = &'a Compared>) -> Option<Takeover> {
    let most = entered(all).0.into_iter().max_by(|one, other| one.1.cmp(&other.1).then_with(|| other.0.cmp(one.0)));
    most.map(|(page, queries)| Takeover { page: page.to_string(), queries })
}

fn is_takeover<'a>(
    takeover: &Takeover,
    all: impl Iterator<Item = &'a Compared> + Clone,
    options: &GateOptions,
) -> bool {
    let queries = all.clone().count();
    let (entered, pages) = entered(all);
    let others = entered.values().sum::<usize>() - takeover.queries;
    let usual = others as f64 / (pages.max(2) - 1) as f64 / queries as f64;
    let chance = binomial_at_least(queries as u64, usual.clamp(1e-3, 1.0), takeover.queries as u64);
    takeover.queries as f64 > options.takeover * queries as f64 && chance < TAKEOVER_LEVEL
}

#[cfg(test)]
mod tests;
