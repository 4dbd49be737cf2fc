//! The state of a training on disk: with it, a run that was stopped or killed goes on as if it had not been.
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | `CQTRAIN` and a zero byte |
//! | 8..12 | version, u32 little-endian: 1 |
//! | 12..44 | BLAKE3 of the rest |
//! | 44.. | a safetensors file: `weight.NAME`, `first.NAME` and `second.NAME` for every parameter, and the progress as JSON under the metadata key `progress` |
//!
//! Random numbers have no state: they depend on the seed and the step alone.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use candle_core::{Device, Tensor};
use colqwen_index_ingest::whole_file::WholeFile;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::encode::Parameter;
use crate::optimiser::{AdamW, AdamWOptions, Moments};

const MAGIC: &[u8; 8] = b"CQTRAIN\0";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = 12;
const BODY_AT: usize = 44;
const PROGRESS: &str = "progress";

/// Where a training stands, besides its weights.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The next step.
    pub step: u64,
    /// Steps that the optimiser took: those that had something to learn.
    pub optimiser_steps: u64,
    /// Everything else that decides about the rest of the run, as JSON. A resumed run must have the same: the same text,
    /// because a number that is read back may be one place off.
    pub run: String,
}

/// Writes the state to `path`, replacing an earlier one only when it is complete.
///
/// # Errors
/// The folder cannot be written to, or the disk is full.
pub fn save(path: &Path, step: u64, run: &str, parameters: &[Parameter], optimiser: &AdamW) -> Result<(), Error> {
    let progress = Progress { step, optimiser_steps: optimiser.steps(), run: run.to_owned() };
    let mut tensors = Vec::with_capacity(parameters.len() * 3);
    for (parameter, moments) in parameters.iter().zip(optimiser.moments()) {
        let place = |tensor: &Tensor| tensor.detach().to_device(&Device::Cpu);
        tensors.push((format!("weight.{}", parameter.name), place(parameter.var.as_tensor())?));
        tensors.push((format!("first.{}", parameter.name), place(&moments.first)?));
        tensors.push((format!("second.{}", parameter.name), place(&moments.second)?));
    }
    let text = serde_json::to_string(&progress).map_err(Error::json(path))?;
    let body = safetensors::serialize(tensors, Some(HashMap::from([(PROGRESS.to_owned(), text)])))
        .map_err(|error| Error::state(path, error))?;
    let write = || {
        let mut file = WholeFile::create(path)?;
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        file.write_all(blake3::hash(&body).as_bytes())?;
        file.write_all(&body)?;
        file.finish()
    };
    write().map_err(Error::io(path))
}

/// Reads the state at `path`, puts its weights into `parameters` and returns the optimiser as it was, with its settings as
/// they are given.
///
/// # Errors
/// The file cannot be read, is damaged, of another version, or of a model with other parameters.
pub fn load(path: &Path, parameters: &[Parameter], options: AdamWOptions) -> Result<(Progress, AdamW), Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let body = checked_body(path, &bytes)?;
    let damaged = |error: &dyn std::fmt::Display| Error::state(path, error);
    let (_, metadata) = SafeTensors::read_metadata(body).map_err(|error| damaged(&error))?;
    let tensors = SafeTensors::deserialize(body).map_err(|error| damaged(&error))?;
    let text = metadata.metadata().as_ref().and_then(|pairs| pairs.get(PROGRESS));
    let text = text.ok_or_else(|| damaged(&"it does not say how far the training was"))?;
    let progress: Progress = serde_json::from_str(text).map_err(Error::json(path))?;
    if tensors.len() != parameters.len() * 3 {
        let expected = format!("{} tensors, three per parameter", parameters.len() * 3);
        return Err(Error::shape("training state", expected, tensors.len()));
    }
    let tensor = |kind: &str, parameter: &Parameter| -> Result<Tensor, Error> {
        let name = format!("{kind}.{}", parameter.name);
        let view = tensors.tensor(&name).map_err(|_| damaged(&format!("it has no tensor {name}")))?;
        if view.dtype() != safetensors::Dtype::F32 || view.shape() != parameter.var.dims() {
            let received = format!("{:?} of {:?}", view.shape(), view.dtype());
            return Err(Error::shape("training state", format!("{name}, {:?} of f32", parameter.var.dims()), received));
        }
        let device = parameter.var.device();
        Ok(Tensor::from_raw_buffer(view.data(), candle_core::DType::F32, view.shape(), device)?)
    };
    let mut weights = Vec::with_capacity(parameters.len());
    let mut moments = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        weights.push(tensor("weight", parameter)?);
        moments.push(Moments { first: tensor("first", parameter)?, second: tensor("second", parameter)? });
    }
    let optimiser = AdamW::resume(parameters, options, progress.optimiser_steps, moments)?;
    // Only once nothing can be wrong any more.
    for (parameter, weight) in parameters.iter().zip(&weights) {
        parameter.var.set(weight)?;
    }
    Ok((progress, optimiser))
}

fn checked_body<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    if bytes.len() < BODY_AT || !bytes.starts_with(MAGIC) {
        return Err(Error::state(path, "it is no training state"));
    }
    let version = bytes[MAGIC.len()..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if version != VERSION {
        return Err(Error::state(path, format!("version {version} is unknown, expected {VERSION}")));
    }
    let body = &bytes[BODY_AT..];
    if blake3::hash(body).as_bytes().as_slice() != &bytes[CHECKSUM_AT..BODY_AT] {
        return Err(Error::state(path, "its checksum does not agree: the file is damaged"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    fn parameters(start: f32) -> Vec<Parameter> {
        let var = |values: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap()
        };
        vec![
            Parameter { name: "weight".into(), var: var(&[start, 2.0, 3.0, 4.0], &[2, 2]) },
            Parameter { name: "bias".into(), var: var(&[start], &[1]) },
        ]
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn moments(start: f32) -> Vec<Moments> {
        let filled = |parameter: Parameter| {
            let first = (parameter.var.as_tensor() * 0.5).unwrap();
            Moments { second: first.sqr().unwrap(), first }
        };
        parameters(start).into_iter().map(filled).collect()
    }

    #[test]
    fn a_state_comes_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.state");
        let options = AdamWOptions { weight_decay: 0.25, ..AdamWOptions::default() };
        let saved = parameters(7.0);
        let optimiser = AdamW::resume(&saved, options, 5, moments(3.0)).unwrap();
        save(&path, 6, "{\"seed\":9}", &saved, &optimiser).unwrap();

        let fresh = parameters(0.0);
        let (progress, resumed) = load(&path, &fresh, options).unwrap();
        assert_eq!(progress, Progress { step: 6, optimiser_steps: 5, run: "{\"seed\":9}".to_owned() });
        assert_eq!((resumed.steps(), resumed.options()), (5, options));
        assert_eq!(values(fresh[0].var.as_tensor()), [7.0, 2.0, 3.0, 4.0]);
        for (found, expected) in resumed.moments().iter().zip(moments(3.0)) {
            assert_eq!(values(&found.first), values(&expected.first));
            assert_eq!(values(&found.second), values(&expected.second));
        }

        let bytes = std::fs::read(&path).unwrap();
        let refusal = |bytes: &[u8], parameters: &[Parameter]| {
            std::fs::write(&path, bytes).unwrap();
            load(&path, parameters, options).unwrap_err().to_string()
        };
        for at in [20, 60, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(refusal(&damaged, &fresh).contains("checksum"));
        }
        assert!(refusal(&bytes[..bytes.len() - 3], &fresh).contains("checksum"));
        assert!(refusal(b"something else", &fresh).contains("no training state"));
        let mut later = bytes.clone();
        later[8] = 2;
        assert!(refusal(&later, &fresh).contains("version 2"));
        // Weights of another model stay as they are.
        let mut other = parameters(1.0);
        other[1].name = "other".into();
        assert!(refusal(&bytes, &other).contains("weight.other"));
        assert_eq!(values(other[0].var.as_tensor())[0], 1.0);
        assert!(refusal(&bytes, &other[..1]).contains("3 tensors"));
    }
}
