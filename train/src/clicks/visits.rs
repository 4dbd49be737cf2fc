//! Who asked what and did what: a log without what nobody should learn from.
//!
//! One [`Visit`] per session and query: somebody who asks the same thing five times has one vote. For each page shown:
//!
//! - [`Outcome::Positive`]: clicked, and looked at for at least `dwell`, or clicked last.
//! - [`Outcome::Unclear`]: clicked, left early or for an unknown time, and another click came after it. Counts neither way.
//! - [`Outcome::Skipped`]: examined and not clicked. Examined is every rank above the lowest click, and every rank down to
//!   the logged view's depth (Joachims et al., SIGIR 2005: people read from the top).
//! - [`Outcome::Unknown`]: below all clicks, and no view was logged. Never a negative; its click rate is judged by its rank.
//! - [`Outcome::NotSeen`]: below all clicks and out of view. Counts neither way.
//!
//! Left out are: queries whose keyed hash nobody knows the text of; pages that are gone; sessions that click one page for
//! several queries and little else; visits of a session beyond a number; and queries of fewer than `k_anonymity` sessions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use super::log::{Log, Seen};
use super::query::{Lookup, normalise};
use super::record::{Click, LoggedQuery, Time};
use crate::Error;
use crate::data::PageId;

/// Whom to believe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct VisitOptions {
    /// How long a page is looked at by somebody whom it answers.
    pub dwell: Duration,
    /// Sessions that must have asked a query.
    pub k_anonymity: usize,
    /// Visits of one session that count, the first ones.
    pub visits_per_session: usize,
    /// A session that clicked one page for so many queries, and for more than half of those it clicked anything for, is
    /// left out.
    pub same_page_queries: usize,
}

impl Default for VisitOptions {
    fn default() -> Self {
        Self { dwell: Duration::from_secs(30), k_anonymity: 5, visits_per_session: 50, same_page_queries: 3 }
    }
}

/// What a logged page is today.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Canonical {
    /// This page, which may be another one with nearly the same content.
    Page(PageId),
    /// It is no longer in the index.
    Deleted,
}

/// What somebody did about a page; a later one outweighs an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum Outcome {
    /// Below all clicks and out of view.
    NotSeen,
    /// Below all clicks; nobody knows whether it was seen.
    Unknown,
    /// Examined, not clicked.
    Skipped,
    /// Clicked, but left early.
    Unclear,
    /// Clicked and stayed with, or clicked last.
    Positive,
}

/// A page before somebody's eyes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exposure {
    /// The page, as a place in [`Visits::pages`].
    pub page: usize,
    /// Where it stood, from 1.
    pub rank: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// A session's dealings with one query.
#[derive(Clone, PartialEq, Debug)]
pub struct Visit {
    /// The query, as a place in [`Visits::queries`].
    pub query: usize,
    /// The session, as a place in [`Visits::sessions`].
    pub session: usize,
    /// When it was first asked.
    pub time: Time,
    /// Whether every list shown was in random order.
    pub randomised: bool,
    /// The pages shown, each once, by place.
    pub pages: Vec<Exposure>,
}

/// A query of several sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VisitedQuery {
    /// Its normalised text.
    pub normalised: String,
    /// Its most frequent spelling.
    pub text: String,
    /// Sessions that asked it.
    pub sessions: usize,
}

/// A session, with what it did for all its queries, rare ones too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The pages it clicked, each once, ascending, as places in [`Visits::pages`].
    pub clicked: Vec<usize>,
}

impl Session {
    /// The page, if it clicked one page and no other.
    pub fn only_page(&self) -> Option<usize> {
        if let [page] = self.clicked[..] { Some(page) } else { None }
    }

    /// Whether it clicked another page than `page`.
    pub fn clicked_beside(&self, page: usize) -> bool {
        self.clicked.iter().any(|clicked| *clicked != page)
    }
}

/// What was left out, and what was kept.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VisitCounts {
    /// Impressions of queries whose keyed hash is not in the lookup table.
    pub unknown_hmacs: u64,
    /// Impressions of queries without any letter or digit.
    pub empty_queries: u64,
    /// Pages that are no longer there, by the impressions that showed them.
    pub deleted_pages: Vec<(String, u64)>,
    /// Sessions.
    pub sessions: usize,
    /// Sessions left out because they clicked one page for several queries and little else.
    pub sessions_of_one_page: usize,
    /// Visits beyond the number that a session may have.
    pub over_the_cap: u64,
    /// Queries of too few sessions.
    pub rare_queries: usize,
    /// Their visits.
    pub rare_visits: usize,
    /// Visits that were kept.
    pub visits: usize,
}

/// The cleaned log.
#[derive(Clone, PartialEq, Debug)]
pub struct Visits {
    queries: Vec<VisitedQuery>,
    sessions: Vec<Session>,
    pages: Vec<PageId>,
    visits: Vec<Visit>,
    counts: VisitCounts,
}

impl Visits {
    /// Cleans a log. `canonical` says what each page is today.
    ///
    /// # Errors
    /// `k_anonymity`, `visits_per_session` or `same_page_queries` is 0.
    pub fn of(
        log: &Log,
        lookup: &Lookup,
        canonical: impl Fn(&PageId) -> Canonical,
        options: &VisitOptions,
    ) -> Result<Self, Error> {
        let numbers = [
            ("k-anonymity", options.k_anonymity),
            ("visits per session", options.visits_per_session),
            ("queries with the same page", options.same_page_queries),
        ];
        if let Some((name, received)) = numbers.into_iter().find(|(_, number)| *number == 0) {
            return Err(Error::setting(name, "a number from 1", received));
        }
        let mut collected = Collected::default();
        log.seen.iter().for_each(|seen| collected.add(seen, lookup, &canonical, options));
        Ok(collected.clean(options))
    }

    /// The queries, in order of their normalised text.
    pub fn queries(&self) -> &[VisitedQuery] {
        &self.queries
    }

    /// The sessions.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// The pages that were shown.
    pub fn pages(&self) -> &[PageId] {
        &self.pages
    }

    /// The visits, in order of time.
    pub fn visits(&self) -> &[Visit] {
        &self.visits
    }

    /// What was left out.
    pub fn counts(&self) -> &VisitCounts {
        &self.counts
    }
}

#[derive(Default)]
struct Collected {
    counts: VisitCounts,
    deleted: BTreeMap<PageId, u64>,
    spellings: BTreeMap<String, BTreeMap<String, u64>>,
    page_places: HashMap<PageId, usize>,
    pages: Vec<PageId>,
    /// Visits by query, in order of time, of each session.
    sessions: BTreeMap<String, Vec<(String, Visit)>>,
}

impl Collected {
    fn add(&mut self, seen: &Seen, lookup: &Lookup, canonical: &impl Fn(&PageId) -> Canonical, options: &VisitOptions) {
        let text = match &seen.impression.query {
            LoggedQuery::Text(text) => text.as_str(),
            LoggedQuery::Hmac(hmac) => match lookup.text(hmac) {
                Some(text) => text,
                None => return self.counts.unknown_hmacs += 1,
            },
        };
        let normalised = normalise(text);
        if normalised.is_empty() {
            return self.counts.empty_queries += 1;
        }
        *self.spellings.entry(normalised.clone()).or_default().entry(text.trim().to_owned()).or_default() += 1;
        let pages = self.exposures(seen, canonical, options.dwell);
        let visits = self.sessions.entry(seen.impression.session.clone()).or_default();
        match visits.iter_mut().find(|(query, _)| *query == normalised) {
            Some((_, visit)) => {
                visit.randomised &= seen.impression.randomised;
                pages.into_iter().for_each(|page| merge(&mut visit.pages, page));
            }
            None => {
                let (time, randomised) = (seen.impression.time, seen.impression.randomised);
                visits.push((normalised, Visit { query: 0, session: 0, time, randomised, pages }));
            }
        }
    }

    fn exposures(&mut self, seen: &Seen, canonical: &impl Fn(&PageId) -> Canonical, dwell: Duration) -> Vec<Exposure> {
        let mut pages = Vec::with_capacity(seen.impression.shown.len());
        for shown in &seen.impression.shown {
            let Canonical::Page(page) = canonical(&shown.page) else {
                *self.deleted.entry(shown.page.clone()).or_default() += 1;
                continue;
            };
            let place = *self.page_places.entry(page).or_insert_with_key(|page| {
                self.pages.push(page.clone());
                self.pages.len() - 1
            });
            merge(&mut pages, Exposure { page: place, rank: shown.rank, outcome: outcome(seen, shown.rank, dwell) });
        }
        pages.sort_by_key(|exposure| exposure.page);
        pages
    }

    fn clean(mut self, options: &VisitOptions) -> Visits {
        self.counts.sessions = self.sessions.len();
        self.counts.deleted_pages = self.deleted.iter().map(|(page, count)| (page.to_string(), *count)).collect();
        let (mut sessions, mut visits) = (Vec::new(), Vec::new());
        for own in std::mem::take(&mut self.sessions).into_values() {
            if clicks_one_page(&own, options.same_page_queries) {
                self.counts.sessions_of_one_page += 1;
                continue;
            }
            self.counts.over_the_cap += own.len().saturating_sub(options.visits_per_session) as u64;
            let kept = own.into_iter().take(options.visits_per_session);
            let kept: Vec<_> = kept.map(|(query, visit)| (query, Visit { session: sessions.len(), ..visit })).collect();
            sessions.push(Session { clicked: clicked(kept.iter().map(|(_, visit)| visit)).into_iter().collect() });
            visits.extend(kept);
        }
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        visits.iter().for_each(|(query, _)| *asked.entry(query.clone()).or_default() += 1);
        self.counts.rare_queries = asked.values().filter(|count| **count < options.k_anonymity).count();
        asked.retain(|_, count| *count >= options.k_anonymity);
        let places: HashMap<&String, usize> = asked.keys().zip(0..).collect();
        let all = visits.len();
        let place = |(query, visit): (String, Visit)| Some(Visit { query: *places.get(&query)?, ..visit });
        let mut visits: Vec<Visit> = visits.into_iter().filter_map(place).collect();
        visits.sort_by_key(|visit| (visit.time, visit.session, visit.query));
        self.counts.rare_visits = all - visits.len();
        self.counts.visits = visits.len();
        let query = |(normalised, sessions): (&String, &usize)| VisitedQuery {
            normalised: normalised.clone(),
            text: most_frequent(&self.spellings[normalised]),
            sessions: *sessions,
        };
        let queries = asked.iter().map(query).collect();
        Visits { queries, sessions, pages: self.pages, visits, counts: self.counts }
    }
}

/// Of equally frequent spellings the first by its text.
fn most_frequent(spellings: &BTreeMap<String, u64>) -> String {
    let best = spellings.iter().max_by(|one, other| one.1.cmp(other.1).then_with(|| other.0.cmp(one.0)));
    best.map_or(String::new(), |(text, _)| text.clone())
}

/// Adds a page; one that is there already keeps the outcome that says more.
fn merge(pages: &mut Vec<Exposure>, exposure: Exposure) {
    match pages.iter_mut().find(|earlier| earlier.page == exposure.page) {
        Some(earlier) if exposure.outcome > earlier.outcome => *earlier = exposure,
        Some(_) => (),
        None => pages.push(exposure),
    }
}

fn outcome(seen: &Seen, rank: u32, dwell: Duration) -> Outcome {
    let stayed = |click: &&Click| click.dwell_ms.is_some_and(|ms| Duration::from_millis(ms) >= dwell);
    let lowest = seen.clicks.iter().map(|click| click.rank).max().unwrap_or(0);
    let mut own = seen.clicks.iter().filter(|click| click.rank == rank).peekable();
    if own.peek().is_some() {
        let last = seen.clicks.last().is_some_and(|click| click.rank == rank);
        return if last || own.any(|click| stayed(&click)) { Outcome::Positive } else { Outcome::Unclear };
    }
    match seen.depth {
        _ if rank < lowest => Outcome::Skipped,
        Some(depth) if rank <= depth => Outcome::Skipped,
        Some(_) => Outcome::NotSeen,
        None => Outcome::Unknown,
    }
}

fn clicked<'a>(visits: impl Iterator<Item = &'a Visit>) -> BTreeSet<usize> {
    let pages = visits.flat_map(|visit| &visit.pages);
    pages.filter(|page| page.outcome >= Outcome::Unclear).map(|page| page.page).collect()
}

/// Whether one page was clicked for at least `limit` queries, and for more than half of those with a click.
fn clicks_one_page(visits: &[(String, Visit)], limit: usize) -> bool {
    let mut queries: HashMap<usize, usize> = HashMap::new();
    let mut with_clicks = 0;
    for (_, visit) in visits {
        let pages: HashSet<usize> = clicked(std::iter::once(visit)).into_iter().collect();
        with_clicks += usize::from(!pages.is_empty());
        pages.into_iter().for_each(|page| *queries.entry(page).or_default() += 1);
    }
    queries.values().any(|count| *count >= limit && 2 * count > with_clicks)
}
