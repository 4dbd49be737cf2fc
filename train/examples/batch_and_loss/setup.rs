//! What every process of the comparison begins with: words, the model, and batches of both.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_train::grad_cache::Batch;
use colqwen_index_train::loss::{Kind, Loss as Rule};
use colqwen_index_train::maxsim::MaxSim;
use colqwen_index_train::network::{Network, NetworkOptions, Trained};
use colqwen_index_train::random::{Purpose, Stream};
use colqwen_index_train::scores::Targets;
use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::page::{Collection, text};
use crate::words::{Word, Words};

/// The losses that are compared, each as it is used elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Softplus of the hardest negative's lead, of sums over query tokens at temperature 1: colpali-engine's default.
    Pairwise,
    /// Cross entropy over all pages of the batch, of means over query tokens at temperature 0.02.
    InfoNce,
}

impl Loss {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairwise => "pairwise",
            Self::InfoNce => "InfoNCE",
        }
    }

    /// The name on the command line.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Pairwise => "pairwise",
            Self::InfoNce => "info-nce",
        }
    }

    pub fn rule(self) -> Rule {
        match self {
            Self::Pairwise => Rule { temperature: 1.0, ..Rule::new(Kind::Pairwise) },
            Self::InfoNce => Rule::new(Kind::InfoNce),
        }
    }

    pub fn maxsim(self) -> MaxSim {
        MaxSim { per_token: self == Self::InfoNce, ..MaxSim::default() }
    }
}

/// Words and the model.
pub struct Setup {
    pub words: Words,
    pub model: ColQwen2,
    pub network: Network,
    seed: u64,
}

/// A batch as the model takes it.
pub struct Inputs {
    pub queries: Vec<Arc<ModelInput>>,
    pub pages: Vec<Arc<ModelInput>>,
    pub targets: Targets,
}

impl Inputs {
    pub fn batch(&self) -> Batch<'_, Arc<ModelInput>> {
        Batch {
            queries: &self.queries,
            pages: &self.pages,
            constant_pages: None,
            teacher: None,
            targets: &self.targets,
        }
    }
}

impl Setup {
    /// Words of the sample PDFs, and random weights.
    pub fn new(seed: u64) -> Result<Self> {
        let words = Words::of_pdfs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data"))?;
        let folder = tempfile::tempdir()?;
        checkpoint::write(folder.path(), &words.learnt, seed)?;
        let model = ColQwen2::load(folder.path(), &LoadOptions::default())?;
        let options = NetworkOptions { seed, checkpointing: false, number: None };
        let network = Network::new(&model, Trained::Full { vision: true }, options)?;
        Ok(Self { words, model, network, seed })
    }

    /// The random numbers of `key`.
    pub fn stream(&self, key: &[u64]) -> Stream {
        Stream::new(self.seed, Purpose::Choice, key)
    }

    /// Queries and pages of a collection, one input each.
    pub fn inputs(&self, collection: &Collection, words: &[Word]) -> Result<[Vec<Arc<ModelInput>>; 2]> {
        let queries = collection.queries.iter();
        let queries = queries.map(|query| Ok(Arc::new(self.model.query_input(&[&text(query, words)])?)));
        let pages = collection.pages.iter();
        let pages = pages.map(|page| Ok(Arc::new(self.model.page_input(std::slice::from_ref(&page.image))?)));
        Ok([queries.collect::<Result<_>>()?, pages.collect::<Result<_>>()?])
    }

    /// A batch of fresh pages of the words to learn.
    pub fn batch(&self, size: usize, key: &[u64]) -> Result<Inputs> {
        let mut stream = self.stream(key);
        loop {
            let collection = Collection::draw(size, &self.words.learnt, &mut stream);
            // In a small batch every page may happen to answer every query.
            let targets = match collection.targets() {
                Err(colqwen_index_train::Error::NoNegatives { .. }) => continue,
                targets => targets?,
            };
            let [queries, pages] = self.inputs(&collection, &self.words.learnt)?;
            return Ok(Inputs { queries, pages, targets });
        }
    }
}
