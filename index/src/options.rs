//! The field's options, kept in the schema.

use serde::{Deserialize, Serialize};
use tantivy::schema::{Field, FieldType, Schema, SchemaBuilder};

use crate::Error;

/// The type name under which the field stands in a tantivy schema.
pub const TYPE_NAME: &str = "late_interaction";

/// The version of the options as stored in the schema.
const OPTIONS_VERSION: u32 = 1;

/// How token vectors are stored in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// IEEE half precision: 2 bytes a value, exact for embeddings that models write as f16.
    #[default]
    F16,
}

impl Precision {
    /// Bits per value.
    pub fn bits(self) -> u32 {
        match self {
            Self::F16 => 16,
        }
    }

    /// The precision of that many bits per value.
    ///
    /// # Errors
    /// [`Error::Bits`] where no such precision is available.
    pub fn from_bits(bits: u32) -> Result<Self, Error> {
        match bits {
            16 => Ok(Self::F16),
            received => Err(Error::Bits { received }),
        }
    }

    pub(crate) fn tag(self) -> u8 {
        match self {
            Self::F16 => 16,
        }
    }

    /// Bytes that one token of `dim` values takes.
    pub fn bytes_per_token(self, dim: usize) -> usize {
        match self {
            Self::F16 => dim * 2,
        }
    }
}

/// Options of a late-interaction field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LateInteractionOptions {
    dim: usize,
    precision: Precision,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredOptions {
    version: u32,
    dim: usize,
    precision: Precision,
}

impl LateInteractionOptions {
    /// A field of vectors with `dim` values per token, stored as f16.
    pub fn new(dim: usize) -> Self {
        Self { dim, precision: Precision::default() }
    }

    /// Sets the storage precision.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
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

    /// Adds a late-interaction field to a schema.
    pub fn add_to(&self, schema: &mut SchemaBuilder, name: &str) -> Field {
        schema.add_custom_field(name, TYPE_NAME, self.to_params())
    }

    /// The parameters for [`SchemaBuilder::add_custom_field`] under [`TYPE_NAME`].
    pub fn to_params(&self) -> serde_json::Value {
        serde_json::json!({ "version": OPTIONS_VERSION, "dim": self.dim, "precision": self.precision })
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
        if version != Some(u64::from(OPTIONS_VERSION)) {
            let received = version.map_or("none".to_owned(), |version| version.to_string());
            return Err(unreadable(format!("version {received}; this build reads version {OPTIONS_VERSION}")));
        }
        let stored: StoredOptions =
            serde_json::from_value(custom.params().clone()).map_err(|error| unreadable(error.to_string()))?;
        if stored.dim == 0 {
            return Err(unreadable("dim is 0, expected at least 1".to_owned()));
        }
        Ok(Self { dim: stored.dim, precision: stored.precision })
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
        let field = LateInteractionOptions::new(96).add_to(&mut builder, "tokens");
        let schema: Schema = serde_json::from_str(&serde_json::to_string(&builder.build()).unwrap()).unwrap();
        assert_eq!(LateInteractionOptions::of(&schema, field).unwrap(), LateInteractionOptions::new(96));
    }

    #[test]
    fn unknown_versions_and_other_types_are_refused() {
        let mut builder = Schema::builder();
        let text = builder.add_text_field("text", tantivy::schema::TEXT);
        let newer = builder.add_custom_field("newer", TYPE_NAME, serde_json::json!({"version": 2, "dim": 8}));
        let other = builder.add_custom_field("other", "vec", serde_json::json!({}));
        let schema = builder.build();
        for (field, part) in [(text, "text"), (newer, "version 2"), (other, "other")] {
            assert!(LateInteractionOptions::of(&schema, field).unwrap_err().to_string().contains(part));
        }
    }
}
