//! Pages that somebody wants clicked: found by how they are clicked, since nothing else tells.
//!
//! Four tests, each of chance alone against what honest sessions cannot do, all at levels that hundreds of pages together
//! rarely reach:
//!
//! - *Clicked alone.* Most sessions that like a page also click some other page. If the positive votes for a page (or for a
//!   page on one query) come so often from sessions that clicked nothing else that the share of such votes for all other
//!   pages does not explain it (binomial), those sessions are left out, and only sessions vouch for the page that also
//!   clicked another one. Whether they clicked elsewhere does not depend on this page, so its rate stays comparable. This
//!   finds sessions made for one page, be each of them a single click.
//! - *Clicked more than an answer.* At a rank only so many people look, so even a perfect page is clicked only so often. A
//!   page with more positive votes than half again what pages that answer get at its ranks (Poisson) is treated likewise.
//! - *Still clicked more* when only such sessions count: nothing is learnt for the page.
//! - *Clicked whatever the query.* A page that answers nearly every query it is shown for, where the share of answers among
//!   all pages shown does not explain it (binomial): people click the page, not the answer. So it goes to pages that are
//!   only new, or only striking. Nothing is learnt for it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::counts::Pair;
use super::two_kinds::TwoKinds;
use crate::clicks::chance::{binomial_at_least, poisson_at_least};
use crate::clicks::visits::{Exposure, Visit, Visits};

/// Below this probability a page's clicks are not chance.
const PAGE_LEVEL: f64 = 1e-4;
/// The same for a page on one query, of which there are more, but which costs only this query's votes.
const PAIR_LEVEL: f64 = 1e-3;
/// Pages that answer differ among themselves by so much.
const MORE_THAN_ANSWERS: f64 = 1.5;
/// "Nearly every" query.
const NEARLY_ALL: f64 = 0.8;
/// The probability of answering so many of its queries below which a page is clicked whatever the query.
const WHATEVER_LEVEL: f64 = 1e-3;
/// Posteriors that count as known.
const KNOWN: f64 = 0.9;

/// What is odd about a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspicion {
    /// Too many of its clicks come from sessions that clicked nothing else.
    ClickedAlone,
    /// It is clicked more often than pages that answer are at its ranks.
    ClickedMoreThanAnswers,
    /// It is clicked for nearly every query.
    ClickedWhateverTheQuery,
}

/// Pages, and pages on one query, for which only sessions vouch that clicked another page too.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspects {
    pub pages: BTreeMap<usize, Suspicion>,
    pub pairs: BTreeSet<(usize, usize)>,
}

impl Suspects {
    pub fn find(pairs: &[Pair], model: &TwoKinds) -> Self {
        let all = Totals::of(pairs.iter(), model);
        let mut by_page: BTreeMap<usize, Totals> = BTreeMap::new();
        for pair in pairs {
            by_page.entry(pair.page).or_default().add(pair, model);
        }
        let mut suspects = Self::default();
        for (page, own) in &by_page {
            let share = (all.alone - own.alone) as f64 / (all.positive - own.positive).max(1) as f64;
            if own.is_clicked_alone(share, PAGE_LEVEL) {
                suspects.pages.insert(*page, Suspicion::ClickedAlone);
            } else if own.is_clicked_too_often(PAGE_LEVEL) {
                suspects.pages.insert(*page, Suspicion::ClickedMoreThanAnswers);
            }
        }
        for pair in pairs {
            let (own, others) = (Totals::of([pair].into_iter(), model), &by_page[&pair.page]);
            let share = (all.alone - others.alone) as f64 / (all.positive - others.positive).max(1) as f64;
            if own.is_clicked_alone(share, PAIR_LEVEL) || own.is_clicked_too_often(PAIR_LEVEL) {
                suspects.pairs.insert((pair.query, pair.page));
            }
        }
        suspects
    }

    /// Whether what a session did about a page counts.
    pub fn trust(&self, visits: &Visits, visit: &Visit, exposure: &Exposure) -> bool {
        let session = &visits.sessions()[visit.session];
        if session.only_page().is_some_and(|page| self.pages.contains_key(&page)) {
            return false;
        }
        let suspect = self.pages.contains_key(&exposure.page) || self.pairs.contains(&(visit.query, exposure.page));
        !suspect || session.clicked_beside(exposure.page)
    }
}

/// Pages, and pages on one query, that trusted sessions still click more than answers.
pub(super) fn clicked_too_often(
    trusted: &[Pair],
    model: &TwoKinds,
) -> (BTreeMap<usize, Suspicion>, BTreeSet<(usize, usize)>) {
    let mut by_page: BTreeMap<usize, Totals> = BTreeMap::new();
    let mut pairs = BTreeSet::new();
    for pair in trusted {
        by_page.entry(pair.page).or_default().add(pair, model);
        if Totals::of([pair].into_iter(), model).is_clicked_too_often(PAIR_LEVEL) {
            pairs.insert((pair.query, pair.page));
        }
    }
    let pages = by_page.into_iter().filter(|(_, totals)| totals.is_clicked_too_often(PAGE_LEVEL));
    (pages.map(|(page, _)| (page, Suspicion::ClickedMoreThanAnswers)).collect(), pairs)
}

/// Pages that seem to answer nearly every query, from votes that are clicks of any kind.
pub(super) fn clicked_whatever_the_query(pairs: &[Pair], model: &TwoKinds) -> BTreeMap<usize, Suspicion> {
    let (mut by_page, mut all): (BTreeMap<usize, (u64, u64)>, _) = (BTreeMap::new(), (0, 0));
    for pair in pairs {
        // Not the share of answers at its rank, by which a page that nobody saw would be known not to answer.
        let posterior = model.even_posterior(pair);
        let answers = u64::from(posterior >= KNOWN);
        let known = answers + u64::from(posterior <= 1.0 - KNOWN);
        let own = by_page.entry(pair.page).or_default();
        *own = (own.0 + known, own.1 + answers);
        all = (all.0 + known, all.1 + answers);
    }
    let odd = |(known, answers): (u64, u64)| {
        // The share among other pages, drawn to one half by two, so that it is never 0 or 1.
        let share = ((all.1 - answers) as f64 + 1.0) / ((all.0 - known) as f64 + 2.0);
        answers as f64 >= NEARLY_ALL * known as f64 && binomial_at_least(known, share, answers) < WHATEVER_LEVEL
    };
    let found = by_page.into_iter().filter(|(_, own)| odd(*own));
    found.map(|(page, _)| (page, Suspicion::ClickedWhateverTheQuery)).collect()
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    positive: u64,
    alone: u64,
    expected: f64,
}

impl Totals {
    fn of<'a>(pairs: impl Iterator<Item = &'a Pair>, model: &TwoKinds) -> Self {
        let mut totals = Self::default();
        pairs.for_each(|pair| totals.add(pair, model));
        totals
    }

    fn add(&mut self, pair: &Pair, model: &TwoKinds) {
        self.positive += pair.positive();
        self.alone += pair.alone;
        self.expected += model.expected(pair);
    }

    fn is_clicked_alone(&self, share: f64, level: f64) -> bool {
        self.alone > 0 && binomial_at_least(self.positive, share.max(1e-3), self.alone) < level
    }

    fn is_clicked_too_often(&self, level: f64) -> bool {
        poisson_at_least(MORE_THAN_ANSWERS * self.expected, self.positive) < level
    }
}
