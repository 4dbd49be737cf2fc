//! The best state of a training, by questions that it does not learn from.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use colqwen_index_ingest::whole_file::WholeFile;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::encode::Parameter;

/// Epochs without a gain after which nothing more is hoped for.
const PATIENCE: usize = 3;

/// What a run's folder keeps of all looks, as JSON.
pub const LOOKS: &str = "validation.json";
/// What it keeps of the parameters that did best.
pub const BEST: &str = "best.safetensors";

/// A look at the questions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Look {
    /// Epochs that were complete.
    pub epoch: u64,
    /// nDCG@10.
    pub ndcg: f64,
    /// The same of each set of questions, of which it is the mean; null for one that is empty.
    #[serde(default)]
    pub sets: Vec<Option<f64>>,
}

impl Look {
    /// The look whose state is kept: the best one, of equal ones the first.
    pub fn best(looks: &[Self]) -> Option<&Self> {
        looks.iter().reduce(|best, look| if look.ndcg > best.ndcg { look } else { best })
    }
}

/// Keeps the parameters that did best so far, in the folder of the run.
#[derive(Debug)]
pub struct EarlyStop<'p> {
    parameters: &'p [Parameter],
    folder: PathBuf,
    looks: Vec<Look>,
}

impl<'p> EarlyStop<'p> {
    /// Begins, or goes on with what an earlier run left in `folder`.
    ///
    /// # Errors
    /// What it left is damaged.
    pub fn open(parameters: &'p [Parameter], folder: &Path, resume: bool) -> Result<Self, Error> {
        let path = folder.join(LOOKS);
        let looks = match std::fs::read(&path) {
            Ok(text) if resume => serde_json::from_slice(&text).map_err(Error::json(&path))?,
            _ => Vec::new(),
        };
        Ok(Self { parameters, folder: folder.to_owned(), looks })
    }

    /// All looks so far.
    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    /// Whether the state after `epoch` epochs was looked at already.
    pub fn knows(&self, epoch: u64) -> bool {
        self.looks.iter().any(|look| look.epoch == epoch)
    }

    /// Notes how well the parameters as they are do; says stop when the last epochs brought nothing.
    ///
    /// # Errors
    /// The disk is full.
    pub fn look(&mut self, look: Look) -> Result<ControlFlow<()>, Error> {
        let better = Look::best(&self.looks).is_none_or(|best| look.ndcg > best.ndcg);
        if better {
            let tensors: HashMap<&str, Tensor> = (self.parameters.iter())
                .map(|parameter| (parameter.name.as_str(), parameter.var.as_detached_tensor()))
                .collect();
            let draft = self.weights().with_extension("tmp");
            candle_core::safetensors::save(&tensors, &draft)?;
            std::fs::rename(&draft, self.weights()).map_err(Error::io(&draft))?;
        }
        self.looks.push(look);
        let path = self.folder.join(LOOKS);
        let write = || {
            let mut file = WholeFile::create(&path)?;
            serde_json::to_writer(&mut file, &self.looks)?;
            file.finish()
        };
        write().map_err(Error::io(&path))?;
        let best = Look::best(&self.looks);
        let since = self.looks.iter().rev().take_while(|look| Some(*look) != best).count();
        Ok(if since >= PATIENCE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Gives the parameters the values that did best.
    ///
    /// # Errors
    /// Nothing was looked at yet, or what was kept is gone.
    pub fn restore(&self) -> Result<(), Error> {
        let kept = candle_core::safetensors::load(self.weights(), &Device::Cpu)?;
        for parameter in self.parameters {
            if let Some(value) = kept.get(&parameter.name) {
                parameter.var.set(&value.to_device(parameter.var.device())?)?;
            }
        }
        Ok(())
    }

    fn weights(&self) -> PathBuf {
        self.folder.join(BEST)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    fn parameter(value: f32) -> Parameter {
        Parameter { name: "w".to_owned(), var: Var::new(&[value], &Device::Cpu).unwrap() }
    }

    #[test]
    fn the_best_weights_come_back_and_patience_ends() {
        let folder = tempfile::tempdir().unwrap();
        let parameters = [parameter(1.0)];
        let mut early = EarlyStop::open(&parameters, folder.path(), false).unwrap();
        let look = |early: &mut EarlyStop<'_>, epoch, ndcg, value: f32| {
            parameters[0].var.set(&Tensor::new(&[value], &Device::Cpu).unwrap()).unwrap();
            early.look(Look { epoch, ndcg, sets: vec![Some(ndcg), None] }).unwrap().is_break()
        };
        assert!(!look(&mut early, 0, 0.3, 1.0) && !look(&mut early, 1, 0.5, 2.0) && !look(&mut early, 2, 0.4, 3.0));
        let mut resumed = EarlyStop::open(&parameters, folder.path(), true).unwrap();
        assert!(resumed.knows(2) && !resumed.knows(3));
        assert!(!look(&mut resumed, 3, 0.5, 4.0) && look(&mut resumed, 4, 0.1, 5.0));
        resumed.restore().unwrap();
        assert_eq!(parameters[0].var.to_vec1::<f32>().unwrap(), [2.0]);
        assert!(EarlyStop::open(&parameters, folder.path(), false).unwrap().looks().is_empty());
    }
}
