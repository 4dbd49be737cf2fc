//! The exact search: every live page that passes the filter is scored at the highest precision stored.

use rayon::prelude::*;
use tantivy::DocAddress;

use super::PageHit;
use super::eligible::EligiblePages;
use super::hit::BestHits;
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
    let best = runs
        .par_iter()
        .map(|run| score_run(run, query, k))
        .try_reduce(|| BestHits::new(k), |one, other| Ok(one.merged(other)))?;
    Ok((best.into_sorted(), work))
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

fn score_run(run: &Run<'_>, query: &PreparedQuery<'_>, k: usize) -> Result<BestHits, Error> {
    let bytes = run.pages.file.read(run.start..run.end)?;
    let mut scorer = PageScorer::new(query);
    let mut best = BestHits::new(k);
    for place in &run.places {
        let entry = &run.pages.table.pages[*place];
        let at = (entry.offset - run.start) as usize;
        let vectors = &bytes[at..at + run.pages.table.vector_bytes(entry)];
        let score = scorer.full(&run.pages.page(*place), vectors)?;
        best.push(PageHit { score, address: DocAddress::new(run.pages.segment, entry.doc) });
    }
    Ok(best)
}
