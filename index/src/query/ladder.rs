//! The pruned search: pages climb from centroid scores through coarse codes to full ones, the most promising first, until
//! the rest is expected to hold fewer hits than the effort allows to lose.

use std::cmp::Reverse;

use tantivy::DocAddress;

use super::PageHit;
use super::certainty::{Lesson, Prediction};
use super::effort::Effort;
use super::eligible::EligiblePages;
use super::hit::BestHits;
use super::knobs::Knobs;
use super::prepared::{PageScorer, PreparedQuery};
use super::probe::BlockProbe;
use super::report::SearchWork;
use crate::Error;

/// Pages that are scored by their centroids before anything is known, and at a time later.
const CENTROID_STEP: usize = 512;
/// Pages that are scored by coarse codes before anything is known.
const COARSE_START: usize = 48;
/// And at a time later at most, unless half as many as were scored before are more.
const COARSE_STEP: usize = 64;
/// Pages that are scored in full at a time later at most.
const FULL_STEP: usize = 16;
/// And on either rung at least.
const LEAST_STEP: usize = 8;
/// Pages that a prediction from list scores is learnt from: the best by their lists, all that it has to tell apart.
const LIST_POINTS: usize = 1024;
/// What f32 arithmetic, and the query's 15 bits, may add to a bound, relative to what it is of.
const ROUNDING: f32 = 2e-4;
/// A chance too small to add up to anything.
const NO_CHANCE: f64 = 1e-7;

/// A page scored by its centroids.
struct CentroidPage {
    score: f32,
    probe: u32,
    page: u32,
}

/// A page scored by coarse codes.
struct CoarsePage<'a> {
    score: f32,
    pages: &'a EligiblePages<'a>,
    place: u32,
    /// Its probe and its score by centroids, where there is a codebook.
    by_centroids: Option<(u32, f32)>,
}

/// What is known when a search ends.
pub(super) struct Climbed {
    /// At most k, best first.
    pub hits: Vec<PageHit>,
    /// How many hits are expected to be missing.
    pub missing: f64,
    /// No page that was not scored in full exceeds this score.
    pub bound: f32,
    /// What was done.
    pub work: SearchWork,
}

/// Pages that wait on a rung.
#[derive(Clone, Copy)]
struct Waiting {
    /// How many hits they are expected to hold.
    missing: f64,
    /// How many of them to score next for that to come within what the rung may lose.
    next: usize,
}

impl Waiting {
    const NONE: Self = Self { missing: 0.0, next: 0 };
}

pub(super) struct Ladder<'a> {
    scorer: PageScorer<'a>,
    query: &'a PreparedQuery<'a>,
    segments: &'a [EligiblePages<'a>],
    probes: Vec<BlockProbe<'a>>,
    k: usize,
    /// Missing hits that are allowed.
    budget: f64,
    knobs: Knobs,
    /// Best last, so that they are popped.
    by_centroids: Vec<CentroidPage>,
    by_codes: Vec<CoarsePage<'a>>,
    best: BestHits,
    /// What pages that have climbed a rung say about those that have not.
    list_to_centroids: Lesson,
    centroids_to_codes: Lesson,
    codes_to_full: Lesson,
    work: SearchWork,
}

impl<'a> Ladder<'a> {
    /// `loss`: the share of the hits that may be lost.
    pub fn new(
        query: &'a PreparedQuery<'a>,
        segments: &'a [EligiblePages<'a>],
        k: usize,
        loss: f64,
        knobs: Knobs,
    ) -> Result<Self, Error> {
        let knobs = knobs.sane();
        let blocks = segments.iter().filter(|pages| pages.len() > 0).flat_map(|pages| {
            let blocks = pages.file.blocks(pages.field).iter().enumerate();
            blocks.filter_map(move |(at, block)| BlockProbe::new(query, knobs.probes, pages, at, block))
        });
        let probes: Vec<BlockProbe<'a>> = blocks.collect();
        let mut ladder = Self {
            scorer: PageScorer::new(query),
            query,
            segments,
            k,
            budget: loss * k as f64,
            knobs,
            by_centroids: Vec::new(),
            by_codes: Vec::new(),
            best: BestHits::new(k),
            list_to_centroids: Lesson::default(),
            centroids_to_codes: Lesson::default(),
            codes_to_full: Lesson::default(),
            work: SearchWork { postings: probes.iter().map(|probe| probe.postings).sum(), ..SearchWork::default() },
            probes,
        };
        // Where no list was looked up nothing is known of any page.
        for at in 0..ladder.probes.len() {
            if !ladder.probes[at].is_looked_up() {
                ladder.score_untouched(at);
            }
        }
        ladder.score_direct()?;
        Ok(ladder)
    }

    /// Pages without a codebook have no centroids: coarse codes are where they begin.
    fn score_direct(&mut self) -> Result<(), Error> {
        for pages in self.segments {
            for place in pages.places() {
                if pages.file.block_of(pages.field, place).is_none() {
                    let score = self.scorer.direct(&pages.page(place))?;
                    self.work.coarse_pages += 1;
                    self.work.tokens += u64::from(pages.table.pages[place].tokens);
                    self.by_codes.push(CoarsePage { score, pages, place: place as u32, by_centroids: None });
                }
            }
        }
        Ok(())
    }

    /// Climbs until the expected loss is within the budget. Without a budget, every page that lists named is then scored by
    /// codes as well.
    pub fn climb(mut self) -> Result<Climbed, Error> {
        self.score_centroids(CENTROID_STEP.max(4 * self.k));
        self.score_coarse(COARSE_START.max(4 * self.k))?;
        self.score_full(self.k.max(LEAST_STEP))?;
        if self.budget <= 0.0 {
            // What less effort looks at comes first, so that more never looks at less.
            self.budget = self.k as f64 * Effort::HIGH.loss().unwrap_or_default();
            self.climb_to_budget()?;
            self.budget = 0.0;
            self.score_centroids(self.probes.iter().map(|probe| probe.waiting.len()).sum());
            self.score_coarse(usize::MAX)?;
        }
        let missing = self.climb_to_budget()?;
        let bound = self.bound();
        Ok(Climbed { hits: self.best.into_sorted(), missing, bound, work: self.work })
    }

    /// Scores what is most promising until no rung is expected to lose more than it may; how many hits are then expected to be
    /// missing.
    fn climb_to_budget(&mut self) -> Result<f64, Error> {
        loop {
            let [by_lists, by_centroids, by_codes] = self.waiting();
            let over = |waiting: Waiting, rung: usize| waiting.next > 0 && waiting.missing > self.allowed(rung);
            // The best known first: what they score raises the limit for all others.
            if over(by_codes, 2) {
                self.score_full(by_codes.next.clamp(LEAST_STEP, FULL_STEP))?;
            } else if over(by_centroids, 1) {
                let most = COARSE_STEP.max(self.centroids_to_codes.len() / 2);
                self.score_coarse(by_centroids.next.clamp(LEAST_STEP, most))?;
            } else if over(by_lists, 0) {
                self.score_centroids(by_lists.next.clamp(CENTROID_STEP, 4 * CENTROID_STEP));
            } else {
                return Ok(by_lists.missing + by_centroids.missing + by_codes.missing);
            }
        }
    }

    /// How many hits may be lost on a rung.
    fn allowed(&self, rung: usize) -> f64 {
        self.budget * f64::from(self.knobs.loss_shares[rung])
    }

    /// What waits known by lists, by centroids and by coarse codes only.
    fn waiting(&mut self) -> [Waiting; 3] {
        let limit = f64::from(self.best.limit());
        let next = |lesson: &mut Lesson, then: Option<Prediction>| Some(lesson.prediction()?.then(&then?));
        let by_codes = self.codes_to_full.prediction();
        let by_centroids = next(&mut self.centroids_to_codes, by_codes);
        let by_lists = next(&mut self.list_to_centroids, by_centroids);
        let centroid_scores = self.by_centroids.iter().rev().map(|page| page.score);
        let code_scores = self.by_codes.iter().rev().map(|page| page.score);
        [
            self.waiting_by_lists(by_lists, limit),
            waiting(centroid_scores, by_centroids, limit, self.allowed(1)),
            waiting(code_scores, by_codes, limit, self.allowed(2)),
        ]
    }

    fn waiting_by_lists(&self, prediction: Option<Prediction>, limit: f64) -> Waiting {
        let pages: usize = self.probes.iter().map(|probe| probe.waiting.len() + probe.untouched).sum();
        if pages == 0 {
            return Waiting::NONE;
        }
        let Some(prediction) = prediction else { return Waiting { missing: f64::INFINITY, next: pages } };
        let untouched =
            |probe: &BlockProbe<'_>| probe.untouched as f64 * prediction.exceeds(f64::from(probe.floor), limit);
        let (mut missing, mut next) = (self.probes.iter().map(untouched).sum::<f64>(), 0);
        for probe in &self.probes {
            let scores = probe.waiting.iter().rev().map(|(score, _)| *score);
            let named = waiting(scores, Some(prediction), limit, 0.0);
            (missing, next) = (missing + named.missing, next + named.next);
        }
        Waiting { missing, next: next.max(1) }
    }

    /// Scores the next `count` pages by their centroids: those that lists named, then all others.
    fn score_centroids(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let next = |probe: &BlockProbe<'_>| probe.waiting.last().map_or(f32::NEG_INFINITY, |(score, _)| *score);
            let waiting = self.probes.iter_mut().enumerate().filter(|(_, probe)| !probe.waiting.is_empty());
            let Some((at, probe)) = waiting.max_by(|one, two| next(one.1).total_cmp(&next(two.1))) else { break };
            // Some pages of the block whose next page is best: which block comes first matters little.
            let rest = probe.waiting.len() - probe.waiting.len().min(left).min(CENTROID_STEP / 8);
            let taken = probe.waiting.split_off(rest);
            left -= taken.len();
            for (list_score, page) in taken {
                let score = probe.centroid_score(page);
                if self.list_to_centroids.len() < LIST_POINTS {
                    self.list_to_centroids.push(list_score, score);
                }
                self.by_centroids.push(CentroidPage { score, probe: at as u32, page });
                self.work.centroid_pages += 1;
            }
        }
        if left > 0 {
            (0..self.probes.len()).for_each(|at| self.score_untouched(at));
        }
        let place = |page: &CentroidPage| Reverse((page.probe, page.page));
        self.by_centroids
            .sort_unstable_by(|one, two| one.score.total_cmp(&two.score).then(place(one).cmp(&place(two))));
    }

    /// Scores all pages of a block that no list named by their centroids.
    fn score_untouched(&mut self, at: usize) {
        let probe = &mut self.probes[at];
        for page in probe.take_untouched() {
            let score = probe.centroid_score(page);
            self.by_centroids.push(CentroidPage { score, probe: at as u32, page });
            self.work.centroid_pages += 1;
        }
    }

    /// Scores the next `count` pages by coarse codes.
    fn score_coarse(&mut self, count: usize) -> Result<(), Error> {
        let rest = self.by_centroids.len().saturating_sub(count);
        for next in self.by_centroids.split_off(rest) {
            let probe = &mut self.probes[next.probe as usize];
            let (pages, place) = (probe.pages, probe.block.pages[next.page as usize]);
            let page = pages.page(place as usize);
            let reach =
                self.knobs.reach * page.table.pages[page.place].radius.to_f32() / (page.table.dim as f32).sqrt();
            let block = probe.block;
            let (score, tokens) = self.scorer.coarse(&page, block, probe.reveal(self.query, next.page, reach))?;
            self.work.coarse_pages += 1;
            self.work.tokens += tokens as u64;
            self.centroids_to_codes.push(next.score, score);
            self.by_codes.push(CoarsePage { score, pages, place, by_centroids: Some((next.probe, next.score)) });
        }
        let place = |page: &CoarsePage<'_>| Reverse((page.pages.segment, page.place));
        self.by_codes.sort_unstable_by(|one, two| one.score.total_cmp(&two.score).then(place(one).cmp(&place(two))));
        Ok(())
    }

    /// Scores the next `count` pages in full.
    fn score_full(&mut self, count: usize) -> Result<(), Error> {
        let rest = self.by_codes.len().saturating_sub(count);
        for next in self.by_codes.split_off(rest) {
            let page = next.pages.page(next.place as usize);
            let entry = &page.table.pages[page.place];
            let bytes = page.table.vector_bytes(entry) as u64;
            let score = self.scorer.full(&page, &page.file.read(entry.offset..entry.offset + bytes)?)?;
            self.work.full_pages += 1;
            self.work.tokens += u64::from(entry.tokens);
            self.codes_to_full.push(next.score, score);
            self.best.push(PageHit { score, address: DocAddress::new(next.pages.segment, entry.doc) });
        }
        Ok(())
    }

    /// No page that was not scored in full exceeds this: the length of what a rung leaves out bounds what it can add.
    fn bound(&self) -> f32 {
        let mut bound = f32::NEG_INFINITY;
        let lengths = self.query.lengths;
        let probe_bound = |probe: &BlockProbe<'_>, score: f32, radius: f32| {
            let bound = score + lengths * (radius + ROUNDING * (1.0 + radius));
            // A copy in f16 is scored as it is.
            match probe.pages.table.keeps_f16 {
                true => bound,
                false => probe.block.codebook.calibration.correct(bound, lengths),
            }
        };
        for page in &self.by_codes {
            let entry = &page.pages.table.pages[page.place as usize];
            let radius = entry.radius.to_f32();
            bound = bound.max(match page.by_centroids {
                Some((probe, score)) => probe_bound(&self.probes[probe as usize], score, radius),
                None => {
                    let left_out = lengths * entry.coarse_error.to_f32() + self.query.lanes.coarse_error() * radius;
                    page.score + left_out + lengths * ROUNDING * (1.0 + radius)
                }
            });
        }
        for (at, probe) in (0u32..).zip(&self.probes) {
            if let Some(best) = self.by_centroids.iter().rev().find(|page| page.probe == at) {
                bound = bound.max(probe_bound(probe, best.score, probe.block.radius));
            }
            if let Some((score, _)) = probe.waiting.last() {
                // Lists that were not looked up may give what the last one gave.
                bound = bound.max(probe_bound(probe, *score, probe.block.radius));
            }
            if probe.untouched > 0 {
                bound = bound.max(probe_bound(probe, probe.floor, probe.block.radius));
            }
        }
        bound
    }
}

/// What waits of pages whose scores fall, where `allowed` hits may be lost. Without a prediction anything may be a hit.
fn waiting(
    scores: impl ExactSizeIterator<Item = f32>,
    prediction: Option<Prediction>,
    limit: f64,
    allowed: f64,
) -> Waiting {
    if scores.len() == 0 {
        return Waiting::NONE;
    }
    let Some(prediction) = prediction else { return Waiting { missing: f64::INFINITY, next: scores.len() } };
    let chances: Vec<f64> = scores
        .map(|score| prediction.exceeds(f64::from(score), limit))
        .take_while(|chance| *chance > NO_CHANCE)
        .collect();
    let (mut rest, mut next) = (0.0, chances.len());
    while next > 0 && rest + chances[next - 1] <= allowed {
        rest += chances[next - 1];
        next -= 1;
    }
    Waiting { missing: chances.iter().sum(), next }
}
