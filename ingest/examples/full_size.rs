//! ColQwen2 at its real size of 2.2 billion parameters, with random weights: what a page costs on this machine.
//!
//! ```text
//! cargo run --release -p colqwen-index-ingest --features encode --example full_size -- make DIR
//! cargo run --release -p colqwen-index-ingest --features encode --example full_size -- encode DIR
//! python tests/oracle/time_full_size.py DIR
//! ```
//!
//! `make` writes 4.4 GB of bf16 weights, `encode` prints seconds and peak memory of one page of 768 visual tokens, and
//! the Python script the same of PyTorch in f32, with the largest difference of the two results.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use colqwen_index_ingest::colqwen2::model::Model;
use colqwen_index_ingest::colqwen2::weights::{Weight, WeightSource};
use colqwen_index_ingest::colqwen2::{ColQwen2, Config, LoadOptions, WeightMemory};
use colqwen_index_ingest::encoder::{Encoder, EncoderError};
use image::{Rgb, RgbImage};
use serde_json::json;

const SHARDS: usize = 2;
/// 24 x 32 merged patches of 28 pixels: 768 visual tokens, and no resizing.
const PAGE: (u32, u32) = (672, 896);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", dir] => make(Path::new(dir)),
        ["encode", dir] => encode(Path::new(dir), WeightMemory::Auto),
        ["encode", dir, "--f32"] => encode(Path::new(dir), WeightMemory::F32),
        _ => Err("usage: full_size make DIR | full_size encode DIR [--f32]".into()),
    }
}

fn config(image_token: u64) -> serde_json::Value {
    json!({
        "architectures": ["ColQwen2"], "model_type": "qwen2_vl", "image_token_id": image_token,
        "text_config": {
            "model_type": "qwen2_vl_text", "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960,
            "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 32768, "hidden_act": "silu", "tie_word_embeddings": true,
            "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default", "mrope_section": [16, 24, 24]}
        },
        "vision_config": {
            "model_type": "qwen2_vl_vision", "depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16,
            "mlp_ratio": 4, "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
            "hidden_act": "quick_gelu"
        },
        "tie_word_embeddings": true
    })
}

/// Writes down which tensors the model asks for, and gives it zeros that take no memory.
#[derive(Default)]
struct Recorder(RefCell<BTreeMap<String, Vec<usize>>>);

impl WeightSource for Recorder {
    fn weight(&self, name: &str, shape: &[usize]) -> Result<Weight, EncoderError> {
        self.0.borrow_mut().insert(name.to_owned(), shape.to_owned());
        Ok(Weight::Held(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?))
    }
}

fn make(dir: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures/tiny/tokenizer.json");
    let tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(tokenizer)?)?;
    let added = tokenizer["added_tokens"].as_array().ok_or("the tokenizer has no added tokens")?;
    let image = added.iter().find(|token| token["content"] == "<|image_pad|>").ok_or("no image token")?;
    let image_token = image["id"].as_u64().ok_or("no image token id")?;
    let value = config(image_token);
    let parsed = Config::from_value(&dir.join("config.json"), &value)?;
    let recorder = Recorder::default();
    Model::load(&recorder, &parsed, 128, image_token as u32, DType::F32, &Device::Cpu)?;
    let tensors: Vec<(String, Vec<usize>)> = recorder.0.into_inner().into_iter().collect();
    let parameters: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    println!("{} tensors, {:.3} billion parameters", tensors.len(), parameters as f64 / 1e9);

    std::fs::write(dir.join("config.json"), serde_json::to_vec_pretty(&value)?)?;
    std::fs::write(dir.join("tokenizer.json"), serde_json::to_vec(&tokenizer)?)?;
    std::fs::write(dir.join("colqwen_index.json"), r#"{"trained": false}"#)?;
    let mut weight_map = serde_json::Map::new();
    for shard in 0..SHARDS {
        let file = format!("model-{:05}-of-{SHARDS:05}.safetensors", shard + 1);
        let part: Vec<_> = tensors.iter().skip(shard).step_by(SHARDS).collect();
        weight_map.extend(part.iter().map(|(name, _)| (name.clone(), json!(file))));
        write_shard(&dir.join(file), &part, shard as u64 + 1)?;
    }
    let index = json!({"metadata": {"total_size": parameters * 2}, "weight_map": weight_map});
    std::fs::write(dir.join("model.safetensors.index.json"), serde_json::to_vec_pretty(&index)?)?;
    page().save(dir.join("page.png"))?;
    Ok(())
}

fn write_shard(path: &Path, tensors: &[&(String, Vec<usize>)], seed: u64) -> Result<(), Box<dyn Error>> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let end = at + shape.iter().product::<usize>() * 2;
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (name, shape) in tensors {
        let inputs: usize = shape.iter().skip(1).product();
        // Uniform with the spread that keeps a vector's length; norms around 1, biases around 0.
        let (centre, spread) = match (shape.len(), name.ends_with(".bias")) {
            (1, true) => (0.0, 0.02),
            (1, false) => (1.0, 0.1),
            _ if name.contains("embed_tokens") => (0.0, 0.05),
            _ => (0.0, (3.0 / inputs as f32).sqrt()),
        };
        for _ in 0..shape.iter().product::<usize>() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let uniform = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            file.write_all(&half::bf16::from_f32(centre + spread * uniform).to_le_bytes())?;
        }
    }
    file.flush()?;
    Ok(())
}

fn page() -> RgbImage {
    RgbImage::from_fn(PAGE.0, PAGE.1, |x, y| {
        let ink = (x / 7 * 31 + y / 11 * 17) % 5 == 0;
        if ink { Rgb([20, 20, (x % 200) as u8]) } else { Rgb([255, 255, 255 - (y % 40) as u8]) }
    })
}

fn encode(dir: &Path, weights: WeightMemory) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let model = ColQwen2::load(dir, &LoadOptions { weights, ..LoadOptions::default() })?;
    println!("loaded in {:.1} s, peak memory {}", start.elapsed().as_secs_f64(), peak_memory());
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let pages = model.encode_pages(&[page()])?;
    println!(
        "one page of {} tokens in {:.1} s, {:.1} CPU-seconds, peak memory {}",
        pages[0].vectors.tokens(),
        start.elapsed().as_secs_f64(),
        cpu_seconds() - cpu,
        peak_memory()
    );
    let shape = (pages[0].vectors.tokens(), model.dim());
    let vectors = Tensor::from_slice(pages[0].vectors.values(), shape, &Device::Cpu)?;
    vectors.save_safetensors("embeddings", dir.join("page.safetensors"))?;
    Ok(())
}

/// Largest resident size of this process so far, the mapped file's pages included.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}

/// User and system time of all threads, at the kernel's usual 100 ticks a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
