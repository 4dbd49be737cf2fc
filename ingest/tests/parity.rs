//! Parity with colpali-engine on the checkpoints and expectations that `tests/oracle/make_fixtures.py` made.
//!
//! Embeddings are compared element by element: random weights hide a wrong position scheme from a cosine.
//! `cargo test -p colqwen-index-ingest --release --features encode --test parity -- --nocapture` prints the table.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use colqwen_index_field::Origin;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::ops::Ops;
use colqwen_index_ingest::colqwen2::preprocess::Grid;
use colqwen_index_ingest::colqwen2::tokens::{LeftPadded, positions};
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions, WeightMemory, parse_device};
use colqwen_index_ingest::encoder::Encoder;
use image::RgbImage;

/// Name, and the query format that its layout implies.
const FIXTURES: [(&str, &str); 7] = [
    ("plain", "prefixed"),
    ("colpali_engine", "plain"),
    ("transformers", "prefixed-newline"),
    ("v1_hf_f16", "prefixed-newline"),
    ("sharded_bf16", "prefixed"),
    ("adapter", "plain"),
    ("adapter_old_names", "prefixed"),
];
const QUERIES: [&str; 2] =
    ["What was the revenue growth in 2023?", "Quel est le re\u{301}sultat net, d\u{2019}après 東京 🙂 <|im_end|>?"];
/// Standard deviations that the image processor divides by, in grey levels.
const STD: [f32; 3] = [0.2686 * 255.0, 0.2613 * 255.0, 0.2758 * 255.0];
const TOLERANCE: f32 = 1e-5;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures")
}

fn load(name: &str, options: &LoadOptions) -> ColQwen2 {
    ColQwen2::load(&fixtures().join(name), options).unwrap()
}

fn pages() -> Vec<RgbImage> {
    (0..4).map(|at| image::open(fixtures().join(format!("page{at}.png"))).unwrap().to_rgb8()).collect()
}

struct Expected(HashMap<String, Tensor>);

impl Expected {
    fn read(path: PathBuf) -> Self {
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn matrix(&self, name: &str) -> Vec<Vec<u32>> {
        let rows: Vec<Vec<i64>> = self.0[name].to_dtype(DType::I64).unwrap().to_vec2().unwrap();
        rows.into_iter().map(|row| row.into_iter().map(|value| value as u32).collect()).collect()
    }

    fn padded(&self, kind: &str) -> LeftPadded {
        let mask = self.matrix(&format!("{kind}_mask"));
        LeftPadded {
            ids: self.matrix(&format!("{kind}_ids")),
            mask: mask.into_iter().map(|row| row.into_iter().map(|value| value == 1).collect()).collect(),
        }
    }

    fn grids(&self) -> Vec<Grid> {
        let grid = |row: Vec<u32>| Grid { rows: row[1] as usize, columns: row[2] as usize };
        self.matrix("page_grids").into_iter().map(grid).collect()
    }

    /// The rows that are not padding, one after the other: tokens x dim.
    fn embeddings(&self, kind: &str) -> Vec<Vec<f32>> {
        let rows: Vec<Vec<Vec<f32>>> = self.0[&format!("{kind}_embeddings")].to_vec3().unwrap();
        let kept = rows.into_iter().zip(self.padded(kind).mask);
        kept.flat_map(|(rows, mask)| rows.into_iter().zip(mask).filter(|(_, kept)| *kept).map(|(row, _)| row)).collect()
    }
}

/// The oracle's pixel values of all pages, patches x 1176: each frame twice, as the model takes them.
fn expected_pixels() -> Vec<Tensor> {
    let file = Expected::read(fixtures().join("pixels.safetensors"));
    (0..4)
        .map(|at| {
            let frame = file.0[&format!("page{at}")].unsqueeze(2).unwrap();
            let twice = Tensor::cat(&[&frame, &frame], 2).unwrap();
            twice.reshape((frame.dim(0).unwrap(), 1176)).unwrap()
        })
        .collect()
}

fn max_difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let rows = found.iter().zip(expected);
    rows.flat_map(|(one, two)| {
        assert_eq!(one.len(), two.len());
        one.iter().zip(two).map(|(one, two)| (one - two).abs())
    })
    .inspect(|difference| assert!(!difference.is_nan()))
    .fold(0.0, f32::max)
}

#[test]
fn ids_and_positions_are_exact() {
    for (name, format) in FIXTURES {
        let (model, expected) =
            (load(name, &LoadOptions::default()), Expected::read(fixtures().join(name).join("expected.safetensors")));
        assert_eq!(model.query_format(), format, "{name}");
        let (page, query) = (model.page_input(&pages()).unwrap(), model.query_input(&QUERIES).unwrap());
        assert_eq!(page.grids, expected.grids(), "{name}");
        assert_eq!(LeftPadded::new(&page.sequences, model.padding_id()), expected.padded("page"), "{name}");
        assert_eq!(LeftPadded::new(&query.sequences, model.padding_id()), expected.padded("query"), "{name}");

        let axes: Vec<Vec<Vec<i64>>> = expected.0["page_positions"].to_vec3().unwrap();
        for (at, (ids, grid)) in page.sequences.iter().zip(&page.grids).enumerate() {
            let found = positions(ids, model.image_token_id(), &[grid.merged(2)]).unwrap();
            let padding = axes[0][at].len() - ids.len();
            for (token, position) in found.iter().enumerate() {
                let expected = [0, 1, 2].map(|axis| axes[axis][at][padding + token] as u32);
                assert_eq!(*position, expected, "{name}, page {at}, token {token}");
            }
        }
    }
}

#[test]
fn pixel_values_are_within_two_grey_levels() {
    let model = load("plain", &LoadOptions::default());
    for (at, (page, expected)) in pages().iter().zip(expected_pixels()).enumerate() {
        let found = model.page_input(std::slice::from_ref(page)).unwrap().image.unwrap().tensor().clone();
        let difference = (&found - &expected).unwrap().abs().unwrap().reshape((found.dim(0).unwrap(), 3, 392)).unwrap();
        let grey =
            difference.broadcast_mul(&Tensor::new(&STD, &Device::Cpu).unwrap().reshape((1, 3, 1)).unwrap()).unwrap();
        let most: f32 = grey.max_all().unwrap().to_scalar().unwrap();
        let mean: f32 = grey.mean_all().unwrap().to_scalar().unwrap();
        println!(
            "page {at} ({:?}): {} patches, grey levels max {most:.4}, mean {mean:.5}",
            page.dimensions(),
            found.dim(0).unwrap()
        );
        assert!(most <= 2.0 && mean <= 0.02, "page {at}: max {most}, mean {mean}");
        // No resizing: the same arithmetic on the same pixels.
        assert!(at > 0 || most < 1e-3, "page {at}: max {most}");
    }
}

#[test]
fn embeddings_agree_with_the_oracle() {
    println!("{:<20} {:>12} {:>12} {:>14}", "fixture", "pages", "queries", "written out");
    for (name, _) in FIXTURES {
        let expected = Expected::read(fixtures().join(name).join("expected.safetensors"));
        let model = load(name, &LoadOptions::default());
        let pixels = Tensor::cat(&expected_pixels(), 0).unwrap();
        let pages = ModelInput::images(expected.padded("page").sequences(), pixels, expected.grids());
        let queries = ModelInput::texts(expected.padded("query").sequences());
        let difference = |input: &ModelInput, kind: &str, ops: Ops| {
            let found = model.model().forward(input, ops).unwrap().to_vec2().unwrap();
            max_difference(&found, &expected.embeddings(kind))
        };
        let page = difference(&pages, "page", Ops::Fused);
        let query = difference(&queries, "query", Ops::Fused);
        let written_out = difference(&pages, "page", Ops::Differentiable);
        println!("{name:<20} {page:>12.2e} {query:>12.2e} {written_out:>14.2e}");
        assert!(page <= TOLERANCE && query <= TOLERANCE && written_out <= TOLERANCE, "{name}");
    }
}

#[test]
fn a_batch_gives_what_single_pages_give() {
    let model = load("plain", &LoadOptions::default());
    let (pages, batch) = (pages(), model.encode_pages(&pages()).unwrap());
    for (page, together) in pages.iter().zip(&batch) {
        let alone = model.encode_pages(std::slice::from_ref(page)).unwrap().remove(0);
        let rows = |vectors: &colqwen_index_field::PageVectors| -> Vec<Vec<f32>> {
            vectors.vectors.iter().map(<[f32]>::to_vec).collect()
        };
        assert!(max_difference(&rows(&alone), &rows(together)) < 1e-6);
        assert_eq!(alone.layout, together.layout);
        assert_eq!(together.origin, Origin::Model(model.page_fingerprint()));
    }
    let input = model.page_input(&pages).unwrap();
    let packed: Vec<Vec<f32>> = model.model().forward(&input, Ops::Fused).unwrap().to_vec2().unwrap();
    let single: Vec<Vec<f32>> = batch.iter().flat_map(|page| page.vectors.iter().map(<[f32]>::to_vec)).collect();
    assert!(max_difference(&packed, &single) < 1e-6);

    let layout = batch[1].layout.as_ref().unwrap();
    assert_eq!((layout.width, layout.height, layout.grid_cols, layout.grid_rows), (140, 84, 5, 3));
    let is_patch = |token: usize| !layout.patches_of(token).is_empty();
    let ids = &input.sequences[1];
    assert_eq!(ids.len(), batch[1].vectors.tokens());
    assert!(ids.iter().enumerate().all(|(token, id)| is_patch(token) == (*id == model.image_token_id())));

    let queries = model.encode_queries(&QUERIES).unwrap();
    assert_eq!(queries[1], model.encode_queries(&QUERIES[1..]).unwrap()[0]);
}

/// Half-precision weights widened at each use compute what weights held in f32 compute, an adapter included.
#[test]
fn mapped_weights_equal_held_ones() {
    for name in ["sharded_bf16", "v1_hf_f16", "plain", "adapter"] {
        let rows = |weights: WeightMemory| {
            let model = load(name, &LoadOptions { weights, ..LoadOptions::default() });
            let input = model.page_input(&pages()).unwrap();
            let query = model.query_input(&QUERIES).unwrap();
            let mut rows: Vec<Vec<f32>> = model.model().forward(&input, Ops::Fused).unwrap().to_vec2().unwrap();
            rows.extend(model.model().forward(&query, Ops::Fused).unwrap().to_vec2::<f32>().unwrap());
            (rows, model.page_fingerprint())
        };
        let ((mapped, one), (held, two)) = (rows(WeightMemory::Mapped), rows(WeightMemory::F32));
        assert!(max_difference(&mapped, &held) < 1e-6, "{name}");
        assert_eq!(one, two, "{name}");
    }
}

/// bf16 on the GPU against f32 on the CPU: cosine per token.
#[test]
fn gpu_agrees_with_cpu() {
    let device = match parse_device("cuda:0") {
        Ok(device) => device,
        Err(_) => return eprintln!("skipped: no CUDA device"),
    };
    for (name, _) in FIXTURES {
        let on_gpu = load(name, &LoadOptions { device: device.clone(), ..LoadOptions::default() });
        let on_cpu = load(name, &LoadOptions::default());
        assert_eq!(on_gpu.page_fingerprint(), on_cpu.page_fingerprint());
        let (one, two) = (on_gpu.encode_pages(&pages()).unwrap(), on_cpu.encode_pages(&pages()).unwrap());
        let cosines: Vec<f32> = one
            .iter()
            .zip(&two)
            .flat_map(|(one, two)| one.vectors.iter().zip(two.vectors.iter()))
            .map(|(one, two)| one.iter().zip(two).map(|(one, two)| one * two).sum())
            .collect();
        let mean = cosines.iter().sum::<f32>() / cosines.len() as f32;
        println!("{name:<20} mean cosine {mean:.5}");
        assert!(mean > 0.99, "{name}: {mean}");
    }
}
