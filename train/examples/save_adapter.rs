//! Trains low-rank updates of a test fixture for a few steps and saves the adapter, and the vectors that it gives, for
//! `tests/oracle/check_adapter.py` to compare with peft's.
//!
//! `cargo run --release -p colqwen-index-train --example save_adapter OUT`

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::preprocess::Grid;
use colqwen_index_ingest::colqwen2::tokens::LeftPadded;
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_train::encode::Encode;
use colqwen_index_train::grad_cache::{Batch, GradCache};
use colqwen_index_train::loss::{Kind, Loss};
use colqwen_index_train::maxsim::MaxSim;
use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};
use colqwen_index_train::optimiser::{AdamW, AdamWOptions};
use colqwen_index_train::scores::Targets;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).ok_or("expected a folder to write to")?);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures");
    let base = fixtures.join("colpali_engine").canonicalize()?;
    let model = ColQwen2::load(&base, &LoadOptions::default())?;
    let lora = Lora { rank: 4, alpha: 8.0, dropout: 0.05, ..Lora::default() };
    let network = Network::new(&model, Trained::Lora(lora), NetworkOptions { seed: 1, ..NetworkOptions::default() })?;

    let inputs = candle_core::safetensors::load(base.join("expected.safetensors"), &Device::Cpu)?;
    let pixels = candle_core::safetensors::load(fixtures.join("pixels.safetensors"), &Device::Cpu)?;
    let (pages, queries) = (pages(&inputs, &pixels)?, queries(&inputs)?);

    let cache = GradCache { maxsim: MaxSim::default(), loss: Loss::new(Kind::InfoNce), mini_batch: 2 };
    let targets = Targets::diagonal(2)?;
    let batch = Batch { queries: &queries, pages: &pages[..2], constant_pages: None, teacher: None, targets: &targets };
    let mut optimiser = AdamW::new(network.parameters(), AdamWOptions::default())?;
    for step in 0..20 {
        let learnt = cache.learn(&network, batch, step)?;
        optimiser.step(network.parameters(), &learnt.gradients, 5e-3)?;
        println!("step {step}: loss {:.4}", learnt.evaluated.value);
    }
    std::fs::create_dir_all(&out)?;
    network.save_adapter(&model, &base.to_string_lossy(), &out.join("adapter"))?;

    // The adapter as our own loader reads it: without dropout.
    let trained = ColQwen2::load(&out.join("adapter"), &LoadOptions::default())?;
    let vectors = |items: &[Arc<ModelInput>]| {
        let input = ModelInput::packed(items.iter().map(Arc::as_ref))?;
        trained.model().forward(&input, colqwen_index_ingest::colqwen2::ops::Ops::Fused)
    };
    let made = HashMap::from([("page", vectors(&pages)?), ("query", vectors(&queries)?)]);
    candle_core::safetensors::save(&made, out.join("vectors.safetensors"))?;
    let own = network.infer(&pages)?;
    let difference = (own.vectors() - &made["page"])?.abs()?.max_all()?.to_scalar::<f32>()?;
    println!("largest difference between the network and the adapter loaded again: {difference:.1e}");
    Ok(())
}

fn padded(inputs: &HashMap<String, Tensor>, kind: &str) -> Result<Vec<Vec<u32>>> {
    let rows = |name: &str| inputs[&format!("{kind}_{name}")].to_dtype(DType::I64)?.to_vec2::<i64>();
    let ids = rows("ids")?.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect();
    let mask = rows("mask")?.into_iter().map(|row| row.into_iter().map(|kept| kept == 1).collect()).collect();
    Ok(LeftPadded { ids, mask }.sequences())
}

fn queries(inputs: &HashMap<String, Tensor>) -> Result<Vec<Arc<ModelInput>>> {
    let of = |ids| Arc::new(ModelInput::texts(vec![ids]));
    Ok(padded(inputs, "query")?.into_iter().map(of).collect())
}

fn pages(inputs: &HashMap<String, Tensor>, pixels: &HashMap<String, Tensor>) -> Result<Vec<Arc<ModelInput>>> {
    let grids = inputs["page_grids"].to_dtype(DType::I64)?.to_vec2::<i64>()?;
    let sequences = padded(inputs, "page")?.into_iter().zip(grids);
    let page = |(at, (ids, grid)): (usize, (Vec<u32>, Vec<i64>))| {
        let frame = pixels[&format!("page{at}")].unsqueeze(2)?;
        let patches = Tensor::cat(&[&frame, &frame], 2)?.reshape((frame.dim(0)?, ()))?;
        let grid = Grid { rows: grid[1] as usize, columns: grid[2] as usize };
        Ok(Arc::new(ModelInput::images(vec![ids], patches, vec![grid])))
    };
    sequences.enumerate().map(page).collect()
}
