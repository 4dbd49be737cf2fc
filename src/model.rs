//! Finds the model that a name stands for.

use std::path::{Path, PathBuf};

use colqwen_index_ingest::builtin;
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions, parse_device};
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_ingest::two_parts::TwoParts;

use crate::Error;
use crate::page_index::RecordedModel;

/// A loaded model and the name under which an index records it.
pub struct Model {
    /// The model.
    pub encoder: Box<dyn Encoder>,
    /// An absolute folder, a hub id, or `builtin`.
    pub name: String,
}

impl Model {
    /// Loads `builtin`, the checkpoint or the model of two parts in a folder, or the checkpoint of a hub id such as `vidore/colqwen2-v1.0`, onto
    /// `cpu` or `cuda:N`.
    ///
    /// # Errors
    /// There is no such checkpoint or device, or a file of it is missing or damaged.
    pub fn load(name: &str, device: &str) -> Result<Self, Error> {
        let folder = Path::new(name);
        let encoder: Box<dyn Encoder> = if name != builtin::NAME && TwoParts::is_folder(folder) {
            let options = LoadOptions { device: parse_device(device)?, ..LoadOptions::default() };
            Box::new(TwoParts::load(folder, &options)?)
        } else {
            Box::new(load_colqwen2(name, device)?)
        };
        if name == builtin::NAME {
            return Ok(Self { encoder, name: name.to_owned() });
        }
        // A folder is recorded so that it is found from anywhere; a hub id as it is.
        let local = Path::new(name).canonicalize().ok();
        let name = local.map_or(name.to_owned(), |folder| folder.display().to_string());
        Ok(Self { encoder, name })
    }

    /// What an index records of the model.
    pub fn recorded(&self) -> RecordedModel {
        RecordedModel {
            name: self.name.clone(),
            page_fingerprint: self.encoder.page_fingerprint(),
            query_format: self.encoder.query_format().to_owned(),
        }
    }
}

/// The checkpoint that a name stands for, as [`Model::load`] finds it, with all that is particular to ColQwen2.
///
/// # Errors
/// As [`Model::load`], or it is a model of two parts.
pub fn load_colqwen2(name: &str, device: &str) -> Result<ColQwen2, Error> {
    let device = parse_device(device)?;
    if name != builtin::NAME && TwoParts::is_folder(Path::new(name)) {
        return Err(Error::TwoParts { path: name.into() });
    }
    if name == builtin::NAME {
        return Ok(ColQwen2::builtin()?);
    }
    let (folder, base) = resolve(name)?;
    Ok(ColQwen2::load(&folder, &LoadOptions { device, base, ..LoadOptions::default() })?)
}

/// The shape, `dim x hidden_size`, of the projection that the checkpoint of this name lacks, and its folder; none if it has
/// one.
///
/// # Errors
/// As [`load_colqwen2`].
#[cfg(feature = "train")]
pub(crate) fn missing_projection(name: &str) -> Result<Option<(PathBuf, [usize; 2])>, Error> {
    // Both have one, and neither is a checkpoint in a folder.
    if name == builtin::NAME || TwoParts::is_folder(Path::new(name)) {
        return Ok(None);
    }
    let (folder, _) = resolve(name)?;
    Ok(colqwen_index_ingest::colqwen2::missing_projection(&folder)?.map(|shape| (folder, shape)))
}

#[cfg(feature = "hub")]
fn resolve(name: &str) -> Result<(PathBuf, Option<PathBuf>), Error> {
    use colqwen_index_ingest::hub;
    if hub::is_hub_id(name) {
        let resolved = hub::resolve(name)?;
        return Ok((resolved.dir, resolved.base));
    }
    let folder = PathBuf::from(name);
    // An adapter that was trained on a checkpoint of the hub.
    let base = hub::base_of(&folder)?;
    Ok((folder, base))
}

#[cfg(not(feature = "hub"))]
fn resolve(name: &str) -> Result<(PathBuf, Option<PathBuf>), Error> {
    Ok((PathBuf::from(name), None))
}
