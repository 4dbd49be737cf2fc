//! The memory of a step, by batch and mini-batch.

use anyhow::Result;
use colqwen_index_train::grad_cache::GradCache;
use serde::{Deserialize, Serialize};

use crate::setup::{Inputs, Loss, Setup};

/// Pages that go through the model, in batches of `batch`.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub pages: usize,
    pub batch: usize,
    pub mini_batch: usize,
}

/// What it took at most, in MB.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Peak {
    /// Before the first step: program, weights, and the pages themselves.
    pub before: u64,
    /// At the end.
    pub after: u64,
    /// Negatives per query.
    pub negatives: usize,
}

impl Work {
    /// Does it. Only meaningful in a process of its own, because the peak of a process never falls.
    pub fn measure(self, seed: u64) -> Result<Peak> {
        let setup = Setup::new(seed)?;
        let batches = (0..self.pages / self.batch).map(|at| setup.batch(self.batch, &[at as u64]));
        let batches: Vec<Inputs> = batches.collect::<Result<_>>()?;
        let before = peak()?;
        let (loss, maxsim) = (Loss::InfoNce.rule(), Loss::InfoNce.maxsim());
        let cache = GradCache { maxsim, loss, mini_batch: self.mini_batch };
        for batch in &batches {
            cache.learn(&setup.network, batch.batch(), 0)?;
        }
        Ok(Peak { before, after: peak()?, negatives: self.batch - 1 })
    }
}

/// The most memory that the process had so far, in MB.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = line.ok_or_else(|| anyhow::anyhow!("the system does not tell the peak"))?.trim().parse()?;
    Ok(kilobytes / 1000)
}
