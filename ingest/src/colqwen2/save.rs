//! Saves a checkpoint with another projection.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, View};
use serde_json::json;

use super::ColQwen2;
use super::backbone::PROJECTION;
use super::folder::Folder;
use super::layout::{self, Meaning};
use super::weights::{MappedWeight, Number};
use crate::encoder::EncoderError;

impl ColQwen2 {
    /// Writes this checkpoint to the new folder `dir`, with a projection of `weight`, `dim x hidden_size`, and `bias`,
    /// `dim`, in f32. All other weights keep their bytes and names; an adapter is merged into them, in f32. The folder
    /// appears complete or not at all, and any program that reads this checkpoint's layout can read it.
    ///
    /// # Errors
    /// The projection has another shape, `dir` exists already, or the disk is full.
    pub fn save_with_projection(&self, dir: &Path, weight: &Tensor, bias: &Tensor) -> Result<(), EncoderError> {
        let (dim, width) = (self.model.dim(), self.hidden_size());
        if weight.dims() != [dim, width] || bias.dims() != [dim] {
            return Err(EncoderError::Input {
                what: "projection",
                expected: format!("{dim} x {width} and {dim}"),
                received: format!("{:?} and {:?}", weight.dims(), bias.dims()),
            });
        }
        if dir.exists() {
            return Err(EncoderError::io(dir)(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "the folder exists already; a checkpoint is saved to a new one",
            )));
        }
        let mut draft = dir.as_os_str().to_owned();
        draft.push(format!(".tmp-{}", std::process::id()));
        let draft = Path::new(&draft);
        let written = self.write_files(draft, weight, bias);
        let renamed = written.and_then(|()| fs::rename(draft, dir).map_err(EncoderError::io(dir)));
        if renamed.is_err() {
            // The error that led here matters more than one of cleaning up.
            let _ = fs::remove_dir_all(draft);
        }
        renamed
    }

    fn write_files(&self, dir: &Path, weight: &Tensor, bias: &Tensor) -> Result<(), EncoderError> {
        const WEIGHTS: &str = "model.safetensors";
        fs::create_dir_all(dir).map_err(EncoderError::io(dir))?;
        // The base first, so that an adapter's own files replace it.
        self.folders.iter().rev().try_for_each(|folder| copy_settings(folder, dir))?;
        let settings = json!({ "query_format": self.query_format.name(), "trained": true });
        let path = dir.join("colqwen_index.json");
        let text = format!("{settings:#}\n");
        fs::write(&path, text).map_err(EncoderError::io(&path))?;

        let projection = HashMap::from([("weight", weight), ("bias", bias)]);
        let mut tensors = Vec::new();
        for (canonical, name, mapped) in self.checkpoint.tensors() {
            let replaced = canonical.strip_prefix(PROJECTION).and_then(|leaf| projection.get(leaf));
            let saved = match replaced {
                Some(tensor) => Saved::Whole { shape: tensor.dims().to_vec(), bytes: bytes_of(tensor)? },
                None if mapped.update.is_some() => {
                    let merged = mapped.tensor()?;
                    Saved::Whole { shape: merged.dims().to_vec(), bytes: bytes_of(&merged)? }
                }
                None => Saved::Mapped(mapped),
            };
            // What an adapter replaced whole has a name that only adapters use.
            let known = layout::meaning(name) == Meaning::Canonical(canonical.to_owned());
            tensors.push((if known { name } else { canonical }.to_owned(), saved));
        }
        let path = dir.join(WEIGHTS);
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(tensors, Some(format), &path)
            .map_err(|error| EncoderError::Safetensors { path: path.clone(), problem: error.to_string() })?;
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(EncoderError::io(&path))
    }
}

/// A tensor on its way into a file.
enum Saved {
    /// As it is in the file it comes from.
    Mapped(MappedWeight),
    /// In f32.
    Whole { shape: Vec<usize>, bytes: Vec<u8> },
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
    use crate::encoder::Encoder;

    #[test]
    fn a_saved_checkpoint_has_the_same_backbone_and_the_new_projection() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("saved");
        let model = ColQwen2::builtin().unwrap();
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
