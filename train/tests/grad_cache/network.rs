//! Gradient caching of the whole network, with updates, dropout and checkpointing.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};
use colqwen_index_train::replicas::Replicas;
use image::{Rgb, RgbImage};

use super::*;

/// The tiny checkpoint of random weights.
fn tiny() -> ColQwen2 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures/tiny");
    ColQwen2::load(&folder, &LoadOptions::default()).unwrap()
}

fn network(model: &ColQwen2, trained: Trained, checkpointing: bool) -> Network {
    let network =
        Network::new(model, trained, NetworkOptions { seed: 5, checkpointing, ..NetworkOptions::default() }).unwrap();
    let mut stream = Stream::new(6, Purpose::Choice, &[]);
    for parameter in network.parameters().iter().filter(|parameter| parameter.name.contains("lora_B")) {
        let (rows, columns) = parameter.var.dims2().unwrap();
        parameter.var.set(&(random(&mut stream, rows, columns) * 0.05).unwrap()).unwrap();
    }
    network
}

fn lora() -> Trained {
    Trained::Lora(Lora { rank: 4, alpha: 8.0, dropout: 0.1, ..Lora::default().with_vision() })
}

/// Five queries and seven pages of different sizes.
fn batch(model: &ColQwen2) -> (Vec<Arc<ModelInput>>, Vec<Arc<ModelInput>>) {
    let page = |at: u32| {
        let image = RgbImage::from_fn(56 + 28 * (at % 3), 56 + 28 * (at % 2), |x, y| {
            Rgb([(x * (at + 1) * 7) as u8, (y * (9 - at) * 5) as u8, (x * y + 31 * at) as u8])
        });
        Arc::new(model.page_input(&[image]).unwrap())
    };
    let texts = ["the filter", "how is it cleaned", "x", "a longer question about the motor", "of"];
    let queries = texts.map(|text| Arc::new(model.query_input(&[text]).unwrap())).into();
    (queries, (0..7).map(page).collect())
}

fn targets() -> Targets {
    let cell = |query: usize, page: usize| match page {
        _ if page == query => Cell::Positive,
        5.. if (page - 5) * 2 == query => Cell::Explicit,
        5.. => Cell::Ignored,
        _ => Cell::Negative,
    };
    Targets::new(7, (0..5).flat_map(|query| (0..7).map(move |page| cell(query, page))).collect()).unwrap()
}

/// The largest relative difference of a parameter's gradient.
fn difference(found: &Gradients, expected: &[Option<Tensor>]) -> f32 {
    assert_eq!(found.iter().len(), expected.len());
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |worst: f32, (found, expected)| match (found, expected) {
        (Some(found), Some(expected)) => worst.max(largest(&(found - expected).unwrap()) / largest(expected)),
        (None, None) => worst,
        _ => f32::INFINITY,
    })
}

#[test]
fn gradients_with_updates_dropout_and_checkpoints_are_those_of_the_whole_batch() {
    let model = tiny();
    let (plain, checkpointed) = (network(&model, lora(), false), network(&model, lora(), true));
    let (queries, pages) = batch(&model);
    let targets = targets();
    let place = Place { step: 8, first_row: 0 };
    let mut worst: f32 = 0.0;
    for kind in [Kind::InfoNce, Kind::Pairwise, Kind::Sigmoid] {
        for explicit in [Explicit::Pairs { in_batch_weight: 0.4 }, Explicit::Candidates] {
            let loss = Loss { temperature: 0.2, explicit, ..Loss::new(kind) };
            let cache = GradCache { maxsim: MaxSim { block: 500, ..MaxSim::default() }, loss, mini_batch: 2 };
            let batch =
                Batch { queries: &queries, pages: &pages, constant_pages: None, teacher: None, targets: &targets };
            let learnt = cache.learn(&checkpointed, batch, 8).unwrap();

            // The whole batch in one graph, without checkpoints.
            let of_queries = plain.encode(&queries, Side::Query, place).unwrap();
            let of_pages = plain.encode(&pages, Side::Page, place).unwrap();
            let scores = scores(&cache.maxsim, &of_queries, &of_pages);
            let slopes = Tensor::from_slice(learnt.evaluated.gradient.values(), (5, 7), &Device::Cpu).unwrap();
            let whole = (scores * slopes).unwrap().sum_all().unwrap().backward().unwrap();
            let expected: Vec<_> =
                plain.parameters().iter().map(|parameter| whole.get(parameter.var.as_tensor()).cloned()).collect();
            worst = worst.max(difference(&learnt.gradients, &expected));
        }
    }
    println!("largest relative difference {worst:.1e}");
    assert!(worst <= 1e-4, "{worst}");
}

#[test]
fn replicas_learn_what_one_network_learns() {
    let model = tiny();
    let (queries, pages) = batch(&model);
    let targets = targets();
    for trained in [lora(), Trained::Full { vision: false }] {
        let one = network(&model, trained.clone(), true);
        let copies = (0..3).map(|_| network(&model, trained.clone(), true)).collect();
        let replicas = Replicas::new(copies, Device::Cpu).unwrap();
        // Only the first is moved; the others must take that over.
        for network in [one.parameters(), replicas.parameters()] {
            for parameter in network {
                parameter.var.set(&(parameter.var.as_tensor() * 1.01).unwrap().detach()).unwrap();
            }
        }
        let cache = GradCache { maxsim: MaxSim::default(), loss: Loss::new(Kind::InfoNce), mini_batch: 4 };
        let batch = Batch { queries: &queries, pages: &pages, constant_pages: None, teacher: None, targets: &targets };
        let expected = cache.learn(&one, batch, 1).unwrap();
        let found = cache.learn(&replicas, batch, 1).unwrap();
        assert!((expected.evaluated.value - found.evaluated.value).abs() < 1e-5);
        let expected: Vec<_> = expected.gradients.iter().map(|gradient| gradient.cloned()).collect();
        let worst = difference(&found.gradients, &expected);
        assert!(worst < 1e-4, "{worst}");
    }
    let other = network(&model, Trained::Projection, true);
    let unlike = Replicas::new(vec![network(&model, lora(), true), other], Device::Cpu);
    assert!(unlike.unwrap_err().to_string().contains("custom_text_proj"));
    assert!(Replicas::<Network>::new(Vec::new(), Device::Cpu).unwrap_err().to_string().contains("at least one"));
}
