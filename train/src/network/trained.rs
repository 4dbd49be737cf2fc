//! Which weights of a model learn.

use std::fmt;

use crate::Error;

/// The linear layers of the language model and the projection, as peft names them.
const LANGUAGE: [&str; 8] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "custom_text_proj"];
/// Those of the vision tower.
const VISION: [&str; 4] = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];

/// Which weights of a model learn; all others are frozen and cost no memory for gradients.
#[derive(Clone, PartialEq, Debug)]
pub enum Trained {
    /// The projection, weight and bias.
    Projection,
    /// Low-rank updates beside frozen weights.
    Lora(Lora),
    /// Every weight.
    Full {
        /// Whether the vision tower and its merger learn, too.
        vision: bool,
    },
}

/// How the first of the two matrices of an update begins; the second begins at zero, so that the model begins as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoraInit {
    /// Uniform within `1 / sqrt(inputs)` on both sides of 0: peft's default.
    KaimingUniform,
    /// Normal with deviation `1 / rank`.
    Gaussian,
}

/// Low-rank updates (Hu et al., "LoRA", ICLR 2022): `y = w x + alpha / rank * b a dropout(x)`.
#[derive(Clone, PartialEq, Debug)]
pub struct Lora {
    /// Rows of `a` and columns of `b`.
    pub rank: usize,
    /// Strength of the updates.
    pub alpha: f64,
    /// Share of an update's inputs that is dropped in training.
    pub dropout: f64,
    /// The layers that get an update, as in peft's `target_modules`: a layer is meant if its name ends with a target.
    pub targets: Vec<String>,
    /// How `a` begins.
    pub init: LoraInit,
}

impl Default for Lora {
    /// What ColQwen2 was trained with: rank and alpha 32, dropout 0.1, all linear layers of the language model and the
    /// projection.
    fn default() -> Self {
        let targets = LANGUAGE.map(str::to_owned).to_vec();
        Self { rank: 32, alpha: 32.0, dropout: 0.1, targets, init: LoraInit::Gaussian }
    }
}

impl Lora {
    /// With the linear layers of the vision tower, too.
    #[must_use]
    pub fn with_vision(mut self) -> Self {
        self.targets.extend(VISION.map(str::to_owned));
        self
    }

    /// What an update is multiplied by.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Whether the layer `module`, without `.weight`, gets an update.
    pub(super) fn targets(&self, module: &str) -> bool {
        self.targets.iter().any(|target| is_meant(module, target))
    }

    /// Refuses settings that no update could be made with. `modules` are the linear layers with their outputs and inputs.
    pub(super) fn check(&self, modules: &[(&str, [usize; 2])]) -> Result<(), Error> {
        if self.rank == 0 {
            return Err(Error::setting("rank of the updates", "a number from 1", 0));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(Error::setting("alpha of the updates", "a number above 0", self.alpha));
        }
        if self.targets.is_empty() {
            return Err(Error::setting("targets of the updates", "at least one", "none"));
        }
        let unknown = |target: &&String| !modules.iter().any(|(module, _)| is_meant(module, target));
        if let Some(target) = self.targets.iter().find(unknown) {
            return Err(Error::setting("targets of the updates", "ends of names of linear layers", target));
        }
        // A product of two matrices of a higher rank would be that of two smaller ones.
        let targeted = modules.iter().filter(|(module, _)| self.targets(module));
        match targeted.min_by_key(|(_, [outputs, inputs])| outputs.min(inputs)) {
            Some((module, [outputs, inputs])) if self.rank > *outputs.min(inputs) => {
                let received = format!("{}, where {module} has {inputs} inputs and {outputs} outputs", self.rank);
                Err(Error::setting(
                    "rank of the updates",
                    "no more than any targeted layer has inputs or outputs",
                    received,
                ))
            }
            _ => Ok(()),
        }
    }
}

fn is_meant(module: &str, target: &str) -> bool {
    module.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Projection => f.write_str("projection"),
            Self::Lora(lora) => {
                let Lora { rank, alpha, dropout, targets, init } = lora;
                write!(f, "lora r={rank} alpha={alpha} dropout={dropout} init={init:?} targets={}", targets.join(","))
            }
            Self::Full { vision: true } => f.write_str("full"),
            Self::Full { vision: false } => f.write_str("full, vision frozen"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_matched_as_peft_does() {
        let lora = Lora::default();
        for (module, meant) in [
            ("language_model.layers.0.self_attn.q_proj", true),
            ("custom_text_proj", true),
            ("language_model.layers.0.self_attn.xq_proj", false),
            ("visual.blocks.0.attn.qkv", false),
            ("visual.blocks.0.attn.proj", false),
        ] {
            assert_eq!(lora.targets(module), meant, "{module}");
        }
        assert!(lora.clone().with_vision().targets("visual.blocks.0.attn.proj"));
        let modules = [("a.q_proj", [64, 48]), ("b.k_proj", [32, 48])];
        let with = |targets: &[&str]| Lora {
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            ..Lora::default()
        };
        assert!(with(&["q_proj"]).check(&modules).is_ok());
        assert!(with(&["q_proj", "w_proj"]).check(&modules).unwrap_err().to_string().contains("w_proj"));
        assert!(with(&[]).check(&modules).unwrap_err().to_string().contains("at least one"));
        assert!(Lora { rank: 0, ..with(&["q_proj"]) }.check(&modules).unwrap_err().to_string().contains("rank"));
        assert!(Lora { alpha: f64::NAN, ..with(&["q_proj"]) }.check(&modules).is_err());
        let of_rank = |rank| Lora { rank, ..with(&["q_proj"]) }.check(&modules);
        assert!(of_rank(48).is_ok(), "a layer that is no target may be smaller");
        let refused = of_rank(49).unwrap_err().to_string();
        assert!(
            refused.contains("received 49") && refused.contains("a.q_proj has 48 inputs and 64 outputs"),
            "{refused}"
        );
        let refused = Lora { rank: usize::MAX, ..with(&["q_proj", "k_proj"]) }.check(&modules).unwrap_err().to_string();
        assert!(refused.contains("b.k_proj has 48 inputs and 32 outputs"), "{refused}");
    }
}
