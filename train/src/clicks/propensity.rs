//! How likely a rank is examined at all, for clicks that shall count by the inverse of it.
//!
//! Three ways to find out, best first: lists in random order, where nothing but the rank can matter; the position-based
//! model, where pages stood at several ranks for the same query; and the cascade model, which believes that people read from
//! the top. Each says why it cannot where the log does not hold what it needs. On the one large public log none of them
//! ranked better than counting clicks as they are, so take them only where they win on validation.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::visits::{Exposure, Outcome, Visit, Visits};

/// The deepest rank that is told apart; those beyond count like it.
const RANKS: usize = 10;
/// Clicks without which nothing is estimated.
const CLICKS: f64 = 100.0;
/// Rounds of expectation maximisation.
const ROUNDS: usize = 500;
/// No click counts for more than this many.
const MOST: f64 = 10.0;

/// Why propensities cannot be had from a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize)]
#[error("{0}")]
pub struct Unknowable(String);

/// Examination probabilities of ranks, relative to the first.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Propensities {
    /// How they were found: `randomised`, `position_based` or `cascade`.
    pub source: &'static str,
    /// By rank, from rank 1.
    pub examined: Vec<f64>,
}

impl Propensities {
    fn new(source: &'static str, examined: Vec<f64>) -> Self {
        let first = examined.first().copied().unwrap_or(1.0).max(1e-9);
        // What is examined less than a rank below it is so by chance of few clicks.
        let mut most = 1.0f64;
        let falling = examined.iter().map(|value| {
            most = most.min(value / first);
            most
        });
        Self { source, examined: falling.collect() }
    }

    /// The probability that a rank is examined, against that of rank 1. Ranks beyond the last known one count like it.
    pub fn examined(&self, rank: u32) -> f64 {
        let at = (rank.max(1) as usize - 1).min(self.examined.len().saturating_sub(1));
        self.examined.get(at).copied().unwrap_or(1.0)
    }

    /// What a click at a rank counts: the inverse of its propensity, clipped to 10 (Joachims et al., WSDM 2017).
    pub fn weight(&self, rank: u32) -> f64 {
        (1.0 / self.examined(rank)).min(MOST)
    }

    /// The weighted mean of values of clicks, self-normalised: divided by the sum of the weights (Swaminathan & Joachims,
    /// NeurIPS 2015). None without clicks.
    pub fn mean(&self, clicks: impl IntoIterator<Item = (u32, f64)>) -> Option<f64> {
        let weighted = clicks.into_iter().map(|(rank, value)| (self.weight(rank), value));
        let (sum, weights) =
            weighted.fold((0.0, 0.0), |(sum, weights), (weight, value)| (sum + weight * value, weights + weight));
        (weights > 0.0).then(|| sum / weights)
    }

    /// From lists in random order: the click rate of each rank.
    ///
    /// # Errors
    /// Too few clicks on such lists, or none at rank 1.
    pub fn randomised(visits: &Visits) -> Result<Self, Unknowable> {
        let mut ranks = [Tally::default(); RANKS];
        for visit in visits.visits().iter().filter(|visit| visit.randomised) {
            known(visit).for_each(|exposure| ranks[place(exposure.rank)].add(exposure));
        }
        enough(ranks.iter().map(|tally| tally.clicks).sum(), "lists in random order")?;
        if ranks[0].clicks == 0.0 {
            return Err(Unknowable("nobody clicked rank 1 of a list in random order, expected some clicks".to_owned()));
        }
        let shown = ranks.iter().take_while(|tally| tally.shown > 0.0);
        Ok(Self::new("randomised", shown.map(|tally| (tally.clicks + 0.5) / (tally.shown + 1.0)).collect()))
    }

    /// By the position-based model, a click being examination of the rank times attraction of the page to the query
    /// (Richardson et al., WWW 2007), by expectation maximisation (Wang et al., WSDM 2018) on the pages that stood at
    /// several ranks.
    ///
    /// # Errors
    /// Pages do not change ranks, or too rarely to link the ranks with rank 1.
    pub fn position_based(visits: &Visits) -> Result<Self, Unknowable> {
        let mut pairs: BTreeMap<(usize, usize), BTreeMap<usize, Tally>> = BTreeMap::new();
        for visit in visits.visits() {
            for exposure in known(visit) {
                let ranks = pairs.entry((visit.query, exposure.page)).or_default();
                ranks.entry(place(exposure.rank)).or_default().add(exposure);
            }
        }
        let all = pairs.len();
        pairs.retain(|_, ranks| ranks.len() > 1);
        if pairs.is_empty() {
            return Err(Unknowable(format!(
                "none of {all} pages stood at two ranks for the same query, so rank and relevance cannot be told apart"
            )));
        }
        let clicks = pairs.values().flat_map(BTreeMap::values).map(|tally| tally.clicks).sum();
        enough(clicks, "pages that stood at two ranks for the same query")?;
        let linked = linked_with_first(pairs.values());
        if linked < 2 {
            return Err(Unknowable(
                "no page stood at rank 1 and at rank 2 for the same query, or at others between them".to_owned(),
            ));
        }
        Ok(Self::new("position_based", expectation_maximisation(&pairs, linked)))
    }

    /// By the cascade model.
    ///
    /// # Errors
    /// Too few clicks.
    pub fn cascade(visits: &Visits) -> Result<Self, Unknowable> {
        Ok(Self::new("cascade", Cascade::fit(visits)?.examined()))
    }
}

/// People read from the top; after a click they go on with a probability that depends on the rank, and without a click they
/// always go on (dependent click model, Guo et al., WSDM 2009, which is the cascade model of Craswell et al. for lists with
/// several clicks).
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Cascade {
    /// The probability of a click at an examined rank, from rank 1.
    pub attraction: Vec<f64>,
    /// The probability of going on after a click there.
    pub goes_on: Vec<f64>,
}

impl Cascade {
    /// Maximum likelihood, all that stands above the lowest click being examined and nothing below it.
    ///
    /// # Errors
    /// Too few clicks.
    pub fn fit(visits: &Visits) -> Result<Self, Unknowable> {
        let (mut ranks, mut last) = ([Tally::default(); RANKS], [0.0; RANKS]);
        for visit in visits.visits() {
            let lowest = visit.pages.iter().filter(|exposure| is_click(exposure)).map(|exposure| exposure.rank).max();
            let Some(lowest) = lowest else { continue };
            last[place(lowest)] += 1.0;
            for exposure in visit.pages.iter().filter(|exposure| exposure.rank <= lowest) {
                ranks[place(exposure.rank)].add(exposure);
            }
        }
        enough(ranks.iter().map(|tally| tally.clicks).sum(), "lists")?;
        Ok(Self {
            attraction: ranks.iter().map(|tally| (tally.clicks + 0.5) / (tally.shown + 1.0)).collect(),
            goes_on: ranks.iter().zip(last).map(|(tally, last)| 1.0 - (last + 0.5) / (tally.clicks + 1.0)).collect(),
        })
    }

    /// The probability that each rank is examined.
    pub fn examined(&self) -> Vec<f64> {
        let mut reached = 1.0;
        let reach = |(attraction, goes_on): (&f64, &f64)| {
            let here = reached;
            reached *= 1.0 - attraction * (1.0 - goes_on);
            here
        };
        self.attraction.iter().zip(&self.goes_on).map(reach).collect()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    shown: f64,
    clicks: f64,
}

impl Tally {
    fn add(&mut self, exposure: &Exposure) {
        self.shown += 1.0;
        self.clicks += f64::from(u8::from(is_click(exposure)));
    }
}

fn place(rank: u32) -> usize {
    (rank.max(1) as usize).min(RANKS) - 1
}

fn is_click(exposure: &Exposure) -> bool {
    exposure.outcome >= Outcome::Unclear
}

/// Pages at ranks that are told apart.
fn known(visit: &Visit) -> impl Iterator<Item = &Exposure> {
    visit.pages.iter().filter(|exposure| exposure.rank as usize <= RANKS)
}

fn enough(clicks: f64, on: &str) -> Result<(), Unknowable> {
    if clicks >= CLICKS {
        return Ok(());
    }
    Err(Unknowable(format!("there are {clicks} clicks on {on}, expected at least {CLICKS}")))
}

/// How many ranks from the first on are linked with it by pages that stood at both.
fn linked_with_first<'a>(pairs: impl Iterator<Item = &'a BTreeMap<usize, Tally>>) -> usize {
    let groups: Vec<Vec<usize>> = pairs.map(|ranks| ranks.keys().copied().collect()).collect();
    let mut linked = BTreeSet::from([0]);
    loop {
        let before = linked.len();
        for group in &groups {
            if group.iter().any(|rank| linked.contains(rank)) {
                linked.extend(group);
            }
        }
        if linked.len() == before {
            return linked.iter().zip(0..).take_while(|(rank, at)| **rank == *at).count();
        }
    }
}

fn expectation_maximisation(pairs: &BTreeMap<(usize, usize), BTreeMap<usize, Tally>>, ranks: usize) -> Vec<f64> {
    let mut examined: Vec<f64> = (0..ranks).map(|rank| 1.0 / (rank as f64 + 1.0)).collect();
    let mut attraction = vec![0.5; pairs.len()];
    for _ in 0..ROUNDS {
        let mut sums = vec![(0.0, 0.0); ranks];
        for (attraction, tallies) in attraction.iter_mut().zip(pairs.values()) {
            // One click in two examinations beforehand, so that no page is certain.
            let (mut attracted, mut shown) = (1.0, 2.0);
            for (rank, tally) in tallies.iter().filter(|(rank, _)| **rank < ranks) {
                let (theta, gamma, missed) = (examined[*rank], *attraction, tally.shown - tally.clicks);
                let no_click = (1.0 - theta * gamma).max(1e-9);
                sums[*rank].0 += tally.clicks + missed * theta * (1.0 - gamma) / no_click;
                sums[*rank].1 += tally.shown;
                attracted += tally.clicks + missed * gamma * (1.0 - theta) / no_click;
                shown += tally.shown;
            }
            *attraction = attracted / shown;
        }
        for (examined, (sum, shown)) in examined.iter_mut().zip(&sums) {
            *examined = (sum / f64::max(*shown, 1.0)).clamp(1e-3, 0.999);
        }
    }
    examined
}
