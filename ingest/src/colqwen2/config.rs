//! `config.json` of a ColQwen2 checkpoint, in every form it comes in: flat legacy text fields or a nested
//! `text_config`, and either inside transformers' `vlm_config` or not.

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use crate::encoder::EncoderError;

const ARCHITECTURES: &str = "qwen2_vl, colqwen2";

/// The largest side of a patch in pixels and of a merged patch in patches, and the most repetitions in time: with these the pixels
/// of a merged patch fit 32 bits.
const MOST_PATCH_SIZE: usize = 255;

/// Sizes and constants of both towers and the projection.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The tower that looks at the page.
    pub vision: VisionConfig,
    /// The language model behind it.
    pub text: TextConfig,
    /// Values per token vector, where the file states it.
    pub dim: Option<usize>,
    /// The id that stands for one merged patch, where the file states it.
    pub image_token_id: Option<u32>,
}

/// The vision tower.
#[derive(Clone, PartialEq, Debug)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of the tower.
    pub embed_dim: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the MLP.
    pub mlp_dim: usize,
    /// Width that the merger hands to the language model.
    pub output_dim: usize,
    /// Colour channels.
    pub channels: usize,
    /// Pixels per side of a patch.
    pub patch_size: usize,
    /// Patches per side of a merged patch.
    pub merge_size: usize,
    /// How often a patch is repeated in time.
    pub temporal_patch_size: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
}

/// The language model.
#[derive(Clone, PartialEq, Debug)]
pub struct TextConfig {
    /// Entries of the embedding table.
    pub vocab_size: usize,
    /// Width of the model.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; each serves `num_heads / num_kv_heads` query heads.
    pub num_kv_heads: usize,
    /// Added under the root in the RMS norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How many frequencies follow time, height and width.
    pub mrope_section: [usize; 3],
}

impl VisionConfig {
    /// Values per patch: `channels x temporal_patch_size x patch_size x patch_size`.
    pub fn patch_dim(&self) -> usize {
        self.channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.embed_dim / self.num_heads
    }
}

impl TextConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }
}

impl Config {
    /// Reads the parsed contents of `config.json`; `path` is for the messages.
    ///
    /// # Errors
    /// The architecture is another one, or a field is missing or not supported.
    pub fn from_value(path: &Path, value: &Value) -> Result<Self, EncoderError> {
        let root = Fields::new(path, value);
        let received = root.text("model_type")?.unwrap_or("nothing");
        if !["qwen2_vl", "colqwen2"].contains(&received) {
            return Err(EncoderError::Architecture {
                path: path.to_owned(),
                received: received.to_owned(),
                known: ARCHITECTURES,
            });
        }
        let model = root.object("vlm_config").unwrap_or_else(|| root.clone());
        let dim = root.get("embedding_dim").map(|_| root.count("embedding_dim", None)).transpose()?;
        let nested = model.object("text_config").filter(|text| text.get("hidden_size").is_some());
        let text = text_config(&nested.unwrap_or_else(|| model.clone()))?;
        let vision = model.object("vision_config").ok_or_else(|| model.refuse("vision_config", "an object"))?;
        let vision = vision_config(&vision, text.hidden_size)?;
        Ok(Self { vision, text, dim, image_token_id: model.token_id("image_token_id")? })
    }
}

fn text_config(fields: &Fields) -> Result<TextConfig, EncoderError> {
    fields.only("hidden_act", "silu")?;
    if fields.flag("use_sliding_window", false)? {
        return Err(fields.refuse("use_sliding_window", "false"));
    }
    let rope = fields.object("rope_parameters").or_else(|| fields.object("rope_scaling"));
    let rope = rope.ok_or_else(|| fields.refuse("rope_parameters", "an object with mrope_section"))?;
    for name in ["rope_type", "type"] {
        let known = [None, Some("default"), Some("mrope")];
        if !known.contains(&rope.text(name)?) {
            return Err(rope.refuse(name, "\"default\" or \"mrope\""));
        }
    }
    let rope_theta = rope.number("rope_theta", fields.number("rope_theta", 1e6)?)?;
    let section: [f64; 3] = match rope.get("mrope_section") {
        Some(_) => rope.numbers("mrope_section", [0.0; 3])?,
        None => return Err(rope.refuse("mrope_section", "3 numbers")),
    };
    let heads = fields.count("num_attention_heads", None)?;
    let config = TextConfig {
        vocab_size: fields.count("vocab_size", None)?,
        hidden_size: fields.count("hidden_size", None)?,
        intermediate_size: fields.count("intermediate_size", None)?,
        num_layers: fields.count("num_hidden_layers", None)?,
        num_heads: heads,
        num_kv_heads: fields.count("num_key_value_heads", Some(heads))?,
        // What transformers takes when the file is silent.
        rms_norm_eps: fields.number("rms_norm_eps", 1e-5)?,
        rope_theta,
        mrope_section: section.map(|count| count as usize),
    };
    if !config.hidden_size.is_multiple_of(heads) || !config.head_dim().is_multiple_of(2) {
        let expected = format!("a number that parts hidden_size {} into even heads", config.hidden_size);
        return Err(fields.refuse("num_attention_heads", expected));
    }
    if !heads.is_multiple_of(config.num_kv_heads) {
        return Err(fields.refuse("num_key_value_heads", format!("a divisor of num_attention_heads {heads}")));
    }
    let frequencies = config.head_dim() / 2;
    if section.iter().any(|count| count.fract() != 0.0 || *count < 0.0 || *count > frequencies as f64)
        || config.mrope_section.iter().sum::<usize>() != frequencies
    {
        return Err(rope.refuse("mrope_section", format!("3 whole numbers with sum {frequencies}, half a head")));
    }
    Ok(config)
}

fn vision_config(fields: &Fields, text_width: usize) -> Result<VisionConfig, EncoderError> {
    fields.only("hidden_act", "quick_gelu")?;
    // The defaults are transformers': legacy files state only what differs from them.
    let embed_dim = fields.count("embed_dim", Some(1280))?;
    let channels = if fields.get("in_channels").is_some() { "in_channels" } else { "in_chans" };
    let rope = fields.object("rope_parameters");
    let ratio = fields.number("mlp_ratio", 4.0)?;
    let config = VisionConfig {
        depth: fields.count("depth", Some(32))?,
        embed_dim,
        num_heads: fields.count("num_heads", Some(16))?,
        mlp_dim: (embed_dim as f64 * ratio) as usize,
        output_dim: fields.count("hidden_size", Some(text_width))?,
        channels: fields.count(channels, Some(3))?,
        patch_size: fields.count("patch_size", Some(14))?,
        merge_size: fields.count("spatial_merge_size", Some(2))?,
        temporal_patch_size: fields.count("temporal_patch_size", Some(2))?,
        rope_theta: rope.map_or(Ok(1e4), |rope| rope.number("rope_theta", 1e4))?,
    };
    for (name, size) in [
        ("patch_size", config.patch_size),
        ("spatial_merge_size", config.merge_size),
        ("temporal_patch_size", config.temporal_patch_size),
    ] {
        if size > MOST_PATCH_SIZE {
            return Err(fields.refuse(name, format!("1 to {MOST_PATCH_SIZE}")));
        }
    }
    if config.channels != 3 {
        return Err(fields.refuse(channels, "3"));
    }
    if config.output_dim != text_width {
        return Err(fields.refuse("hidden_size", format!("the language model's hidden_size {text_width}")));
    }
    if !embed_dim.is_multiple_of(config.num_heads) || !config.head_dim().is_multiple_of(4) {
        let expected = format!("a number that parts embed_dim {embed_dim} into heads of a multiple of 4");
        return Err(fields.refuse("num_heads", expected));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flat() -> Value {
        json!({
            "model_type": "qwen2_vl", "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
            "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vocab_size": 151936,
            "image_token_id": 151655, "use_sliding_window": false,
            "vision_config": {"hidden_size": 1536, "in_chans": 3, "model_type": "qwen2_vl", "spatial_patch_size": 14}
        })
    }

    fn read(value: &Value) -> Result<Config, EncoderError> {
        Config::from_value(Path::new("config.json"), value)
    }

    #[test]
    fn flat_and_nested_forms_mean_the_same() {
        let one = read(&flat()).unwrap();
        let mut text = flat();
        let vision = text.as_object_mut().unwrap().remove("vision_config").unwrap();
        let rope = json!({"rope_theta": 1000000.0, "rope_type": "default", "mrope_section": [16, 24, 24]});
        text.as_object_mut().unwrap().remove("rope_scaling");
        text["rope_parameters"] = rope;
        let nested = json!({"model_type": "qwen2_vl", "text_config": text, "vision_config": vision,
            "image_token_id": 151655});
        assert_eq!(read(&nested).unwrap(), one);
        let hub = json!({"model_type": "colqwen2", "embedding_dim": 128, "vlm_config": nested});
        assert_eq!(read(&hub).unwrap(), Config { dim: Some(128), ..one.clone() });
        assert_eq!((one.vision.patch_dim(), one.vision.head_dim(), one.text.head_dim()), (1176, 80, 128));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let refuse = |change: &dyn Fn(&mut Value)| {
            let mut value = flat();
            change(&mut value);
            read(&value).unwrap_err().to_string()
        };
        assert!(
            refuse(&|value| value["model_type"] = json!("paligemma")).contains("unknown architecture \"paligemma\"")
        );
        assert!(refuse(&|value| value["hidden_size"] = json!(null)).contains("hidden_size"));
        assert!(refuse(&|value| value["num_key_value_heads"] = json!(5)).contains("divisor of num_attention_heads 12"));
        assert!(refuse(&|value| value["rope_scaling"]["mrope_section"] = json!([16, 24, 25])).contains("sum 64"));
        // Their sum as 64 bits would be right.
        let absurd = json!([9_223_372_036_854_775_808_u64, 9_223_372_036_854_775_808_u64, 64]);
        assert!(refuse(&|value| value["rope_scaling"]["mrope_section"] = absurd.clone()).contains("sum 64"));
        for name in ["patch_size", "spatial_merge_size", "temporal_patch_size"] {
            let error = refuse(&|value| value["vision_config"][name] = json!(u64::MAX));
            assert!(error.contains(name) && error.contains("1 to 255"), "{error}");
        }
        assert!(
            refuse(&|value| value["vision_config"]["hidden_act"] = json!("gelu")).contains("vision_config.hidden_act")
        );
        assert!(refuse(&|value| value["use_sliding_window"] = json!(true)).contains("expected false"));
    }
}
