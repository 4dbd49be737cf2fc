//! What the program makes of the pages' own words alone: the same questions, without those of clicks.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use colqwen_index::PageIndex;
use colqwen_index::ingest::two_parts::TwoParts;
use colqwen_index::model::{Model, load_colqwen2};
use colqwen_index::train::data::TrainingData;
use colqwen_index::train::network::Lora;
use colqwen_index::training::{Learning, TrainOptions, train_query_side};

/// How the names of rehearsed questions begin in the data that a run leaves.
const REHEARSED: &str = "rehearsal-";
/// Those of them that say when to stop, as in a run; a third of them at most.
const VALIDATED: usize = 100;
/// What a run sets beside what it is told.
const RATE: f64 = 1e-3;
const NEGATIVES: usize = 2;
const STORED_NEGATIVES: usize = 32;
const ANCHOR: f64 = 0.1;

/// Trains the query side of the model that `index` records on what `data`, the questions of a run, hold of the pages' own words, with
/// the settings of such a run.
pub fn train(
    index: &PageIndex,
    mut data: TrainingData,
    (batch, epochs, rate, seed): (usize, u64, Option<f64>, u64),
    out: &Path,
) -> Result<Model> {
    data.questions.retain(|question| question.query_id.starts_with(REHEARSED));
    ensure!(data.questions.len() > 3, "the run rehearsed {} questions, expected more than 3", data.questions.len());
    let validated = VALIDATED.min(data.questions.len() / 3);
    let validation = data.questions.split_off(data.questions.len() - validated);
    let name = index.model().context("the index records a model")?.name.clone();
    let base = load_colqwen2(&name, "cpu")?;
    let options = TrainOptions {
        batch: batch.min(data.questions.len()),
        negatives: NEGATIVES,
        epochs,
        rate: rate.unwrap_or(RATE),
        seed,
        learning: Learning::Queries,
        distil: ANCHOR,
        constant_negatives: STORED_NEGATIVES,
        ..TrainOptions::default()
    };
    let lora = Lora { dropout: 0.0, ..Lora::default() };
    let go_on = |_: &_, _: Option<&_>| ControlFlow::Continue(());
    let trained = train_query_side(&base, &data, index, out, &options, lora, &[validation], go_on)?;
    let query = trained.model.context("the training was stopped")?;
    let folder = out.join("parts");
    TwoParts::write(&base, &query, &folder)?;
    Ok(Model::load(&folder.display().to_string(), "cpu")?)
}
