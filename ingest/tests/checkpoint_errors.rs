//! What is wrong with a checkpoint is said with the file, the tensor or the field it is wrong in.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions, parse_device};
use colqwen_index_ingest::encoder::Encoder;
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures").join(name)
}

/// A copy that may be damaged.
fn copy_of(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture(name)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

fn load(dir: &Path) -> Result<ColQwen2, String> {
    ColQwen2::load(dir, &LoadOptions::default()).map_err(|error| error.to_string())
}

fn refusal(dir: &Path) -> String {
    match load(dir) {
        Ok(_) => panic!("a damaged checkpoint was loaded"),
        Err(message) => message,
    }
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

fn edit_weights(dir: &Path, edit: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let path = dir.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    edit(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

fn check(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} not in: {message}");
    }
}

#[test]
fn tensors() {
    let dir = copy_of("plain");
    edit_weights(dir.path(), |tensors| drop(tensors.remove("model.layers.1.mlp.up_proj.weight")));
    check(&refusal(dir.path()), &["language_model.layers.1.mlp.up_proj.weight", "[80, 48]", "lacks"]);

    let dir = copy_of("plain");
    edit_weights(dir.path(), |tensors| {
        let name = "visual.blocks.0.attn.qkv.weight";
        let wide = Tensor::cat(&[&tensors[name], &tensors[name]], 1).unwrap();
        tensors.insert(name.to_owned(), wide);
    });
    check(&refusal(dir.path()), &["model.safetensors", "visual.blocks.0.attn.qkv.weight", "[48, 16]", "[48, 32]"]);

    let dir = copy_of("plain");
    edit_weights(dir.path(), |tensors| tensors.retain(|name, _| !name.starts_with("custom_text_proj")));
    check(&refusal(dir.path()), &["custom_text_proj", "plain Qwen2-VL"]);

    let dir = copy_of("plain");
    edit_weights(dir.path(), |tensors| {
        let norm = tensors["model.norm.weight"].clone();
        tensors.insert("language_model.norm.weight".to_owned(), norm);
    });
    check(&refusal(dir.path()), &["model.norm.weight", "means the same"]);

    let dir = copy_of("plain");
    edit_weights(dir.path(), |tensors| {
        *tensors = tensors.drain().map(|(name, tensor)| (format!("encoder.{name}"), tensor)).collect();
    });
    check(&refusal(dir.path()), &["no known layout", "encoder."]);

    let dir = copy_of("plain");
    edit_weights(dir.path(), |tensors| {
        let norm = tensors["model.norm.weight"].to_dtype(candle_core::DType::F64).unwrap();
        tensors.insert("model.norm.weight".to_owned(), norm);
    });
    check(&refusal(dir.path()), &["model.norm.weight", "F64"]);
}

#[test]
fn files() {
    let dir = copy_of("plain");
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    check(&refusal(dir.path()), &["model.safetensors", "not a whole", &(bytes.len() - 100).to_string()]);
    for length in [0, 4, 100] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        check(&refusal(dir.path()), &["model.safetensors"]);
    }
    std::fs::remove_file(&path).unwrap();
    check(&refusal(dir.path()), &["model.safetensors or model.safetensors.index.json"]);

    let dir = copy_of("sharded_bf16");
    std::fs::remove_file(dir.path().join("model-00002-of-00003.safetensors")).unwrap();
    check(&refusal(dir.path()), &["model-00002-of-00003.safetensors", "index.json names"]);
    edit_json(&dir.path().join("model.safetensors.index.json"), |index| {
        index["weight_map"]["visual.merger.ln_q.bias"] = json!("../model.safetensors");
    });
    check(&refusal(dir.path()), &["weight_map"]);

    for file in ["config.json", "tokenizer.json"] {
        let dir = copy_of("plain");
        std::fs::write(dir.path().join(file), "{").unwrap();
        check(&refusal(dir.path()), &[file]);
        std::fs::remove_file(dir.path().join(file)).unwrap();
        check(&refusal(dir.path()), &[file]);
    }
    check(&refusal(Path::new("no/such/folder")), &["no/such/folder"]);
}

#[test]
fn architecture_and_settings() {
    let dir = copy_of("plain");
    edit_json(&dir.path().join("config.json"), |config| config["model_type"] = json!("paligemma"));
    check(&refusal(dir.path()), &["config.json", "unknown architecture", "paligemma", "qwen2_vl"]);

    let dir = copy_of("plain");
    std::fs::write(dir.path().join("colqwen_index.json"), r#"{"query_format": "shouted"}"#).unwrap();
    check(&refusal(dir.path()), &["colqwen_index.json", "query_format", "prefixed-newline", "shouted"]);
}

#[test]
fn tokenizer() {
    let dir = copy_of("plain");
    edit_json(&dir.path().join("tokenizer.json"), |tokenizer| {
        tokenizer["added_tokens"].as_array_mut().unwrap().retain(|token| token["content"] != "<|image_pad|>");
    });
    check(&refusal(dir.path()), &["tokenizer.json", "<|image_pad|>"]);

    let dir = copy_of("plain");
    edit_json(&dir.path().join("config.json"), |config| config["image_token_id"] = json!(7));
    check(&refusal(dir.path()), &["<|image_pad|>", "expected id 7"]);
}

#[test]
fn adapters() {
    let dir = copy_of("adapter");
    let config = dir.path().join("adapter_config.json");
    check(&refusal(dir.path()), &["base_model_name_or_path", "../colpali_engine"]);

    let options = LoadOptions { base: Some(fixture("colpali_engine")), ..LoadOptions::default() };
    let moved = ColQwen2::load(dir.path(), &options).unwrap();
    // The path of the base is no part of the identity; the weights of base and adapter are.
    assert_eq!(moved.page_fingerprint(), load(&fixture("adapter")).unwrap().page_fingerprint());
    assert_ne!(moved.page_fingerprint(), load(&fixture("colpali_engine")).unwrap().page_fingerprint());

    edit_json(&config, |config| config["base_model_name_or_path"] = json!(fixture("colpali_engine")));
    load(dir.path()).unwrap();
    edit_json(&config, |config| config["base_model_name_or_path"] = json!(fixture("transformers")));
    check(&refusal(dir.path()), &["low-rank update of", "expected"]);
    edit_json(&config, |config| {
        config["base_model_name_or_path"] = json!(fixture("colpali_engine"));
        config["r"] = json!(8);
    });
    check(&refusal(dir.path()), &["lora_", "[8, ", "[4, "]);
    edit_json(&config, |config| config["use_dora"] = json!(true));
    check(&refusal(dir.path()), &["adapter_config.json", "use_dora"]);
}

#[test]
fn fingerprints_follow_everything_that_changes_vectors() {
    let plain = load(&fixture("plain")).unwrap();
    assert_eq!(load(copy_of("plain").path()).unwrap().page_fingerprint(), plain.page_fingerprint());
    assert_ne!(plain.page_fingerprint(), plain.query_fingerprint());
    assert_eq!(plain.serves_pages_of(), plain.page_fingerprint());

    let dir = copy_of("plain");
    edit_weights(dir.path(), |tensors| {
        let norm = (&tensors["model.norm.weight"] * 2.0).unwrap();
        tensors.insert("model.norm.weight".to_owned(), norm);
    });
    assert_ne!(load(dir.path()).unwrap().page_fingerprint(), plain.page_fingerprint());

    let dir = copy_of("plain");
    edit_json(&dir.path().join("preprocessor_config.json"), |config| config["max_pixels"] = json!(784 * 20));
    assert_ne!(load(dir.path()).unwrap().page_fingerprint(), plain.page_fingerprint());

    let dir = copy_of("plain");
    let settings = json!({"query_format": "plain", "serves_pages_of": plain.page_fingerprint(), "trained": false});
    std::fs::write(dir.path().join("colqwen_index.json"), settings.to_string()).unwrap();
    let served = load(dir.path()).unwrap();
    assert_ne!(served.query_fingerprint(), plain.query_fingerprint());
    assert_eq!(served.serves_pages_of(), plain.page_fingerprint());
    assert_eq!((served.query_format(), served.is_trained()), ("plain", false));
    let query = served.encode_queries(&["a"]).unwrap().remove(0);
    assert_eq!(query.origin.fingerprint(), Some(plain.page_fingerprint()));
}

#[test]
fn inputs_and_devices() {
    let model = load(&fixture("plain")).unwrap();
    let pages = [image::RgbImage::new(84, 112), image::RgbImage::new(3, 700)];
    check(&model.encode_pages(&pages).unwrap_err().to_string(), &["page image 1", "3 x 700", "200"]);
    check(&model.encode_pages(&[image::RgbImage::new(0, 0)]).unwrap_err().to_string(), &["0 x 0"]);
    check(&parse_device("tpu").unwrap_err().to_string(), &["tpu", "cuda:N"]);
    #[cfg(not(feature = "cuda"))]
    check(&parse_device("cuda:1").unwrap_err().to_string(), &["cuda:1", "feature `cuda`"]);
    assert!(parse_device("cpu").unwrap().is_cpu());
}
