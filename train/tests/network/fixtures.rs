//! The checkpoints and inputs that the parity tests of encoding use.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::preprocess::Grid;
use colqwen_index_ingest::colqwen2::tokens::LeftPadded;
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures")
}

pub fn tensors(file: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder().join(file), &Device::Cpu).unwrap()
}

pub fn load(path: &Path) -> ColQwen2 {
    ColQwen2::load(path, &LoadOptions::default()).unwrap()
}

fn padded(inputs: &HashMap<String, Tensor>, kind: &str) -> Vec<Vec<u32>> {
    let rows = |name: &str| inputs[&format!("{kind}_{name}")].to_dtype(DType::I64).unwrap().to_vec2::<i64>().unwrap();
    let ids = rows("ids").into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect();
    let mask = rows("mask").into_iter().map(|row| row.into_iter().map(|kept| kept == 1).collect()).collect();
    LeftPadded { ids, mask }.sequences()
}

/// The queries of the fixture `name`.
pub fn queries(name: &str) -> Vec<Arc<ModelInput>> {
    let of = |ids| Arc::new(ModelInput::texts(vec![ids]));
    padded(&tensors(&format!("{name}/expected.safetensors")), "query").into_iter().map(of).collect()
}

/// The pages of the fixture `name`.
pub fn pages(name: &str) -> Vec<Arc<ModelInput>> {
    let (inputs, pixels) = (tensors(&format!("{name}/expected.safetensors")), tensors("pixels.safetensors"));
    let grids = inputs["page_grids"].to_dtype(DType::I64).unwrap().to_vec2::<i64>().unwrap();
    let sequences = padded(&inputs, "page").into_iter().zip(grids);
    let page = |(at, (ids, grid)): (usize, (Vec<u32>, Vec<i64>))| {
        // Each frame stands twice in a patch.
        let frame = pixels[&format!("page{at}")].unsqueeze(2).unwrap();
        let patches = Tensor::cat(&[&frame, &frame], 2).unwrap().reshape((frame.dims()[0], ())).unwrap();
        let grid = Grid { rows: grid[1] as usize, columns: grid[2] as usize };
        Arc::new(ModelInput::images(vec![ids], patches, vec![grid]))
    };
    sequences.enumerate().map(page).collect()
}

pub fn largest(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}
