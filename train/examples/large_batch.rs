//! What a step of projection training costs in time and memory, by batch and mini-batch.
//!
//! usage: large_batch BATCH MINI_BATCH [PAGE_TOKENS]
//!
//! Hidden states are made up: 1536 values per token, 20 tokens per query. Run it once per setting, because the peak of a
//! process's memory never falls. A mini-batch as large as the batch is plain backpropagation through the whole batch, done
//! twice.

use std::sync::Arc;
use std::time::Instant;

use colqwen_index_ingest::colqwen2::HiddenStates;
use colqwen_index_train::dropout::Dropout;
use colqwen_index_train::grad_cache::{Batch, GradCache};
use colqwen_index_train::loss::{Kind, Loss};
use colqwen_index_train::maxsim::MaxSim;
use colqwen_index_train::projection::Projection;
use colqwen_index_train::random::{Purpose, Stream};
use colqwen_index_train::scores::Targets;
use half::f16;

const WIDTH: usize = 1536;
const QUERY_TOKENS: usize = 20;

fn states(tokens: usize, key: u64) -> Arc<HiddenStates> {
    let mut bytes = vec![0; tokens * WIDTH];
    Stream::new(1, Purpose::Choice, &[key]).fill(&mut bytes);
    let values = bytes.into_iter().map(|byte| f16::from_f32(f32::from(byte) / 64.0 - 2.0)).collect();
    Arc::new(HiddenStates::new(WIDTH, values).expect("a whole number of tokens"))
}

/// The most memory that the process had, in MB, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes / 1000)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<Vec<usize>, _>>()?;
    let (batch, mini_batch, page_tokens) = match arguments[..] {
        [batch, mini_batch] => (batch, mini_batch, 256),
        [batch, mini_batch, page_tokens] => (batch, mini_batch, page_tokens),
        _ => return Err("usage: large_batch BATCH MINI_BATCH [PAGE_TOKENS]".into()),
    };
    let queries: Vec<_> = (0..batch as u64).map(|query| states(QUERY_TOKENS, query)).collect();
    let pages: Vec<_> = (0..batch as u64).map(|page| states(page_tokens, (1 << 32) | page)).collect();
    let held: usize = queries.iter().chain(&pages).map(|item| item.values().len() * 2).sum();
    let before = peak();
    let model = Projection::random(128, WIDTH, 1, Dropout::new(0.0, 1)?)?;
    let targets = Targets::diagonal(batch)?;
    let cache = GradCache { maxsim: MaxSim::default(), loss: Loss::new(Kind::InfoNce), mini_batch };
    let started = Instant::now();
    let learnt = cache.learn(
        &model,
        Batch { queries: &queries, pages: &pages, constant_pages: None, teacher: None, targets: &targets },
        0,
    )?;
    println!(
        "batch {batch}, mini-batch {mini_batch}, {page_tokens} tokens per page: {:.2} s, loss {:.4}, gradient norm {:.6}",
        started.elapsed().as_secs_f64(),
        learnt.evaluated.value,
        learnt.gradients.norm()?
    );
    if let (Some(before), Some(after)) = (before, peak()) {
        println!("peak {after} MB, of which {before} before the step ({} are the hidden states)", held / 1_000_000);
    }
    Ok(())
}
