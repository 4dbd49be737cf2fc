//! A training of low-rank updates with dropout that was interrupted goes on as if it had not been, bit for bit.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_train::Error;
use colqwen_index_train::constant::Constants;
use colqwen_index_train::data::{BatchOptions, Batches, PageId, PositivePage, Question, TrainingData};
use colqwen_index_train::encode::{Encode, Parameter};
use colqwen_index_train::grad_cache::GradCache;
use colqwen_index_train::loss::{Kind, Loss};
use colqwen_index_train::maxsim::MaxSim;
use colqwen_index_train::network::{Lora, Network, NetworkOptions, Trained};
use colqwen_index_train::optimiser::{AdamWOptions, Decay, Schedule};
use colqwen_index_train::trainer::{Ending, LOG, Run, Source, UpdateOptions};
use colqwen_index_train::watch::{StepRecord, Verdict};
use image::{Rgb, RgbImage};

use super::fixtures::{folder, load};

const STEPS: u64 = 9;
const SAVE_EVERY: u64 = 4;
const BATCH: usize = 3;

/// Small pages drawn here.
struct Drawn<'a> {
    model: &'a ColQwen2,
    /// Pages that can still be read.
    left: Cell<usize>,
}

impl Source for Drawn<'_> {
    type Item = Arc<ModelInput>;

    fn query(&self, query: &str) -> Result<Self::Item, Error> {
        Ok(Arc::new(self.model.query_input(&[query]).unwrap()))
    }

    fn page(&self, page: &PageId) -> Result<Self::Item, Error> {
        if self.left.get() == 0 {
            return Err(Error::Missing { what: page.doc_id.clone(), place: "the test".into(), hint: "" });
        }
        self.left.set(self.left.get() - 1);
        let at = page.page;
        let image = RgbImage::from_fn(56 + 28 * (at % 2), 56, |x, y| {
            Rgb([(x * (at + 1) * 7) as u8, (y * (9 - at) * 5) as u8, (x * y + 31 * at) as u8])
        });
        Ok(Arc::new(self.model.page_input(&[image]).unwrap()))
    }
}

fn data() -> TrainingData {
    let texts = ["the filter", "how is it cleaned", "x", "a longer question about the motor", "of", "oil"];
    let question = |(row, text): (usize, &str)| Question {
        query_id: row.to_string(),
        query: text.to_owned(),
        positives: vec![PositivePage { page: PageId::new("a.pdf", row as u32 + 1), weight: 1.0 }],
        ..Question::default()
    };
    TrainingData { questions: texts.into_iter().enumerate().map(question).collect(), mined_from: None }
}

fn network(model: &ColQwen2, dropout: f64) -> Network {
    let lora = Lora { rank: 4, alpha: 8.0, dropout, ..Lora::default().with_vision() };
    let options = NetworkOptions { seed: 5, checkpointing: true, ..NetworkOptions::default() };
    Network::new(model, Trained::Lora(lora), options).unwrap()
}

fn run<'a>(
    network: &'a Network,
    source: &'a Drawn<'a>,
    data: &'a TrainingData,
    batches: &'a Batches<'a>,
) -> Run<'a, Network, Drawn<'a>> {
    let schedule = Schedule { peak: 1e-3, warmup: 2, total: STEPS, decay: Decay::Cosine };
    let update = UpdateOptions { optimiser: AdamWOptions::default(), schedule, clip: 1.0, save_every: SAVE_EVERY };
    let cache = GradCache { maxsim: MaxSim::default(), loss: Loss::new(Kind::InfoNce), mini_batch: 2 };
    let described = serde_json::json!("updates");
    Run { model: network, source, data, batches, cache, update, constants: Constants::default(), described }
}

fn go_on(_: &StepRecord, _: Option<&Verdict>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join(LOG)).unwrap()
}

fn weights(network: &Network) -> Vec<Vec<f32>> {
    let values = |parameter: &Parameter| parameter.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    network.parameters().iter().map(values).collect()
}

#[test]
fn stopped_and_killed_updates_with_dropout_go_on_bit_for_bit() {
    let (model, data) = (load(&folder().join("tiny")), data());
    let options = BatchOptions { size: BATCH, negatives: 0, share_negatives: false, seed: 3 };
    let batches = Batches::new(&data, options).unwrap();
    let source = |left| Drawn { model: &model, left: Cell::new(left) };
    let dir = tempfile::tempdir().unwrap();
    let all = source(usize::MAX);
    let complete = |name: &str, dropout| {
        let network = network(&model, dropout);
        let mut trainer = run(&network, &all, &data, &batches).start(&dir.path().join(name)).unwrap();
        assert_eq!(trainer.run(go_on).unwrap(), Ending::Complete);
        (weights(&network), log(&dir.path().join(name)))
    };
    let (expected, expected_log) = complete("whole", 0.1);
    assert_eq!(expected_log.lines().count() as u64, STEPS);
    assert_ne!(expected_log.lines().next(), complete("without dropout", 0.0).1.lines().next());
    let fresh = weights(&network(&model, 0.1));
    assert!(expected.iter().zip(&fresh).all(|(moved, fresh)| moved != fresh), "a weight did not learn");

    let resume = |name: &str, step: u64| {
        let path = dir.path().join(name);
        let network = network(&model, 0.1);
        let mut trainer = run(&network, &all, &data, &batches).resume(&path).unwrap();
        assert_eq!(trainer.step(), step);
        assert_eq!(trainer.run(go_on).unwrap(), Ending::Complete);
        assert_eq!(log(&path), expected_log, "{name}");
        assert!(weights(&network) == expected, "{name}: other weights");
    };

    // Stopped by the observer after step 2.
    let stop = |step: &StepRecord, _: Option<&Verdict>| {
        if step.step == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopped = network(&model, 0.1);
    let mut trainer = run(&stopped, &all, &data, &batches).start(&dir.path().join("stopped")).unwrap();
    assert_eq!(trainer.run(stop).unwrap(), Ending::Stopped);
    drop(trainer);
    resume("stopped", 3);

    // Ended within step 6, with the state of step 4 on disk and lines up to step 5 in the log.
    let (killed, some) = (network(&model, 0.1), source(6 * BATCH + 1));
    let mut trainer = run(&killed, &some, &data, &batches).start(&dir.path().join("killed")).unwrap();
    assert!(trainer.run(go_on).unwrap_err().to_string().contains("the test"));
    drop(trainer);
    assert_eq!(log(&dir.path().join("killed")).lines().count(), 6);
    resume("killed", SAVE_EVERY);
}
