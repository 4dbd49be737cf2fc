//! What a batch of queries cost.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use colqwen_index::field::{Precision, SearchReport, SearchWork};
use colqwen_index::page_index::Effort;
use cpu_time::ProcessTime;

/// Queries that are run first and not counted.
const WARM_UP: usize = 20;
/// Rounds over all queries are run until this much CPU time is spent.
const LEAST_CPU: Duration = Duration::from_secs(2);

/// CPU and wall time of repeated searches.
pub struct Stats {
    queries: usize,
    rounds: usize,
    cpu: Duration,
    /// Wall time of each call, sorted.
    wall: Vec<Duration>,
}

impl Stats {
    /// Runs `search` over the queries by index: a warm-up, then whole rounds until enough CPU time is spent.
    ///
    /// CPU time is that of the whole process: user and system, all threads.
    pub fn measure(queries: usize, mut search: impl FnMut(usize) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        for at in 0..WARM_UP {
            search(at % queries)?;
        }
        let (mut rounds, mut wall) = (0, Vec::new());
        let start = ProcessTime::now();
        while rounds == 0 || start.elapsed() < LEAST_CPU {
            for at in 0..queries {
                let begun = Instant::now();
                search(at)?;
                wall.push(begun.elapsed());
            }
            rounds += 1;
        }
        let cpu = start.elapsed();
        wall.sort_unstable();
        Ok(Self { queries, rounds, cpu, wall })
    }

    /// Writes the figures as one JSON object: times, and what a query did on average.
    pub fn write<'a>(
        &self,
        file: &Path,
        threads: usize,
        effort: Effort,
        reports: impl Iterator<Item = &'a SearchReport>,
    ) -> anyhow::Result<()> {
        let (mut work, mut proven, mut recall, mut precision) = (SearchWork::default(), 0, 0.0, Precision::default());
        for report in reports {
            work.add(&report.work);
            proven += report.proven;
            recall += f64::from(report.expected_recall);
            precision = report.precision;
        }
        let mean = |sum: u64| sum as f64 / self.queries as f64;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let percentile = |share: f64| milliseconds(self.wall[((self.wall.len() - 1) as f64 * share).round() as usize]);
        let effort = match effort {
            Effort::Share(share) => serde_json::json!((f64::from(share) * 1e6).round() / 1e6),
            Effort::Exact => serde_json::json!("exact"),
        };
        let figures = serde_json::json!({
            "queries": self.queries,
            "rounds": self.rounds,
            "threads": threads,
            "effort": effort,
            "precision": match precision {
                Precision::F16 => "f16".to_owned(),
                coded => format!("{} bit", coded.bits()),
            },
            "cpu_ms_per_query": milliseconds(self.cpu) / (self.queries * self.rounds) as f64,
            "p50_ms": percentile(0.5),
            "p99_ms": percentile(0.99),
            "proven": proven as f64 / self.queries as f64,
            "expected_recall": recall / self.queries as f64,
            "eligible": mean(work.eligible),
            "postings": mean(work.postings),
            "centroid_pages": mean(work.centroid_pages),
            "coarse_pages": mean(work.coarse_pages),
            "full_pages": mean(work.full_pages),
            "tokens": mean(work.tokens),
        });
        std::fs::write(file, format!("{figures}\n")).with_context(|| format!("cannot write {}", file.display()))
    }
}
