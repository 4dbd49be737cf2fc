//! Gradients of the whole network, part by part, against slopes of the loss.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::colqwen2::model::{Image, ModelInput};
use colqwen_index_ingest::encoder::Encoder;
use image::RgbImage;

mod bf16;

use super::*;
use crate::grad_cache::on_large_stack;
use crate::tiny::{tiny, tiny_in_tiles};

const PLACE: Place = Place { step: 3, first_row: 2 };

fn pages(model: &ColQwen2) -> Vec<Arc<ModelInput>> {
    let page = |width, height, shade: u8| {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([shade.wrapping_mul(x as u8), (x * y % 251) as u8, shade.wrapping_add((3 * y) as u8)])
        })
    };
    let input = |image| Arc::new(model.page_input(&[image]).unwrap());
    [page(60, 88, 3), page(112, 56, 90)].map(input).into()
}

fn queries(model: &ColQwen2) -> Vec<Arc<ModelInput>> {
    ["how is the filter cleaned", "x"].map(|text| Arc::new(model.query_input(&[text]).unwrap())).into()
}

fn network(trained: Trained, checkpointing: bool) -> Network {
    network_of(&tiny(), trained, checkpointing)
}

fn network_of(model: &ColQwen2, trained: Trained, checkpointing: bool) -> Network {
    let network = Network::new(model, trained, NetworkOptions { seed: 7, checkpointing, number: None }).unwrap();
    // Updates begin at zero, where half of their gradients is zero, too.
    let mut stream = Stream::new(9, Purpose::Choice, &[]);
    for parameter in network.parameters().iter().filter(|parameter| parameter.name.ends_with(LORA_B)) {
        let values: Vec<f32> = (0..parameter.var.elem_count()).map(|_| 0.02 * stream.normal() as f32).collect();
        parameter.var.set(&Tensor::from_vec(values, parameter.var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
    network
}

fn lora() -> Trained {
    Trained::Lora(Lora { rank: 3, alpha: 6.0, dropout: 0.2, ..Lora::default().with_vision() })
}

fn largest(tensor: &Tensor) -> f64 {
    f64::from(tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap())
}

/// Slopes of a loss that every token vector has another part in.
fn slopes(network: &Network, items: &[Arc<ModelInput>], side: Side) -> Packed {
    let vectors = network.vectors(items, side, PLACE).unwrap();
    let mut stream = Stream::new(1, Purpose::Choice, &[side as u64]);
    let values: Vec<f32> = (0..vectors.tokens() * vectors.dim()).map(|_| stream.normal() as f32).collect();
    let lengths: Vec<usize> = vectors.lengths().collect();
    let values = Tensor::from_vec(values, (vectors.tokens(), vectors.dim()), &Device::Cpu).unwrap();
    Packed::new(values, &lengths).unwrap()
}

fn gradients(network: &Network, items: &[Arc<ModelInput>], side: Side, slopes: &Packed) -> Gradients {
    let mut gradients = Gradients::none(network.parameters().len());
    on_large_stack(|| network.lead(items, side, PLACE, slopes, &mut gradients)).unwrap();
    gradients
}

/// The loss in f64 where rounding would drown its slope.
fn loss(network: &Network, items: &[Arc<ModelInput>], side: Side, slopes: &Packed) -> f64 {
    let vectors = network.vectors(items, side, PLACE).unwrap();
    let product = (vectors.vectors() * slopes.vectors()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    product.iter().map(|value| f64::from(*value)).sum()
}

/// Moves each parameter along its gradient and compares the change of the loss with the gradient's length.
fn check_slopes(trained: Trained) {
    check_slopes_of(&tiny(), trained);
}

fn check_slopes_of(model: &ColQwen2, trained: Trained) {
    for checkpointing in [false, true] {
        let network = network_of(model, trained.clone(), checkpointing);
        for (items, side) in [(pages(model), Side::Page), (queries(model), Side::Query)] {
            let slopes = slopes(&network, &items, side);
            let found = gradients(&network, &items, side, &slopes);
            for (parameter, gradient) in network.parameters().iter().zip(found.iter()) {
                let touched = side == Side::Page || !parameter.name.starts_with("visual.");
                assert_eq!(gradient.is_some(), touched, "{} of {side:?}", parameter.name);
                let Some(gradient) = gradient else { continue };
                let length = f64::from(gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
                // Keys' biases move all scores of a row alike, which no softmax notices.
                if length < 1e-3 {
                    assert!(parameter.name.ends_with("k_proj.bias"), "{}: {length}", parameter.name);
                    continue;
                }
                let start = parameter.var.as_tensor().copy().unwrap();
                let size = largest(&start).max(0.1);
                let moved = |by: f64| {
                    let by = by / largest(gradient);
                    parameter.var.set(&(&start + (gradient * by).unwrap()).unwrap()).unwrap();
                    loss(&network, &items, side, &slopes)
                };
                let by = 2e-3 * size;
                let slope = (moved(by) - moved(-by)) / (2.0 * by / largest(gradient));
                parameter.var.set(&start).unwrap();
                let error = (slope / (length * length) - 1.0).abs();
                assert!(error < 0.02, "{} of {side:?}: {slope} for {}", parameter.name, length * length);
            }
        }
    }
}

#[test]
fn updates_of_pages_in_tiles_learn_along_their_slopes() {
    check_slopes_of(&tiny_in_tiles(), lora());
}

#[test]
fn pages_in_tiles_train_on_the_vectors_that_they_are_encoded_to() {
    let model = tiny_in_tiles();
    let network = Network::new(&model, Trained::Lora(Lora::default()), NetworkOptions::default()).unwrap();
    let image = RgbImage::from_fn(112, 168, |x, y| image::Rgb([(x * y) as u8, (3 * y) as u8, x as u8]));
    let page = model.page_input(std::slice::from_ref(&image)).unwrap();
    assert!(page.sequences.len() > 3 && page.vectors() < page.tokens());
    let found = network.infer(&[Arc::new(page)]).unwrap().vectors().to_vec2::<f32>().unwrap();
    let encoded = model.encode_pages(&[image]).unwrap().remove(0);
    assert_eq!(found.len(), encoded.vectors.tokens());
    for (found, encoded) in found.iter().zip(encoded.vectors.iter()) {
        assert!(found.iter().zip(encoded).all(|(one, other)| (one - other).abs() < 1e-5));
    }
}

/// The same pages as pixels and as what a frozen vision tower leaves of them, in half precision.
#[test]
fn merged_patches_learn_what_their_pixels_would() {
    for model in [tiny(), tiny_in_tiles()] {
        let trained = Trained::Lora(Lora { rank: 3, alpha: 6.0, dropout: 0.2, ..Lora::default() });
        let network = network_of(&model, trained, true);
        assert!(!network.vision_learns());
        let pixels = pages(&model);
        let inputs: Vec<ModelInput> = pixels.iter().map(|page| (**page).clone()).collect();
        let merged = model.merged_pages(&inputs).unwrap().into_iter().zip(inputs).map(|(states, input)| {
            let shape = (states.tokens(), states.width());
            let states = Tensor::from_vec(states.values().to_vec(), shape, &Device::Cpu).unwrap();
            Arc::new(ModelInput { image: Some(Image::Merged(states)), ..input })
        });
        let merged: Vec<Arc<ModelInput>> = merged.collect();
        let slopes = slopes(&network, &pixels, Side::Page);
        let [expected, found] = [&pixels, &merged].map(|items| gradients(&network, items, Side::Page, &slopes));
        for (expected, found) in expected.iter().zip(found.iter()) {
            let (expected, found) = (expected.unwrap(), found.unwrap());
            let error = largest(&(expected - found).unwrap()) / largest(expected);
            assert!(error < 1e-2, "{error}");
        }
        let half = Arc::new(ModelInput::packed([&*pixels[0], &*pixels[1]]).unwrap());
        assert_eq!(half.vectors(), pixels[0].vectors() + pixels[1].vectors());
        assert!(ModelInput::packed([&*pixels[0], &*merged[1]]).unwrap_err().to_string().contains("both"));
    }
    let learns = network(lora(), true);
    assert!(learns.vision_learns());
}

/// Moves what enters each part, along its gradient and in a random direction.
#[test]
fn every_part_hands_its_gradient_on() {
    let model = tiny();
    let network = network(lora(), true);
    let batch = MiniBatch::new(&network, &pages(&model), Side::Page, PLACE).unwrap();
    let learning = batch.learning().unwrap();
    let pass = learning.pass(&batch.input, Ops::Differentiable).unwrap();
    let mut stream = Stream::new(2, Purpose::Choice, &[]);
    let mut noise = |like: &Tensor| {
        let values: Vec<f32> = (0..like.elem_count()).map(|_| stream.normal() as f32).collect();
        Tensor::from_vec(values, like.shape(), &Device::Cpu).unwrap()
    };
    let mut state = pass.start().unwrap();
    for part in pass.parts() {
        let left = pass.step(part, &state).unwrap().detach();
        let slopes = noise(&left);
        let loss = |state: &Tensor| {
            let product = (pass.step(part, state).unwrap().detach() * &slopes).unwrap().flatten_all().unwrap();
            product.to_vec1::<f32>().unwrap().iter().map(|value| f64::from(*value)).sum::<f64>()
        };
        let entry = Var::from_tensor(&state).unwrap();
        let surrogate = (pass.step(part, entry.as_tensor()).unwrap() * &slopes).unwrap().sum_all().unwrap();
        let store = surrogate.backward().unwrap();
        let gradient = store.get(entry.as_tensor()).unwrap().detach();
        let along = |direction: &Tensor| {
            let by = 1e-3 * largest(&state) / largest(direction);
            let moved = |by: f64| loss(&(&state + (direction * by).unwrap()).unwrap());
            let slope = (moved(by) - moved(-by)) / (2.0 * by);
            let product = (direction * &gradient).unwrap().sum_all().unwrap();
            (slope, f64::from(product.to_scalar::<f32>().unwrap()))
        };
        let (slope, expected) = along(&gradient);
        assert!((slope / expected - 1.0).abs() < 0.02, "{part:?}: {slope} {expected}");
        let length = expected.sqrt();
        let (slope, expected) = along(&noise(&state));
        assert!((slope - expected).abs() < 0.02 * expected.abs() + 0.05 * length, "{part:?}: {slope} {expected}");
        state = left;
    }
}

#[test]
fn gradients_of_all_weights_are_slopes_of_the_loss() {
    check_slopes(Trained::Full { vision: true });
}

#[test]
fn gradients_of_updates_are_slopes_of_the_loss() {
    check_slopes(lora());
}

#[test]
fn gradients_of_the_projection_are_slopes_of_the_loss() {
    check_slopes(Trained::Projection);
}

#[test]
fn passes_with_and_without_graph_give_the_same_vectors() {
    let model = tiny();
    for trained in [Trained::Projection, lora(), Trained::Full { vision: false }] {
        let network = network(trained.clone(), true);
        for (items, side) in [(pages(&model), Side::Page), (queries(&model), Side::Query)] {
            let still = network.vectors(&items, side, PLACE).unwrap();
            let learning = network.encode(&items, side, PLACE).unwrap();
            assert_eq!(largest(&(still.vectors() - learning.vectors()).unwrap()), 0.0, "{trained}");
            // An item has the vectors that it has alone in its row.
            let alone = Place { first_row: PLACE.first_row + 1, ..PLACE };
            let alone = network.vectors(&items[1..], side, alone).unwrap();
            let rows = still.rows(1..2);
            let beside = still.vectors().narrow(0, rows.start, rows.len()).unwrap();
            assert!(largest(&(alone.vectors() - beside).unwrap()) < 1e-5, "{trained}");
        }
    }
}

#[test]
fn a_new_network_gives_the_vectors_of_its_model() {
    let model = tiny();
    let items = pages(&model);
    let expected =
        model.model().forward(&ModelInput::packed(items.iter().map(Arc::as_ref)).unwrap(), Ops::Fused).unwrap();
    for trained in [Trained::Projection, lora(), Trained::Full { vision: true }] {
        let network = Network::new(&model, trained, NetworkOptions::default()).unwrap();
        let found = network.vectors(&items, Side::Page, PLACE).unwrap();
        assert!(largest(&(found.vectors() - &expected).unwrap()) < 1e-6);
    }
}

#[test]
fn checkpointing_changes_no_gradient() {
    let model = tiny();
    let (plain, checkpointed) = (network(lora(), false), network(lora(), true));
    let items = pages(&model);
    let slopes = slopes(&plain, &items, Side::Page);
    let one = gradients(&plain, &items, Side::Page, &slopes);
    let two = gradients(&checkpointed, &items, Side::Page, &slopes);
    for (one, two) in one.iter().zip(two.iter()) {
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(largest(&(one - two).unwrap()) <= 1e-5 * largest(one));
    }
}

#[test]
fn frozen_weights_have_no_gradient() {
    let model = tiny();
    let network = network(lora(), false);
    let vectors = network.encode(&pages(&model), Side::Page, PLACE).unwrap();
    let store = vectors.vectors().sum_all().unwrap().backward().unwrap();
    let matrices = network.frozen.iter().filter(|(_, tensor)| tensor.rank() > 1);
    assert!(matrices.clone().count() > 20);
    assert!(network.frozen.values().all(|tensor| store.get(tensor).is_none()));
    // Whatever else candle keeps is smaller than the weights that do not learn.
    let learning: usize = network.parameters().iter().map(|parameter| parameter.var.elem_count()).sum();
    let kept: usize = store.get_ids().filter_map(|id| store.get_id(*id)).map(Tensor::elem_count).sum();
    let frozen: usize = matrices.map(|(_, tensor)| tensor.elem_count()).sum();
    assert!(kept - learning < frozen / 4, "{kept} values, {learning} learn, {frozen} are frozen");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let model = tiny();
    let refused = |trained| Network::new(&model, trained, NetworkOptions::default()).unwrap_err().to_string();
    let unknown = Lora { targets: vec!["w_proj".into()], ..Lora::default() };
    assert!(refused(Trained::Lora(unknown)).contains("w_proj"));
    assert!(refused(Trained::Lora(Lora { dropout: 1.0, ..Lora::default() })).contains("dropout"));
    let options = NetworkOptions { number: Some(DType::U8), ..NetworkOptions::default() };
    assert!(Network::new(&model, Trained::Projection, options).unwrap_err().to_string().contains("bf16"));
    let both = Arc::new(ModelInput::packed(queries(&model).iter().map(Arc::as_ref)).unwrap());
    let refused = network(Trained::Projection, true).vectors(&[both], Side::Query, PLACE).unwrap_err().to_string();
    assert!(refused.contains("one page or query"), "{refused}");
}

#[test]
fn a_budget_becomes_a_mini_batch() {
    let network = network(lora(), true);
    let footprint = network.footprint(1024, 267);
    let batch = |budget| footprint.mini_batch(budget, 512, 267, 128);
    let vectors = 512 * 267 * 128 * 4 * 3;
    let for_pages = |pages: u64| footprint.fixed + vectors + pages * footprint.per_page;
    assert_eq!(batch(for_pages(7) + 1).unwrap(), 7);
    assert_eq!(batch(u64::MAX).unwrap(), 512);
    assert!(batch(for_pages(1) - 1).unwrap_err().to_string().contains("one page"));
    // Frozen weights count once, not four times.
    let full = self::network(Trained::Full { vision: true }, true).footprint(1024, 267);
    assert!(full.fixed > 3 * footprint.fixed && full.per_page > 0);
}
