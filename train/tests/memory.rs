//! The memory that training takes, counted by the allocator, against what is foretold.

use std::path::Path;
use std::sync::Arc;

use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_train::encode::{Encode, Place, Side};
use colqwen_index_train::gradients::Gradients;
use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};
use image::RgbImage;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const PLACE: Place = Place { step: 0, first_row: 0 };

/// Bytes that the second pass takes at its peak beyond what is held anyway: the most of one thread and of two, because what is
/// held at the same moment depends on how they share the work.
fn peak(network: &Network, items: &[Arc<ModelInput>]) -> usize {
    let peaks = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| peak_here(network, items))
    });
    peaks[0].max(peaks[1])
}

fn peak_here(network: &Network, items: &[Arc<ModelInput>]) -> usize {
    let slopes = network.vectors(items, Side::Page, PLACE).unwrap();
    let mut gradients = Gradients::none(network.parameters().len());
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    network.lead(items, Side::Page, PLACE, &slopes, &mut gradients).unwrap();
    MEMORY.peak_usage() - before
}

// One test, because the allocator counts for the whole process.
#[test]
fn a_mini_batch_takes_about_what_is_foretold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures/tiny");
    let model = ColQwen2::load(&folder, &LoadOptions::default()).unwrap();
    // As many tokens as this model's pages have at most, so that attention's square would show.
    let page = |seed: u32| {
        let image = RgbImage::from_fn(448, 448, |x, y| image::Rgb([(x * seed) as u8, (y * 3) as u8, (x ^ y) as u8]));
        Arc::new(model.page_input(&[image]).unwrap())
    };
    let pages: Vec<_> = (1..5).map(page).collect();
    let (patches, tokens) = (1024, pages[0].sequences[0].len());
    let lora = Lora { rank: 4, dropout: 0.1, ..Lora::default() };
    let kinds = [
        Trained::Projection,
        Trained::Lora(lora.clone()),
        Trained::Lora(lora.with_vision()),
        Trained::Full { vision: true },
    ];
    let mut wrong = Vec::new();
    for trained in kinds {
        let mut peaks = Vec::new();
        for checkpointing in [true, false] {
            let network = Network::new(
                &model,
                trained.clone(),
                NetworkOptions { seed: 0, checkpointing, ..NetworkOptions::default() },
            )
            .unwrap();
            let foretold = network.footprint(patches, tokens).per_page as f64;
            let (few, many) = (peak(&network, &pages[..2]), peak(&network, &pages));
            let measured = (many as f64 - few as f64) / 2.0;
            println!(
                "{trained:.40}, checkpointing {checkpointing}: {:.2} MB a page measured, {:.2} foretold",
                measured / 1e6,
                foretold / 1e6
            );
            if measured > foretold || foretold > 2.5 * measured {
                wrong.push(format!("{trained}: {measured} of {foretold}"));
            }
            peaks.push(many);
        }
        let learns_little = trained == Trained::Projection;
        assert!(learns_little || peaks[0] < peaks[1], "{trained}: {peaks:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
