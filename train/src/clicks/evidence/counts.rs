//! Votes: how often each page was shown for each query, at which ranks, and how often sessions took it for an answer.

use std::collections::BTreeMap;

use crate::clicks::visits::{Exposure, Outcome, Visit, Visits};

/// Ranks that are told apart: 1 to 10, then up to 20, up to 50, and all beyond.
pub(super) const PLACES: usize = 13;

/// Where a rank is counted.
pub(super) fn place(rank: u32) -> usize {
    match rank {
        0 | 1 => 0,
        2..=10 => rank as usize - 1,
        11..=20 => 10,
        21..=50 => 11,
        _ => 12,
    }
}

/// Sessions at one place: those that could have clicked, and those that did.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Tally {
    pub shown: f64,
    pub positive: f64,
}

/// One page for one query.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Pair {
    pub query: usize,
    pub page: usize,
    /// By place, ascending.
    pub tallies: Vec<(usize, Tally)>,
    /// Sessions that examined it and did not click.
    pub skips: u64,
    /// Positive votes of sessions that clicked no other page at all.
    pub alone: u64,
}

impl Pair {
    pub fn positive(&self) -> u64 {
        self.tallies.iter().map(|(_, tally)| tally.positive as u64).sum()
    }

    pub fn shown(&self) -> u64 {
        self.tallies.iter().map(|(_, tally)| tally.shown as u64).sum()
    }

    /// The place where it was shown most often; of several the highest.
    pub fn main_place(&self) -> usize {
        let most = self
            .tallies
            .iter()
            .max_by(|one, other| one.1.shown.total_cmp(&other.1.shown).then_with(|| other.0.cmp(&one.0)));
        most.map_or(0, |(place, _)| *place)
    }
}

/// Tallies by place, skips, and clicks of sessions that clicked nothing else.
type Counted = (BTreeMap<usize, Tally>, u64, u64);

/// Counts the visits that `of` takes, in order of query and page. Whether a vote counts is up to `trusted`.
pub(super) fn count(
    visits: &Visits,
    of: impl Fn(&Visit) -> bool,
    trusted: impl Fn(&Visit, &Exposure) -> bool,
) -> Vec<Pair> {
    let mut pairs: BTreeMap<(usize, usize), Counted> = BTreeMap::new();
    for visit in visits.visits().iter().filter(|visit| of(visit)) {
        for exposure in &visit.pages {
            let votes = matches!(exposure.outcome, Outcome::Positive | Outcome::Skipped | Outcome::Unknown);
            if !votes || !trusted(visit, exposure) {
                continue;
            }
            let (tallies, skips, alone) = pairs.entry((visit.query, exposure.page)).or_default();
            let tally = tallies.entry(place(exposure.rank)).or_default();
            let positive = exposure.outcome == Outcome::Positive;
            tally.shown += 1.0;
            tally.positive += f64::from(u8::from(positive));
            *skips += u64::from(exposure.outcome == Outcome::Skipped);
            *alone += u64::from(positive && visits.sessions()[visit.session].only_page() == Some(exposure.page));
        }
    }
    let pair = |((query, page), (tallies, skips, alone)): ((usize, usize), Counted)| Pair {
        query,
        page,
        tallies: tallies.into_iter().collect(),
        skips,
        alone,
    };
    pairs.into_iter().map(pair).collect()
}
