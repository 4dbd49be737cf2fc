//! Which pages answer which queries, as far as clicks can tell.
//!
//! 1. Votes are counted per query and page: one per session ([`super::visits`]).
//! 2. A click model of two kinds of pages is fitted to all of them (`two_kinds.rs`). It says what clicks are worth at which
//!    rank, and whether they tell pages apart at all; if not, there is no evidence ([`Verdict::Refused`]).
//! 3. Pages that somebody wants clicked are found, and their votes are taken from sessions above suspicion (`suspicion.rs`).
//! 4. The model is fitted again to what is left, and the posterior of each page on each query is a [`Judgement`]. A page
//!    answers if that is at least `positive` and enough sessions say so; for a page under suspicion both must be much more.
//! 5. It is a negative if the posterior is at most `negative`, enough sessions examined and skipped it, and the same model
//!    fitted to clicks of every kind says so too, and not for want of clicks: what was clicked and left for the next page may
//!    still answer, and so may what nobody saw.
//!
//! Model and suspicion come from all visits, since the more is known the safer; judgements from those asked for.

mod counts;
mod examples;
mod held_out;
mod suspicion;
mod two_kinds;

pub use examples::{Examples, QueryCounts, SKIPPED, Weighting};
pub use held_out::HeldOut;
pub use suspicion::Suspicion;

use std::collections::BTreeMap;

use serde::Serialize;

use self::counts::Pair;
use self::suspicion::Suspects;
use self::two_kinds::TwoKinds;
use super::visits::{Visit, Visits};
use crate::Error;

/// How much of the doubt that others may leave a page under suspicion may.
const SUSPECT_DOUBT: f64 = 0.01;
/// How many times the sessions of others it needs.
const SUSPECT_SESSIONS: u64 = 2;

/// What makes a page a positive or a negative.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct EvidenceOptions {
    /// The probability of answering the query from which a page is a positive.
    pub positive: f64,
    /// The probability up to which it is a negative.
    pub negative: f64,
    /// Sessions that must have taken a positive for an answer.
    pub pair_sessions: u64,
    /// Sessions that must have skipped a negative.
    pub pair_skips: u64,
    /// Positives of a query that are kept, the surest.
    pub positives_per_query: usize,
    /// Negatives of a query that are kept, the most often skipped.
    pub negatives_per_query: usize,
}

impl Default for EvidenceOptions {
    fn default() -> Self {
        Self {
            positive: 0.9,
            negative: 0.1,
            pair_sessions: 3,
            pair_skips: 2,
            positives_per_query: 10,
            negatives_per_query: 10,
        }
    }
}

/// Whether clicks tell anything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They tell pages that answer from others.
    TellsApart,
    /// They do not, and why.
    Refused {
        /// In words.
        reason: String,
    },
}

/// A page on a query.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Judgement {
    /// The query, as a place in [`Visits::queries`].
    pub query: usize,
    /// The page, as a place in [`Visits::pages`].
    pub page: usize,
    /// The probability that it answers, 0 to 1, after the clicks of trusted sessions.
    pub posterior: f64,
    /// The same where every click is a vote, however short, and as many pages answer as do not.
    pub even: f64,
    /// Whether its clicks are odd, so that nothing is learnt for it.
    pub held: bool,
    /// Whether it is under suspicion, so that more is needed.
    pub suspect: bool,
    /// Sessions that it was shown to.
    pub shown: u64,
    /// Sessions that took it for an answer.
    pub positive: u64,
    /// Sessions that skipped it.
    pub skips: u64,
}

/// A page with odd clicks.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Suspect {
    /// The page.
    pub page: String,
    /// What is odd.
    pub suspicion: Suspicion,
    /// Whether nothing is learnt for it; otherwise sessions above suspicion decided.
    pub quarantined: bool,
    /// Sessions that took it for an answer, of all.
    pub positive: u64,
}

/// The click model, for the record of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ModelSummary {
    /// How often a page that answers is clicked at ranks 1 to 10.
    pub clicked: Vec<f64>,
    /// How often another page is clicked against that.
    pub kappa: f64,
    /// The share of pages that answer at ranks 1 to 10.
    pub share: Vec<f64>,
    /// By how much log likelihood it beats one kind of pages, its parameters paid for.
    pub gain: f64,
}

/// What clicks tell.
#[derive(Clone, PartialEq, Debug)]
pub struct Evidence {
    verdict: Verdict,
    /// By query, then page; empty if refused.
    judgements: Vec<Judgement>,
    pairs: Vec<Pair>,
    suspects: Vec<Suspect>,
    fitted: TwoKinds,
    options: EvidenceOptions,
}

impl Evidence {
    /// Weighs the visits that `of` takes.
    ///
    /// # Errors
    /// An option lies outside of its range.
    pub fn of(visits: &Visits, of: impl Fn(&Visit) -> bool, options: &EvidenceOptions) -> Result<Self, Error> {
        check(options)?;
        let all = counts::count(visits, |_| true, |_, _| true);
        let first = TwoKinds::fit(&all);
        let suspects = Suspects::find(&all, &first);
        let trust = |visit: &Visit, exposure: &_| suspects.trust(visits, visit, exposure);
        let trusted = counts::count(visits, |_| true, trust);
        let model = TwoKinds::fit(&trusted);
        let every_click: Vec<Pair> = trusted.iter().map(Pair::with_all_clicks).collect();
        let all_clicks = TwoKinds::fit(&every_click);
        let (mut pages, odd_pairs) = suspicion::clicked_too_often(&trusted, &model);
        pages.extend(suspicion::clicked_whatever_the_query(&every_click, &all_clicks));
        let verdict = verdict(&trusted, &model);
        let pairs = if verdict == Verdict::TellsApart { counts::count(visits, of, trust) } else { Vec::new() };
        let judge = |pair: &Pair| Judgement {
            query: pair.query,
            page: pair.page,
            posterior: model.posterior(pair),
            even: all_clicks.even_posterior(&pair.with_all_clicks()),
            held: pages.contains_key(&pair.page) || odd_pairs.contains(&(pair.query, pair.page)),
            suspect: suspects.pages.contains_key(&pair.page) || suspects.pairs.contains(&(pair.query, pair.page)),
            shown: pair.shown(),
            positive: pair.positive(),
            skips: pair.skips,
        };
        Ok(Self {
            verdict,
            judgements: pairs.iter().map(judge).collect(),
            pairs,
            suspects: name(visits, &all, &suspects, &pages),
            fitted: model,
            options: *options,
        })
    }

    /// Whether clicks tell anything; if not, there are no judgements.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// All pages on all queries, by query, then page.
    pub fn judgements(&self) -> &[Judgement] {
        &self.judgements
    }

    /// Pages with odd clicks, in order of their names.
    pub fn suspects(&self) -> &[Suspect] {
        &self.suspects
    }

    /// The click model.
    pub fn model(&self) -> ModelSummary {
        let TwoKinds { clicked, kappa, share, gain } = &self.fitted;
        ModelSummary { clicked: clicked[..10].to_vec(), kappa: *kappa, share: share[..10].to_vec(), gain: *gain }
    }
}

impl Evidence {
    /// The least probability of answering, and the least votes, that make a page an answer.
    fn bar(&self, judgement: &Judgement) -> (f64, u64) {
        let (doubt, sessions) = if judgement.suspect { (SUSPECT_DOUBT, SUSPECT_SESSIONS) } else { (1.0, 1) };
        (1.0 - doubt * (1.0 - self.options.positive), sessions * self.options.pair_sessions)
    }

    fn is_answer(&self, judgement: &Judgement) -> bool {
        let (posterior, votes) = self.bar(judgement);
        judgement.posterior >= posterior && judgement.positive >= votes && !judgement.held
    }

    fn is_negative(&self, judgement: &Judgement) -> bool {
        judgement.posterior.max(judgement.even) <= self.options.negative
            && judgement.skips >= self.options.pair_skips
            && !judgement.held
    }
}

fn check(options: &EvidenceOptions) -> Result<(), Error> {
    if !(options.positive > 0.5 && options.positive < 1.0) {
        return Err(Error::setting("positive", "above 0.5 and below 1", options.positive));
    }
    if !(options.negative > 0.0 && options.negative < 0.5) {
        return Err(Error::setting("negative", "above 0 and below 0.5", options.negative));
    }
    match [options.pair_sessions, options.pair_skips].contains(&0) {
        true => Err(Error::setting("sessions per page", "a number from 1", 0)),
        false => Ok(()),
    }
}

fn verdict(pairs: &[Pair], model: &TwoKinds) -> Verdict {
    let votes: u64 = pairs.iter().map(Pair::positive).sum();
    let reason = if votes == 0 {
        "there is no click on any page of a query that enough sessions asked".to_owned()
    } else if !model.tells_apart() {
        format!(
            "the clicks do not tell pages apart: that some pages answer explains {votes} clicks no better than chance and rank do (gain {:.1}, expected above 0; clicks on other pages against answers {:.2}, expected below 0.65)",
            model.gain, model.kappa
        )
    } else {
        return Verdict::TellsApart;
    };
    Verdict::Refused { reason }
}

fn name(visits: &Visits, all: &[Pair], suspects: &Suspects, quarantined: &BTreeMap<usize, Suspicion>) -> Vec<Suspect> {
    let mut positive: BTreeMap<usize, u64> = BTreeMap::new();
    all.iter().for_each(|pair| *positive.entry(pair.page).or_default() += pair.positive());
    let mut found: BTreeMap<usize, Suspicion> = suspects.pages.clone();
    found.extend(quarantined);
    let suspect = |(page, suspicion): (usize, Suspicion)| Suspect {
        page: visits.pages()[page].to_string(),
        suspicion,
        quarantined: quarantined.contains_key(&page),
        positive: positive.get(&page).copied().unwrap_or(0),
    };
    let mut named: Vec<Suspect> = found.into_iter().map(suspect).collect();
    named.sort_by(|one, other| one.page.cmp(&other.page));
    named
}
