//! A small ColQwen2 with random weights, as the folder of files that any other checkpoint is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use colqwen_index_train::random::{Purpose, Stream};
use serde_json::{Value, json};

use crate::page::{CELL, COLUMNS, ROWS};
use crate::words::Word;

/// A patch is a cell, and none are merged: a quarter of the patches of 14 pixels, so that a step of 512 pages takes about a second.
const PATCH: usize = CELL as usize;
const VISION: usize = 64;
const VISION_DEPTH: usize = 1;
const VISION_HEADS: usize = 4;
const WIDTH: usize = 64;
const INNER: usize = 128;
const LAYERS: usize = 1;
const HEADS: usize = 4;
const DIM: usize = 128;
/// Rotary frequencies that fit pages of some dozens of cells.
const THETA: f64 = 100.0;
/// Deviation of the embedding table.
const SPREAD: f64 = 0.5;
/// Letters of a piece of a word.
const PIECE: usize = 3;
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
const SPECIAL: [&str; 7] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// Writes a checkpoint whose tokenizer cuts `words` into pieces of three letters to the folder `dir`.
pub fn write(dir: &Path, words: &[Word], seed: u64) -> Result<()> {
    let pieces = pieces(words);
    let size = pieces.len() + SPECIAL.len();
    let save = |name: &str, value: &Value| {
        let path = dir.join(name);
        std::fs::write(&path, value.to_string()).with_context(|| format!("{}", path.display()))
    };
    save("tokenizer.json", &tokenizer(&pieces))?;
    save("config.json", &config(size))?;
    // White paper is 0, ink 2.55.
    let std = [-100.0 / 255.0; 3];
    let pixels = ROWS * COLUMNS * CELL * CELL;
    save(
        "preprocessor_config.json",
        &json!({"size": {"shortest_edge": CELL * CELL, "longest_edge": pixels}, "patch_size": PATCH, "merge_size": 1,
            "temporal_patch_size": 1, "image_mean": [1.0, 1.0, 1.0], "image_std": std}),
    )?;
    save("colqwen_index.json", &json!({"query_format": "bare", "trained": false}))?;
    let tensors: HashMap<String, Tensor> = weights(size, seed)?;
    Ok(candle_core::safetensors::save(&tensors, dir.join("model.safetensors"))?)
}

/// Single letters, and all pieces that `words` are cut into; those within a word begin with `##`.
fn pieces(words: &[Word]) -> Vec<String> {
    let mut pieces: BTreeSet<String> =
        LETTERS.chars().flat_map(|letter| [letter.to_string(), format!("##{letter}")]).collect();
    for word in words {
        let letters: Vec<char> = word.text.chars().collect();
        for (at, piece) in letters.chunks(PIECE).enumerate() {
            let piece: String = piece.iter().collect();
            pieces.insert(if at == 0 { piece } else { format!("##{piece}") });
        }
    }
    std::iter::once("[UNK]".to_owned()).chain(pieces).collect()
}

fn tokenizer(pieces: &[String]) -> Value {
    let vocabulary: BTreeMap<&String, usize> = pieces.iter().zip(0..).collect();
    let special = |(name, id): (&str, usize)| {
        json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    };
    let special: Vec<Value> = SPECIAL.into_iter().zip(pieces.len()..).map(special).collect();
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": special,
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": false},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary}})
}

fn config(size: usize) -> Value {
    let image = size - SPECIAL.len() + SPECIAL.iter().take_while(|name| **name != "<|image_pad|>").count();
    let rotated = WIDTH / HEADS / 2;
    json!({"architectures": ["ColQwen2"], "model_type": "qwen2_vl", "image_token_id": image,
        "text_config": {"vocab_size": size, "hidden_size": WIDTH, "intermediate_size": INNER,
            "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
            "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": true,
            "rope_parameters": {"rope_theta": THETA, "rope_type": "default",
                "mrope_section": [0, rotated / 2, rotated / 2]}},
        "vision_config": {"depth": VISION_DEPTH, "embed_dim": VISION, "hidden_size": WIDTH, "num_heads": VISION_HEADS,
            "mlp_ratio": 4, "in_channels": 3, "patch_size": PATCH, "spatial_merge_size": 1, "temporal_patch_size": 1,
            "hidden_act": "quick_gelu", "rope_parameters": {"rope_theta": THETA}}})
}

/// Uniform within `1 / sqrt(inputs)` on both sides of 0 for matrices, 1 for norms, 0 for biases.
fn weights(size: usize, seed: u64) -> Result<HashMap<String, Tensor>> {
    let shapes = shapes(size).into_iter().enumerate();
    let weight = |(at, (name, shape)): (usize, (String, Vec<usize>))| {
        let count: usize = shape.iter().product();
        let inputs: usize = shape.iter().skip(1).product();
        let mut stream = Stream::new(seed, Purpose::Weights, &[at as u64]);
        let mut draw = || match shape.len() {
            1 => f64::from(u8::from(name.ends_with(".weight"))),
            _ if name.contains("embed_tokens") => SPREAD * stream.normal(),
            _ => (2.0 * stream.unit() - 1.0) / (inputs as f64).sqrt(),
        };
        let values: Vec<f32> = (0..count).map(|_| draw() as f32).collect();
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    shapes.map(weight).collect()
}

fn shapes(size: usize) -> Vec<(String, Vec<usize>)> {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: String, shape: &[usize], bias: bool| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        if bias {
            shapes.push((format!("{name}.bias"), shape[..1].to_vec()));
        }
    };
    add("visual.patch_embed.proj".to_owned(), &[VISION, 3, 1, PATCH, PATCH], false);
    for at in 0..VISION_DEPTH {
        let block = format!("visual.blocks.{at}");
        add(format!("{block}.norm1"), &[VISION], true);
        add(format!("{block}.norm2"), &[VISION], true);
        add(format!("{block}.attn.qkv"), &[3 * VISION, VISION], true);
        add(format!("{block}.attn.proj"), &[VISION, VISION], true);
        add(format!("{block}.mlp.fc1"), &[4 * VISION, VISION], true);
        add(format!("{block}.mlp.fc2"), &[VISION, 4 * VISION], true);
    }
    add("visual.merger.ln_q".to_owned(), &[VISION], true);
    add("visual.merger.mlp.0".to_owned(), &[VISION, VISION], true);
    add("visual.merger.mlp.2".to_owned(), &[WIDTH, VISION], true);
    add("language_model.embed_tokens".to_owned(), &[size, WIDTH], false);
    for at in 0..LAYERS {
        let layer = format!("language_model.layers.{at}");
        add(format!("{layer}.input_layernorm"), &[WIDTH], false);
        add(format!("{layer}.post_attention_layernorm"), &[WIDTH], false);
        for name in ["q_proj", "k_proj", "v_proj"] {
            add(format!("{layer}.self_attn.{name}"), &[WIDTH, WIDTH], true);
        }
        add(format!("{layer}.self_attn.o_proj"), &[WIDTH, WIDTH], false);
        add(format!("{layer}.mlp.gate_proj"), &[INNER, WIDTH], false);
        add(format!("{layer}.mlp.up_proj"), &[INNER, WIDTH], false);
        add(format!("{layer}.mlp.down_proj"), &[WIDTH, INNER], false);
    }
    add("language_model.norm".to_owned(), &[WIDTH], false);
    add("custom_text_proj".to_owned(), &[DIM, WIDTH], true);
    shapes
}
