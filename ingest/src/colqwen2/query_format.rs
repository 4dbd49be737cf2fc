//! The forms in which queries reach the model. The wrong one costs quality and nobody notices, so it is a setting of
//! the checkpoint and is recorded with the vectors.

use serde::{Deserialize, Serialize};

/// How often the augmentation token follows a query.
const AUGMENTATION: usize = 10;

/// What is put around a query's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueryFormat {
    /// `"Query: "` before and ten augmentation tokens after: colpali-engine before 0.3.11, which the v1.0 weights are
    /// presumed to be trained with.
    Prefixed,
    /// Ten augmentation tokens after: colpali-engine from 0.3.11 on.
    Plain,
    /// As [`QueryFormat::Prefixed`], and a line feed at the end: transformers' processor.
    PrefixedNewline,
    /// Nothing around it: models that were trained without augmentation tokens.
    Bare,
}

impl QueryFormat {
    /// All forms.
    pub const ALL: [Self; 4] = [Self::Prefixed, Self::Plain, Self::PrefixedNewline, Self::Bare];

    /// The name used in `colqwen_index.json` and beside stored vectors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefixed => "prefixed",
            Self::Plain => "plain",
            Self::PrefixedNewline => "prefixed-newline",
            Self::Bare => "bare",
        }
    }

    /// The form called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The text that the tokenizer sees.
    pub fn apply(self, query: &str, augmentation_token: &str) -> String {
        let (before, augmentation, after) = match self {
            Self::Prefixed => ("Query: ", AUGMENTATION, ""),
            Self::Plain => ("", AUGMENTATION, ""),
            Self::PrefixedNewline => ("Query: ", AUGMENTATION, "\n"),
            Self::Bare => ("", 0, ""),
        };
        format!("{before}{query}{}{after}", augmentation_token.repeat(augmentation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_forms() {
        let tail = "|".repeat(10);
        assert_eq!(QueryFormat::Prefixed.apply("a b", "|"), format!("Query: a b{tail}"));
        assert_eq!(QueryFormat::Plain.apply("a b", "|"), format!("a b{tail}"));
        assert_eq!(QueryFormat::PrefixedNewline.apply("a b", "|"), format!("Query: a b{tail}\n"));
        assert_eq!(QueryFormat::Bare.apply("a b", "|"), "a b");
        for format in QueryFormat::ALL {
            assert_eq!(QueryFormat::from_name(format.name()), Some(format));
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("{:?}", format.name()));
        }
    }
}
