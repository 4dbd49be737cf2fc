//! The page table at the end of a segment file: which document has how many tokens, of which model, and where.

use tantivy::SegmentReader;

use crate::bytes::{ByteReader, Malformed};
use crate::options::LateField;
use crate::value::{decode_origin, encode_origin};
use crate::{Fingerprint, Origin, Precision};

/// One page of a field in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageEntry {
    /// The segment's document.
    pub doc: u32,
    /// First byte of the vectors in the file.
    pub offset: u64,
    /// Number of tokens.
    pub tokens: u16,
    /// Index into [`FieldTable::origins`].
    pub origin: u8,
    /// Bytes of the layout that follows the vectors.
    pub layout_length: u32,
}

/// All pages of one field in a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FieldTable {
    pub name: String,
    pub field_id: u32,
    pub dim: usize,
    pub precision: Precision,
    /// The distinct models of the pages: at most one known model, and perhaps `Unknown`.
    pub origins: Vec<Origin>,
    /// By ascending doc.
    pub pages: Vec<PageEntry>,
}

impl FieldTable {
    pub fn new(field: &LateField) -> Self {
        Self {
            name: field.name.clone(),
            field_id: field.field.field_id(),
            dim: field.options.dim(),
            precision: field.options.precision(),
            origins: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// Bytes of a page's vectors in the file.
    pub fn vector_bytes(&self, page: &PageEntry) -> usize {
        usize::from(page.tokens) * self.precision.bytes_per_token(self.dim)
    }

    /// The page of `doc`, if it has one.
    pub fn page_of(&self, doc: u32) -> Option<&PageEntry> {
        self.pages.binary_search_by_key(&doc, |page| page.doc).ok().map(|at| &self.pages[at])
    }

    /// A known model other than `model` that live pages have.
    pub fn other_live_model(&self, model: Fingerprint, reader: &SegmentReader) -> Option<Fingerprint> {
        let other = |origin: &Origin| origin.fingerprint().filter(|known| *known != model);
        // Nearly always there is none, and no page is looked at.
        self.origins.iter().find_map(other)?;
        let live = self.pages.iter().filter(|page| !reader.is_deleted(page.doc));
        live.map(|page| &self.origins[usize::from(page.origin)]).find_map(other)
    }

    /// The index of `origin`, added if new; `None` where 255 models already stand.
    pub fn origin_index(&mut self, origin: Origin) -> Option<u8> {
        let at = self.origins.iter().position(|known| *known == origin).unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        u8::try_from(at).ok().filter(|at| *at < u8::MAX)
    }

    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(&self.field_id.to_le_bytes());
        bytes.extend_from_slice(&(self.dim as u32).to_le_bytes());
        bytes.push(self.precision.tag());
        bytes.push(self.origins.len() as u8);
        self.origins.iter().for_each(|origin| encode_origin(*origin, bytes));
        bytes.extend_from_slice(&(self.pages.len() as u32).to_le_bytes());
        for page in &self.pages {
            bytes.extend_from_slice(&page.doc.to_le_bytes());
            bytes.extend_from_slice(&page.offset.to_le_bytes());
            bytes.extend_from_slice(&page.tokens.to_le_bytes());
            bytes.extend_from_slice(&[page.origin, 0]);
            bytes.extend_from_slice(&page.layout_length.to_le_bytes());
        }
    }

    /// Reads one field's table; ranges that leave `pages_end` are refused, so that later reads cannot run out of the file.
    pub fn decode(reader: &mut ByteReader<'_>, pages_end: u64) -> Result<Self, Malformed> {
        let name_length = usize::from(reader.u16()?);
        let name = std::str::from_utf8(reader.take(name_length)?).map_err(|_| Malformed)?.to_owned();
        let field_id = reader.u32()?;
        let dim = reader.u32()? as usize;
        let precision = Precision::from_bits(u32::from(reader.u8()?)).map_err(|_| Malformed)?;
        let origins = (0..reader.u8()?).map(|_| decode_origin(reader)).collect::<Result<Vec<_>, _>>()?;
        let mut table = Self { name, field_id, dim, precision, origins, pages: Vec::new() };
        let count = reader.u32()?;
        for _ in 0..count {
            let (doc, offset, tokens) = (reader.u32()?, reader.u64()?, reader.u16()?);
            let (origin, _) = (reader.u8()?, reader.u8()?);
            let page = PageEntry { doc, offset, tokens, origin, layout_length: reader.u32()? };
            let length = table.vector_bytes(&page) as u64 + u64::from(page.layout_length);
            let ascending = table.pages.last().is_none_or(|last| last.doc < doc);
            let inside = offset.checked_add(length).is_some_and(|end| end <= pages_end);
            if !ascending || !inside || usize::from(origin) >= table.origins.len() {
                return Err(Malformed);
            }
            table.pages.push(page);
        }
        Ok(table)
    }
}
