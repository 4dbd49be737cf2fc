//! `colqwen_index.json`: what this program knows about a checkpoint and the checkpoint's own files do not say.

use colqwen_index_field::Fingerprint;

use super::fields::Fields;
use super::folder::Folder;
use super::query_format::QueryFormat;
use crate::encoder::EncoderError;

pub(crate) const FILE: &str = "colqwen_index.json";

/// The file's fields, all optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `query_format`: `prefixed`, `plain`, `prefixed-newline` or `bare`; by default that of the checkpoint's layout.
    pub query_format: Option<QueryFormat>,
    /// `serves_pages_of`: the page fingerprint of the model whose pages this one's queries are trained for.
    pub serves_pages_of: Option<Fingerprint>,
    /// `trained`: false for random weights.
    pub trained: bool,
}

impl Settings {
    /// Reads the file of the first folder that has one.
    pub(crate) fn read(folders: &[&Folder]) -> Result<Self, EncoderError> {
        let Some(folder) = folders.iter().find(|folder| folder.has(FILE)) else {
            return Ok(Self { query_format: None, serves_pages_of: None, trained: true });
        };
        let (path, value) = (folder.path(FILE), folder.json(FILE)?);
        let fields = Fields::new(&path, &value);
        let query_format = fields
            .text("query_format")?
            .map(|name| {
                QueryFormat::from_name(name)
                    .ok_or_else(|| fields.refuse("query_format", QueryFormat::ALL.map(QueryFormat::name).join(", ")))
            })
            .transpose()?;
        let serves_pages_of = fields
            .text("serves_pages_of")?
            .map(|text| text.parse().map_err(|_| fields.refuse("serves_pages_of", "64 hexadecimal digits")))
            .transpose()?;
        Ok(Self { query_format, serves_pages_of, trained: fields.flag("trained", true)? })
    }
}
