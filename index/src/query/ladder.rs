//! The pruned search: pages climb from centroid scores through coarse codes to full ones, the most promising first, until
//! the rest is expected to hold fewer hits than the effort allows to lose.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tantivy::DocAddress;

use super::PageHit;
use super::certainty::Prediction;
use super::eligible::EligiblePages;
use super::prepared::{PageScorer, PreparedQuery};
use super::probe::BlockProbe;
use super::report::SearchWork;
use crate::Error;

/// Pages that are scored by their centroids before anything is known, and at a time later.
const CENTROID_STEP: usize = 512;
/// Pages that are scored by coarse codes before anything is known.
const COARSE_START: usize = 48;
/// And at a time later.
const COARSE_STEP: std::ops::RangeInclusive<usize> = 8..=64;
/// Pages that are scored in full before anything is known, per hit asked for.
const FULL_PER_HIT: usize = 2;
/// What of the loss may stem from pages known by lists only, by centroids only, by coarse codes only.
const LOSS_SHARES: [f64; 3] = [0.35, 0.45, 0.2];
/// Pages that a prediction from list scores is learnt from: the best by their lists, all that it has to tell apart.
const LIST_POINTS: usize = 1024;
/// What f32 arithmetic may add to a bound.
const ROUNDING: f32 = 1.0 + 1e-4;
/// A chance too small to add up to anything.
const NO_CHANCE: f64 = 1e-7;

/// A page scored by its centroids.
struct CentroidPage {
    score: f32,
    probe: u32,
    page: u32,
}

/// A page scored by coarse codes.
struct CoarsePage {
    score: f32,
    pages: u32,
    place: u32,
}

/// What is known when a search ends.
pub(super) struct Climbed {
    /// At most k, best first.
    pub hits: Vec<PageHit>,
    /// How many hits are expected to be missing.
    pub missing: f64,
    /// No page that was not scored in full exceeds this score.
    pub bound: f32,
}

pub(super) struct Ladder<'a> {
    scorer: PageScorer<'a>,
    query: &'a PreparedQuery<'a>,
    segments: &'a [EligiblePages<'a>],
    probes: Vec<BlockProbe<'a>>,
    k: usize,
    /// Missing hits that are allowed.
    budget: f64,
    /// Best last, so that they are popped.
    by_centroids: Vec<CentroidPage>,
    by_codes: Vec<CoarsePage>,
    best: BinaryHeap<Reverse<PageHit>>,
    /// Pairs of scores of pages that have climbed a rung.
    list_to_centroids: Vec<(f64, f64)>,
    centroids_to_codes: Vec<(f64, f64)>,
    codes_to_full: Vec<(f64, f64)>,
    pub work: SearchWork,
}

impl<'a> Ladder<'a> {
    /// `loss`: the share of the hits that may be lost.
    pub fn new(
        query: &'a PreparedQuery<'a>,
        segments: &'a [EligiblePages<'a>],
        k: usize,
        loss: f64,
        probes: usize,
    ) -> Result<Self, Error> {
        let blocks = segments.iter().flat_map(|pages| {
            let blocks = pages.file.blocks(pages.field).iter().enumerate();
            blocks.map(move |(at, block)| BlockProbe::new(query, pages, at, block, probes))
        });
        let probes: Vec<BlockProbe<'a>> = blocks.collect();
        let mut ladder = Self {
            scorer: PageScorer::new(query),
            query,
            segments,
            k,
            budget: loss * k as f64,
            by_centroids: Vec::new(),
            by_codes: Vec::new(),
            best: BinaryHeap::new(),
            list_to_centroids: Vec::new(),
            centroids_to_codes: Vec::new(),
            codes_to_full: Vec::new(),
            work: SearchWork { postings: probes.iter().map(|probe| probe.postings).sum(), ..SearchWork::default() },
            probes,
        };
        for probe in &mut ladder.probes {
            probe.waiting.sort_unstable_by(|one, two| one.0.total_cmp(&two.0).then(two.1.cmp(&one.1)));
        }
        ladder.score_direct()?;
        Ok(ladder)
    }

    /// Pages without a codebook have no centroids: coarse codes are where they begin.
    fn score_direct(&mut self) -> Result<(), Error> {
        for (at, segment) in (0u32..).zip(self.segments) {
            for place in segment.places() {
                if segment.file.block_of(segment.field, place).is_none() {
                    let score = self.coarse(at, place)?;
                    self.by_codes.push(CoarsePage { score, pages: at, place: place as u32 });
                }
            }
        }
        Ok(())
    }

    fn coarse(&mut self, segment: u32, place: usize) -> Result<f32, Error> {
        let page = self.segments[segment as usize].page(place);
        self.work.coarse_pages += 1;
        self.work.tokens += u64::from(page.table.pages[place].tokens);
        self.scorer.coarse(&page)
    }

    /// Climbs until the expected loss is within the budget.
    pub fn climb(mut self) -> Result<(Climbed, SearchWork), Error> {
        self.score_centroids(CENTROID_STEP.max(4 * self.k));
        self.score_coarse(COARSE_START.max(4 * self.k))?;
        self.score_full(FULL_PER_HIT * self.k)?;
        if self.budget <= 0.0 {
            self.score_centroids(self.probes.iter().map(|probe| probe.waiting.len()).sum());
            self.score_coarse(usize::MAX)?;
        }
        loop {
            let [by_lists, by_centroids, by_codes] = self.missing();
            let missing = by_lists.0 + by_centroids.0 + by_codes.0;
            let over = |missing: f64, rung: usize| missing > self.budget * LOSS_SHARES[rung];
            if by_lists.1 > 0 && over(by_lists.0, 0) {
                self.score_centroids(by_lists.1.clamp(CENTROID_STEP, 4 * CENTROID_STEP));
            } else if by_centroids.1 > 0 && over(by_centroids.0, 1) {
                self.score_coarse(by_centroids.1.clamp(*COARSE_STEP.start(), *COARSE_STEP.end()))?;
            } else if by_codes.1 > 0 && over(by_codes.0, 2) {
                self.score_full(by_codes.1)?;
            } else {
                let bound = self.bound();
                let mut hits: Vec<PageHit> = self.best.into_iter().map(|Reverse(hit)| hit).collect();
                hits.sort_unstable_by(|one, two| two.cmp(one));
                return Ok((Climbed { hits, missing, bound }, self.work));
            }
        }
    }

    /// For pages known by lists, by centroids and by coarse codes only: how many hits they are expected to hold, and how
    /// many of them to score next for that to come within the budget.
    fn missing(&mut self) -> [(f64, usize); 3] {
        // Fewer than k hits: anything may be one.
        let limit = if self.best.len() < self.k { f64::NEG_INFINITY } else { self.limit() };
        let known = Prediction::fit(&self.codes_to_full);
        let next = |points: &[(f64, f64)], then: Option<Prediction>| Some(Prediction::fit(points)?.then(&then?));
        let by_centroids = next(&self.centroids_to_codes, known);
        let by_lists = next(&self.list_to_centroids, by_centroids);
        let waiting: usize = self.probes.iter().map(|probe| probe.waiting.len() + probe.untouched).sum();
        let lists = match by_lists {
            _ if waiting == 0 => (0.0, 0),
            None => (f64::INFINITY, waiting),
            Some(prediction) => {
                let untouched =
                    |probe: &BlockProbe<'_>| probe.untouched as f64 * prediction.exceeds(f64::from(probe.floor), limit);
                let (mut sum, mut likely) = (self.probes.iter().map(untouched).sum::<f64>(), 0);
                for probe in &self.probes {
                    let scores = probe.waiting.iter().rev().map(|(score, _)| f64::from(*score));
                    let (missing, count) = expected(scores, &prediction, limit, 0.0);
                    (sum, likely) = (sum + missing, likely + count);
                }
                (sum, likely.max(1))
            }
        };
        let allowed = |rung: usize| self.budget * LOSS_SHARES[rung];
        let centroids = match by_centroids {
            _ if self.by_centroids.is_empty() => (0.0, 0),
            None => (f64::INFINITY, self.by_centroids.len()),
            Some(prediction) => {
                let scores = self.by_centroids.iter().rev().map(|page| f64::from(page.score));
                expected(scores, &prediction, limit, allowed(1))
            }
        };
        let codes = match known {
            _ if self.by_codes.is_empty() => (0.0, 0),
            None => (f64::INFINITY, self.by_codes.len()),
            Some(prediction) => {
                let scores = self.by_codes.iter().rev().map(|page| f64::from(page.score));
                expected(scores, &prediction, limit, allowed(2))
            }
        };
        [lists, centroids, codes]
    }

    /// The score of the k-th hit.
    fn limit(&self) -> f64 {
        self.best.peek().map_or(f64::NEG_INFINITY, |Reverse(worst)| f64::from(worst.score))
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
                    self.list_to_centroids.push((f64::from(list_score), f64::from(score)));
                }
                self.by_centroids.push(CentroidPage { score, probe: at as u32, page });
                self.work.centroid_pages += 1;
            }
        }
        if left > 0 {
            for (at, probe) in self.probes.iter_mut().enumerate() {
                for page in probe.take_untouched() {
                    let score = probe.centroid_score(page);
                    self.by_centroids.push(CentroidPage { score, probe: at as u32, page });
                    self.work.centroid_pages += 1;
                }
            }
        }
        let place = |page: &CentroidPage| Reverse((page.probe, page.page));
        self.by_centroids
            .sort_unstable_by(|one, two| one.score.total_cmp(&two.score).then(place(one).cmp(&place(two))));
    }

    /// Scores the next `count` pages by coarse codes.
    fn score_coarse(&mut self, count: usize) -> Result<(), Error> {
        let rest = self.by_centroids.len().saturating_sub(count);
        for next in self.by_centroids.split_off(rest) {
            let probe = &self.probes[next.probe as usize];
            let (segment, place) = (probe.pages.segment, probe.block.pages[next.page as usize]);
            let at = self.segments.partition_point(|pages| pages.segment < segment) as u32;
            let score = self.coarse(at, place as usize)?;
            self.centroids_to_codes.push((f64::from(next.score), f64::from(score)));
            self.by_codes.push(CoarsePage { score, pages: at, place });
        }
        let place = |page: &CoarsePage| Reverse((page.pages, page.place));
        self.by_codes.sort_unstable_by(|one, two| one.score.total_cmp(&two.score).then(place(one).cmp(&place(two))));
        Ok(())
    }

    /// Scores the next `count` pages in full.
    fn score_full(&mut self, count: usize) -> Result<(), Error> {
        let rest = self.by_codes.len().saturating_sub(count);
        for next in self.by_codes.split_off(rest) {
            let segment = &self.segments[next.pages as usize];
            let page = segment.page(next.place as usize);
            let entry = &page.table.pages[page.place];
            let bytes = page.table.vector_bytes(entry) as u64;
            let score = self.scorer.full(&page, &page.file.read(entry.offset..entry.offset + bytes)?)?;
            self.work.full_pages += 1;
            self.work.tokens += u64::from(entry.tokens);
            self.codes_to_full.push((f64::from(next.score), f64::from(score)));
            keep(&mut self.best, PageHit { score, address: DocAddress::new(segment.segment, entry.doc) }, self.k);
        }
        Ok(())
    }

    /// No page that was not scored in full exceeds this: the length of what a rung leaves out bounds what it can add.
    fn bound(&self) -> f32 {
        let mut bound = f32::NEG_INFINITY;
        let lengths = self.query.lengths;
        for page in &self.by_codes {
            let segment = &self.segments[page.pages as usize];
            let entry = &segment.table.pages[page.place as usize];
            let block = segment.file.block_of(segment.field, page.place as usize).map(|(block, _)| block);
            let slope = block.map_or(1.0, |block| block.codebook.calibration.slope);
            let longest = block.map_or(0.0, |block| block.codebook.longest()) + entry.radius.to_f32();
            let left_out = lengths * entry.coarse_error.to_f32() + self.query.lanes.coarse_error() * longest;
            bound = bound.max(page.score + slope * left_out * ROUNDING);
        }
        let probe_bound = |probe: &BlockProbe<'_>, score: f32| {
            let calibration = probe.block.codebook.calibration;
            calibration.correct(score + lengths * probe.block.radius * ROUNDING, lengths)
        };
        for (at, probe) in (0u32..).zip(&self.probes) {
            if let Some(best) = self.by_centroids.iter().rev().find(|page| page.probe == at) {
                bound = bound.max(probe_bound(probe, best.score));
            }
            if let Some((score, _)) = probe.waiting.last() {
                // Lists that were not looked up may give what the last one gave.
                bound = bound.max(probe_bound(probe, *score));
            }
            if probe.untouched > 0 {
                bound = bound.max(probe_bound(probe, probe.floor));
            }
        }
        bound
    }
}

/// Puts a hit into a heap of the `k` best, worst on top.
pub(super) fn keep(best: &mut BinaryHeap<Reverse<PageHit>>, hit: PageHit, k: usize) {
    if best.len() < k {
        best.push(Reverse(hit));
    } else if best.peek().is_some_and(|Reverse(worst)| *worst < hit) {
        best.pop();
        best.push(Reverse(hit));
    }
}

/// The expected number of pages above `limit` among scores that fall, and how many of the first have to be taken for the
/// rest to hold at most `allowed`.
fn expected(scores: impl Iterator<Item = f64>, prediction: &Prediction, limit: f64, allowed: f64) -> (f64, usize) {
    let chances: Vec<f64> =
        scores.map(|score| prediction.exceeds(score, limit)).take_while(|chance| *chance > NO_CHANCE).collect();
    let (mut rest, mut count) = (0.0, chances.len());
    while count > 0 && rest + chances[count - 1] <= allowed {
        rest += chances[count - 1];
        count -= 1;
    }
    (chances.iter().sum(), count)
}
