//! What searches take on one thread.

use std::time::Duration;

use colqwen_index::field::{Effort, SearchReport};
use cpu_time::ProcessTime;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::engine::{Engine, Failure, Only};

/// CPU time that searches are repeated for.
const LEAST: Duration = Duration::from_secs(2);

/// A thread of its own, where searches have no others to share their work with.
pub struct Clock {
    thread: ThreadPool,
}

impl Clock {
    pub fn new() -> Result<Self, Failure> {
        Ok(Self { thread: ThreadPoolBuilder::new().num_threads(1).build()? })
    }

    /// Searches all queries once; the CPU time of one query in milliseconds, and what was found.
    pub fn round(&self, engine: &Engine, effort: Effort, only: Only) -> Result<(f64, Vec<SearchReport>), Failure> {
        let search = || (0..engine.queries()).map(|query| engine.search(query, effort, only)).collect();
        let start = ProcessTime::now();
        let found: Result<Vec<SearchReport>, Failure> = self.thread.install(search);
        let taken = start.elapsed().as_secs_f64() * 1e3;
        Ok((taken / engine.queries().max(1) as f64, found?))
    }

    /// The mean CPU time of one query in milliseconds, after a first round that brings the files into memory, and what was
    /// found.
    pub fn mean(&self, engine: &Engine, effort: Effort, only: Only) -> Result<(f64, Vec<SearchReport>), Failure> {
        let (_, found) = self.round(engine, effort, only)?;
        let (start, mut rounds) = (ProcessTime::now(), Vec::new());
        while rounds.is_empty() || start.elapsed() < LEAST {
            rounds.push(self.round(engine, effort, only)?.0);
        }
        Ok((rounds.iter().sum::<f64>() / rounds.len() as f64, found))
    }
}
