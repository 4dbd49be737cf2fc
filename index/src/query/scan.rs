//! The exact search: every live page that passes the filter is scored at the highest precision stored.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;
use tantivy::DocAddress;

use super::PageHit;
use super::eligible::EligiblePages;
use super::ladder::keep;
use super::prepared::{PageScorer, PreparedQuery};
use super::report::SearchWork;
use crate::Error;

/// Bytes of neighbouring pages that one task reads and scores at once.
const RUN_BYTES: u64 = 1 << 20;

/// Pages that stand next to each other in a segment file.
struct Run<'a> {
    pages: &'a EligiblePages<'a>,
    places: Vec<usize>,
    start: u64,
    end: u64,
}

/// The `k` best of the eligible pages, best first.
pub(super) fn top_k(
    query: &PreparedQuery<'_>,
    segments: &[EligiblePages<'_>],
    k: usize,
) -> Result<(Vec<PageHit>, SearchWork), Error> {
    let mut runs = Vec::new();
    let mut work = SearchWork::default();
    for pages in segments {
        push_runs(pages, &mut runs);
        work.full_pages += pages.len() as u64;
        work.tokens += pages.places().map(|place| u64::from(pages.table.pages[place].tokens)).sum::<u64>();
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
    Ok((hits, work))
}

fn push_runs<'a>(pages: &'a EligiblePages<'a>, runs: &mut Vec<Run<'a>>) {
    let first = runs.len();
    let mut places: Vec<usize> = pages.places().collect();
    // In sorted indexes the order in the file is not that of the documents.
    places.sort_unstable_by_key(|place| pages.table.pages[*place].offset);
    for place in places {
        let page = &pages.table.pages[place];
        let (start, end) = (page.offset, page.offset + pages.table.vector_bytes(page) as u64);
        match runs[first..].last_mut() {
            // A gap of one page, deleted or of another field, is cheaper to read over than to read around.
            Some(run) if end - run.start <= RUN_BYTES && start - run.end <= RUN_BYTES / 8 => {
                run.places.push(place);
                run.end = end;
            }
            _ => runs.push(Run { pages, places: vec![place], start, end }),
        }
    }
}

fn score_run(run: &Run<'_>, query: &PreparedQuery<'_>, k: usize) -> Result<BinaryHeap<Reverse<PageHit>>, Error> {
    let bytes = run.pages.file.read(run.start..run.end)?;
    let mut scorer = PageScorer::new(query);
    let mut best = BinaryHeap::new();
    for place in &run.places {
        let entry = &run.pages.table.pages[*place];
        let at = (entry.offset - run.start) as usize;
        let vectors = &bytes[at..at + run.pages.table.vector_bytes(entry)];
        let score = scorer.full(&run.pages.page(*place), vectors)?;
        keep(&mut best, PageHit { score, address: DocAddress::new(run.pages.segment, entry.doc) }, k);
    }
    Ok(best)
}
