//! The candidate stage: pages by the centroids they have.
//!
//! Each query token looks up its best centroids and adds to the pages in their inverted lists, as in PLAID (Santhanam et al.,
//! 2022) with XTR's reading (Lee et al., 2023) of what is missing: a page that none of a token's lists names scores for it
//! what the last list would have given. Scores are bytes; the best pages are then scored by all their centroids, each once,
//! however many tokens it stands for.

use roaring::RoaringBitmap;

use super::eligible::EligiblePages;
use super::prepared::{PreparedQuery, Run};
use crate::kernel::QueryLanes;
use crate::kernel::byte_rows::{ByteTable, ROW_STEP, best_bytes, reaching, sums, to_bytes};
use crate::segment::Block;

/// Rows from which the probing thresholds are taken: more change them by little.
const SAMPLE_ROWS: usize = 2048;
/// List entries that are read at once.
const LIST_STEP: usize = 256;
/// Eligible pages of a block up to which all are scored by their centroids at once: looking up lists would cost as much.
const FEW_PAGES: usize = 512;

/// The candidates of one block.
pub(super) struct BlockProbe<'a> {
    pub pages: &'a EligiblePages<'a>,
    pub block: &'a Block,
    rows: ByteRows,
    /// What the lists say of each page; empty if none was looked up.
    scores: Vec<ListScore>,
    eligible: Option<RoaringBitmap>,
    /// What a page scores that no list named.
    pub floor: f32,
    /// Pages that lists named and that were not scored by their centroids, worst first: list score, place in the block.
    pub waiting: Vec<(f32, u32)>,
    /// Eligible pages that no list named.
    pub untouched: usize,
    /// List entries read.
    pub postings: u64,
    /// Room for the best bytes of one page.
    best: Vec<u8>,
    masks: Vec<u32>,
    runs: Vec<Run>,
}

/// What inverted lists say of a page.
#[derive(Clone, Copy, Default)]
struct ListScore {
    /// One more than the query token that saw it last; 0 for pages that no list named.
    seen: u32,
    /// Bytes above what the last list gives.
    score: u32,
}

impl ListScore {
    fn add(&mut self, mark: u32, gain: u32) {
        self.score += if self.seen == mark { 0 } else { gain };
        self.seen = mark;
    }
}

/// The pages that lists named, by rising score, of equals the last first. Scores are small whole numbers: counted, not
/// compared, because of fifty thousand pages a thousand are looked at.
fn worst_first(scores: &[ListScore]) -> Vec<u32> {
    let named = || (0u32..).zip(scores).filter(|(_, list)| list.seen > 0);
    let most = named().map(|(_, list)| list.score as usize).max().unwrap_or(0);
    let mut ends = vec![0usize; most + 1];
    named().for_each(|(_, list)| ends[list.score as usize] += 1);
    let mut end = 0;
    for count in &mut ends {
        end += *count;
        *count = end;
    }
    let mut pages = vec![0; end];
    for (page, list) in named() {
        ends[list.score as usize] -= 1;
        pages[ends[list.score as usize]] = page;
    }
    pages
}

/// Centroid scores as bytes, one row per centroid, one column per query token.
struct ByteRows {
    /// Bytes per row, a multiple of [`ROW_STEP`].
    stride: usize,
    bytes: Vec<u8>,
    /// The score is `base + step * sum of bytes`.
    base: f32,
    step: f32,
}

impl ByteRows {
    /// A byte counts from the mean score of its query token: centroids below it are nobody's best.
    fn new(lanes: &QueryLanes, rows: &[f32]) -> Self {
        let (width, tokens) = (lanes.lanes(), lanes.tokens());
        let stride = tokens.next_multiple_of(ROW_STEP);
        let (mut means, mut most) = (vec![0.0f32; width], vec![f32::NEG_INFINITY; width]);
        sums(rows, &mut means, &mut most);
        let count = (rows.len() / width) as f32;
        means.iter_mut().for_each(|sum| *sum /= count);
        let reach = |lane: usize| (most[lane] - means[lane]) * lanes.scales()[lane];
        let step = (0..tokens).map(reach).fold(f32::MIN_POSITIVE, f32::max) / 255.0;
        // Lanes without a token have a scale of 0, and so have their bytes.
        let by: Vec<f32> = lanes.scales().iter().map(|scale| scale / step).collect();
        let mut bytes = vec![0u8; (rows.len() / width) * stride];
        // Rounded up: a page's best is above its bytes by no more than f32 arithmetic is off.
        to_bytes(rows, &means, &by, &mut bytes, stride);
        let base = (0..tokens).map(|lane| means[lane] * lanes.scales()[lane]).sum();
        Self { stride, bytes, base, step }
    }

    fn table(&self) -> ByteTable<'_> {
        ByteTable { bytes: &self.bytes, stride: self.stride }
    }

    /// For each query token the byte that about `probes` centroids reach, at least 1; columns without a token are reached by
    /// none.
    fn thresholds(&self, tokens: usize, probes: usize) -> Vec<u8> {
        let count = self.bytes.len() / self.stride;
        let every = count.div_ceil(SAMPLE_ROWS);
        let mut counts = vec![[0u16; 256]; tokens];
        for row in self.bytes.chunks_exact(self.stride * every).map(|rows| &rows[..tokens]) {
            row.iter().zip(&mut counts).for_each(|(byte, counts)| counts[usize::from(*byte)] += 1);
        }
        let wanted = probes.div_ceil(every).min(usize::from(u16::MAX)) as u16;
        let threshold = |counts: &[u16; 256]| {
            let mut above = 0;
            (1..=255u8).rev().find(|byte| {
                above += counts[usize::from(*byte)];
                above >= wanted
            })
        };
        let mut thresholds: Vec<u8> = counts.iter().map(|counts| threshold(counts).unwrap_or(1)).collect();
        thresholds.resize(self.stride, u8::MAX);
        thresholds
    }
}

impl<'a> BlockProbe<'a> {
    /// Looks up about `probes` centroids per square root of all for each query token, unless so few pages are eligible that all
    /// can be scored by their centroids; `None` where none is.
    pub fn new(
        query: &PreparedQuery<'_>,
        probes: f32,
        pages: &'a EligiblePages<'a>,
        at: usize,
        block: &'a Block,
    ) -> Option<Self> {
        let eligible = pages.in_block(at);
        let count = eligible.as_ref().map_or(block.pages.len(), |eligible| eligible.len() as usize);
        if count == 0 {
            return None;
        }
        let rows = ByteRows::new(&query.lanes, query.rows(block));
        let mut probe = Self {
            pages,
            block,
            floor: rows.base,
            best: vec![0; rows.stride],
            masks: Vec::new(),
            runs: Vec::new(),
            rows,
            scores: Vec::new(),
            eligible,
            waiting: Vec::new(),
            untouched: count,
            postings: 0,
        };
        if count > FEW_PAGES {
            let probes = (probes * (block.codebook.len() as f32).sqrt()).ceil().max(1.0);
            probe.look_up(query.lanes.tokens(), probes as usize);
        }
        Some(probe)
    }

    /// Whether lists were looked up, so that they say something of the pages that they do not name.
    pub fn is_looked_up(&self) -> bool {
        !self.scores.is_empty()
    }

    fn look_up(&mut self, tokens: usize, probes: usize) {
        let thresholds = self.rows.thresholds(tokens, probes);
        let steps = self.rows.stride / ROW_STEP;
        let mut probed: Vec<Vec<(u8, u16)>> = vec![Vec::new(); tokens];
        reaching(self.rows.bytes.chunks_exact(self.rows.stride), &thresholds, &mut self.masks);
        for (centroid, masks) in self.masks.chunks_exact(steps).enumerate() {
            for token in columns(masks) {
                probed[token].push((self.rows.bytes[centroid * self.rows.stride + token], centroid as u16));
            }
        }
        let mut scores = vec![ListScore::default(); self.block.pages.len()];
        let floor: u32 = thresholds[..tokens].iter().map(|least| u32::from(*least)).sum();
        let mut pages = [0; LIST_STEP];
        for (mark, (centroids, least)) in (1u32..).zip(probed.iter_mut().zip(&thresholds)) {
            // Best first, so that the first list that names a page gives its score.
            centroids.sort_unstable_by(|one, two| two.cmp(one));
            for (byte, centroid) in centroids.iter() {
                let list = &self.block.lists()[usize::from(*centroid)];
                self.postings += list.len();
                let eligible = self.eligible.as_ref().map(|eligible| list & eligible);
                let mut list = eligible.as_ref().unwrap_or(list).iter();
                loop {
                    let pages = list.next_many(&mut pages);
                    if pages.is_empty() {
                        break;
                    }
                    for page in pages {
                        scores[*page as usize].add(mark, u32::from(byte - least));
                    }
                }
            }
        }
        self.floor = self.rows.base + self.rows.step * floor as f32;
        let score = |page: u32| self.floor + self.rows.step * scores[page as usize].score as f32;
        self.waiting = worst_first(&scores).into_iter().map(|page| (score(page), page)).collect();
        self.untouched -= self.waiting.len();
        self.scores = scores;
    }

    /// The sum over query tokens of the best centroid score of a page.
    pub fn centroid_score(&mut self, page: u32) -> f32 {
        best_bytes(self.rows.table(), self.block.group_centroids(page as usize), &mut self.best);
        let sum: u32 = self.best.iter().map(|byte| u32::from(*byte)).sum();
        self.rows.base + self.rows.step * sum as f32
    }

    /// The runs of a page's tokens that may hold the best of some query token: their centroids score at most `reach` times a
    /// query token's length less than the page's best centroid.
    pub fn reveal(&mut self, query: &PreparedQuery<'_>, page: u32, reach: f32) -> &[Run] {
        let (table, centroids) = (self.rows.table(), self.block.group_centroids(page as usize));
        best_bytes(table, centroids, &mut self.best);
        for (best, length) in self.best.iter_mut().zip(&query.token_lengths) {
            *best = best.saturating_sub((reach * length / self.rows.step) as u8).max(1);
        }
        // Columns without a query token.
        self.best[query.token_lengths.len()..].fill(u8::MAX);
        reaching(centroids.iter().map(|centroid| table.row(*centroid)), &self.best, &mut self.masks);
        // Where no centroid is above the mean of any query token there is nothing to choose by.
        let all = self.masks.iter().all(|mask| *mask == 0);
        self.runs.clear();
        let (mut start, steps) = (0, self.rows.stride / ROW_STEP);
        for (group, masks) in self.block.groups(page as usize).zip(self.masks.chunks_exact(steps)) {
            let end = start + usize::from(group.more) + 1;
            if all || masks.iter().any(|mask| *mask != 0) {
                self.runs.push(Run { centroid: group.centroid, tokens: start..end });
            }
            start = end;
        }
        &self.runs
    }

    /// The eligible pages that no list named, which from now on count as touched.
    pub fn take_untouched(&mut self) -> Vec<u32> {
        if std::mem::take(&mut self.untouched) == 0 {
            return Vec::new();
        }
        let unseen = |page: &u32| self.scores.get(*page as usize).is_none_or(|list| list.seen == 0);
        match &self.eligible {
            Some(eligible) => eligible.iter().filter(unseen).collect(),
            None => (0..self.block.pages.len() as u32).filter(unseen).collect(),
        }
    }
}

/// The columns that masks name, ascending.
fn columns(masks: &[u32]) -> impl Iterator<Item = usize> + '_ {
    masks.iter().enumerate().flat_map(|(step, mask)| {
        let mut left = *mask;
        std::iter::from_fn(move || {
            let column = step * ROW_STEP + left.trailing_zeros() as usize;
            let found = left != 0;
            left &= left.wrapping_sub(1);
            found.then_some(column)
        })
    })
}
