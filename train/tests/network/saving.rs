//! What is saved gives the vectors of the network that was trained.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::ops::Ops;
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions, save_new_model};
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::dropout::Dropout;
use colqwen_index_train::encode::Encode;
use colqwen_index_train::network::{Lora, LoraInit, Network, NetworkOptions, Trained};
use colqwen_index_train::projection::Projection;
use colqwen_index_train::random::{Purpose, Stream};

use super::fixtures::{folder, largest, load, pages, queries};

const BASE: &str = "colpali_engine";

fn lora() -> Lora {
    Lora { rank: 2, alpha: 6.0, init: LoraInit::KaimingUniform, ..Lora::default().with_vision() }
}

/// A network all of whose parameters have moved.
fn moved(model: &ColQwen2, trained: Trained) -> Network {
    let network =
        Network::new(model, trained, NetworkOptions { seed: 3, checkpointing: true, ..NetworkOptions::default() })
            .unwrap();
    let mut stream = Stream::new(4, Purpose::Choice, &[]);
    for parameter in network.parameters() {
        let noise = (0..parameter.var.elem_count()).map(|_| 0.05 * stream.normal() as f32).collect::<Vec<_>>();
        let noise = Tensor::from_vec(noise, parameter.var.shape(), &Device::Cpu).unwrap();
        parameter.var.set(&(parameter.var.as_tensor() + noise).unwrap().detach()).unwrap();
    }
    network
}

fn vectors(model: &ColQwen2, items: &[Arc<ModelInput>]) -> Tensor {
    let input = ModelInput::packed(items.iter().map(Arc::as_ref)).unwrap();
    model.model().forward(&input, Ops::Fused).unwrap()
}

fn assert_same(network: &Network, saved: &ColQwen2, before: &ColQwen2) {
    for items in [pages(BASE), queries(BASE)] {
        let trained = network.infer(&items).unwrap();
        let difference = largest(&(vectors(saved, &items) - trained.vectors()).unwrap());
        let change = largest(&(vectors(before, &items) - trained.vectors()).unwrap());
        assert!(difference < 2e-5 && change > 0.02, "{difference} {change}");
    }
}

#[test]
fn an_adapter_gives_the_vectors_of_the_network() {
    let model = load(&folder().join(BASE));
    let network = moved(&model, Trained::Lora(lora()));
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("adapter");
    let base = folder().join(BASE).canonicalize().unwrap();
    network.save_adapter(&model, &base.to_string_lossy(), &dir).unwrap();
    let saved = load(&dir);
    assert_same(&network, &saved, &model);
    assert_eq!((saved.query_format(), saved.is_trained()), (model.query_format(), true));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    // An adapter on an adapter could not be told to a reader.
    let on_top = Network::new(&saved, Trained::Lora(lora()), NetworkOptions::default()).unwrap_err().to_string();
    assert!(on_top.contains("merged"), "{on_top}");
    assert!(network.save_adapter(&model, "base", &dir).unwrap_err().to_string().contains("exists"));
    let whole = moved(&model, Trained::Projection);
    let refused = whole.save_adapter(&model, "base", &parent.path().join("x")).unwrap_err().to_string();
    assert!(refused.contains("low-rank"), "{refused}");
}

#[test]
fn a_merged_checkpoint_gives_the_vectors_of_the_network() {
    let model = load(&folder().join(BASE));
    let parent = tempfile::tempdir().unwrap();
    let kinds = [Trained::Projection, Trained::Lora(lora()), Trained::Full { vision: true }];
    for (at, trained) in kinds.into_iter().enumerate() {
        let network = moved(&model, trained);
        let dir = parent.path().join(at.to_string());
        network.save_merged(&model, &dir).unwrap();
        let saved = load(&dir);
        assert_same(&network, &saved, &model);
        assert_ne!(saved.page_fingerprint(), model.page_fingerprint());
    }
    let stranger = HashMap::from([("visual.other.weight".to_owned(), Tensor::new(&[1f32], &Device::Cpu).unwrap())]);
    let refused = model.save_with(&parent.path().join("x"), &stranger).unwrap_err().to_string();
    assert!(refused.contains("visual.other.weight"), "{refused}");
}

/// A Qwen2-VL has no projection; with one from a seed it is a new model, the same at every load.
#[test]
fn a_new_projection_makes_a_new_model() {
    let parent = tempfile::tempdir().unwrap();
    let (bare, dir) = (parent.path().join("qwen2-vl"), parent.path().join("new"));
    fs::create_dir(&bare).unwrap();
    for entry in fs::read_dir(folder().join("plain")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, bare.join(path.file_name().unwrap())).unwrap();
    }
    let mut tensors = candle_core::safetensors::load(bare.join("model.safetensors"), &Device::Cpu).unwrap();
    tensors.retain(|name, _| !name.starts_with("custom_text_proj"));
    candle_core::safetensors::save(&tensors, bare.join("model.safetensors")).unwrap();
    let missing = ColQwen2::load(&bare, &LoadOptions::default()).map(|_| ()).unwrap_err().to_string();
    assert!(missing.contains("custom_text_proj"), "{missing}");

    let projection = Projection::random(32, 48, 11, Dropout::new(0.0, 0).unwrap()).unwrap();
    save_new_model(&bare, &dir, projection.weight(), projection.bias()).unwrap();
    let (one, two) = (load(&dir), load(&dir));
    assert_eq!((one.dim(), one.is_trained()), (32, false));
    assert_eq!(one.page_fingerprint(), two.page_fingerprint());
    let (weight, _) = one.projection().unwrap();
    assert_eq!(largest(&(weight - projection.weight()).unwrap()), 0.0);
    let network = Network::new(&one, Trained::Lora(lora()), NetworkOptions::default()).unwrap();
    assert_eq!(network.infer(&queries("plain")).unwrap().dim(), 32);

    let again = save_new_model(&dir, &parent.path().join("x"), projection.weight(), projection.bias());
    assert!(again.unwrap_err().to_string().contains("weights with one"));
    let narrow = Projection::random(32, 40, 11, Dropout::new(0.0, 0).unwrap()).unwrap();
    let unfit = save_new_model(&bare, &parent.path().join("x"), narrow.weight(), narrow.bias());
    assert!(unfit.unwrap_err().to_string().contains("32 x 48"));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
}
