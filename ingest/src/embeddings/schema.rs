//! The format's names: columns, metadata keys, and what the metadata may say.

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{DataType, Schema};
use colqwen_index_field::Origin;
use parquet::file::metadata::KeyValue;

use super::error::Problem;
use crate::pooling::PoolFactor;

/// Page files: the document that a page belongs to, utf8.
pub const DOC_ID: &str = "doc_id";
/// Page files: the page's number within its document, uint32, from 1.
pub const PAGE: &str = "page";
/// Query files: the query's name, utf8.
pub const QUERY_ID: &str = "query_id";
/// The token embeddings, `list<fixed_size_list<float16 or float32, dim>>`: `tokens x dim` values per row.
pub const EMBEDDINGS: &str = "embeddings";
/// The page's text layer, or the query's text, utf8.
pub const TEXT: &str = "text";
/// The file that the page can be rendered from again, utf8.
pub const SOURCE: &str = "source";
/// Hash of what was encoded, binary.
pub const CONTENT_HASH: &str = "content_hash";
/// Width of the image the model saw, in pixels, uint32.
pub const WIDTH: &str = "width";
/// Height of the image the model saw, in pixels, uint32.
pub const HEIGHT: &str = "height";
/// Rows of merged patches, uint16.
pub const GRID_ROWS: &str = "grid_rows";
/// Columns of merged patches, uint16.
pub const GRID_COLS: &str = "grid_cols";
/// Index of the first image token, uint16.
pub const FIRST_PATCH: &str = "first_patch";
/// Pooled pages only: the patches each token stands for, `list<list<uint16>>`, one list per token.
pub const TOKEN_PATCHES: &str = "token_patches";

/// The columns of a page file that the format itself defines; any other column is a further column.
pub const PAGE_COLUMNS: [&str; 12] = [
    DOC_ID,
    PAGE,
    EMBEDDINGS,
    TEXT,
    SOURCE,
    CONTENT_HASH,
    WIDTH,
    HEIGHT,
    GRID_ROWS,
    GRID_COLS,
    FIRST_PATCH,
    TOKEN_PATCHES,
];

/// Names that a further column cannot have, because the page index has fields of its own under them.
pub const RESERVED_COLUMNS: [&str; 3] = ["page_key", "tokens", "_row"];

/// The most bytes a `doc_id` may have, so that the key made of it and a page number stays a term that tantivy indexes.
pub const MAX_DOC_ID_BYTES: usize = 65_000;

/// Metadata: the format's version.
pub const KEY_VERSION: &str = "colqwen-index.version";
/// Metadata: page fingerprint of the model; in a query file, of the pages that the queries are for.
pub const KEY_PAGE_FINGERPRINT: &str = "colqwen-index.page_fingerprint";
/// Metadata: values per token.
pub const KEY_DIM: &str = "colqwen-index.dim";
/// Metadata: how the model's queries are put together, kept as the text it is.
pub const KEY_QUERY_FORMAT: &str = "colqwen-index.query_format";
/// Metadata: the precision the embeddings were written with.
pub const KEY_PRECISION: &str = "colqwen-index.precision";

/// Metadata of page files with pooled pages: the factor, or factors separated by commas where pages differ.
pub const KEY_POOL_FACTOR: &str = "colqwen-index.pool_factor";

/// The version that this program writes, and the only one it reads.
pub const VERSION: &str = "1";

/// Type of the values written to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// Half precision, two bytes per value.
    #[default]
    F16,
    /// Single precision, four bytes per value.
    F32,
}

impl Precision {
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::F16 => DataType::Float16,
            Self::F32 => DataType::Float32,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            _ => Err(format!("a precision is f16 or f32, received {text:?}")),
        }
    }
}

/// What a file says about itself. Every part may be missing: a file without metadata is a foreign file, not a bad one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileMetadata {
    /// Format version, [`VERSION`] where it is given at all.
    pub version: Option<String>,
    /// The model of the pages, or the model whose pages the queries are for.
    pub origin: Origin,
    /// Values per token.
    pub dim: Option<usize>,
    /// How the model's queries are put together.
    pub query_format: Option<String>,
    /// The precision the embeddings were written with, for information: what counts is the column's type.
    pub precision: Option<String>,
    /// By which factors pages were pooled, ascending; none where no page was, or none is known to be.
    pub pool_factors: Vec<PoolFactor>,
}

impl FileMetadata {
    /// Reads the project's keys out of a file's key-value metadata; other keys are left alone.
    pub(super) fn parse(pairs: &[KeyValue]) -> Result<Self, Problem> {
        let value = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        let version = value(KEY_VERSION);
        // Checked first: the other keys of an unknown version may mean something else.
        if let Some(received) = version.clone().filter(|version| version != VERSION) {
            return Err(Problem::Version { expected: VERSION, received });
        }
        let origin = match value(KEY_PAGE_FINGERPRINT) {
            None => Origin::Unknown,
            Some(text) => Origin::Model(text.parse().map_err(|_| Problem::Metadata {
                key: KEY_PAGE_FINGERPRINT,
                expected: "64 hexadecimal digits".to_owned(),
                received: text,
            })?),
        };
        let dim = value(KEY_DIM)
            .map(|text| match text.parse() {
                Ok(dim) if dim > 0 => Ok(dim),
                _ => Err(Problem::Metadata { key: KEY_DIM, expected: "a number from 1".to_owned(), received: text }),
            })
            .transpose()?;
        let pool_factors = value(KEY_POOL_FACTOR).map(|text| {
            let factors = text.split(',').map(str::parse).collect::<Result<Vec<PoolFactor>, _>>();
            factors.map_err(|_| Problem::Metadata {
                key: KEY_POOL_FACTOR,
                expected: "whole numbers from 1 to 65535, separated by commas".to_owned(),
                received: text,
            })
        });
        Ok(Self {
            version,
            origin,
            dim,
            query_format: value(KEY_QUERY_FORMAT),
            precision: value(KEY_PRECISION),
            pool_factors: pool_factors.transpose()?.unwrap_or_default(),
        })
    }

    /// The pair that records factors, if any page of the file was pooled.
    pub(super) fn written_factors(factors: &[PoolFactor]) -> Option<KeyValue> {
        let texts: Vec<String> = factors.iter().map(ToString::to_string).collect();
        let pooled = factors.iter().any(|factor| !factor.is_none());
        pooled.then(|| KeyValue::new(KEY_POOL_FACTOR.to_owned(), texts.join(",")))
    }

    /// The key-value pairs of a file written by this program.
    pub(super) fn written(
        dim: usize,
        origin: Origin,
        precision: Precision,
        query_format: Option<&str>,
    ) -> Vec<KeyValue> {
        let mut pairs = vec![
            KeyValue::new(KEY_VERSION.to_owned(), VERSION.to_owned()),
            KeyValue::new(KEY_DIM.to_owned(), dim.to_string()),
            KeyValue::new(KEY_PRECISION.to_owned(), precision.to_string()),
        ];
        if let Some(fingerprint) = origin.fingerprint() {
            pairs.push(KeyValue::new(KEY_PAGE_FINGERPRINT.to_owned(), fingerprint.to_string()));
        }
        if let Some(query_format) = query_format {
            pairs.push(KeyValue::new(KEY_QUERY_FORMAT.to_owned(), query_format.to_owned()));
        }
        pairs
    }
}

/// Refuses a schema that has two columns of one name.
pub(super) fn check_names_differ(schema: &Schema) -> Result<(), Problem> {
    for (at, field) in schema.fields().iter().enumerate() {
        if schema.fields()[..at].iter().any(|earlier| earlier.name() == field.name()) {
            return Err(Problem::RepeatedColumn { column: field.name().clone() });
        }
    }
    Ok(())
}

/// Checks one column that the format defines; `Ok(false)` when an optional one is not there.
pub(super) fn check_column(
    schema: &Schema,
    column: &'static str,
    required: bool,
    expected: &'static str,
    accepts: impl Fn(&DataType) -> bool,
) -> Result<bool, Problem> {
    match schema.field_with_name(column) {
        Err(_) if required => {
            let names: Vec<_> = schema.fields().iter().map(|field| format!("{:?}", field.name())).collect();
            let received = if names.is_empty() { "no columns".to_owned() } else { names.join(", ") };
            Err(Problem::MissingColumn { column, expected, received })
        }
        Err(_) => Ok(false),
        Ok(field) if accepts(field.data_type()) => Ok(true),
        Ok(field) => {
            let received = field.data_type().to_string();
            Err(Problem::ColumnType { column: column.to_owned(), expected, received })
        }
    }
}
