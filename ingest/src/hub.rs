//! Checkpoints from the Hugging Face hub, kept in its usual cache folder.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiRepo};

use crate::encoder::EncoderError;

/// Where a checkpoint lies on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// The folder to load.
    pub dir: PathBuf,
    /// Where `dir` is an adapter whose base came from the hub: the base's folder, for
    /// [`LoadOptions::base`](crate::colqwen2::LoadOptions::base).
    pub base: Option<PathBuf>,
}

/// The files that the model code reads, besides the weights.
const SMALL_FILES: [&str; 6] = [
    "config.json",
    "adapter_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "colqwen_index.json",
];
const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Brings the checkpoint called `org/name` onto this machine, only the files that are needed and only once. Where it is
/// an adapter, its base comes too.
///
/// # Errors
/// The hub cannot be reached, does not know the id, or the repository holds no safetensors weights.
pub fn resolve(id: &str) -> Result<Resolved, EncoderError> {
    let dir = download(id)?;
    Ok(Resolved { base: base_of(&dir)?, dir })
}

/// Where the folder `dir` holds an adapter of a base from the hub: the base's folder, brought here as [`resolve`] does.
///
/// # Errors
/// As [`resolve`], or the adapter's configuration is damaged.
pub fn base_of(dir: &Path) -> Result<Option<PathBuf>, EncoderError> {
    base_id(dir)?.map(|id| download(&id)).transpose()
}

/// The hub id of the base that the adapter in `dir` names; none where it names a folder, or where there is no adapter.
fn base_id(dir: &Path) -> Result<Option<String>, EncoderError> {
    let path = dir.join(ADAPTER_CONFIG);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(EncoderError::io(&path))?;
    let config: serde_json::Value = serde_json::from_slice(&bytes).map_err(EncoderError::json(&path))?;
    let base = config.get("base_model_name_or_path").and_then(|base| base.as_str()).unwrap_or_default();
    // Folders are looked for beside the adapter, too.
    Ok((is_hub_id(base) && !dir.join(base).exists()).then(|| base.to_owned()))
}

/// Whether `name` has the form `org/name` and is not a folder of this machine.
pub fn is_hub_id(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    name.split_once('/').is_some_and(|(org, name)| plain(org) && plain(name)) && !Path::new(name).exists()
}

fn download(id: &str) -> Result<PathBuf, EncoderError> {
    let refuse = |problem: String| EncoderError::Hub { id: id.to_owned(), problem };
    let api = Api::new().map_err(|error| refuse(error.to_string()))?;
    let repo = api.model(id.to_owned());
    let info = repo.info().map_err(|error| refuse(error.to_string()))?;
    let names: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let mut folder = None;
    for name in names.iter().copied().filter(|name| SMALL_FILES.contains(name) || is_weights(name, &names)) {
        folder = fetch(&repo, name).map_err(refuse)?.parent().map(Path::to_owned).or(folder);
    }
    if !names.iter().any(|name| is_weights(name, &names)) {
        return Err(refuse("the repository holds no safetensors weights".to_owned()));
    }
    folder.ok_or_else(|| refuse("the repository holds no files of a checkpoint".to_owned()))
}

/// Whether `name` is one of the weight files among `names`: an adapter's, the single file, or the shards and index.
fn is_weights(name: &str, names: &[&str]) -> bool {
    const SINGLE: &str = "model.safetensors";
    if names.contains(&ADAPTER_CONFIG) {
        return name == "adapter_model.safetensors";
    }
    if names.contains(&SINGLE) {
        return name == SINGLE;
    }
    let shard = name.starts_with("model-") && name.ends_with(".safetensors") && !name.contains('/');
    shard || name == "model.safetensors.index.json"
}

fn fetch(repo: &ApiRepo, name: &str) -> Result<PathBuf, String> {
    repo.get(name).map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_hub_are_told_from_folders() {
        assert!(is_hub_id("vidore/colqwen2-v1.0"));
        for folder in ["colqwen2", "./model", "../model/x", "/models/colqwen2", "a/b/c", "src/hub.rs"] {
            assert!(!is_hub_id(folder), "{folder}");
        }
    }

    #[test]
    fn the_base_of_an_adapter_is_of_the_hub_or_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let base = |name: &str| {
            let config = format!("{{\"base_model_name_or_path\": \"{name}\"}}");
            std::fs::write(folder.path().join(ADAPTER_CONFIG), config).unwrap();
            base_id(folder.path()).unwrap()
        };
        assert_eq!(base("vidore/colqwen2-base").as_deref(), Some("vidore/colqwen2-base"));
        for of_folder in ["base", "../base", "/models/base", ""] {
            assert_eq!(base(of_folder), None, "{of_folder}");
        }
        std::fs::create_dir_all(folder.path().join("vidore/colqwen2-base")).unwrap();
        assert_eq!(base("vidore/colqwen2-base"), None, "it lies beside the adapter");
        assert_eq!(base_id(&folder.path().join("vidore")).unwrap(), None, "no adapter");
    }

    #[test]
    fn only_the_weights_that_will_be_read_are_fetched() {
        let wanted = |names: &[&str]| -> Vec<String> {
            names.iter().filter(|name| is_weights(name, names)).map(|name| (*name).to_owned()).collect()
        };
        assert_eq!(wanted(&["model.safetensors", "model-00001-of-00002.safetensors", "x.bin"]), ["model.safetensors"]);
        assert_eq!(wanted(&["adapter_config.json", "adapter_model.safetensors", "model.safetensors"]).len(), 1);
        let sharded = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "onnx/model-1.safetensors"];
        assert_eq!(wanted(&sharded).len(), 2);
    }
}
