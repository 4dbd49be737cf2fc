//! Removes what runs leave that nobody needs any more.

use std::fs;
use std::path::Path;

use colqwen_index_train::early_stop::BEST;
use colqwen_index_train::trainer::STATE;

use super::candidate::{TRAINED, TRAINED_IN};
use super::folder::{MODELS, RUNS, model_folder, numbers, run_folder};
use crate::page_index::names_in;
use crate::{Error, PageIndex};

/// What a training keeps to go on from, and what it made: large, and of no use when the run is complete.
const LARGE: [&str; 4] = [STATE, BEST, TRAINED, "hidden"];

/// Removes models that no generation names, and what trainings need to go on from; all but those of run `spared`, which is under
/// way.
pub(super) fn sweep(index: &PageIndex, spared: Option<u32>) -> Result<(), Error> {
    let folder = index.folder();
    let named: Vec<String> =
        index.generations()?.into_iter().filter_map(|generation| Some(generation.model?.name)).collect();
    for number in numbers(&folder.join(MODELS))?.into_iter().filter(|number| Some(*number) != spared) {
        let model = model_folder(folder, number);
        let model = model.canonicalize().map_err(Error::io(&model, "find it"))?;
        if !named.contains(&model.display().to_string()) {
            remove(&model)?;
        }
    }
    for number in numbers(&folder.join(RUNS))?.into_iter().filter(|number| Some(*number) != spared) {
        let run = run_folder(folder, number);
        for training in names_in(&run)?.iter().filter(|name| name.starts_with(TRAINED_IN)) {
            LARGE.iter().try_for_each(|name| remove(&run.join(training).join(name)))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove it")(error)),
        _ => Ok(()),
    }
}
