//! The field's options, kept in the schema.

use serde::{Deserialize, Serialize};
use tantivy::schema::{Field, FieldType, Schema, SchemaBuilder};

use crate::Error;
use crate::codes::{CODEBOOK_TOKENS, FOUR_BIT_CODEBOOK_TOKENS, TWO_BIT_CODEBOOK_TOKENS};
use crate::kernel::Depth;

/// The type name under which the field stands in a tantivy schema.
pub const TYPE_NAME: &str = "late_interaction";

/// The version of the options as stored in the schema.
const OPTIONS_VERSION: u32 = 2;
/// The version that builds before codes existed can read too.
const F16_OPTIONS_VERSION: u32 = 1;

/// How token vectors are stored in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// IEEE half precision: 2 bytes a value, exact for embeddings that models write as f16. Every search scores every page.
    #[default]
    F16,
    /// Centroid and residual in 8 bits a value: scores within about a thousandth of exact ones.
    Bits8,
    /// Centroid and residual in 4 bits a value.
    Bits4,
    /// Centroid and residual in 2 bits a value.
    Bits2,
}

impl Precision {
    /// Bits per value.
    pub fn bits(self) -> u32 {
        match self {
            Self::F16 => 16,
            Self::Bits8 => 8,
            Self::Bits4 => 4,
            Self::Bits2 => 2,
        }
    }

    /// The precision of that many bits per value.
    ///
    /// # Errors
    /// [`Error::Bits`] where no such precision is available.
    pub fn from_bits(bits: u32) -> Result<Self, Error> {
        match bits {
            16 => Ok(Self::F16),
            8 => Ok(Self::Bits8),
            4 => Ok(Self::Bits4),
            2 => Ok(Self::Bits2),
            received => Err(Error::Bits { received }),
        }
    }

    pub(crate) fn tag(self) -> u8 {
        self.bits() as u8
    }

    /// How deep residuals are stored; `None` for vectors as they are.
    pub(crate) fn depth(self) -> Option<Depth> {
        match self {
            Self::F16 => None,
            Self::Bits8 => Some(Depth::Eight),
            Self::Bits4 => Some(Depth::Four),
            Self::Bits2 => Some(Depth::Two),
        }
    }
}

/// Options of a late-interaction field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LateInteractionOptions {
    dim: usize,
    precision: Precision,
    keep_f16: bool,
}

/// Version 1 knew f16 alone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredOptions {
    version: u32,
    dim: usize,
    precision: Precision,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    keep_f16: bool,
}

impl LateInteractionOptions {
    /// A field of vectors with `dim` values per token, stored as f16.
    pub fn new(dim: usize) -> Self {
        Self { dim, precision: Precision::default(), keep_f16: false }
    }

    /// Sets the storage precision.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Keeps the vectors as f16 beside the codes (2 bytes a value more): hits are then scored exactly, and codebooks can be
    /// trained anew at any precision. Means nothing at [`Precision::F16`].
    pub fn with_f16_kept(mut self, keep: bool) -> Self {
        self.keep_f16 = keep;
        self
    }

    /// Values per token.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How vectors are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether an f16 copy stands beside codes.
    pub fn keeps_f16(&self) -> bool {
        self.keep_f16 && self.precision != Precision::F16
    }

    /// Whether pages can be coded anew from what is stored: coarse codes would lose again what they lost once.
    pub(crate) fn is_recodable(&self) -> bool {
        self.keep_f16 || self.precision == Precision::Bits8
    }

    /// Tokens below which a segment carries no codebook.
    pub(crate) fn codebook_tokens(&self) -> u64 {
        match self.precision {
            _ if self.is_recodable() => CODEBOOK_TOKENS,
            Precision::Bits2 => TWO_BIT_CODEBOOK_TOKENS,
            _ => FOUR_BIT_CODEBOOK_TOKENS,
        }
    }

    /// Adds a late-interaction field to a schema.
    pub fn add_to(&self, schema: &mut SchemaBuilder, name: &str) -> Field {
        schema.add_custom_field(name, TYPE_NAME, self.to_params())
    }

    /// The parameters for [`SchemaBuilder::add_custom_field`] under [`TYPE_NAME`].
    pub fn to_params(&self) -> serde_json::Value {
        let version = if self.precision == Precision::F16 { F16_OPTIONS_VERSION } else { OPTIONS_VERSION };
        let stored = StoredOptions { version, dim: self.dim, precision: self.precision, keep_f16: self.keeps_f16() };
        serde_json::json!(stored)
    }

    /// Reads the options of `field` back.
    ///
    /// # Errors
    /// The field is of another type, or its options were written by a newer version.
    pub fn of(schema: &Schema, field: Field) -> Result<Self, Error> {
        let entry = schema.get_field_entry(field);
        let FieldType::Custom(custom) = entry.field_type() else {
            return Err(Error::NotLateInteraction { field: entry.name().to_owned() });
        };
        if custom.type_name() != TYPE_NAME {
            return Err(Error::NotLateInteraction { field: entry.name().to_owned() });
        }
        let unreadable = |problem: String| Error::Options { field: entry.name().to_owned(), problem };
        let version = custom.params().get("version").and_then(serde_json::Value::as_u64);
        if !version.is_some_and(|version| (1..=u64::from(OPTIONS_VERSION)).contains(&version)) {
            let received = version.map_or("none".to_owned(), |version| version.to_string());
            return Err(unreadable(format!("version {received}; this build reads versions 1 to {OPTIONS_VERSION}")));
        }
        let stored: StoredOptions =
            serde_json::from_value(custom.params().clone()).map_err(|error| unreadable(error.to_string()))?;
        if stored.dim == 0 {
            return Err(unreadable("dim is 0, expected at least 1".to_owned()));
        }
        Ok(Self { dim: stored.dim, precision: stored.precision, keep_f16: stored.keep_f16 })
    }
}

/// A late-interaction field of a schema.
#[derive(Clone, Debug)]
pub(crate) struct LateField {
    pub field: Field,
    pub name: String,
    pub options: LateInteractionOptions,
}

/// All late-interaction fields of a schema.
pub(crate) fn late_fields(schema: &Schema) -> Result<Vec<LateField>, Error> {
    schema
        .fields()
        .filter(|(_, entry)| matches!(entry.field_type(), FieldType::Custom(custom) if custom.type_name() == TYPE_NAME))
        .map(|(field, entry)| {
            Ok(LateField { field, name: entry.name().to_owned(), options: LateInteractionOptions::of(schema, field)? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_round_trip_through_the_schema() {
        let mut builder = Schema::builder();
        let coded = LateInteractionOptions::new(128).with_precision(Precision::Bits4).with_f16_kept(true);
        let options = [LateInteractionOptions::new(96), coded];
        let fields = [options[0].add_to(&mut builder, "one"), options[1].add_to(&mut builder, "two")];
        let schema: Schema = serde_json::from_str(&serde_json::to_string(&builder.build()).unwrap()).unwrap();
        for (field, options) in fields.iter().zip(&options) {
            assert_eq!(LateInteractionOptions::of(&schema, *field).unwrap(), *options);
        }
    }

    #[test]
    fn unknown_versions_and_other_types_are_refused() {
        let mut builder = Schema::builder();
        let text = builder.add_text_field("text", tantivy::schema::TEXT);
        let newer = builder.add_custom_field("newer", TYPE_NAME, serde_json::json!({"version": 3, "dim": 8}));
        let other = builder.add_custom_field("other", "vec", serde_json::json!({}));
        let schema = builder.build();
        for (field, part) in [(text, "text"), (newer, "version 3"), (other, "other")] {
            assert!(LateInteractionOptions::of(&schema, field).unwrap_err().to_string().contains(part));
        }
    }
}
