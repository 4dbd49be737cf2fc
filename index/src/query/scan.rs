//! The exact search: every live page that passes the filter is scored.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use rayon::prelude::*;
use roaring::RoaringBitmap;
use tantivy::query::Weight;
use tantivy::schema::Field;
use tantivy::{DocAddress, DocSet, Searcher, SegmentReader, TERMINATED};

use crate::kernel::MaxSim;
use crate::segment::{FieldTable, PageEntry, SegmentFile};
use crate::{Error, MultiVector};

/// Bytes of neighbouring pages that one task reads and scores at once.
const RUN_BYTES: u64 = 1 << 20;

/// A page found by a query.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PageHit {
    /// MaxSim: the sum over query tokens of the best dot product with a page token.
    pub score: f32,
    /// Where the document stands in the searcher.
    pub address: DocAddress,
}

impl Eq for PageHit {}

impl Ord for PageHit {
    /// The better hit is the greater: higher score, then lower address.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.address.cmp(&self.address))
    }
}

impl PartialOrd for PageHit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Pages that stand next to each other in a segment file.
struct Run<'a> {
    segment: u32,
    file: &'a SegmentFile,
    table: &'a FieldTable,
    pages: Vec<&'a PageEntry>,
    start: u64,
    end: u64,
}

/// The `k` best pages among the live ones that match `filter`, best first.
pub(super) fn top_k(
    searcher: &Searcher,
    files: &[Arc<SegmentFile>],
    field: Field,
    query: &MultiVector,
    k: usize,
    filter: Option<&dyn Weight>,
) -> Result<Vec<PageHit>, Error> {
    if k == 0 {
        return Ok(Vec::new());
    }
    let mut runs = Vec::new();
    for ((segment, reader), file) in (0..).zip(searcher.segment_readers()).zip(files) {
        if let Some(table) = file.field(field) {
            let mut pages = candidates(reader, table, filter)?;
            // In sorted indexes the order in the file is not that of the documents.
            pages.sort_unstable_by_key(|page| page.offset);
            push_runs(segment, file, table, pages, &mut runs);
        }
    }
    let best =
        runs.par_iter().map(|run| score_run(run, query, k)).try_reduce(BinaryHeap::new, |mut one, mut other| {
            if one.len() < other.len() {
                std::mem::swap(&mut one, &mut other);
            }
            other.into_iter().for_each(|Reverse(hit)| keep(&mut one, hit, k));
            Ok(one)
        })?;
    let mut hits: Vec<PageHit> = best.into_iter().map(|Reverse(hit)| hit).collect();
    hits.sort_unstable_by(|one, other| other.cmp(one));
    Ok(hits)
}

/// The live pages of a segment that match the filter.
fn candidates<'a>(
    reader: &SegmentReader,
    table: &'a FieldTable,
    filter: Option<&dyn Weight>,
) -> Result<Vec<&'a PageEntry>, Error> {
    let matching = match filter {
        Some(filter) => {
            let mut docs = filter.scorer(reader, 1.0)?;
            let mut matching = RoaringBitmap::new();
            while docs.doc() != TERMINATED {
                matching.insert(docs.doc());
                docs.advance();
            }
            Some(matching)
        }
        None => None,
    };
    let passes = |doc: u32| !reader.is_deleted(doc) && matching.as_ref().is_none_or(|matching| matching.contains(doc));
    Ok(table.pages.iter().filter(|page| passes(page.doc)).collect())
}

fn push_runs<'a>(
    segment: u32,
    file: &'a SegmentFile,
    table: &'a FieldTable,
    pages: Vec<&'a PageEntry>,
    runs: &mut Vec<Run<'a>>,
) {
    for page in pages {
        let (start, end) = (page.offset, page.offset + table.vector_bytes(page) as u64);
        match runs.last_mut() {
            // A gap of one page, deleted or of another field, is cheaper to read over than to read around.
            Some(run) if run.segment == segment && end - run.start <= RUN_BYTES && start - run.end <= RUN_BYTES / 8 => {
                run.pages.push(page);
                run.end = end;
            }
            _ => runs.push(Run { segment, file, table, pages: vec![page], start, end }),
        }
    }
}

fn score_run(run: &Run<'_>, query: &MultiVector, k: usize) -> Result<BinaryHeap<Reverse<PageHit>>, Error> {
    let bytes = run.file.read(run.start..run.end)?;
    let mut maxsim = MaxSim::new(query.values(), query.dim());
    let mut best = BinaryHeap::new();
    for page in &run.pages {
        let at = (page.offset - run.start) as usize;
        let score = maxsim.score(&bytes[at..at + run.table.vector_bytes(page)]);
        keep(&mut best, PageHit { score, address: DocAddress::new(run.segment, page.doc) }, k);
    }
    Ok(best)
}

/// Puts a hit into a heap of the `k` best, worst on top.
fn keep(best: &mut BinaryHeap<Reverse<PageHit>>, hit: PageHit, k: usize) {
    if best.len() < k {
        best.push(Reverse(hit));
    } else if best.peek().is_some_and(|Reverse(worst)| *worst < hit) {
        best.pop();
        best.push(Reverse(hit));
    }
}
