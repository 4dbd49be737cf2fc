//! The names that checkpoints give to the tensors of one and the same model.
//!
//! The canonical names, used everywhere else, are those that colpali-engine saves today: `visual.*`,
//! `language_model.*`, `custom_text_proj.*`.

use super::query_format::QueryFormat;

/// Prefixes as found, and the canonical prefix each stands for. The first that fits is taken.
const PREFIXES: &[(&str, &str)] = &[
    ("vlm.model.language_model.", "language_model."),
    ("vlm.model.visual.", "visual."),
    ("vlm.language_model.", "language_model."),
    ("vlm.visual.", "visual."),
    ("vlm.model.", "language_model."),
    ("model.language_model.", "language_model."),
    ("model.visual.", "visual."),
    ("model.layers.", "language_model.layers."),
    ("model.embed_tokens.", "language_model.embed_tokens."),
    ("model.norm.", "language_model.norm."),
    ("language_model.", "language_model."),
    ("visual.", "visual."),
    ("custom_text_proj.", "custom_text_proj."),
    ("embedding_proj_layer.", "custom_text_proj."),
];

/// Heads that predict words, which no embedding needs. Tied checkpoints lack them.
const UNUSED: &[&str] = &["lm_head.", "vlm.lm_head."];

/// What a tensor name means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// The tensor of this canonical name.
    Canonical(String),
    /// Nothing that the model needs.
    Unused,
    /// A name of no known layout.
    Unknown,
}

/// The meaning of a tensor name in a checkpoint.
pub(crate) fn meaning(name: &str) -> Meaning {
    if UNUSED.iter().any(|prefix| name.starts_with(prefix)) {
        return Meaning::Unused;
    }
    PREFIXES
        .iter()
        .find_map(|(prefix, canonical)| name.strip_prefix(prefix).map(|rest| format!("{canonical}{rest}")))
        .map_or(Meaning::Unknown, Meaning::Canonical)
}

/// A part of an adapter, and the canonical name of the weight it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AdapterPart {
    /// rank x inputs.
    LoraA(String),
    /// outputs x rank.
    LoraB(String),
    /// A whole tensor that takes the place of the base's.
    Whole(String),
}

/// The meaning of a tensor name in an adapter, or none.
pub(crate) fn adapter_part(name: &str) -> Option<AdapterPart> {
    let name = name.strip_prefix("base_model.model.")?;
    let canonical = |name: &str| match meaning(name) {
        Meaning::Canonical(name) => Some(name),
        Meaning::Unused | Meaning::Unknown => None,
    };
    for (infix, part) in
        [(".lora_A.", AdapterPart::LoraA as fn(String) -> AdapterPart), (".lora_B.", AdapterPart::LoraB)]
    {
        if let Some((module, rest)) = name.split_once(infix) {
            // Older peft writes the adapter's own name between.
            return (rest == "weight" || rest == "default.weight")
                .then(|| canonical(&format!("{module}.weight")).map(part))
                .flatten();
        }
    }
    let whole = name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".");
    canonical(&whole.replace(".base_layer.", ".")).map(AdapterPart::Whole)
}

/// The form in which the program that wrote such names gave queries to the model.
pub(crate) fn query_format<'a>(names: impl Iterator<Item = &'a str>) -> QueryFormat {
    // Today's colpali-engine writes `language_model.` at the top; transformers calls the projection otherwise.
    let mut format = QueryFormat::Prefixed;
    for name in names {
        let name = name.strip_prefix("base_model.model.").unwrap_or(name);
        if name.starts_with("embedding_proj_layer.") || name.starts_with("vlm.") {
            return QueryFormat::PrefixedNewline;
        }
        if name.starts_with("language_model.") {
            format = QueryFormat::Plain;
        }
    }
    format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_of_the_table_is_understood() {
        let layer = "language_model.layers.3.mlp.up_proj.weight";
        for (name, expected) in [
            ("model.layers.3.mlp.up_proj.weight", layer),
            ("language_model.layers.3.mlp.up_proj.weight", layer),
            ("vlm.model.language_model.layers.3.mlp.up_proj.weight", layer),
            ("vlm.language_model.layers.3.mlp.up_proj.weight", layer),
            ("model.embed_tokens.weight", "language_model.embed_tokens.weight"),
            ("model.norm.weight", "language_model.norm.weight"),
            ("visual.merger.ln_q.bias", "visual.merger.ln_q.bias"),
            ("vlm.model.visual.merger.ln_q.bias", "visual.merger.ln_q.bias"),
            ("vlm.visual.merger.ln_q.bias", "visual.merger.ln_q.bias"),
            ("custom_text_proj.bias", "custom_text_proj.bias"),
            ("embedding_proj_layer.bias", "custom_text_proj.bias"),
        ] {
            assert_eq!(meaning(name), Meaning::Canonical(expected.to_owned()), "{name}");
        }
        assert_eq!(meaning("vlm.lm_head.weight"), Meaning::Unused);
        assert_eq!(meaning("lm_head.weight"), Meaning::Unused);
        assert_eq!(meaning("encoder.layer.0.weight"), Meaning::Unknown);
    }

    #[test]
    fn adapters_old_and_new_are_understood() {
        let q = || "language_model.layers.0.self_attn.q_proj.weight".to_owned();
        for (name, expected) in [
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", AdapterPart::LoraA(q())),
            ("base_model.model.language_model.layers.0.self_attn.q_proj.lora_B.weight", AdapterPart::LoraB(q())),
            (
                "base_model.model.language_model.layers.0.self_attn.q_proj.lora_B.default.weight",
                AdapterPart::LoraB(q()),
            ),
            ("base_model.model.custom_text_proj.lora_A.weight", AdapterPart::LoraA("custom_text_proj.weight".into())),
            ("base_model.model.custom_text_proj.bias", AdapterPart::Whole("custom_text_proj.bias".into())),
        ] {
            assert_eq!(adapter_part(name), Some(expected), "{name}");
        }
        assert_eq!(adapter_part("model.layers.0.lora_A.weight"), None);
    }

    #[test]
    fn each_layout_has_its_query_format() {
        assert_eq!(
            query_format(["model.layers.0.x", "visual.y", "custom_text_proj.bias"].into_iter()),
            QueryFormat::Prefixed
        );
        assert_eq!(query_format(["language_model.norm.weight"].into_iter()), QueryFormat::Plain);
        assert_eq!(query_format(["embedding_proj_layer.bias", "vlm.x"].into_iter()), QueryFormat::PrefixedNewline);
        assert_eq!(query_format(["base_model.model.model.layers.0.x"].into_iter()), QueryFormat::Prefixed);
        assert_eq!(query_format(["base_model.model.language_model.layers.0.x"].into_iter()), QueryFormat::Plain);
    }
}
