//! Gradients of all weights and of updates against PyTorch's autograd through colpali-engine (`make_gradients.py`).

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use colqwen_index_train::encode::{Encode, Place, Side};
use colqwen_index_train::gradients::Gradients;
use colqwen_index_train::maxsim::Packed;
use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};

use super::fixtures::{folder, load, pages, queries, tensors};

const PLACE: Place = Place { step: 0, first_row: 0 };

/// As `loss` of the script has it.
fn slopes(vectors: &Packed) -> Packed {
    let slope = |token: usize, value: usize| (((token * 31 + value * 17) % 23) as f32 - 11.0) / 11.0;
    let (tokens, dim) = (vectors.tokens(), vectors.dim());
    let values: Vec<f32> = (0..tokens).flat_map(|token| (0..dim).map(move |value| slope(token, value))).collect();
    let lengths: Vec<usize> = vectors.lengths().collect();
    Packed::new(Tensor::from_vec(values, (tokens, dim), &Device::Cpu).unwrap(), &lengths).unwrap()
}

/// The loss, and its gradient by the name of each parameter.
fn learn(network: &Network) -> (f64, HashMap<String, Vec<f32>>) {
    let mut gradients = Gradients::none(network.parameters().len());
    let mut loss = 0.0;
    for (items, side) in [(pages("colpali_engine"), Side::Page), (queries("colpali_engine"), Side::Query)] {
        let vectors = network.vectors(&items, side, PLACE).unwrap();
        let slopes = slopes(&vectors);
        let product = (vectors.vectors() * slopes.vectors()).unwrap().flatten_all().unwrap();
        loss += product.to_vec1::<f32>().unwrap().iter().map(|value| f64::from(*value)).sum::<f64>();
        network.lead(&items, side, PLACE, &slopes, &mut gradients).unwrap();
    }
    let named = network.parameters().iter().zip(gradients.iter());
    let values = |gradient: &Tensor| gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let named = named.filter_map(|(parameter, gradient)| Some((parameter.name.clone(), values(gradient?))));
    (loss, named.collect())
}

/// Compares everything the fixture has under `prefix`; `name` turns a name of PyTorch's into ours.
fn compare(network: &Network, prefix: &str, name: impl Fn(&str) -> String) {
    let expected = tensors("gradients.safetensors");
    let (loss, found) = learn(network);
    let expected_loss = expected[&format!("{prefix}.loss")].to_vec1::<f32>().unwrap()[0];
    assert!((loss - f64::from(expected_loss)).abs() < 2e-3, "{loss} {expected_loss}");
    let mut compared = 0;
    let mut worst: f32 = 0.0;
    for (key, values) in &expected {
        let Some(given) = key.strip_prefix(&format!("{prefix}.values.")) else { continue };
        let values: Vec<f32> = values.to_vec1().unwrap();
        let length = expected[&format!("{prefix}.length.{given}")].to_vec1::<f32>().unwrap()[0];
        let own = &found[&name(given)];
        let own_length = own.iter().map(|value| value * value).sum::<f32>().sqrt();
        // What softmax does not notice is rounding alone, in PyTorch as here.
        let scale = values.iter().fold(1e-2f32, |most, value| most.max(value.abs()));
        let kept: Vec<f32> = own.iter().step_by(own.len().div_ceil(512)).copied().collect();
        assert_eq!(kept.len(), values.len(), "{given}");
        for (own, expected) in kept.iter().zip(&values) {
            worst = worst.max((own - expected).abs() / scale);
        }
        assert!((own_length - length).abs() < 1e-3 * length + 1e-2, "{given}: {own_length} {length}");
        assert!(worst < 1e-3, "{given}: {worst}");
        compared += 1;
    }
    println!("{prefix}: {compared} gradients, largest relative difference {worst:.1e}");
    assert_eq!(compared, found.len());
}

#[test]
fn gradients_of_all_weights_are_those_of_pytorch() {
    let model = load(&folder().join("colpali_engine"));
    for checkpointing in [false, true] {
        let options = NetworkOptions { seed: 0, checkpointing, ..NetworkOptions::default() };
        let network = Network::new(&model, Trained::Full { vision: true }, options).unwrap();
        compare(&network, "full", str::to_owned);
    }
}

#[test]
fn gradients_of_updates_are_those_of_peft() {
    let model = load(&folder().join("colpali_engine"));
    let lora = Lora { rank: 4, alpha: 12.0, dropout: 0.0, ..Lora::default() };
    let network = Network::new(&model, Trained::Lora(lora), NetworkOptions::default()).unwrap();
    let saved = tensors("adapter/adapter_model.safetensors");
    assert_eq!(saved.len(), network.parameters().len());
    for parameter in network.parameters() {
        parameter.var.set(&saved[&format!("base_model.model.{}", parameter.name)]).unwrap();
    }
    compare(&network, "lora", |name| name.trim_start_matches("base_model.model.").to_owned());
}
