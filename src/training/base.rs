//! The model to begin with where the checkpoint that was given has no projection to token vectors.

use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::save_new_model;
use colqwen_index_train::data::TrainingData;
use colqwen_index_train::dropout::Dropout;
use colqwen_index_train::projection::Projection;

use super::{TrainOptions, run};
use crate::Error;
use crate::model::missing_projection;

/// The folder of the new model within that of a training.
const BASE: &str = "base";

/// Makes a model of the checkpoint called `name`, if that lacks a projection, as a plain Qwen2-VL does: `out/base`, with a projection
/// drawn from the seed of `options`. One that an earlier run left there is taken as it is, so that all of them begin with the same
/// model, and what they save can name it. None if the checkpoint has a projection.
///
/// # Errors
/// There is no such checkpoint, `options` could not train on `data`, `out` holds a trained model already, or the disk is full.
pub fn new_base(name: &str, data: &TrainingData, out: &Path, options: &TrainOptions) -> Result<Option<PathBuf>, Error> {
    // A copy of all weights is not made for a run that will be refused.
    run::new_model(out)?;
    options.batches(data)?;
    let Some((folder, [dim, width])) = missing_projection(name)? else { return Ok(None) };
    let base = out.join(BASE);
    if !base.exists() {
        let projection = Projection::random(dim, width, options.seed, Dropout::new(0.0, options.seed)?)?;
        save_new_model(&folder, &base, projection.weight(), projection.bias())?;
    }
    Ok(Some(base))
}
