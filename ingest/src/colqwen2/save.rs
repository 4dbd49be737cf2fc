//! Saves a checkpoint with some weights replaced, or with a projection that it lacked.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use colqwen_index_field::Fingerprint;
use safetensors::{Dtype, View};
use serde_json::json;

use super::ColQwen2;
use super::adapter;
use super::backbone::PROJECTION;
use super::checkpoint::Checkpoint;
use super::config::Config;
use super::folder::Folder;
use super::layout::{self, Meaning};
use super::projection::DIM;
use super::query_format::QueryFormat;
use super::settings;
use super::weights::{MappedWeight, Number};
use crate::encoder::EncoderError;
use crate::{two_parts, whole_folder};

const WEIGHTS: &str = "model.safetensors";
/// The folder of an adapter's base within a copy of both.
const BASE: &str = "base";

impl ColQwen2 {
    /// As [`ColQwen2::save_with`], with a projection of `weight`, `dim x hidden_size`, and `bias`, `dim`.
    ///
    /// # Errors
    /// As [`ColQwen2::save_with`].
    pub fn save_with_projection(&self, dir: &Path, weight: &Tensor, bias: &Tensor) -> Result<(), EncoderError> {
        let (dim, width) = (self.model.dim(), self.hidden_size());
        if weight.dims() != [dim, width] || bias.dims() != [dim] {
            return Err(EncoderError::Input {
                what: "projection",
                expected: format!("{dim} x {width} and {dim}"),
                received: format!("{:?} and {:?}", weight.dims(), bias.dims()),
            });
        }
        let [of_weight, of_bias] = ["weight", "bias"].map(|leaf| format!("{PROJECTION}{leaf}"));
        self.save_with(dir, &HashMap::from([(of_weight, weight.clone()), (of_bias, bias.clone())]))
    }

    /// Writes this checkpoint to the new folder `dir`, with the weights of `replaced`, by canonical name, in f32. All other
    /// weights keep their bytes and names; an adapter is merged into them, in f32. The folder appears complete or not at
    /// all, and any program that reads this checkpoint's layout can read it.
    ///
    /// # Errors
    /// A weight that the checkpoint has not, or that has another shape; `dir` exists already, or the disk is full.
    pub fn save_with(&self, dir: &Path, replaced: &HashMap<String, Tensor>) -> Result<(), EncoderError> {
        self.save(dir, replaced, None)
    }

    /// As [`ColQwen2::save_with`], for weights of which only queries have learnt: what is saved says that its queries are for
    /// the pages that this model's queries are for, and finds them in any index that holds these.
    ///
    /// # Errors
    /// As [`ColQwen2::save_with`].
    pub fn save_for_queries(&self, dir: &Path, replaced: &HashMap<String, Tensor>) -> Result<(), EncoderError> {
        self.save(dir, replaced, Some(self.serves_pages_of))
    }

    fn save(
        &self,
        dir: &Path,
        replaced: &HashMap<String, Tensor>,
        serves: Option<Fingerprint>,
    ) -> Result<(), EncoderError> {
        for (name, tensor) in replaced {
            let expected = self.checkpoint.mapped(name, tensor.dims())?.shape;
            if tensor.dims() != expected {
                return Err(EncoderError::TensorShape {
                    file: "the weights to be saved".into(),
                    name: name.clone(),
                    expected,
                    received: tensor.dims().to_owned(),
                });
            }
        }
        whole_folder::write(dir, |draft| {
            // The base first, so that an adapter's own files replace it.
            self.folders.iter().rev().try_for_each(|folder| copy_settings(folder, draft))?;
            write_own_settings(draft, self.query_format, true, serves)?;
            write_weights(&self.checkpoint, draft, replaced)
        })
    }

    /// Copies the files of this checkpoint, byte for byte, to the folder `dir`: the copy is the same model by fingerprint. The base
    /// of an adapter comes to `dir/base`.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn copy_files(&self, dir: &Path) -> Result<(), EncoderError> {
        let mut dir = dir.to_owned();
        for (at, folder) in self.folders.iter().enumerate() {
            if at > 0 {
                two_parts::set(&dir.join(adapter::CONFIG), "base_model_name_or_path", BASE.to_owned())?;
                dir = dir.join(BASE);
            }
            fs::create_dir_all(&dir).map_err(EncoderError::io(&dir))?;
            for name in folder.names()? {
                folder.copy(&name, &dir.join(&name))?;
            }
        }
        Ok(())
    }

    /// Writes into the folder `dir` what this program must know about a checkpoint made of this one.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write_own_settings(&self, dir: &Path) -> Result<(), EncoderError> {
        write_own_settings(dir, self.query_format, true, None)
    }
}

/// Makes a ColQwen2 of the Qwen2-VL in the folder `base`: its files in the new folder `dir`, with a projection of `weight`,
/// `dim x hidden_size`, and `bias`, `dim`, saved with them, so that every later load is the same model.
///
/// # Errors
/// The base has a projection already, the shapes do not fit it, `dir` exists already, or the disk is full.
pub fn save_new_model(base: &Path, dir: &Path, weight: &Tensor, bias: &Tensor) -> Result<(), EncoderError> {
    let folder = Folder::disk(base)?;
    let config = Config::from_value(&folder.path("config.json"), &folder.json("config.json")?)?;
    let checkpoint = Checkpoint::open(&folder, None)?;
    let (dim, width) = (bias.elem_count(), config.text.hidden_size);
    let received = format!("{:?} and {:?}", weight.dims(), bias.dims());
    if weight.dims() != [dim, width] || bias.dims() != [dim] || config.dim.is_some_and(|stated| stated != dim) {
        let expected = format!("{} x {width} and as many values", config.dim.unwrap_or(dim));
        return Err(EncoderError::Input { what: "new projection", expected, received });
    }
    if checkpoint.rows_of("custom_text_proj.weight").is_some() {
        let expected = format!("weights without a projection in {}", base.display());
        return Err(EncoderError::Input { what: "new projection", expected, received: "weights with one".to_owned() });
    }
    let [of_weight, of_bias] = ["weight", "bias"].map(|leaf| format!("{PROJECTION}{leaf}"));
    let added = HashMap::from([(of_weight, weight.clone()), (of_bias, bias.clone())]);
    whole_folder::write(dir, |draft| {
        copy_settings(&folder, draft)?;
        write_own_settings(draft, checkpoint.query_format(), false, None)?;
        write_weights(&checkpoint, draft, &added)
    })
}

/// The shape, `dim x hidden_size`, of the projection that the checkpoint in the folder `dir` lacks, as a plain Qwen2-VL does; none
/// if it has one. An adapter is taken to have one: its base may lie elsewhere.
///
/// # Errors
/// A file is missing or damaged.
pub fn missing_projection(dir: &Path) -> Result<Option<[usize; 2]>, EncoderError> {
    let folder = Folder::disk(dir)?;
    if folder.has(adapter::CONFIG) || Checkpoint::open(&folder, None)?.rows_of("custom_text_proj.weight").is_some() {
        return Ok(None);
    }
    let config = Config::from_value(&folder.path("config.json"), &folder.json("config.json")?)?;
    Ok(Some([config.dim.unwrap_or(DIM), config.text.hidden_size]))
}

fn write_own_settings(
    dir: &Path,
    format: QueryFormat,
    trained: bool,
    serves: Option<Fingerprint>,
) -> Result<(), EncoderError> {
    let path = dir.join(settings::FILE);
    let mut settings = json!({ "query_format": format.name(), "trained": trained });
    if let Some(pages) = serves {
        settings["serves_pages_of"] = json!(pages.to_string());
    }
    let text = format!("{settings:#}\n");
    fs::write(&path, text).map_err(EncoderError::io(&path))
}

/// All weights of `checkpoint`, those of `own`, by canonical name, in place of its own or beside them.
fn write_weights(checkpoint: &Checkpoint, dir: &Path, own: &HashMap<String, Tensor>) -> Result<(), EncoderError> {
    let mut tensors = Vec::new();
    let mut added: BTreeMap<&String, &Tensor> = own.iter().collect();
    for (canonical, name, mapped) in checkpoint.tensors() {
        let saved = match own.get(canonical) {
            Some(tensor) => Saved::whole(tensor)?,
            None if mapped.update.is_some() => Saved::whole(&mapped.tensor()?)?,
            None => Saved::Mapped(mapped),
        };
        added.remove(&canonical.to_owned());
        // What an adapter replaced whole has a name that only adapters use.
        let known = layout::meaning(name) == Meaning::Canonical(canonical.to_owned());
        tensors.push((if known { name } else { canonical }.to_owned(), saved));
    }
    for (name, tensor) in added {
        tensors.push((name.clone(), Saved::whole(tensor)?));
    }
    let path = dir.join(WEIGHTS);
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(format), &path)
        .map_err(|error| EncoderError::Safetensors { path: path.clone(), problem: error.to_string() })?;
    fs::File::open(&path).and_then(|file| file.sync_all()).map_err(EncoderError::io(&path))
}

/// A tensor on its way into a file.
enum Saved {
    /// As it is in the file it comes from.
    Mapped(MappedWeight),
    /// In f32.
    Whole { shape: Vec<usize>, bytes: Vec<u8> },
}

impl Saved {
    fn whole(tensor: &Tensor) -> Result<Self, EncoderError> {
        Ok(Self::Whole { shape: tensor.dims().to_vec(), bytes: bytes_of(tensor)? })
    }
}

impl View for Saved {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Whole { .. } => Dtype::F32,
            Self::Mapped(mapped) => match mapped.number {
                Number::F32 => Dtype::F32,
                Number::F16 => Dtype::F16,
                Number::BF16 => Dtype::BF16,
            },
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Mapped(mapped) => &mapped.shape,
            Self::Whole { shape, .. } => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Mapped(mapped) => Cow::Borrowed(&mapped.file[mapped.range.clone()]),
            Self::Whole { bytes, .. } => Cow::Borrowed(bytes),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Mapped(mapped) => mapped.range.len(),
            Self::Whole { bytes, .. } => bytes.len(),
        }
    }
}

fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>, EncoderError> {
    let values: Vec<f32> = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// Copies what is no weight: configuration, processor, tokenizer and the like.
fn copy_settings(folder: &Folder, dir: &Path) -> Result<(), EncoderError> {
    for name in folder.names()? {
        let is_setting = [".json", ".txt", ".jinja", ".model", ".md"].iter().any(|ending| name.ends_with(ending));
        let of_weights = name.ends_with(".index.json") || name.starts_with("adapter_") || name == "README.md";
        if is_setting && !of_weights {
            let path = dir.join(&name);
            fs::write(&path, folder.read(&name)?).map_err(EncoderError::io(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colqwen2::LoadOptions;
    use crate::colqwen2::tiny::tiny;
    use crate::encoder::Encoder;

    #[test]
    fn a_saved_checkpoint_has_the_same_backbone_and_the_new_projection() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("saved");
        let model = tiny();
        let (weight, bias) = model.projection().unwrap();
        let turned = (&weight * -1.0).unwrap();
        assert!(model.save_with_projection(&dir, &bias, &weight).unwrap_err().to_string().contains("128"));
        model.save_with_projection(&dir, &turned, &bias).unwrap();
        assert!(model.save_with_projection(&dir, &turned, &bias).unwrap_err().to_string().contains("exists"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let saved = ColQwen2::load(&dir, &LoadOptions::default()).unwrap();
        assert!(saved.is_trained());
        assert_eq!(saved.query_format(), model.query_format());
        assert_eq!(saved.backbone_fingerprint(), model.backbone_fingerprint());
        assert_ne!(saved.page_fingerprint(), model.page_fingerprint());
        let values = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (found, found_bias) = saved.projection().unwrap();
        assert_eq!((values(found), values(found_bias)), (values(turned), values(bias)));
        assert_eq!(saved.hidden_queries(&["one"]).unwrap(), model.hidden_queries(&["one"]).unwrap());
    }
}
