//! What was learnt, as files: an adapter that peft reads, or a whole checkpoint with everything merged.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_ingest::whole_folder;
use serde_json::json;

use super::{LORA_A, LORA_B, LoraInit, Network, Trained};
use crate::Error;

/// What peft puts before the name of every tensor.
const PEFT_PREFIX: &str = "base_model.model.";
/// The folder of a base that is saved within its adapter's.
const BASE: &str = "base";

impl Network {
    /// Writes the updates to the new folder `dir`, as peft does: `adapter_config.json` and `adapter_model.safetensors`, with
    /// the tensor names of colpali-engine's ColQwen2 today. `base` is where a reader finds the weights that they are for,
    /// as a folder or a name on a model hub; `model` is what the network was made of.
    ///
    /// # Errors
    /// No low-rank updates were trained, `dir` exists already, or the disk is full.
    pub fn save_adapter(&self, model: &ColQwen2, base: &str, dir: &Path) -> Result<(), Error> {
        whole_folder::write(dir, |draft| self.write_adapter(model, base, draft))
    }

    /// As [`Network::save_adapter`], with a copy of `model` in `dir/base` as what the updates are for: where the model has no
    /// folder of its own, or one that will not stay.
    ///
    /// # Errors
    /// As [`Network::save_adapter`].
    pub fn save_adapter_and_base(&self, model: &ColQwen2, dir: &Path) -> Result<(), Error> {
        whole_folder::write(dir, |draft| {
            self.write_adapter(model, BASE, draft)?;
            Ok(model.copy_files(&draft.join(BASE))?)
        })
    }

    fn write_adapter(&self, model: &ColQwen2, base: &str, draft: &Path) -> Result<(), Error> {
        let Trained::Lora(lora) = &self.trained else {
            return Err(Error::setting("what is saved as an adapter", "low-rank updates", &self.trained));
        };
        let settings = json!({
            "peft_type": "LORA",
            "task_type": "FEATURE_EXTRACTION",
            "base_model_name_or_path": base,
            "inference_mode": true,
            "r": lora.rank,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "target_modules": lora.targets,
            "init_lora_weights": match lora.init {
                LoraInit::KaimingUniform => json!(true),
                LoraInit::Gaussian => json!("gaussian"),
            },
            "bias": "none",
            "fan_in_fan_out": false,
            "modules_to_save": null,
            "use_dora": false,
            "use_rslora": false,
        });
        let mut tensors = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let value = parameter.var.as_detached_tensor().to_device(&Device::Cpu)?;
            tensors.push((format!("{PEFT_PREFIX}{}", parameter.name), value));
        }
        let path = draft.join("adapter_config.json");
        fs::write(&path, format!("{settings:#}\n")).map_err(Error::io(&path))?;
        // The names alone would stand for the query format of today's colpali-engine.
        model.write_own_settings(draft)?;
        let path = draft.join("adapter_model.safetensors");
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(tensors, Some(format), &path).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(source) => Error::io(&path)(source),
            other => Error::Compute(candle_core::Error::wrap(other)),
        })?;
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path))
    }

    /// Writes `model`, which the network was made of, with everything learnt merged into its weights, to the new folder
    /// `dir`. What did not learn keeps its bytes.
    ///
    /// # Errors
    /// The model is another one, `dir` exists already, or the disk is full.
    pub fn save_merged(&self, model: &ColQwen2, dir: &Path) -> Result<(), Error> {
        Ok(model.save_with(dir, &self.merged(model)?)?)
    }

    /// As [`Network::save_merged`], where only queries have learnt: the checkpoint says that its queries are for the pages of
    /// `model`.
    ///
    /// # Errors
    /// As [`Network::save_merged`].
    pub fn save_for_queries(&self, model: &ColQwen2, dir: &Path) -> Result<(), Error> {
        Ok(model.save_for_queries(dir, &self.merged(model)?)?)
    }

    /// The weights that training changed, by canonical name, in f32 on the CPU.
    fn merged(&self, model: &ColQwen2) -> Result<HashMap<String, Tensor>, Error> {
        let mut merged = HashMap::new();
        let on_cpu = |name: &str| -> Result<Option<Tensor>, Error> {
            let tensor = self.parameter(name).map(|var| var.as_detached_tensor().to_device(&Device::Cpu));
            Ok(tensor.transpose()?)
        };
        if let Trained::Lora(lora) = &self.trained {
            for module in self.updated.keys() {
                let factors = (on_cpu(&format!("{module}{LORA_A}"))?, on_cpu(&format!("{module}{LORA_B}"))?);
                let (Some(a), Some(b)) = factors else { continue };
                let name = format!("{module}.weight");
                // As the loader adds an adapter's update, so that both give the same numbers.
                let weight = ((b.matmul(&a)? * lora.scale())? + model.weight(&name)?)?;
                merged.insert(name, weight);
            }
            return Ok(merged);
        }
        for parameter in &self.parameters {
            if let Some(value) = on_cpu(&parameter.name)? {
                merged.insert(parameter.name.clone(), value);
            }
        }
        Ok(merged)
    }
}
