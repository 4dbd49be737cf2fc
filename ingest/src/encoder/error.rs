//! What can go wrong between a checkpoint folder and token vectors: the file, tensor or field, what was expected there
//! and what was received.

use std::path::PathBuf;

/// An error of loading or running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part of a model of two parts.
    #[error("{}: the part {part}/ of this model of two parts: {source}", dir.display())]
    Part {
        /// The folder of the model.
        dir: PathBuf,
        /// `page` or `query`.
        part: &'static str,
        /// What is wrong with it.
        source: Box<EncoderError>,
    },
    /// Queries that are for the pages of another model.
    #[error(
        "its queries serve pages of model {received}, the pages are of model {expected} (`serves_pages_of` in colqwen_index.json)"
    )]
    OtherPages {
        /// Fingerprint of the pages.
        expected: colqwen_index_field::Fingerprint,
        /// The pages that the queries are for.
        received: colqwen_index_field::Fingerprint,
    },
    /// A folder lacks a file that a checkpoint needs.
    #[error("{} has no {expected}", dir.display())]
    FileMissing {
        /// The checkpoint folder.
        dir: PathBuf,
        /// The file or files looked for.
        expected: String,
    },
    /// A file is not the JSON that was expected.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A field of a configuration file has a value that this model code does not support.
    #[error("{}: {field}: expected {expected}, received {received}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field, dotted.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// What stood there.
        received: String,
    },
    /// The checkpoint is of another architecture.
    #[error("{}: unknown architecture {received:?}, expected one of {known}", path.display())]
    Architecture {
        /// The configuration file.
        path: PathBuf,
        /// `model_type` as found.
        received: String,
        /// The values that are known.
        known: &'static str,
    },
    /// A safetensors file cannot be parsed, or is cut short.
    #[error("{}: not a whole safetensors file: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// None of the checkpoint's tensor names belong to a known layout.
    #[error("{}: tensor names of no known layout, for example {example:?}", dir.display())]
    Layout {
        /// The checkpoint folder.
        dir: PathBuf,
        /// One of its names.
        example: String,
    },
    /// The model needs a tensor that the checkpoint lacks.
    #[error("{} lacks the tensor {name}, expected with shape {expected:?}{hint}", origin.display())]
    TensorMissing {
        /// The checkpoint folder or file.
        origin: PathBuf,
        /// Its name in the layout of this program.
        name: String,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
        /// What to do about it, or nothing.
        hint: &'static str,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("{}: tensor {name}: expected shape {expected:?}, received {received:?}", file.display())]
    TensorShape {
        /// The file it stands in.
        file: PathBuf,
        /// Its name in that file.
        name: String,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
        /// The shape found.
        received: Vec<usize>,
    },
    /// A tensor has a number type that is not supported.
    #[error("{}: tensor {name}: expected F32, F16 or BF16, received {received}", file.display())]
    TensorType {
        /// The file it stands in.
        file: PathBuf,
        /// Its name in that file.
        name: String,
        /// The type found.
        received: String,
    },
    /// Two tensors of a checkpoint mean the same parameter.
    #[error("{}: tensor {second} means the same as {first}", file.display())]
    TensorTwice {
        /// The file the second one stands in.
        file: PathBuf,
        /// The first one's name.
        first: String,
        /// The second one's name.
        second: String,
    },
    /// The tokenizer file cannot be used.
    #[error("{}: {problem}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer lacks a token that the model is prompted with.
    #[error("{}: the tokenizer has no token {token:?}, which the model's prompt needs", path.display())]
    TokenMissing {
        /// The tokenizer file.
        path: PathBuf,
        /// The token's text.
        token: String,
    },
    /// An image that the model cannot look at.
    #[error("page image {index}: {width} x {height} pixels: {problem}")]
    Image {
        /// Its index in the batch.
        index: usize,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// Why not.
        problem: String,
    },
    /// Model inputs that do not belong together.
    #[error("{what}: expected {expected}, received {received}")]
    Input {
        /// The input.
        what: &'static str,
        /// What would have fitted.
        expected: String,
        /// What was given.
        received: String,
    },
    /// The device asked for cannot be used.
    #[error("device {name}: {problem}")]
    Device {
        /// The device as asked for.
        name: String,
        /// Why not.
        problem: String,
    },
    /// The model hub could not give the checkpoint.
    #[error("{id}: {problem}")]
    Hub {
        /// The model's id on the hub.
        id: String,
        /// What happened.
        problem: String,
    },
    /// The vectors that came out cannot be stored.
    #[error("the model's output cannot be stored: {0}")]
    Vectors(#[from] colqwen_index_field::Error),
    /// The tensor library failed.
    #[error("tensor computation: {0}")]
    Compute(#[from] candle_core::Error),
}

impl EncoderError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn json(path: impl Into<PathBuf>) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.into();
        move |source| Self::Json { path, source }
    }
}
