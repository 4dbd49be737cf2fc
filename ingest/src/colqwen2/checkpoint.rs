//! A checkpoint folder: finds its safetensors files, maps them, and hands out weights by canonical name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use safetensors::{Dtype, SafeTensors};

use super::adapter::Adapter;
use super::fields::Fields;
use super::folder::Folder;
use super::layout::{self, Meaning};
use super::query_format::QueryFormat;
use super::weights::{LowRank, MappedWeight, Number, Weight, WeightSource};
use crate::encoder::EncoderError;
use crate::mapped::MappedFile;

const SINGLE: &str = "model.safetensors";
const SHARDED: &str = "model.safetensors.index.json";

/// One tensor of a file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its name in the file.
    pub(crate) name: String,
    pub(crate) weight: MappedWeight,
}

/// How weights are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keep {
    /// In the mapped file.
    Mapped,
    /// As tensors of this type on this device.
    Held(DType),
}

/// The weights of a checkpoint, with an adapter merged into them.
pub(crate) struct Checkpoint {
    dir: PathBuf,
    files: Vec<Arc<MappedFile>>,
    entries: BTreeMap<String, Entry>,
    updates: BTreeMap<String, LowRank>,
    query_format: QueryFormat,
    keep: Keep,
    device: Device,
}

impl Checkpoint {
    /// Opens the weights in `folder`, with `adapter` merged into them.
    pub(crate) fn open(folder: &Folder, adapter: Option<Adapter>) -> Result<Self, EncoderError> {
        let dir = folder.dir().to_owned();
        let files =
            find_files(folder)?.iter().map(|name| folder.map(name).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut names = Vec::new();
        let mut stray = None;
        for file in &files {
            for entry in read_entries(file)? {
                match layout::meaning(&entry.name) {
                    Meaning::Unused => continue,
                    Meaning::Unknown => stray = Some(entry.name),
                    Meaning::Canonical(canonical) => {
                        names.push(entry.name.clone());
                        let second = entry.name.clone();
                        if let Some(first) = entries.insert(canonical, entry) {
                            let file = file.path().to_owned();
                            return Err(EncoderError::TensorTwice { file, first: first.name, second });
                        }
                    }
                }
            }
        }
        if let (true, Some(example)) = (entries.is_empty(), stray) {
            return Err(EncoderError::Layout { dir, example });
        }
        let mut query_format = layout::query_format(names.iter().map(String::as_str));
        let mut updates = BTreeMap::new();
        let mut all_files = files;
        if let Some(adapter) = adapter {
            query_format = adapter.query_format;
            all_files.push(adapter.file.clone());
            entries.extend(adapter.whole);
            for (name, update) in adapter.updates {
                let target = entries.get(&name).ok_or_else(|| EncoderError::TensorMissing {
                    origin: dir.clone(),
                    name: name.clone(),
                    expected: vec![update.b.dims()[0], update.a.dims()[1]],
                    hint: "; the adapter changes it, so its base must have it (colqwen2-base holds the projection)",
                })?;
                let expected = vec![update.b.dims()[0], update.a.dims()[1]];
                if target.weight.shape != expected {
                    return Err(EncoderError::TensorShape {
                        file: adapter.file.path().to_owned(),
                        name: format!("low-rank update of {name}"),
                        expected: target.weight.shape.clone(),
                        received: expected,
                    });
                }
                updates.insert(name, update);
            }
        }
        let keep = Keep::Held(DType::F32);
        Ok(Self { dir, files: all_files, entries, updates, query_format, keep, device: Device::Cpu })
    }

    /// Chooses how the weights handed out from here on are kept.
    pub(crate) fn keep(&mut self, keep: Keep, device: &Device) {
        self.keep = keep;
        self.device = device.clone();
    }

    /// Numbers in all tensors together.
    pub(crate) fn parameters(&self) -> usize {
        self.entries.values().map(|entry| entry.weight.shape.iter().product::<usize>()).sum()
    }

    /// The tensors by canonical name, each as the file has it and with an adapter's update, in order of the names.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &str, MappedWeight)> {
        self.entries.iter().map(|(canonical, entry)| {
            let update = self.updates.get(canonical).cloned();
            (canonical.as_str(), entry.name.as_str(), MappedWeight { update, ..entry.weight.clone() })
        })
    }

    /// The tensor called `name`, as [`Checkpoint::tensors`] has it; `shape` is for the message.
    pub(crate) fn mapped(&self, name: &str, shape: &[usize]) -> Result<MappedWeight, EncoderError> {
        let entry = self.entries.get(name).ok_or_else(|| EncoderError::TensorMissing {
            origin: self.dir.clone(),
            name: name.to_owned(),
            expected: shape.to_owned(),
            hint: if name.starts_with("custom_text_proj") {
                "; a plain Qwen2-VL has no projection to token vectors, a ColQwen2 checkpoint does"
            } else {
                ""
            },
        })?;
        Ok(MappedWeight { update: self.updates.get(name).cloned(), ..entry.weight.clone() })
    }

    /// The mapped files, an adapter's last.
    pub(crate) fn files(&self) -> &[Arc<MappedFile>] {
        &self.files
    }

    /// The query format that goes with this layout.
    pub(crate) fn query_format(&self) -> QueryFormat {
        self.query_format
    }

    /// The first dimension of a tensor, where the checkpoint has it.
    pub(crate) fn rows_of(&self, name: &str) -> Option<usize> {
        self.entries.get(name)?.weight.shape.first().copied()
    }
}

impl WeightSource for Checkpoint {
    fn weight(&self, name: &str, shape: &[usize]) -> Result<Weight, EncoderError> {
        let weight = self.mapped(name, shape)?;
        if weight.shape != shape {
            return Err(EncoderError::TensorShape {
                file: weight.file.path().to_owned(),
                name: self.entries.get(name).map_or(name, |entry| entry.name.as_str()).to_owned(),
                expected: shape.to_owned(),
                received: weight.shape,
            });
        }
        match self.keep {
            Keep::Held(dtype) => Ok(Weight::Held(weight.load(dtype, &self.device)?)),
            // Vectors are small and used at every step.
            Keep::Mapped if shape.len() < 2 => Ok(Weight::Held(weight.tensor()?)),
            Keep::Mapped => Ok(Weight::Mapped(weight)),
        }
    }
}

fn find_files(folder: &Folder) -> Result<Vec<String>, EncoderError> {
    if folder.has(SINGLE) {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let missing = |expected: String| EncoderError::FileMissing { dir: folder.dir().to_owned(), expected };
    if !folder.has(SHARDED) {
        return Err(missing(format!("{SINGLE} or {SHARDED}")));
    }
    let (index, value) = (folder.path(SHARDED), folder.json(SHARDED)?);
    let fields = Fields::new(&index, &value);
    let refuse = || fields.refuse("weight_map", "an object from tensor names to file names");
    let map = fields.get("weight_map").and_then(|map| map.as_object()).ok_or_else(refuse)?;
    let mut names = map.values().map(|name| name.as_str()).collect::<Option<Vec<_>>>().ok_or_else(refuse)?;
    names.sort_unstable();
    names.dedup();
    // A file name, not a path: an index file must not lead out of its folder.
    if names.is_empty() || names.iter().any(|name| Path::new(name).file_name().is_none_or(|file| file != *name)) {
        return Err(refuse());
    }
    if let Some(name) = names.iter().find(|name| !folder.has(name)) {
        return Err(missing(format!("{name}, which {SHARDED} names")));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// The tensors of one mapped file.
pub(crate) fn read_entries(file: &Arc<MappedFile>) -> Result<Vec<Entry>, EncoderError> {
    let damaged = |problem: String| EncoderError::Safetensors { path: file.path().to_owned(), problem };
    // Also compares the length of the file with what its header announces.
    let (header, metadata) =
        SafeTensors::read_metadata(file).map_err(|error| damaged(format!("{error} ({} bytes)", file.len())))?;
    // Eight bytes of length, the header, the data.
    let first = header + 8;
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let number = match info.dtype {
            Dtype::F32 => Number::F32,
            Dtype::F16 => Number::F16,
            Dtype::BF16 => Number::BF16,
            other => {
                let received = format!("{other:?}");
                return Err(EncoderError::TensorType { file: file.path().to_owned(), name, received });
            }
        };
        let (start, end) = info.data_offsets;
        let range = first + start..first + end;
        let weight = MappedWeight { file: file.clone(), range, number, shape: info.shape.clone(), update: None };
        Ok(Entry { name, weight })
    });
    tensors.collect()
}
