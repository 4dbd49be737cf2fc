//! A LoRA adapter as peft saves it: low-rank updates that are merged into the weights of its base.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::{Entry, read_entries};
use super::fields::Fields;
use super::folder::Folder;
use super::layout::{self, AdapterPart};
use super::query_format::QueryFormat;
use super::weights::LowRank;
use crate::encoder::EncoderError;
use crate::mapped::MappedFile;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// An adapter, ready to be merged.
pub(crate) struct Adapter {
    pub(crate) file: Arc<MappedFile>,
    /// Updates by the canonical name of the weight they change.
    pub(crate) updates: BTreeMap<String, LowRank>,
    /// Tensors that take the place of the base's.
    pub(crate) whole: BTreeMap<String, Entry>,
    pub(crate) query_format: QueryFormat,
    /// What of `adapter_config.json` changes the result, for the fingerprint: not the path of the base.
    pub(crate) settings: String,
}

/// The settings of `adapter_config.json` that the arithmetic needs.
struct Settings {
    path: PathBuf,
    rank: usize,
    alpha: f64,
    rank_stabilised: bool,
}

impl Settings {
    fn read(folder: &Folder) -> Result<Self, EncoderError> {
        let (path, value) = (folder.path(CONFIG), folder.json(CONFIG)?);
        let fields = Fields::new(&path, &value);
        fields.only("peft_type", "LORA")?;
        for name in ["use_dora", "fan_in_fan_out", "lora_bias"] {
            if fields.flag(name, false)? {
                return Err(fields.refuse(name, "false"));
            }
        }
        fields.only("bias", "none")?;
        for name in ["rank_pattern", "alpha_pattern"] {
            if fields.get(name).and_then(|value| value.as_object()).is_some_and(|pattern| !pattern.is_empty()) {
                return Err(fields.refuse(name, "no pattern"));
            }
        }
        let rank = fields.count("r", None)?;
        let alpha = fields.number("lora_alpha", 8.0)?;
        let rank_stabilised = fields.flag("use_rslora", false)?;
        Ok(Self { path, rank, alpha, rank_stabilised })
    }

    fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }
}

/// The folder that an adapter's base lies in: `base_model_name_or_path`, as it stands or relative to the adapter.
pub(crate) fn base_folder(folder: &Folder) -> Result<PathBuf, EncoderError> {
    let (path, value) = (folder.path(CONFIG), folder.json(CONFIG)?);
    let fields = Fields::new(&path, &value);
    let base = fields.text("base_model_name_or_path")?.filter(|base| !base.is_empty());
    let base = base.ok_or_else(|| fields.refuse("base_model_name_or_path", "the folder of the base model"))?;
    [folder.path(base), PathBuf::from(base)].into_iter().find(|base| base.is_dir()).ok_or_else(|| {
        let expected = "a folder, from here or from the adapter's folder (or give the base explicitly)";
        fields.refuse("base_model_name_or_path", expected)
    })
}

impl Adapter {
    /// Reads the adapter in `folder`.
    pub(crate) fn open(folder: &Folder) -> Result<Self, EncoderError> {
        let settings = Settings::read(folder)?;
        let (dir, path) = (folder.dir(), folder.path(WEIGHTS));
        if !folder.has(WEIGHTS) {
            return Err(EncoderError::FileMissing { dir: dir.to_owned(), expected: WEIGHTS.to_owned() });
        }
        let file = Arc::new(folder.map(WEIGHTS)?);
        let (mut downs, mut ups, mut whole) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut names = Vec::new();
        for entry in read_entries(&file)? {
            names.push(entry.name.clone());
            let (map, canonical) = match layout::adapter_part(&entry.name) {
                Some(AdapterPart::LoraA(name)) => (&mut downs, name),
                Some(AdapterPart::LoraB(name)) => (&mut ups, name),
                Some(AdapterPart::Whole(name)) => (&mut whole, name),
                None => return Err(EncoderError::Layout { dir: dir.to_owned(), example: entry.name }),
            };
            let second = entry.name.clone();
            if let Some(first) = map.insert(canonical, entry) {
                return Err(EncoderError::TensorTwice { file: path, first: first.name, second });
            }
        }
        let mut updates = BTreeMap::new();
        for (name, down) in downs {
            let missing = || EncoderError::TensorMissing {
                origin: path.clone(),
                name: down.name.replace("lora_A", "lora_B"),
                expected: vec![settings.rank],
                hint: "",
            };
            let up = ups.remove(&name).ok_or_else(missing)?;
            updates.insert(name, settings.update(&down, &up)?);
        }
        if let Some((_, up)) = ups.pop_first() {
            let name = up.name.replace("lora_B", "lora_A");
            return Err(EncoderError::TensorMissing { origin: path, name, expected: vec![settings.rank], hint: "" });
        }
        let query_format = layout::query_format(names.iter().map(String::as_str));
        let settings = format!("rank {} scale {}", settings.rank, settings.scale());
        Ok(Self { file, updates, whole, query_format, settings })
    }
}

impl Settings {
    fn update(&self, down: &Entry, up: &Entry) -> Result<LowRank, EncoderError> {
        for (entry, at) in [(down, 0), (up, 1)] {
            let shape = &entry.weight.shape;
            if shape.len() != 2 || shape[at] != self.rank {
                let mut expected = shape.clone();
                expected.resize(2, 0);
                expected[at] = self.rank;
                return Err(EncoderError::TensorShape {
                    file: self.path.with_file_name(WEIGHTS),
                    name: entry.name.clone(),
                    expected,
                    received: shape.clone(),
                });
            }
        }
        Ok(LowRank { a: down.weight.tensor()?, b: up.weight.tensor()?, scale: self.scale() })
    }
}
