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

/// Multiply-adds of codes from which on a scan is spread over threads: below, waking them takes longer than they save. Chosen
/// by the bench `parallel`, as is the next.
const SPREAD_FROM: u64 = 1 << 23;
/// How many multiply-adds of codes take as long as one of f16.
const HALF_COST: u64 = 4;

/// The threads that a scan may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Threads {
    /// Only the one that it is called on.
    One,
    /// Those of the rayon pool, where that pays.
    Many,
}

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
    threads: Threads,
) -> Result<(Vec<PageHit>, SearchWork), Error> {
    let mut runs = Vec::new();
    let (mut work, mut cost) = (SearchWork::default(), 0);
    for pages in segments {
        push_runs(pages, &mut runs);
        work.full_pages += pages.len() as u64;
        for page in pages.places().map(|place| &pages.table.pages[place]) {
            let tokens = u64::from(page.tokens);
            work.tokens += tokens;
            cost += if pages.table.f16_range(page).is_some() { HALF_COST * tokens } else { tokens };
        }
    }
    let spread = threads == Threads::Many && cost * query.vectors.values().len() as u64 >= SPREAD_FROM;
    let best = if spread { score_spread(&runs, query, k)? } else { score_here(&runs, query, k)? };
    Ok((best.into_sorted(), work))
}

fn score_here(runs: &[Run<'_>], query: &PreparedQuery<'_>, k: usize) -> Result<BestHits, Error> {
    let (mut scorer, mut best) = (PageScorer::new(query), BestHits::new(k));
    runs.iter().try_for_each(|run| score_run(run, &mut scorer, &mut best))?;
    Ok(best)
}

fn score_spread<'q>(runs: &[Run<'_>], query: &'q PreparedQuery<'q>, k: usize) -> Result<BestHits, Error> {
    let score = |(mut scorer, mut best): (PageScorer<'q>, BestHits), run: &Run<'_>| {
        score_run(run, &mut scorer, &mut best)?;
        Ok::<_, Error>((scorer, best))
    };
    runs.par_iter()
        .try_fold(|| (PageScorer::new(query), BestHits::new(k)), score)
        .map(|scored| scored.map(|(_, best)| best))
        .try_reduce(|| BestHits::new(k), |one, other| Ok(one.merged(other)))
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

fn score_run(run: &Run<'_>, scorer: &mut PageScorer<'_>, best: &mut BestHits) -> Result<(), Error> {
    let bytes = run.pages.file.read(run.start..run.end)?;
    for place in &run.places {
        let entry = &run.pages.table.pages[*place];
        let at = (entry.offset - run.start) as usize;
        let vectors = &bytes[at..at + run.pages.table.vector_bytes(entry)];
        let score = scorer.full(&run.pages.page(*place), vectors)?;
        best.push(PageHit { score, address: DocAddress::new(run.pages.segment, entry.doc) });
    }
    Ok(())
}
