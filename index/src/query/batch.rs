//! Many queries at once: each on one thread, as long as there are queries for all threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use tantivy::Searcher;

use super::scan::Threads;
use super::{LateInteractionQuery, SearchReport};
use crate::Error;

impl LateInteractionQuery {
    /// The answers to many queries, in their order, found in parallel on the rayon pool that this is called in.
    ///
    /// Each query keeps its own `k`, effort and filter, and gets the answer that [`report`](Self::report) gives.
    ///
    /// # Errors
    /// The error of the first query, in their order, that has one; see [`search`](Self::search). Queries after it may not
    /// have been looked at.
    pub fn report_batch(queries: &[Self], searcher: &Searcher) -> Result<Vec<SearchReport>, Error> {
        // With a query for every thread, threads within a query would only cost.
        let within = if queries.len() < rayon::current_num_threads() { Threads::Many } else { Threads::One };
        let failed = AtomicUsize::new(usize::MAX);
        let answer = |(at, query): (usize, &Self)| {
            // Only an earlier query can still change what is returned.
            if at > failed.load(Ordering::Relaxed) {
                return None;
            }
            let report = query.report_by(searcher, within);
            if report.is_err() {
                failed.fetch_min(at, Ordering::Relaxed);
            }
            Some(report)
        };
        let answers: Vec<Option<Result<SearchReport, Error>>> = queries.par_iter().enumerate().map(answer).collect();
        answers.into_iter().flatten().collect()
    }
}
