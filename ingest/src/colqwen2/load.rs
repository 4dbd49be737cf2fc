//! Brings a checkpoint folder into memory.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use super::ColQwen2;
use super::adapter::{self, Adapter};
use super::checkpoint::{Checkpoint, Keep};
use super::config::Config;
use super::fingerprint::Identity;
use super::folder::Folder;
use super::model::Model;
use super::ops::Ops;
use super::preprocess::Preprocessor;
use super::projection::DIM;
use super::settings::Settings;
use super::tokens::Tokens;
use crate::encoder::EncoderError;

/// How weights lie in memory on the CPU, which computes in f32 in any case. A GPU always holds them in bf16.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WeightMemory {
    /// In f32 below two gigabytes, else as [`WeightMemory::Mapped`].
    #[default]
    Auto,
    /// In the mapped file, widened at each use: a full-size bf16 checkpoint runs within a few gigabytes.
    Mapped,
    /// All in f32: twice the size of a bf16 checkpoint, and a little faster.
    F32,
}

/// How to load a checkpoint.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to compute; see [`parse_device`].
    pub device: Device,
    /// How weights lie in memory on the CPU.
    pub weights: WeightMemory,
    /// The base of an adapter, instead of the folder that its `adapter_config.json` names.
    pub base: Option<PathBuf>,
    /// Pages that are computed together. More need more memory: a page of 768 tokens at full size about 0.4 GB.
    pub pages_per_batch: usize,
    /// Which implementation of each operation.
    pub ops: Ops,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, weights: WeightMemory::Auto, base: None, pages_per_batch: 4, ops: Ops::Fused }
    }
}

/// The configuration of every whole checkpoint.
pub(crate) const CONFIG: &str = "config.json";
/// Bytes of f32 weights up to which [`WeightMemory::Auto`] holds them.
const AUTO_HELD: usize = 2 << 30;
/// Parameters up to which one page is too little work to be split over the cores.
const SMALL_MODEL: usize = 50_000_000;

/// `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// Another name, or a device that is not there.
pub fn parse_device(name: &str) -> Result<Device, EncoderError> {
    let refuse = |problem: String| EncoderError::Device { name: name.to_owned(), problem };
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let ordinal = match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|number| number.parse().ok()),
        None => None,
    };
    let ordinal: usize = ordinal.ok_or_else(|| refuse("expected cpu, cuda or cuda:N".to_owned()))?;
    if cfg!(feature = "cuda") {
        Device::new_cuda(ordinal).map_err(|error| refuse(error.to_string()))
    } else {
        Err(refuse("this program was built without the feature `cuda`".to_owned()))
    }
}

impl ColQwen2 {
    /// Loads the checkpoint or adapter in `dir`. The weight files stay mapped while the model lives: do not truncate
    /// or overwrite them in place meanwhile (replacing them by renaming is fine).
    ///
    /// # Errors
    /// A file is missing or damaged, the architecture is unknown, a tensor is missing or has another shape than
    /// `config.json` asks for, or the tokenizer lacks a token of the prompt.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self, EncoderError> {
        let folder = Folder::disk(dir)?;
        if !folder.has(adapter::CONFIG) {
            return Self::assemble(&[&folder], None, options);
        }
        let base = match &options.base {
            Some(base) => base.clone(),
            None => adapter::base_folder(&folder)?,
        };
        let adapter = Adapter::open(&folder)?;
        Self::assemble(&[&folder, &Folder::disk(&base)?], Some(adapter), options)
    }

    /// `folders`: the base last; what an adapter has of its own comes first.
    pub(crate) fn assemble(
        folders: &[&Folder],
        adapter: Option<Adapter>,
        options: &LoadOptions,
    ) -> Result<Self, EncoderError> {
        let Some(base) = folders.last() else {
            return Err(EncoderError::FileMissing { dir: PathBuf::new(), expected: CONFIG.to_owned() });
        };
        let config_bytes = base.read(CONFIG)?;
        let config = Config::from_value(&base.path(CONFIG), &base.json(CONFIG)?)?;
        let settings = Settings::read(folders)?;
        let (preprocessor, processor_bytes) = Preprocessor::read(folders, &config.vision)?;
        let (tokens, tokenizer_bytes) = Tokens::read(folders, config.image_token_id)?;
        let adapter_settings = adapter.as_ref().map(|adapter| adapter.settings.clone()).unwrap_or_default();
        let mut checkpoint = Checkpoint::open(base, adapter)?;
        let query_format = settings.query_format.unwrap_or(checkpoint.query_format());

        let on_cpu = options.device.is_cpu();
        let parameters = checkpoint.parameters();
        let mapped = match options.weights {
            WeightMemory::Auto => parameters * 4 > AUTO_HELD,
            WeightMemory::Mapped => true,
            WeightMemory::F32 => false,
        };
        let dtype = if on_cpu { DType::F32 } else { DType::BF16 };
        let keep = if on_cpu && mapped { Keep::Mapped } else { Keep::Held(dtype) };
        checkpoint.keep(keep, &options.device);
        // Files that do not state the width of the projection leave it to the projection.
        let dim = config.dim.or_else(|| checkpoint.rows_of("custom_text_proj.weight")).unwrap_or(DIM);
        let model = Model::load(&checkpoint, &config, dim, tokens.image(), dtype, &options.device)?;

        let identity = Identity {
            config: &config_bytes,
            processor: &processor_bytes,
            tokenizer: &tokenizer_bytes,
            query_format,
            adapter: &adapter_settings,
            checkpoint: &checkpoint,
        };
        let (page_fingerprint, query_fingerprint) = identity.fingerprints();
        let setup = identity.setup();
        Ok(Self {
            model,
            folders: folders.iter().map(|folder| (*folder).clone()).collect(),
            checkpoint,
            setup,
            preprocessor,
            tokens,
            query_format,
            trained: settings.trained,
            page_fingerprint,
            query_fingerprint,
            serves_pages_of: settings.serves_pages_of.unwrap_or(page_fingerprint),
            ops: options.ops,
            pages_per_batch: options.pages_per_batch.max(1),
            page_per_core: on_cpu && parameters < SMALL_MODEL,
        })
    }
}
