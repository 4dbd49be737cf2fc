//! Votes: how often each page was shown for each query, at which ranks, and how often sessions took it for an answer.

use std::collections::BTreeMap;

use crate::clicks::visits::{Exposure, Outcome, Visit, Visits};

/// Ranks that are told apart: 1 to 10, then up to 20, up to 50, and all beyond.
pub(super) const RANKS: usize = 13;
/// Ranks without, then with a click above them: who reads from the top and has found something may have stopped, which is
/// what the user browsing model (Dupret & Piwowarski, SIGIR 2008) adds to the position-based one.
pub(super) const PLACES: usize = 2 * RANKS;

/// Where a page is counted.
fn place(rank: u32, below_click: bool) -> usize {
    let rank = match rank {
        0 | 1 => 0,
        2..=10 => rank as usize - 1,
        11..=20 => 10,
        21..=50 => 11,
        _ => 12,
    };
    rank + if below_click { RANKS } else { 0 }
}

/// Sessions at one place: those that could have taken the page for an answer, those that did, and beside both those that
/// clicked it without saying which.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Tally {
    pub shown: f64,
    pub positive: f64,
    pub unclear: f64,
}

/// One page for one query.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Pair {
    pub query: usize,
    pub page: usize,
    /// By place, each once.
    pub tallies: Vec<(usize, Tally)>,
    /// Sessions that examined it and did not click.
    pub skips: u64,
    /// Positive votes of sessions that clicked no other page at all.
    pub alone: u64,
}

impl Pair {
    fn tally(&mut self, place: usize) -> &mut Tally {
        let at = self.tallies.iter().position(|(known, _)| *known == place).unwrap_or_else(|| {
            self.tallies.push((place, Tally::default()));
            self.tallies.len() - 1
        });
        &mut self.tallies[at].1
    }

    pub fn positive(&self) -> u64 {
        self.tallies.iter().map(|(_, tally)| tally.positive as u64).sum()
    }

    pub fn shown(&self) -> u64 {
        self.tallies.iter().map(|(_, tally)| tally.shown as u64).sum()
    }

    /// The same with every click for a vote.
    pub fn with_all_clicks(&self) -> Self {
        let all = |(place, tally): &(usize, Tally)| {
            let (shown, positive) = (tally.shown + tally.unclear, tally.positive + tally.unclear);
            (*place, Tally { shown, positive, unclear: 0.0 })
        };
        Self { tallies: self.tallies.iter().map(all).collect(), ..self.clone() }
    }

    /// The same with `times` as many votes as are expected of an answer, at each place.
    pub fn with_votes(&self, times: f64, expected: impl Fn(usize) -> f64) -> Self {
        let votes = |(place, tally): &(usize, Tally)| {
            (*place, Tally { positive: (times * expected(*place) * tally.shown).min(tally.shown), ..*tally })
        };
        Self { tallies: self.tallies.iter().map(votes).collect(), ..self.clone() }
    }

    /// The rank, as a place without a click above, at which it was shown most often; of several the highest.
    pub fn main_place(&self) -> usize {
        let mut shown = [0.0; RANKS];
        self.tallies.iter().for_each(|(place, tally)| shown[place % RANKS] += tally.shown);
        let highest = |best: usize, place: usize| if shown[place] > shown[best] { place } else { best };
        (0..RANKS).fold(0, highest)
    }
}

/// Counts the visits that `of` takes, in order of query and page. Whether a vote counts is up to `trusted`.
pub(super) fn count(
    visits: &Visits,
    of: impl Fn(&Visit) -> bool,
    trusted: impl Fn(&Visit, &Exposure) -> bool,
) -> Vec<Pair> {
    let mut pairs: BTreeMap<(usize, usize), Pair> = BTreeMap::new();
    for visit in visits.visits().iter().filter(|visit| of(visit)) {
        let clicks = visit.pages.iter().filter(|exposure| exposure.outcome >= Outcome::Unclear);
        let first_click = clicks.map(|exposure| exposure.rank).min().unwrap_or(u32::MAX);
        for exposure in &visit.pages {
            let votes = exposure.outcome != Outcome::NotSeen;
            if !votes || !trusted(visit, exposure) {
                continue;
            }
            let new = || Pair { query: visit.query, page: exposure.page, ..Pair::default() };
            let pair = pairs.entry((visit.query, exposure.page)).or_insert_with(new);
            let tally = pair.tally(place(exposure.rank, first_click < exposure.rank));
            let positive = exposure.outcome == Outcome::Positive;
            if exposure.outcome == Outcome::Unclear {
                tally.unclear += 1.0;
                continue;
            }
            tally.shown += 1.0;
            tally.positive += f64::from(u8::from(positive));
            pair.skips += u64::from(exposure.outcome == Outcome::Skipped);
            pair.alone += u64::from(positive && visits.sessions()[visit.session].only_page() == Some(exposure.page));
        }
    }
    pairs.into_values().collect()
}
