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

#[test]
fn gradients_with_updates_dropout_and_checkpoints_are_those_of_the_whole_batch() {
    let model = tiny();
    let (plain, checkpointed) = (network(&model, lora(), false), network(&model, lora(), true));
    let (queries, pages) = batch(&model);
    let targets = targets();
    let teacher = Teacher::of(&targets);
    let place = Place { step: 8, first_row: 0 };
    // The whole batch in one graph, without checkpoints.
    let of_queries = plain.encode(&queries, Side::Query, place).unwrap();
    let of_pages = plain.encode(&pages, Side::Page, place).unwrap();
    let mut worst: f32 = 0.0;
    for similarity in SIMILARITIES {
        let maxsim = MaxSim { similarity, block: 500, ..MaxSim::default() };
        let whole = Whole::new(&maxsim, &of_queries, &of_pages);
        for case in cases(0.2, whole.threshold(&targets)) {
            let batch = Batch {
                queries: &queries,
                pages: &pages,
                constant_pages: None,
                teacher: teacher.beside(&case),
                targets: &targets,
            };
            let learnt = GradCache { maxsim, loss: case.loss, mini_batch: 2 }.learn(&checkpointed, batch, 8).unwrap();
            let error = compare(&case, &learnt, whole.learn(&case, &targets, &teacher, plain.parameters()));
            assert!(error <= 1e-4, "{case:?}, {similarity:?}: {error}");
            worst = worst.max(error);
        }
    }
    println!("largest relative difference {worst:.1e}");
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
